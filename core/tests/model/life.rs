//! One life of a role: the disk it began with and what has happened to it since.
//!
//! A part can be neither copied nor compared. So a state keeps what happened, and the part is made anew from that
//! whenever something more happens to it: it is deterministic. Knows nothing of other roles.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use accompanist_core::contract::Environment;
use accompanist_core::frame::{Delivery, Frame, Header, Receipt};
use accompanist_core::id::RoleIndex;
use accompanist_core::machine::{Effects, Limits, OutgoingKey, Write};
use accompanist_core::record::Opened;
use accompanist_core::role_instance::{AnyChoreography, RoleInstance, TurnWaker};
use accompanist_core::{Abort, Path, Payload, Service};

use crate::rig::{Disk, gather, id};
use crate::service::{Call, Desk};

/// Something that happens to a role.
#[derive(Debug, Clone)]
pub enum Input {
    Frame(Arc<Frame>, Option<Receipt>),
    Acked(OutgoingKey),
    /// Its next write becomes durable.
    Synced,
    Answer(Call, bool),
    /// The time comes that it waits for.
    Time,
    Cancel,
    /// It is polled, and what it wants done is done.
    Turn,
}

/// A life, as data.
#[derive(Clone)]
pub struct Life {
    pub origin: Arc<Disk>,
    /// What it sends again, though that was acknowledged.
    pub lacking: BTreeSet<(Path, RoleIndex)>,
    pub number: u64,
    pub inputs: Vec<Input>,
}

/// What is played: the choreography, and what its roles know of the session.
#[derive(Clone)]
pub struct Play {
    pub choreography: Arc<dyn AnyChoreography>,
    pub service: fn(Arc<Desk>) -> Service,
    pub header: Arc<Header>,
    pub input: Payload,
    /// Where the saga within the session is, if there is one: what is in it may be taken back though the rest is kept.
    pub saga: Option<Path>,
}

/// Chance that differs from life to life: what is not recorded is not the same again.
struct Chance(u64);

impl Environment for Chance {
    fn unix_ms(&self) -> u64 {
        1_000
    }
    fn monotonic_ms(&self) -> u64 {
        0
    }
    fn random(&self) -> u64 {
        self.0
    }
}

/// All pauses alike, so that the time that is left of one does not depend on how long a life lasted.
const PAUSE_MS: u64 = 10;

fn limits() -> Limits {
    Limits {
        nudge_delay_min_ms: PAUSE_MS,
        nudge_delay_max_ms: PAUSE_MS,
        retry_delay_min_ms: PAUSE_MS,
        retry_delay_max_ms: PAUSE_MS,
        ..Limits::default()
    }
}

/// A life, come alive.
pub struct Live {
    pub part: RoleInstance,
    pub desk: Arc<Desk>,
    pub disk: Disk,
    pub writes: VecDeque<Write>,
    now_ms: u64,
    /// A broken disk: what is to be written is said to be durable at once.
    too_early: bool,
}

impl Live {
    /// Goes through all of `life` again.
    pub fn again(play: &Play, role: usize, life: &Life, too_early: bool, filter: impl Fn(&mut Write)) -> Self {
        let mut alive = Self { too_early, ..Self::begin(play, role, life) };
        for input in &life.inputs {
            alive.feed(input, &filter);
        }
        alive
    }

    fn begin(play: &Play, role: usize, life: &Life) -> Self {
        let choreography = play.choreography.clone();
        let (disk, name) = (Disk::clone(&life.origin), choreography.roles().single()[role]);
        let input = (role == 0).then(|| play.input.clone());
        let opened = Opened { header: play.header.clone(), input: input.clone() };
        let instance = disk.machine(id(u8::try_from(role).unwrap()), name, &opened, limits());
        let instance = instance.resending(life.lacking.clone());
        let calls = Arc::new(Desk::default());
        let service = (play.service)(calls.clone());
        let part = choreography.part(instance, input, service, Arc::new(Chance(life.number)), TurnWaker::new(|| {}));
        Self { part, desk: calls, disk, writes: VecDeque::new(), now_ms: 0, too_early: false }
    }

    /// Lets `input` happen; what is to be written waits here, all else comes out.
    pub fn feed(&mut self, input: &Input, filter: impl Fn(&mut Write)) -> Effects {
        match input {
            Input::Frame(frame, receipt) => {
                let delivery = Delivery::of_cast(&self.part.header(), Frame::clone(frame), receipt.clone());
                assert!(delivery.is_some_and(|delivery| self.part.deliver(delivery)), "it is of the cast");
            }
            Input::Acked(key) => self.part.acked(key),
            Input::Synced => {
                let write = self.writes.pop_front().expect("there is nothing to sync");
                let number = write.number;
                let local = self.disk.write(write);
                if !self.too_early || local.is_some() {
                    self.part.synced(number, local);
                }
            }
            Input::Answer(call, accepted) => self.desk.answer(call, *accepted),
            Input::Time => self.now_ms = self.part.next_wake_ms().expect("it waits for no time"),
            Input::Cancel => {
                self.part.cancel(&Abort::new(Abort::CANCELLED, "the caller wants it"));
            }
            Input::Turn => {
                let mut effects = self.part.turn(self.now_ms);
                while let Some(number) = self.keep_writes(&mut effects, &filter) {
                    self.part.synced(number, None);
                    effects.writes = gather(&mut effects, self.part.turn(self.now_ms));
                }
                return effects;
            }
        }
        Effects::default()
    }

    /// Gives the last of the new writes, if that is said to be durable already.
    fn keep_writes(&mut self, effects: &mut Effects, filter: impl Fn(&mut Write)) -> Option<u64> {
        let mut writes = std::mem::take(&mut effects.writes);
        writes.iter_mut().for_each(filter);
        let last = writes.last().map(|write| write.number).filter(|_| self.too_early);
        self.writes.extend(writes);
        last.filter(|_| self.writes.iter().all(|write| write.local.is_none()))
    }

    /// All that its future depends on, after a turn.
    pub fn hash(&self, hasher: &mut impl Hasher) {
        self.part.digest(hasher);
        self.desk.open().hash(hasher);
        self.disk.hash(hasher);
        for write in &self.writes {
            (write.number.saturating_sub(self.writes[0].number), &write.changes).hash(hasher);
            write.local.as_ref().map(|job| job.path().clone()).hash(hasher);
        }
        self.writes.len().hash(hasher);
    }
}

//! A state of the model: every role's disk and life, what is on its way, and what the services have done.
//!
//! Two states are one if their hashes are: as in the checker itself, which keeps no more than that.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use accompanist_core::Path;
use accompanist_core::frame::{Body, Frame, Outcome};
use accompanist_core::machine::{OutgoingKey, Status};
use accompanist_core::record::{Closed, Record};

use crate::life::{Life, Live};
use crate::rig::Disk;
use crate::service::Call;

/// How far the acknowledgement of a frame has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ack {
    Missing,
    UnderWay,
    Arrived,
}

/// A frame that was sent, and from then on may arrive at any time, any number of times or never.
#[derive(Debug, Clone)]
pub struct Flight {
    pub key: OutgoingKey,
    pub frame: Arc<Frame>,
    /// Whether it waits for an acknowledgement. One that is of an earlier life of its sender, or a nudge, does not.
    pub fresh: bool,
    pub ack: Ack,
    /// Whether it has arrived before: kept only where a broken variant asks.
    pub heard: bool,
}

impl Flight {
    /// Whether one that is over answers it. What is not acknowledged any more may as well be of an earlier life.
    pub fn asks_the_closed(&self) -> bool {
        self.frame.asks_the_closed(!self.key.is_acknowledged())
    }

    /// Whether a role that does not know the session answers it.
    pub fn takes_for_known(&self) -> bool {
        self.frame.takes_for_known(!self.fresh)
    }

    /// Whether its sender would say it again if it were lost.
    pub fn is_said_on(&self) -> bool {
        match self.frame.body {
            // An answer comes about by a nudge, as all the others.
            _ if !self.key.is_acknowledged() => true,
            Body::Deliver { .. } | Body::Abort(_) | Body::Close(_) => self.fresh && self.ack != Ack::Arrived,
            // A nudge brings them about.
            _ => true,
        }
    }
}

/// What a life shows between two turns, so that it need not be made anew to be asked.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    hash: u64,
    pub writes: usize,
    pub calls: Vec<Call>,
    pub waits_for_time: bool,
    /// It has ended, and waits for nothing but the close.
    pub has_ended: bool,
}

/// A disk, and what can be read there.
#[derive(Debug, Default)]
pub struct Stored {
    pub disk: Disk,
    pub records: Vec<Record>,
    pub is_opened: bool,
    pub closed: Option<Closed>,
}

impl Stored {
    pub fn of(disk: Disk) -> Arc<Self> {
        let (records, is_opened, closed) = (disk.records(), disk.opened().is_some(), disk.closed());
        Arc::new(Self { disk, records, is_opened, closed })
    }
}

/// One role.
#[derive(Clone)]
pub struct Seat {
    pub stored: Arc<Stored>,
    pub life: Option<Arc<Life>>,
    pub shape: Shape,
    /// How many lives it has had before this one.
    pub epoch: u64,
    /// It was closed, whatever its disk says now.
    pub closed: bool,
}

/// What a service has done about one step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its answer, which stays.
    pub accepted: Option<bool>,
    pub committed: u8,
    /// Its place among the commits of its role.
    pub place: usize,
    pub undone: u8,
    /// How often it was too busy to take it back.
    pub busy: u8,
}

#[derive(Clone)]
pub struct State {
    pub seats: Vec<Seat>,
    pub flights: BTreeMap<u64, Flight>,
    pub book: BTreeMap<(usize, Path), Entry>,
    pub crashes: usize,
    /// How many frames were acknowledged and lost.
    pub forgotten: usize,
    pub cancelled: bool,
    /// What the caller was told.
    pub told_output: bool,
    pub told_abort: bool,
    /// What was done that must not be.
    pub faults: BTreeSet<&'static str>,
    pub hash: u64,
}

impl Seat {
    pub fn empty() -> Self {
        Self { stored: Arc::default(), life: None, shape: Shape::default(), epoch: 0, closed: false }
    }

    /// Keeps what `live` has become; it ends where it has closed.
    pub fn set(&mut self, alive: &Live, life: Life) {
        let mut hasher = DefaultHasher::new();
        alive.hash(&mut hasher);
        self.shape = Shape {
            hash: hasher.finish(),
            writes: alive.writes.len(),
            calls: alive.desk.open(),
            waits_for_time: alive.part.next_wake_ms().is_some(),
            has_ended: matches!(alive.part.status(), Status::Finished | Status::Compensated),
        };
        if self.stored.disk != alive.disk {
            self.stored = Stored::of(alive.disk.clone());
        }
        self.life = Some(Arc::new(life));
    }

    /// How it ended, if it is over and that is on disk.
    pub fn tombstone(&self) -> Option<Outcome> {
        let closed = self.stored.closed.as_ref().filter(|_| self.life.is_none())?;
        Some(closed.outcome.clone())
    }

    pub fn end(&mut self) {
        (self.life, self.shape) = (None, Shape::default());
    }
}

impl Seat {
    /// Whether `flight` changes nothing any more by arriving here: it is over, and that is on disk.
    fn is_deaf_to(&self, flight: &Flight) -> bool {
        let awaited = flight.fresh && flight.ack != Ack::Arrived;
        self.tombstone().is_some() && !awaited && !flight.asks_the_closed()
    }
}

impl Hash for Seat {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        // The shape's hash has the disk in it.
        match self.life {
            Some(_) => self.shape.hash.hash(hasher),
            None => self.stored.disk.hash(hasher),
        }
        (self.life.is_some(), self.epoch, self.closed).hash(hasher);
    }
}

impl State {
    /// To be called when all of it is as it will be.
    pub fn sealed(mut self) -> Self {
        let seats = &self.seats;
        self.flights.retain(|_, flight| !seats[usize::from(flight.frame.to.0)].is_deaf_to(flight));
        let mut hasher = DefaultHasher::new();
        self.seats.hash(&mut hasher);
        for (number, flight) in &self.flights {
            // Whoever is on disk has the header, and whoever has closed needs none.
            let stored = &seats[usize::from(flight.frame.to.0)].stored;
            let begins = flight.frame.header.is_some() && !stored.is_opened && stored.closed.is_none();
            (number, begins, flight.fresh, flight.ack, flight.heard).hash(&mut hasher);
        }
        (&self.book, self.crashes, self.forgotten, self.cancelled, self.told_output, self.told_abort).hash(&mut hasher);
        self.faults.hash(&mut hasher);
        self.hash = hasher.finish();
        self
    }

    /// A frame leaves. Said again it is the same flight; one that can do more takes the place of one that can less.
    pub fn send(&mut self, key: OutgoingKey, frame: Frame, fresh: bool) {
        let number = number_of(&key, &frame);
        let flight = self.flights.entry(number).or_insert_with(|| Flight {
            key,
            frame: Arc::new(frame.clone()),
            fresh,
            ack: Ack::Missing,
            heard: false,
        });
        flight.fresh |= fresh;
        if frame.header.is_some() {
            flight.frame = Arc::new(frame);
        }
        if flight.ack == Ack::Arrived {
            flight.ack = Ack::Missing;
        }
    }

    /// What a role that has crashed has sent is acknowledged to nobody any more.
    pub fn forget_sender(&mut self, role: usize) {
        for flight in self.flights.values_mut().filter(|flight| usize::from(flight.frame.from.0) == role) {
            (flight.fresh, flight.ack) = (false, Ack::Missing);
        }
    }

    /// Whether all roles have closed.
    pub fn all_closed(&self) -> bool {
        self.seats.iter().all(|seat| seat.life.is_none() && seat.stored.closed.is_some())
    }

    /// Whether the initiator crashed before the session was on its disk: then it never was.
    pub fn never_began(&self) -> bool {
        let initiator = &self.seats[0];
        initiator.life.is_none() && !initiator.stored.is_opened && initiator.stored.closed.is_none()
    }

    /// Whether all that was written, said and asked for has come to where it was to go.
    pub fn is_quiet(&self) -> bool {
        let heard = |flight: &Flight| !flight.fresh || flight.ack == Ack::Arrived;
        let idle = |seat: &Seat| seat.shape.writes == 0 && seat.shape.calls.is_empty();
        self.flights.values().all(heard) && self.seats.iter().all(idle)
    }

    pub fn is_over(&self) -> bool {
        self.all_closed() || self.never_began()
    }
}

/// What tells one frame from another, whichever life of its sender it is of.
pub fn number_of(key: &OutgoingKey, frame: &Frame) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, frame.from, frame.to, &frame.body).hash(&mut hasher);
    hasher.finish()
}

/// For people.
pub fn describe(flight: &Flight) -> String {
    let Frame { from, to, header, body, .. } = &*flight.frame;
    let body = match body {
        Body::Deliver { path, operation, .. } => format!("{operation} at {path}"),
        other => format!("{other:?}"),
    };
    let header = if header.is_some() { ", with the header" } else { "" };
    let late = if flight.fresh { "" } else { ", unacknowledged or of an earlier life" };
    format!("`{body}` from role {} to role {}{header}{late}", from.0, to.0)
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.hash.hash(hasher);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (role, seat) in self.seats.iter().enumerate() {
            let (alive, epoch) = (seat.life.is_some(), seat.epoch);
            let Shape { writes, calls, .. } = &seat.shape;
            let Stored { records, closed, .. } = &*seat.stored;
            let outcome = closed.as_ref().map(|closed| &closed.outcome);
            writeln!(f, "  role {role}: alive {alive}, life {epoch}, {writes} writes wait, calls {calls:?}")?;
            writeln!(f, "    disk: {records:?}, closed {outcome:?}")?;
        }
        for flight in self.flights.values() {
            writeln!(f, "  under way: {}, acknowledgement {:?}", describe(flight), flight.ack)?;
        }
        writeln!(f, "  services: {:?}", self.book)
    }
}

//! All roles of one session on one stage, from one seed: frames are lost, doubled and reordered, disks sync late,
//! roles crash and come back. Pure and quick, so that thousands of runs take seconds.
//!
//! What the runtime adds (actors, links, stores) is left out; `actors/tests/it/simulation.rs` has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use accompanist_core::contract::Environment;
use accompanist_core::driver::RoleDriver;
use accompanist_core::frame::{Body, Delivery, Frame, Header, Outcome, Receipt};
use accompanist_core::id::{InstanceId, RoleIndex};
use accompanist_core::machine::{Effects, Idle, Limits, Outgoing, OutgoingKey, Resolution, Status, Stop};
use accompanist_core::record::{Opened, Record, StepFailure};
use accompanist_core::role_instance::{AnyChoreography, RoleInstance, TurnWaker};
use accompanist_core::{Choreography, IdempotencyKey, Message, NodeId, Path, Payload, Retry, RoleSet, Service};

use crate::rig::{Disk, id, payload};

/// `SplitMix64` (Steele, Lea, Flood 2014).
pub struct Chance(pub u64);

impl Chance {
    pub fn draw(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(below.max(1)).unwrap()).unwrap()
    }
}

/// What a service outside was made to do, by all roles together: the order is that of the effects.
#[derive(Default)]
pub struct Book(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    log: Vec<(String, Path)>,
    answers: BTreeMap<String, Result<u32, accompanist_core::Abort>>,
    undone: BTreeMap<String, u32>,
    busy: BTreeMap<String, u32>,
    asked: u32,
}

impl Book {
    /// Honours the key: the first answer stays.
    pub fn commit(
        &self,
        name: &str,
        key: &IdempotencyKey,
        answer: Result<u32, accompanist_core::Abort>,
    ) -> Result<u32, accompanist_core::Abort> {
        let mut entries = self.0.lock().unwrap();
        entries.asked += 1;
        if let Some(known) = entries.answers.get(&key.to_string()) {
            return known.clone();
        }
        assert!(!entries.undone.contains_key(&key.to_string()), "a commit of {key} comes after its compensation");
        if answer.is_ok() {
            entries.log.push((format!("do {name}"), key.path.clone()));
        }
        entries.answers.insert(key.to_string(), answer.clone());
        answer
    }

    /// As [`Book::commit`], but the first `busy` tries are refused and leave nothing.
    pub fn commit_when_free(
        &self,
        name: &str,
        key: &IdempotencyKey,
        busy: u32,
    ) -> Result<u32, accompanist_core::Abort> {
        {
            let mut entries = self.0.lock().unwrap();
            let tries = entries.busy.entry(key.to_string()).or_default();
            *tries += 1;
            if *tries <= busy {
                return Err(accompanist_core::Abort::new("busy", "not now"));
            }
        }
        self.commit(name, key, Ok(0))
    }

    pub fn compensate(&self, name: &str, key: &IdempotencyKey, busy: u32) -> Result<(), Retry> {
        let mut entries = self.0.lock().unwrap();
        assert!(matches!(entries.answers.get(&key.to_string()), Some(Ok(_))), "{key} is compensated, and was not done");
        let tries = entries.busy.entry(format!("undo {key}")).or_default();
        *tries += 1;
        if *tries <= busy {
            return Err(Retry::new("busy"));
        }
        let undone = entries.undone.entry(key.to_string()).or_default();
        *undone += 1;
        if *undone == 1 {
            entries.log.push((format!("undo {name}"), key.path.clone()));
        }
        Ok(())
    }

    /// Whether the commit under `key` took effect.
    pub fn has(&self, key: &IdempotencyKey) -> bool {
        matches!(self.0.lock().unwrap().answers.get(&key.to_string()), Some(Ok(_)))
    }

    pub fn log(&self) -> Vec<(String, Path)> {
        self.0.lock().unwrap().log.clone()
    }

    /// How often `what` took effect.
    pub fn count(&self, what: &str) -> usize {
        self.log().iter().filter(|(done, _)| done == what).count()
    }
}

/// The time of day in the harness.
#[derive(Default)]
pub struct Clock(AtomicU64, AtomicU64);

impl Environment for Clock {
    fn unix_ms(&self) -> u64 {
        1_000_000 + self.0.load(Ordering::Relaxed)
    }
    fn monotonic_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn random(&self) -> u64 {
        self.1.fetch_add(1, Ordering::Relaxed)
    }
}

/// One role: its disk, its present life, and what that has not got rid of yet.
#[derive(Default)]
struct Site {
    disk: Disk,
    driver: RoleDriver,
    troubles: Vec<(Path, StepFailure)>,
    /// It has left memory, until one of these.
    away: Option<Idle>,
    /// What its next life sends again.
    lacking: BTreeSet<(Path, RoleIndex)>,
}

/// How rough a run is.
#[derive(Clone, Copy)]
pub struct Rough {
    pub crashes: usize,
    pub lost_in_ten: usize,
    /// Frames that are acknowledged and lost all the same.
    pub forgotten: usize,
}

pub struct Stage<C> {
    choreography: fn() -> C,
    pub service: Service,
    pub chance: Chance,
    pub clock: Arc<Clock>,
    sites: Vec<Site>,
    header: Arc<Header>,
    input: Payload,
    pub limits: Limits,
    rough: Rough,
    /// How the initiator's caller was told it ended.
    pub output: Option<Result<Payload, accompanist_core::Abort>>,
    pub stopped: Option<Stop>,
    /// An operator who says this to every trouble.
    pub resolution: Option<Resolution>,
    pub crashed: usize,
    /// How many frames were acknowledged and lost, by kind.
    pub forgotten: Vec<&'static str>,
    /// How often a role was made anew to send again what counted as acknowledged.
    pub sent_again: usize,
    /// How often one has left memory.
    pub passivated: usize,
    /// Where roles stood when they came back.
    pub seen: BTreeSet<String>,
    pub journal_records_max: usize,
}

impl<C: Choreography> Stage<C> {
    pub fn set<T: Message>(choreography: fn() -> C, input: &T, service: Service, seed: u64, rough: Rough) -> Self {
        let roles = C::Roles::NAMES;
        let header = Arc::new(Header {
            choreography: C::NAME.into(),
            version: C::VERSION,
            initiator: RoleIndex(0),
            cast: roles.iter().map(|name| NodeId::new(name).unwrap()).collect(),
            started_unix_ms: 1,
            deadline_unix_ms: None,
            patches: Vec::new(),
            traceparent: None,
        });
        Self {
            choreography,
            service,
            chance: Chance(seed),
            clock: Arc::default(),
            sites: roles.iter().map(|_| Site::default()).collect(),
            header,
            input: payload(input),
            limits: Limits {
                nudge_delay_min_ms: 10,
                retry_delay_min_ms: 5,
                // A replay says much again at once.
                unacked_max: [1, 2, 256][usize::try_from(seed % 3).unwrap()],
                ..Limits::default()
            },
            rough,
            output: None,
            stopped: None,
            resolution: None,
            crashed: 0,
            forgotten: Vec::new(),
            sent_again: 0,
            passivated: 0,
            seen: BTreeSet::new(),
            journal_records_max: 0,
        }
    }

    pub fn with_deadline(mut self, unix_ms: u64) -> Self {
        Arc::make_mut(&mut self.header).deadline_unix_ms = Some(unix_ms);
        self
    }

    fn id(index: usize) -> InstanceId {
        id(u8::try_from(index).unwrap())
    }

    /// The present life of a role; begins one if the disk, a start or a frame's header asks for it.
    fn live(&mut self, index: usize) -> bool {
        let site = &mut self.sites[index];
        if site.driver.instance().is_some() {
            return true;
        }
        if site.disk.closed().is_some() {
            return false;
        }
        let role = C::Roles::NAMES[index];
        let input = (index == 0).then(|| self.input.clone());
        let opened = Opened { header: self.header.clone(), input: input.clone() };
        let instance = site.disk.machine(Self::id(index), role, &opened, self.limits.clone());
        if site.disk.opened().is_some() {
            let status = Status::of(&site.disk.records());
            assert_eq!(instance.status(), status, "live and on recovery the same");
            self.seen.insert(format!("{status:?}"));
        }
        let instance = instance.resending(std::mem::take(&mut site.lacking));
        let choreography = Arc::new((self.choreography)());
        let part = choreography.part(instance, input, self.service.clone(), self.clock.clone(), TurnWaker::new(|| {}));
        site.driver.begin(part);
        site.away = None;
        true
    }

    fn turn(&mut self, index: usize) {
        let now_ms = self.clock.monotonic_ms();
        let Some(effects) = self.sites[index].driver.turn(now_ms) else { return };
        self.carry_out(index, effects);
        self.passivate(index);
    }

    fn carry_out(&mut self, index: usize, mut effects: Effects) {
        self.stopped = self.stopped.take().or(effects.stopped.take());
        if index == 0 && effects.output.is_some() {
            self.output = effects.output.take();
        }
        // Who has closed may forget the session: nobody says what could begin it anew.
        let closed = self.sites.iter().any(|site| site.disk.closed().is_some());
        for Outgoing { key, frame: Frame { to, body, header, .. }, .. } in effects.frames.iter().filter(|_| closed) {
            let may_begin = header.is_some() || key.is_acknowledged();
            let invites = may_begin && matches!(body, Body::Deliver { .. } | Body::Nudge(_) | Body::Abort(_));
            assert!(!invites, "role {index} says {body:?} to role {}, and a role has closed", to.0);
        }
        let site = &mut self.sites[index];
        site.troubles = effects.troubles.take().unwrap_or(std::mem::take(&mut site.troubles));
        let once: Vec<_> = effects.frames.extract_if(.., |outgoing| !outgoing.key.is_acknowledged()).collect();
        site.driver.carry_out(&mut effects);
        self.acknowledge(effects.acks);
        if !effects.lacking.is_empty() && self.part(index).is_some() {
            self.make_anew(index, effects.lacking);
        }
        // Said once, and perhaps not heard.
        for Outgoing { frame, .. } in once {
            if self.chance.draw(10) >= self.rough.lost_in_ten {
                self.hear(frame, None);
            }
        }
    }

    /// A role leaves memory and comes back, to send again what counts as acknowledged. Perhaps it crashes meanwhile.
    fn make_anew(&mut self, index: usize, lacking: BTreeSet<(Path, RoleIndex)>) {
        self.sent_again += 1;
        let crashes = self.chance.draw(5) == 0;
        let site = &mut self.sites[index];
        assert!(site.driver.writes() == 0, "it waits for the disk");
        let part = site.driver.end().filter(|_| !crashes);
        if let Some(part) = part {
            site.disk.apply(part.passivation_without(&lacking).into_iter().collect());
            site.lacking = lacking;
        }
        self.live(index);
    }

    /// Lets a role leave memory, perhaps, if it may.
    fn passivate(&mut self, index: usize) {
        let idle = self.part(index).and_then(RoleInstance::idle);
        if idle.is_some() && self.chance.draw(4) == 0 {
            let site = &mut self.sites[index];
            assert!(site.driver.writes() == 0, "it waits for the disk");
            let rest = site.driver.end().and_then(|part| part.passivation());
            // A crash may come before it is written.
            site.disk.apply(rest.filter(|_| self.chance.draw(5) > 0).into_iter().collect());
            site.away = idle;
            self.passivated += 1;
        }
    }

    /// Whether a role that has left memory stays away.
    fn is_away(&mut self, index: usize) -> bool {
        let Some(idle) = &self.sites[index].away else { return false };
        let in_time = idle.until_unix_ms.is_none_or(|until| until > self.clock.unix_ms());
        let in_vain = !idle.unacknowledged.is_empty() && self.chance.draw(20) == 0;
        // It comes back from time to time to nudge, so that what was forgotten is found out.
        let nudges = self.rough.forgotten > 0 && self.chance.draw(200) == 0;
        in_time && !in_vain && !nudges
    }

    fn acknowledge(&mut self, acks: Vec<Receipt>) {
        for receipt in acks {
            let to = C::Roles::NAMES.iter().position(|name| *name == receipt.to.as_str()).unwrap();
            let driver = &mut self.sites[to].driver;
            if driver.has_transmitted(&receipt) {
                driver.acked(receipt.number);
            }
        }
    }

    fn hear(&mut self, frame: Frame, receipt: Option<Receipt>) {
        let to = usize::from(frame.to.0);
        let is_unnumbered = receipt.is_none();
        if let Some(closed) = self.sites[to].disk.closed() {
            self.acknowledge(receipt.into_iter().collect());
            if frame.asks_the_closed(is_unnumbered) {
                self.hear(frame.answered(Some(closed.outcome)), None);
            }
            return;
        }
        // A role that does not know the session begins with a header only, and the initiator by its start.
        let known = self.part(to).is_some() || self.sites[to].disk.opened().is_some();
        if !known && frame.takes_for_known(is_unnumbered) {
            self.hear(frame.answered(None), None);
        } else if (known || (frame.header.is_some() && to != 0)) && self.live(to) {
            let part = self.part(to).unwrap();
            assert!(part.deliver(Delivery::of_cast(&part.header(), frame, receipt).unwrap()));
        }
    }

    /// One of the frames that are under way arrives, once more or at last.
    fn deliver_one(&mut self) {
        let from = self.chance.draw(self.sites.len());
        let numbers: Vec<u64> = self.sites[from].driver.outbox().keys().copied().collect();
        if numbers.is_empty() {
            return;
        }
        let number = numbers[self.chance.draw(numbers.len())];
        if self.chance.draw(10) < self.rough.lost_in_ten {
            if self.forgotten.len() < self.rough.forgotten && self.chance.draw(2) == 0 {
                self.forget(from, number);
            }
            return;
        }
        let node = NodeId::new(C::Roles::NAMES[from]).unwrap();
        let (frame, receipt) = self.sites[from].driver.transmit(number, &node).unwrap();
        self.hear(frame, receipt);
    }

    /// A frame is lost though it is acknowledged.
    fn forget(&mut self, from: usize, number: u64) {
        let Some(outgoing) = self.sites[from].driver.acked(number) else { return };
        self.forgotten.push(match outgoing.key {
            OutgoingKey::Deliver(..) => "deliver",
            OutgoingKey::Abort(_) => "abort",
            OutgoingKey::Done { .. } => "done",
            OutgoingKey::Close(_) => "close",
            OutgoingKey::Invite(_) => "invite",
            OutgoingKey::Nudge(_) => "nudge",
        });
    }

    fn sync(&mut self, index: usize) {
        let Site { disk, driver, .. } = &mut self.sites[index];
        for _ in 0..self.chance.draw(driver.writes() + 1) {
            driver.sync(|write| disk.write(write));
            self.journal_records_max = self.journal_records_max.max(disk.records().len());
        }
    }

    pub fn pass(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
    }

    pub fn crash(&mut self, index: usize) {
        let site = &mut self.sites[index];
        (site.troubles, site.away) = (Vec::new(), None);
        drop(site.driver.end());
        self.crashed += 1;
    }

    fn pass_time(&mut self) {
        let now_ms = self.clock.monotonic_ms();
        let since = |unix_ms: u64| unix_ms.saturating_sub(self.clock.unix_ms()) + now_ms;
        let wakes = self.sites.iter().filter_map(|site| match &site.away {
            Some(idle) => idle.until_unix_ms.map(since),
            None => site.driver.instance()?.next_wake_ms(),
        });
        let next = wakes.min().unwrap_or(now_ms).max(now_ms);
        self.clock.0.store(next, Ordering::Relaxed);
    }

    fn mend(&mut self, index: usize) {
        if self.resolution.is_some() && !self.sites[index].troubles.is_empty() {
            self.live(index); // A question brings it back.
        }
        if let (Some(resolution), Some(part), false) =
            (self.resolution, self.part(index), self.sites[index].troubles.is_empty())
        {
            part.resolve(resolution);
        }
    }

    /// Whether all roles have closed.
    pub fn is_over(&self) -> bool {
        self.sites.iter().all(|site| site.disk.closed().is_some())
    }

    pub fn outcomes(&self) -> Vec<Outcome> {
        self.sites.iter().map(|site| site.disk.closed().expect("a role has not closed").outcome).collect()
    }

    pub fn records(&self, index: usize) -> Vec<Record> {
        self.sites[index].disk.records()
    }

    pub fn troubles(&self) -> Vec<StepFailure> {
        self.sites.iter().flat_map(|site| site.troubles.iter().map(|(_, trouble)| trouble.clone())).collect()
    }

    pub fn part(&self, index: usize) -> Option<&RoleInstance> {
        self.sites[index].driver.instance()
    }

    /// Does one thing, whichever chance takes.
    pub fn step(&mut self) {
        // Whoever has something on disk, or a start, comes back by itself.
        for index in 0..self.sites.len() {
            if (index == 0 || self.sites[index].disk.opened().is_some()) && !self.is_away(index) {
                self.live(index);
            }
        }
        let index = self.chance.draw(self.sites.len());
        match self.chance.draw(20) {
            // Seldom enough that some come late in the run.
            0 if self.crashed < self.rough.crashes && self.chance.draw(4) == 0 => self.crash(index),
            0..6 => self.turn(index),
            6..10 => self.sync(index),
            10..18 => self.deliver_one(),
            18 => self.mend(index),
            _ => self.pass_time(),
        }
    }

    /// Until all roles have closed, or `until` holds.
    pub fn play_until(&mut self, until: impl Fn(&Self) -> bool) {
        for _ in 0..400_000 {
            if self.is_over() || self.stopped.is_some() || until(self) {
                return;
            }
            self.step();
        }
        let states = self.sites.iter().map(|site| {
            let under_way: Vec<_> = site.driver.outbox().values().map(|outgoing| &outgoing.key).collect();
            let waits = site.driver.instance().map(RoleInstance::waits_for);
            let next = site.driver.instance().and_then(RoleInstance::next_wake_ms);
            let records = site.disk.records();
            format!(
                "away {:?}, waits {waits:?}, wakes {next:?}, says {under_way:?}, writes {}, closed {:?}, has {records:?}",
                site.away,
                site.driver.writes(),
                site.disk.closed().is_some()
            )
        });
        let states: Vec<_> = states.collect();
        panic!("nothing moves any more at {}:\n{}", self.clock.monotonic_ms(), states.join("\n"));
    }

    pub fn play(&mut self) {
        self.play_until(|_| false);
        assert_eq!(self.stopped, None);
        for site in &self.sites {
            assert_eq!(site.disk.records(), [], "a role has closed, and left something behind");
        }
    }
}

/// Runs `check` over seeds, and says which one failed. `ACCOMPANIST_STAGE_TIMES` times as many as usual, if it is set.
pub fn over_seeds(seeds: u64, check: impl Fn(u64)) {
    let times = std::env::var("ACCOMPANIST_STAGE_TIMES").map_or(1, |times| times.parse().unwrap());
    for seed in 0..seeds * times {
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(seed)));
        assert!(checked.is_ok(), "seed {seed} failed");
    }
}

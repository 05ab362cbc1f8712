//! All roles of one session in one process: every frame, write and turn is an event, and one event happens at a time.
//!
//! The harness is pure except for the services: no thread, no network, no disk, and a clock that advances when nothing
//! else happens. The role instances are the same as in the runtime. [`super::crashes`], or a test, decides what
//! happens next. `session` has what is fixed at the start, `site` one role, `checks` what the run has to satisfy.

mod checks;
mod event;
mod log;
mod requests;
mod session;
mod site;
mod time;
mod view;

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use self::checks::RunChecks;
pub(super) use self::event::{DeliveryOrder, Event};
use self::log::EventLog;
use self::requests::ServiceRequests;
use self::session::SessionStart;
use self::site::{RoleSite, is_drawn};
use self::time::RunTime;
use super::narration::{self, described};
use super::setup::{Signal, TestSetup};
use super::timeline::Line;
use crate::base::abort::Abort;
use crate::base::id::RoleIndex;
use crate::base::located::Located;
use crate::base::message::Payload;
use crate::base::role::{Role, names_of};
use crate::base::role_names::RoleNames;
use crate::contract::Environment;
use crate::driver::local::starter;
use crate::driver::role_instance::{AnyChoreography, RoleInstance, TurnWaker};
use crate::frame::{Delivery, Frame, Receipt};
use crate::language::choreography::Choreography;
use crate::machine::{Effects, Limits, Outgoing};
use crate::step::Compensation;

/// The delay after which unacknowledged frames are resent, if nothing else happens meanwhile.
const RETRANSMISSION_DELAY_MS: u64 = 1_000;

/// All roles of one session. See the module's documentation.
pub(super) struct SessionHarness<C> {
    choreography: Arc<C>,
    names: RoleNames,
    start: SessionStart,
    time: RunTime,
    sites: Vec<RoleSite>,
    caller: Arc<Mutex<Option<Waker>>>,
    requests: ServiceRequests,
    /// The acknowledgements on their way, each with the role that sends it.
    acks: VecDeque<(usize, Receipt)>,
    pub(super) signals: Vec<Signal>,
    first: DeliveryOrder,
    checks: RunChecks,
    /// The result that the initiator's caller received.
    pub(super) output: Option<Result<Payload, Abort>>,
    /// Whether something was drawn, or depended on time, and may therefore differ in another run.
    pub(super) has_drawn: bool,
    log: EventLog,
}

impl<C: Choreography> SessionHarness<C> {
    pub(super) fn new(choreography: Arc<C>, input: Payload, setup: &mut TestSetup<C>, first: DeliveryOrder) -> Self {
        let names = names_of::<C::Roles>();
        let sized = setup.services.cast_len(names);
        let roles = names.names(sized.clone().unwrap_or_default());
        let starter = starter(names, <C::Input as Located>::Role::NAME);
        let time = RunTime::default();
        let now_unix_ms = time.clock().unix_ms();
        let initiator = starter.clone().unwrap_or_default();
        let start = SessionStart::new::<C>(&roles, initiator, input, setup.deadline, now_unix_ms);
        let mut harness = Self {
            choreography,
            names,
            sites: start.header().roles().map(|role| RoleSite::new(setup.services.of(names, role))).collect(),
            start,
            time,
            caller: Arc::default(),
            requests: ServiceRequests::new(setup.has_late_requests),
            acks: VecDeque::new(),
            signals: std::mem::take(&mut setup.signals),
            first,
            checks: RunChecks::new(),
            output: None,
            has_drawn: false,
            log: EventLog::default(),
        };
        if let Some(reason) = sized.err().map(|error| error.to_string()).or(starter.err()) {
            harness.checks.fail(reason);
        }
        harness.checks.monitor.note_roles(C::NAME, C::VERSION, names);
        if harness.choreography.compensation() == Compensation::Backwards {
            harness.checks.monitor.note_backwards(C::NAME);
        }
        harness.live(harness.start.initiator());
        harness
    }

    /// Starts a new life of a role, from its disk, a start or a frame's header.
    fn live(&mut self, index: usize) {
        let role = self.provided_as_at(index);
        let Some(site) = self.sites.get_mut(index) else { return };
        if site.driver.instance().is_some() || site.disk.closed().is_some() {
            return;
        }
        let (id, opened) = self.start.opened(index);
        let instance = site.disk.machine(id, role, &opened, Limits::default());
        let instance = instance.resending(std::mem::take(&mut site.lacking));
        let alarm = TurnWaker::new({
            let (due, caller) = (site.due.clone(), self.caller.clone());
            move || {
                due.store(true, Ordering::SeqCst);
                let waker = caller.lock().unwrap_or_else(PoisonError::into_inner).clone();
                waker.inspect(Waker::wake_by_ref);
            }
        });
        let choreography = self.choreography.clone();
        let (input, clock) = (opened.input, self.time.clock().clone());
        let instance = choreography.part(instance, input, site.service.clone(), clock, alarm);
        site.driver.begin(instance.with_courier(self.requests.courier()));
        site.due.store(true, Ordering::SeqCst);
        site.signals = self.signals.iter().filter(|signal| signal.role == role).cloned().collect();
    }

    /// Returns the next event; `None` if the services have to continue first.
    pub(super) fn next(&self) -> Option<Event> {
        let sites = || self.sites.iter().enumerate();
        let turn = || sites().find(|(_, site)| site.is_alive() && site.due.load(Ordering::SeqCst));
        let sync = || sites().find(|(_, site)| site.driver.writes() > 0);
        let arrive = || {
            let (from, (number, said)) = sites().find_map(|(from, site)| Some((from, site.next_arrival()?)))?;
            Some(Event::Arrive { from, to: usize::from(said.frame.to.0), number: *number })
        };
        let acknowledge = || {
            let (from, receipt) = self.acks.front()?;
            Some(Event::Acknowledge { from: *from, to: self.start.played_by(&receipt.to) })
        };
        let turn = turn().map(|(index, _)| Event::Turn(index));
        let sync = || sync().map(|(index, _)| Event::Sync(index));
        let moved = turn.or_else(|| match self.first {
            DeliveryOrder::Disk => sync().or_else(acknowledge).or_else(arrive),
            DeliveryOrder::Network => arrive().or_else(acknowledge).or_else(sync),
        });
        let signal = || sites().find(|(_, site)| site.is_alive() && !site.signals.is_empty());
        moved.or_else(|| signal().map(|(index, _)| Event::Signal(index))).or_else(|| {
            let busy = self.instances().any(RoleInstance::is_busy);
            (!busy).then_some(Event::Time)
        })
    }

    /// Wakes `cx` when a service has continued.
    pub(super) fn wake_later(&self, cx: &Context<'_>) {
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
    }

    /// Lets `event` happen. A panic in a user's code propagates from here.
    pub(super) fn happen(&mut self, event: Event) {
        let number = self.log.begin(event);
        let who = match event {
            Event::Arrive { to, .. } => Some(to),
            event => event.roles().next(),
        };
        let who = who.map(|index| self.name_of(index)).unwrap_or_default();
        let line = match event {
            Event::Turn(index) => self.turn(index),
            Event::Sync(index) => Line::new(self.sync(index)),
            Event::Arrive { from, number, .. } => self.arrive(from, number),
            Event::Acknowledge { .. } => Line::new(self.acknowledge()),
            Event::Forget { from, number, .. } => Line::new(self.forget(from, number)),
            Event::Signal(index) => Line::new(self.signal(index)),
            Event::Time => Line::routine(self.pass_time()),
            Event::Crash(index) => Line::telling(self.crash(index)),
            Event::Request(number) => Line::telling(self.requests.arrive(number)),
        };
        self.requests.note_made(number);
        if !matches!(event, Event::Turn(_) | Event::Arrive { .. } | Event::Time) {
            self.time.note_progress();
        }
        self.log.describe(number, &who, line);
    }

    fn turn(&mut self, index: usize) -> Line {
        let (now_ms, node) = (self.time.now_ms(), self.start.node(index));
        let Some(site) = self.sites.get_mut(index) else { return Line::routine(String::new()) };
        site.due.store(false, Ordering::SeqCst);
        let Some(mut effects) = site.driver.turn(now_ms) else { return Line::routine(String::new()) };
        let line = narration::turn(&effects, self.names);
        self.note_stuck(index, &effects);
        for receipt in effects.acks.drain(..) {
            self.send_ack(index, receipt);
        }
        let is_initiator = index == self.start.initiator();
        self.output = effects.output.take().filter(|_| is_initiator).or(self.output.take());
        let Some(site) = self.sites.get_mut(index) else { return line };
        let mut verdict = Ok(());
        for number in site.driver.carry_out(&mut effects) {
            let Some(Outgoing { frame, .. }) = site.driver.outbox().get(&number) else { break };
            let receipt = site.driver.receipt(number, &node);
            verdict = verdict.and(self.checks.monitor.said(&node, frame, receipt.as_ref()));
        }
        if !effects.lacking.is_empty() && site.is_alive() {
            let rest = site.driver.end().and_then(|instance| instance.passivation_without(&effects.lacking));
            site.disk.apply(rest.into_iter().collect());
            site.lacking = effects.lacking;
            self.live(index);
        }
        self.checks.require(verdict);
        line
    }

    /// Notes why a role cannot continue, if there is a reason.
    fn note_stuck(&mut self, index: usize, effects: &Effects) {
        let role = self.name_of(index);
        if let Some(stop) = &effects.stopped {
            self.checks.fail(format!("role `{role}` is stopped: {stop}"));
        }
        if let Some((path, trouble)) = effects.troubles.iter().flatten().next() {
            self.checks.fail(format!("role `{role}` needs an operator at {path}: {trouble}"));
        }
    }

    fn send_ack(&mut self, index: usize, receipt: Receipt) {
        let verdict = self.checks.monitor.acked(&self.start.node(index), &receipt);
        self.checks.require(verdict);
        self.acks.push_back((index, receipt));
    }

    fn sync(&mut self, index: usize) -> String {
        let Some(site) = self.sites.get_mut(index) else { return String::new() };
        let Some((number, stored)) = site.sync() else { return String::new() };
        self.has_drawn |= stored.iter().any(is_drawn);
        site.due.store(true, Ordering::SeqCst);
        let node = self.start.node(index);
        let verdict = self.checks.monitor.applied(&node, &stored);
        self.checks.monitor.synced(&node);
        self.checks.require(verdict);
        format!("syncs write {number}")
    }

    fn arrive(&mut self, from: usize, number: u64) -> Line {
        let node = self.start.node(from);
        let Some(site) = self.sites.get_mut(from) else { return Line::routine(String::new()) };
        let Some((frame, receipt)) = site.driver.transmit(number, &node) else { return Line::routine(String::new()) };
        site.arrived.insert(number);
        let what = format!("receives {} from `{}`", described(&frame), self.name_of(from));
        let line = if receipt.is_some() { Line::new(what) } else { Line::routine(what) };
        self.hear(frame, receipt);
        line
    }

    fn hear(&mut self, frame: Frame, receipt: Option<Receipt>) {
        let index = usize::from(frame.to.0);
        let Some(site) = self.sites.get(index) else { return };
        let is_unnumbered = receipt.is_none();
        if let Some(closed) = site.disk.closed().filter(|_| !site.is_alive()) {
            if let Some(receipt) = receipt {
                self.send_ack(index, receipt);
            }
            if frame.asks_the_closed(is_unnumbered) {
                self.hear(frame.answered(Some(closed.outcome)), None);
            }
            return;
        }
        // A role that does not know the session starts only on a frame with a header; the initiator starts by itself.
        if frame.header.is_some() {
            self.live(index);
        } else if !site.is_alive() && frame.takes_for_known(is_unnumbered) {
            return self.hear(frame.answered(None), None);
        }
        if let Some(site) = self.sites.get(index)
            && let Some(instance) = site.driver.instance()
        {
            if let Some(delivery) = Delivery::of_cast(self.start.header(), frame, receipt) {
                instance.deliver(delivery);
            }
            site.due.store(true, Ordering::SeqCst);
        }
    }

    fn acknowledge(&mut self) -> String {
        let Some((_, receipt)) = self.acks.pop_front() else { return String::new() };
        let to = self.start.played_by(&receipt.to);
        let role = self.name_of(to);
        let Some(site) = self.sites.get_mut(to).filter(|site| site.driver.has_transmitted(&receipt)) else {
            return format!("has acknowledged what `{role}` sent before its crash");
        };
        if site.driver.acked(receipt.number).is_some() {
            site.due.store(true, Ordering::SeqCst);
        }
        format!("has acknowledged, and `{role}` learns it")
    }

    /// Loses a frame although it is acknowledged.
    fn forget(&mut self, from: usize, number: u64) -> String {
        let Some(site) = self.sites.get_mut(from) else { return String::new() };
        let Some(Outgoing { frame, .. }) = site.driver.acked(number) else { return String::new() };
        site.due.store(true, Ordering::SeqCst);
        self.checks.monitor.forgot(&frame);
        format!("is told that {} was received, and it was not", described(&frame))
    }

    fn signal(&mut self, index: usize) -> String {
        let Some(site) = self.sites.get_mut(index) else { return String::new() };
        let signals = std::mem::take(&mut site.signals);
        for Signal { name, key, payload, .. } in &signals {
            // The signal is given again in each life, and recognised by its key. A signal that comes too late changes
            // nothing.
            let _ = site.driver.instance().map(|instance| instance.signal(name, key, payload.clone()));
        }
        site.due.store(true, Ordering::SeqCst);
        format!("is given {} signals", signals.len())
    }

    fn pass_time(&mut self) -> String {
        let now_ms = self.time.now_ms();
        let unacknowledged = self.sites.iter().any(|site| !site.driver.outbox().is_empty());
        self.time.note_quiet();
        let is_quiet = self.time.is_quiet(self.sites.len());
        let again = unacknowledged.then(|| now_ms.saturating_add(RETRANSMISSION_DELAY_MS)).filter(|_| !is_quiet);
        // When nudges cause nothing any more, only time can.
        let next = if is_quiet {
            self.instances().filter_map(RoleInstance::next_due_ms).min()
        } else {
            self.instances().filter_map(RoleInstance::next_wake_ms).chain(again).min()
        };
        let Some(next_ms) = next else {
            self.checks.fail(self.standstill());
            return "nothing moves any more".into();
        };
        let passed_ms = self.time.advance(next_ms);
        for site in &mut self.sites {
            site.due.store(true, Ordering::SeqCst);
            if Some(next_ms) == again {
                site.arrived.clear();
            }
        }
        format!("{passed_ms} ms pass")
    }

    /// Polls late requests. Ready when all are carried out. A panic in one ends the run.
    pub(super) fn poll_requests(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.requests.poll(cx).map(|result| self.checks.fail_if(result.err()))
    }

    fn crash(&mut self, index: usize) -> String {
        let node = self.start.node(index);
        let initiator = self.start.initiator();
        let Some(site) = self.sites.get_mut(index) else { return String::new() };
        drop(site.driver.end());
        self.checks.monitor.crashed(&node, 0);
        // A role with a session on disk, or with a start, recovers by itself.
        if index == initiator || site.disk.opened().is_some() {
            self.live(index);
        }
        "CRASHES and comes back".into()
    }

    fn instances(&self) -> impl Iterator<Item = &RoleInstance> {
        self.sites.iter().filter_map(|site| site.driver.instance())
    }

    /// The name of a role for people.
    fn name_of(&self, role: usize) -> String {
        self.names.name_of(index_of(role)).unwrap_or_default()
    }

    /// The name under which a role is provided; for a member of a role family, that of the family.
    fn provided_as_at(&self, role: usize) -> &'static str {
        self.names.provided_as(index_of(role)).unwrap_or_default()
    }
}

fn index_of(role: usize) -> RoleIndex {
    RoleIndex(u8::try_from(role).unwrap_or(u8::MAX))
}

//! What can happen in a state, and which state comes of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use accompanist_core::frame::{Body, Frame, Receipt};
use accompanist_core::instance::{Effects, OutgoingKey, Write};
use accompanist_core::record::Record;
use stateright::{Model, Property};

use crate::broken::Broken;
use crate::faults;
use crate::life::{Input, Life, Live, Play};
use crate::properties::{self, Watched};
use crate::service::{Call, Task};
use crate::state::{Ack, Entry, Flight, Seat, State, describe};

/// What bounds a check.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// Crashes of all roles together.
    pub crashes: usize,
    /// Whether the caller may cancel, once.
    pub cancel: bool,
    /// Whether a role is polled by an action of its own. Otherwise it is after everything that happens to it.
    pub own_turns: bool,
    /// How often each service may be too busy to take a step back.
    pub busy: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Deliver(u64),
    Acknowledge(u64),
    Sync(usize),
    /// The write is durable, and the role crashes before it hears of that.
    SyncAndCrash(usize),
    Turn(usize),
    Answer(usize, Call, bool),
    Time(usize),
    Crash(usize),
    Cancel,
}

/// One session, to be checked.
pub struct Session {
    pub play: Play,
    pub bounds: Bounds,
    pub broken: Option<Broken>,
    pub watched: Vec<Watched>,
    /// From which state which one comes, without a crash or a cancel: for the question whether it can end.
    pub progress: Mutex<Vec<(u64, u64)>>,
    /// The states that are over.
    pub over: Mutex<BTreeSet<u64>>,
    /// The states that are known not to come to an end any more.
    pub dead: BTreeSet<u64>,
}

impl Session {
    fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    fn again(&self, role: usize, life: &Life) -> Live {
        Live::again(&self.play, role, life, self.broken == Some(Broken::SyncedTooEarly), |write| self.spoil(write))
    }

    /// What a broken disk leaves out.
    fn spoil(&self, write: &mut Write) {
        let lost = |key: &[u8]| match self.broken {
            // The tag is the last byte of these keys.
            Some(Broken::LostIntent) => key.last() == Some(&b'i'),
            Some(Broken::LostClosing) => key.last() == Some(&b'z'),
            _ => false,
        };
        write
            .changes
            .retain(|change| !(change.space == accompanist_core::contract::Space::Journal && lost(&change.key)));
    }

    /// `inputs` happen to a role that is alive.
    fn happen(&self, next: &mut State, role: usize, inputs: Vec<Input>) {
        let Some(life) = next.seats[role].life.clone() else { return };
        let mut life = Life::clone(&life);
        let mut live = self.again(role, &life);
        let mut all = Vec::new();
        for input in inputs {
            all.push(live.feed(&input, |write| self.spoil(write)));
            next.seats[role].unpolled = !matches!(input, Input::Turn);
            life.inputs.push(input);
        }
        let known = std::mem::take(&mut next.seats[role].shape.calls);
        next.seats[role].set(&live, life);
        faults::of_calls(next, role, &known);
        for effects in all {
            self.carry_out(next, role, effects);
        }
    }

    /// As above, and polls it, if that is not for an action of its own.
    fn happen_and_turn(&self, next: &mut State, role: usize, input: Input) {
        let turn = (!self.bounds.own_turns).then_some(Input::Turn);
        self.happen(next, role, std::iter::once(input).chain(turn).collect());
    }

    fn begin(&self, next: &mut State, role: usize) {
        let seat = &mut next.seats[role];
        let life = Life { origin: seat.disk.clone(), number: seat.epoch, inputs: Vec::new() };
        seat.life = Some(Arc::new(life));
        self.happen(next, role, vec![Input::Turn]);
    }

    fn carry_out(&self, next: &mut State, role: usize, effects: Effects) {
        faults::of_effects(next, role, &effects);
        match effects.output {
            Some(Ok(_)) if role == 0 => next.told_output = true,
            Some(Err(_)) if role == 0 => next.told_abort = true,
            _ => {}
        }
        for outgoing in effects.frames {
            let fresh = !matches!(outgoing.key, OutgoingKey::Nudge(_));
            next.send(outgoing.key, outgoing.frame, fresh);
        }
        for receipt in effects.acks {
            acknowledge(next, role, &receipt);
        }
        if effects.closed.is_some() {
            let seat = &mut next.seats[role];
            (seat.closed, seat.epoch) = (true, seat.epoch);
            seat.end();
            next.forget_sender(role);
            let seat = &mut next.seats[role];
            if self.is(Broken::NoTombstone) {
                seat.disk = Arc::default();
            }
        }
    }

    fn deliver(&self, next: &mut State, number: u64) {
        let flight = next.flights[&number].clone();
        let (frame, to) = (&flight.frame, usize::from(flight.frame.to.0));
        let from = usize::from(frame.from.0);
        let receipt = flight.fresh.then(|| Receipt {
            to: self.play.header.cast[from].clone(),
            epoch: next.seats[from].epoch,
            number,
        });
        let seat = &next.seats[to];
        if let Some(closed) = seat.disk.closed().filter(|_| seat.life.is_none()) {
            receipt.iter().for_each(|receipt| acknowledge(next, to, receipt));
            if matches!(frame.body, Body::Nudge) {
                let compensated = matches!(closed.outcome, accompanist_core::frame::Outcome::Compensated(_));
                let body = Body::Done(closed.outcome);
                let answer = Frame { from: frame.to, to: frame.from, header: None, body, ..Frame::clone(frame) };
                next.send(OutgoingKey::Done { compensated }, answer, false);
            }
            return;
        }
        if seat.life.is_none() {
            let life = Life { origin: seat.disk.clone(), number: seat.epoch, inputs: Vec::new() };
            next.seats[to].life = Some(Arc::new(life));
        }
        let mut frame = frame.clone();
        if self.is(Broken::NoDedup) {
            if flight.heard {
                frame = self.as_if_new(&next.seats[to], to, &frame);
            }
            next.flights.get_mut(&number).unwrap().heard = true;
        }
        let receipt = if self.is(Broken::AckBeforeSync) {
            receipt.iter().for_each(|receipt| acknowledge(next, to, receipt));
            None
        } else {
            receipt
        };
        self.happen_and_turn(next, to, Input::Frame(frame, receipt));
    }

    /// A message that was heard already, taken for the one that the program waits for now.
    fn as_if_new(&self, seat: &Seat, role: usize, frame: &Arc<Frame>) -> Arc<Frame> {
        let waits = self.again(role, seat.life.as_ref().unwrap()).part.waits_for();
        let from = format!("a comm from role {}", frame.from.0);
        let waiting = waits.into_iter().find(|(_, what)| *what == from);
        match (waiting, &frame.body) {
            (Some((path, _)), Body::Deliver { operation, payload, .. }) => {
                let body = Body::Deliver { path, operation: *operation, payload: payload.clone() };
                Arc::new(Frame { body, ..Frame::clone(frame) })
            }
            _ => frame.clone(),
        }
    }

    /// The service does what it is asked for, or does not want to.
    fn answer(&self, next: &mut State, role: usize, call: Call, accepted: bool) {
        faults::of_answer(next, role, &call);
        let entry = next.book.entry((role, call.path.clone())).or_default();
        match call.task {
            Task::Commit => {
                let first = entry.accepted.is_none();
                entry.accepted = Some(accepted);
                if accepted && (first || self.is(Broken::DeafService)) {
                    entry.committed += 1;
                }
            }
            Task::Compensate if accepted => entry.undone = 1,
            Task::Compensate => entry.busy += 1,
        }
        self.happen_and_turn(next, role, Input::Answer(call, accepted));
    }

    fn crash(&self, next: &mut State, role: usize) {
        next.crashes += 1;
        next.forget_sender(role);
        let seat = &mut next.seats[role];
        seat.epoch += 1;
        seat.end();
        // It is back at once: while it is away nothing happens that could not as well happen to be lost.
        if seat.disk.opened().is_some() {
            self.begin(next, role);
        }
    }

    /// For people.
    pub fn describe(&self, state: &State, action: &Action) -> String {
        match action {
            Action::Deliver(number) => format!("arrives: {}", describe(&state.flights[number])),
            Action::Acknowledge(number) => format!("its acknowledgement arrives: {}", describe(&state.flights[number])),
            Action::Answer(role, Call { task, path, .. }, accepted) => {
                format!(
                    "role {role}'s service answers {task:?} at {path} with {}",
                    if *accepted { "yes" } else { "no" }
                )
            }
            Action::Sync(role) => format!("a write of role {role} is durable"),
            Action::SyncAndCrash(role) => format!("a write of role {role} is durable, and it crashes before it knows"),
            Action::Turn(role) => format!("role {role} is polled"),
            Action::Time(role) => format!("role {role} has waited long enough"),
            Action::Crash(role) => format!("role {role} crashes, and comes back"),
            Action::Cancel => "the caller cancels".into(),
        }
    }
}

/// `role` acknowledges what `receipt` is of.
fn acknowledge(next: &mut State, role: usize, receipt: &Receipt) {
    faults::of_acknowledgement(next, role, receipt);
    let Some(flight) = next.flights.get_mut(&receipt.number) else { return };
    let of_this_life = next.seats[usize::from(flight.frame.from.0)].epoch == receipt.epoch;
    if of_this_life && flight.fresh && flight.ack == Ack::Missing {
        flight.ack = Ack::UnderWay;
    }
}

/// Whether it could do anything if `flight` arrived.
fn may_matter(state: &State, flight: &Flight) -> bool {
    let (to, nudge) = (usize::from(flight.frame.to.0), matches!(flight.frame.body, Body::Nudge));
    let seat = &state.seats[to];
    if seat.life.is_some() {
        return true;
    }
    match seat.disk.closed() {
        Some(_) => nudge || (flight.fresh && flight.ack == Ack::Missing),
        // It has never heard of the session.
        None => to != 0 && flight.frame.header.is_some(),
    }
}

impl Model for Session {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            seats: self.play.choreography.roles().iter().map(|_| Seat::empty()).collect(),
            flights: std::collections::BTreeMap::new(),
            book: std::collections::BTreeMap::<_, Entry>::new(),
            crashes: 0,
            cancelled: false,
            told_output: false,
            told_abort: false,
            faults: BTreeSet::new(),
            hash: 0,
        };
        self.begin(&mut state, 0);
        vec![state.sealed()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.never_began() {
            return;
        }
        for (number, flight) in &state.flights {
            if may_matter(state, flight) {
                actions.push(Action::Deliver(*number));
            }
            if flight.ack == Ack::UnderWay {
                actions.push(Action::Acknowledge(*number));
            }
        }
        for (role, seat) in state.seats.iter().enumerate().filter(|(_, seat)| seat.life.is_some()) {
            if seat.unpolled {
                actions.push(Action::Turn(role));
            }
            if seat.shape.writes > 0 {
                actions.push(Action::Sync(role));
            }
            if seat.shape.waits_for_time {
                actions.push(Action::Time(role));
            }
            for call in &seat.shape.calls {
                let known = state.book.get(&(role, call.path.clone()));
                let kept = known.and_then(|entry| entry.accepted).filter(|_| call.task == Task::Commit);
                let busy = known.is_some_and(|entry| entry.busy >= self.bounds.busy);
                if kept != Some(false) {
                    actions.push(Action::Answer(role, call.clone(), true));
                }
                let may_refuse = match call.task {
                    Task::Commit => call.may_refuse && kept != Some(true),
                    Task::Compensate => !busy,
                };
                if may_refuse {
                    actions.push(Action::Answer(role, call.clone(), false));
                }
            }
            if state.crashes < self.bounds.crashes {
                actions.push(Action::Crash(role));
                if seat.shape.writes > 0 {
                    actions.push(Action::SyncAndCrash(role));
                }
            }
        }
        if self.bounds.cancel && !state.cancelled && state.seats[0].life.is_some() {
            actions.push(Action::Cancel);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let progress = !matches!(action, Action::Crash(_) | Action::SyncAndCrash(_) | Action::Cancel);
        match action {
            Action::Deliver(number) => self.deliver(&mut next, number),
            Action::Acknowledge(number) => {
                let flight = next.flights.get_mut(&number).unwrap();
                flight.ack = Ack::Arrived;
                let (from, key) = (usize::from(flight.frame.from.0), flight.key.clone());
                self.happen_and_turn(&mut next, from, Input::Acked(key));
            }
            Action::Sync(role) => self.happen_and_turn(&mut next, role, Input::Synced),
            Action::SyncAndCrash(role) => {
                self.happen(&mut next, role, vec![Input::Synced]);
                self.crash(&mut next, role);
            }
            Action::Turn(role) => self.happen(&mut next, role, vec![Input::Turn]),
            Action::Answer(role, call, accepted) => self.answer(&mut next, role, call, accepted),
            Action::Time(role) => self.happen_and_turn(&mut next, role, Input::Time),
            Action::Crash(role) => self.crash(&mut next, role),
            Action::Cancel => {
                next.cancelled = true;
                self.happen_and_turn(&mut next, 0, Input::Cancel);
            }
        }
        let next = next.sealed();
        if progress {
            self.progress.lock().unwrap().push((last.hash, next.hash));
        }
        if next.is_over() {
            self.over.lock().unwrap().insert(next.hash);
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

/// Whether `records` have what `wanted` says.
pub fn has(records: &[Record], wanted: impl Fn(&Record) -> bool) -> bool {
    records.iter().any(wanted)
}

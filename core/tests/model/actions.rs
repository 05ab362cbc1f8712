//! What can happen in a state, and which state comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use stateright::{Model, Property};

use crate::life::Input;
use crate::properties;
use crate::service::{Call, Task};
use crate::session::Session;
use crate::state::{Ack, Flight, Seat, State, describe};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A frame arrives: in any order, any number of times, or never.
    Deliver(u64),
    Acknowledge(u64),
    /// A frame is acknowledged, and need not have arrived nor ever do.
    Forget(u64),
    Sync(usize),
    /// The write is durable, and the role crashes before it hears of that.
    SyncAndCrash(usize),
    Answer(usize, Call, bool),
    Time(usize),
    Crash(usize),
    Cancel,
}

impl Action {
    /// For people.
    pub fn describe(&self, state: &State) -> String {
        match self {
            Self::Deliver(number) => format!("arrives: {}", describe(&state.flights[number])),
            Self::Acknowledge(number) => format!("its acknowledgement arrives: {}", describe(&state.flights[number])),
            Self::Forget(number) => format!("is acknowledged and lost: {}", describe(&state.flights[number])),
            Self::Answer(role, Call { task, path, .. }, accepted) => {
                let answer = if *accepted { "yes" } else { "no" };
                format!("the service of role {role} answers {task:?} at {path} with {answer}")
            }
            Self::Sync(role) => format!("a write of role {role} is durable"),
            Self::SyncAndCrash(role) => format!("a write of role {role} is durable, and it crashes before it knows"),
            Self::Time(role) => format!("role {role} has waited long enough"),
            Self::Crash(role) => format!("role {role} crashes, and comes back"),
            Self::Cancel => "the caller cancels".into(),
        }
    }
}

/// Whether it could do anything if `flight` arrived.
fn may_matter(state: &State, flight: &Flight) -> bool {
    let to = usize::from(flight.frame.to.0);
    let seat = &state.seats[to];
    if seat.life.is_some() {
        return true;
    }
    match seat.tombstone() {
        Some(_) => flight.asks_the_closed() || (flight.fresh && flight.ack == Ack::Missing),
        // It has never heard of the session.
        None => to != 0 && (flight.frame.header.is_some() || flight.takes_for_known()),
    }
}

/// The answers that the service of `role` may give.
fn answers<'a>(session: &'a Session, state: &'a State, role: usize) -> impl Iterator<Item = Action> + 'a {
    state.seats[role].shape.calls.iter().flat_map(move |call| {
        let known = state.book.get(&(role, call.path.clone()));
        let kept = known.and_then(|entry| entry.accepted).filter(|_| call.task == Task::Commit);
        let busy = known.is_some_and(|entry| entry.busy >= session.bounds.busy);
        let may_refuse = match call.task {
            Task::Commit => call.may_refuse && kept != Some(true),
            Task::Compensate => !busy,
        };
        let answer = |accepted| Action::Answer(role, call.clone(), accepted);
        let yes = (kept != Some(false)).then(|| answer(true));
        yes.into_iter().chain(may_refuse.then(|| answer(false)))
    })
}

fn of_role(session: &Session, state: &State, role: usize, seat: &Seat, actions: &mut Vec<Action>) {
    if seat.shape.writes > 0 {
        actions.push(Action::Sync(role));
    }
    // Another role that has ended asks for the close: at any moment that would be seven times the states, for a lost
    // close alone.
    let any_time = session.bounds.any_time && !(role != 0 && seat.shape.has_ended);
    if seat.shape.waits_for_time && (any_time || state.is_quiet()) {
        actions.push(Action::Time(role));
    }
    actions.extend(answers(session, state, role));
    if state.crashes < session.bounds.crashes {
        actions.push(Action::Crash(role));
        if seat.shape.writes > 0 {
            actions.push(Action::SyncAndCrash(role));
        }
    }
}

impl Model for Session {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            seats: self.play.choreography.roles().single().iter().map(|_| Seat::empty()).collect(),
            flights: BTreeMap::new(),
            book: BTreeMap::new(),
            crashes: 0,
            forgotten: 0,
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
        self.expanded.fetch_add(1, Ordering::Relaxed);
        if state.never_began() {
            return;
        }
        for (number, flight) in &state.flights {
            if may_matter(state, flight) {
                actions.push(Action::Deliver(*number));
            }
            let may_forget = state.forgotten < self.bounds.forgotten;
            if may_forget && flight.fresh && flight.ack == Ack::Missing {
                actions.push(Action::Forget(*number));
            }
            if flight.ack == Ack::UnderWay {
                actions.push(Action::Acknowledge(*number));
            }
        }
        for (role, seat) in state.seats.iter().enumerate().filter(|(_, seat)| seat.life.is_some()) {
            of_role(self, state, role, seat, actions);
        }
        if self.bounds.cancel && !state.cancelled && state.seats[0].life.is_some() {
            actions.push(Action::Cancel);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let progress = match &action {
            Action::Crash(_) | Action::SyncAndCrash(_) | Action::Cancel | Action::Forget(_) => false,
            Action::Deliver(number) => last.flights[number].is_said_on(),
            _ => true,
        };
        match action {
            Action::Deliver(number) => self.deliver(&mut next, number),
            Action::Acknowledge(number) => {
                let flight = next.flights.get_mut(&number).unwrap();
                flight.ack = Ack::Arrived;
                let (from, key) = (usize::from(flight.frame.from.0), flight.key.clone());
                self.happen_and_turn(&mut next, from, Input::Acked(key));
            }
            Action::Forget(number) => self.forget(&mut next, number),
            Action::Sync(role) => self.happen_and_turn(&mut next, role, Input::Synced),
            Action::SyncAndCrash(role) => self.sync_and_crash(&mut next, role),
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

//! Machines that are broken on purpose: the model has to find each.
//!
//! The machine itself is the one that runs; what is around it is broken, or what it wants done is done wrongly. Where
//! the fault itself is watched, it is found at once; with that left out, what comes of it.

use std::sync::Arc;

use accompanist_core::contract::{Change, Space};
use accompanist_core::frame::{Body, Frame};
use accompanist_core::machine::Write;
use accompanist_core::record::{Record, read_value};

use crate::rig::id;
use crate::session::Session;
use crate::state::State;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A frame is acknowledged when it arrives.
    AckBeforeSync,
    /// Who has closed forgets the session altogether.
    NoTombstone,
    /// A message that comes twice is taken for the next one.
    NoDedup,
    /// A service that does not go by the idempotency key.
    DeafService,
    /// The intent of a step is not written: what is in doubt is forgotten.
    LostIntent,
    /// What is written is said to be durable before it is: results and votes leave too early.
    SyncedTooEarly,
    /// Each two neighbours in the order of steps are written the wrong way round: compensation goes forwards.
    Forwards,
    /// That the session is aborted is not written.
    LostAbort,
    /// That the session is being closed is not written.
    LostClosing,
    /// What counts as acknowledged is not sent again, whoever lacks it.
    SendsOnce,
}

impl Session {
    /// What a broken disk makes of a write.
    pub fn spoil(&self, write: &mut Write) {
        if self.broken.is_some() {
            write.changes.retain_mut(|change| self.keeps(change));
        }
    }

    fn keeps(&self, change: &mut Change) -> bool {
        let value = change.value.as_ref().filter(|_| change.space == Space::Journal);
        let Some(record) = value.map(|value| read_value::<Record>(Space::Journal, value).unwrap()) else { return true };
        match record {
            Record::Intended { .. } => !self.is(Broken::LostIntent),
            Record::Closing => !self.is(Broken::LostClosing),
            Record::Aborted { .. } => !self.is(Broken::LostAbort),
            Record::Committed { path, name, input, order, result } if self.is(Broken::Forwards) => {
                let swapped = Record::Committed { path, name, input, order: order ^ 1, result };
                change.value = swapped.change(id(change.key[16])).unwrap().value;
                true
            }
            _ => true,
        }
    }

    /// The frame `number` as it is taken at `role`: the second time, for the message that the program waits for now.
    pub fn doubled(&self, next: &mut State, role: usize, number: u64) -> Arc<Frame> {
        let flight = next.flights.get_mut(&number).unwrap();
        let (frame, heard) = (flight.frame.clone(), std::mem::replace(&mut flight.heard, true));
        let Some(life) = next.seats[role].life.as_ref().filter(|_| heard) else { return frame };
        let from = format!("a comm from `{}`", self.play.choreography.roles().single()[usize::from(frame.from.0)]);
        let waiting = self.again(role, life).part.waits_for().into_iter().find(|(_, what)| *what == from);
        match (waiting, &frame.body) {
            (Some((path, _)), Body::Deliver { operation, payload, .. }) => {
                let body = Body::Deliver { path, operation: *operation, payload: payload.clone() };
                Arc::new(Frame { body, ..Frame::clone(&frame) })
            }
            _ => frame,
        }
    }
}

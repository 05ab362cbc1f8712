//! What a record changes in an instance. The machine that writes a record and the one that reads it back call the same
//! function, so that recovery cannot come to another state than the life before.
//!
//! Recovery reads records in the order of their keys, which is not the order in which they were written: an end may
//! come after the abort that followed it. What no run can have written is refused, in either order. This module says
//! nothing to others and decides nothing. Next: `restore`, and each caller of [`Machine::commit`].

use super::journal::Urgency;
use super::phase::{Phase, Program};
use super::signals::Signal;
use super::{Machine, Stop};
use crate::base::abort::Abort;
use crate::base::message::Payload;
use crate::frame::Outcome;
use crate::record::{PassivatedState, Record};

/// Why a record cannot be beside those before it.
pub(super) type Refusal = &'static str;

/// A record that no run can have written, given the records before it. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IllegalRecord {
    record: String,
    reason: Refusal,
}

impl From<IllegalRecord> for Stop {
    fn from(IllegalRecord { record, reason }: IllegalRecord) -> Self {
        Self::IllegalRecord { record, reason: reason.into() }
    }
}

impl Machine {
    /// Records that something has happened, and applies it.
    pub(super) fn commit(&mut self, record: &Record, urgency: Urgency) {
        match self.apply(record, self.journal.next()) {
            Ok(()) => self.record(record, urgency),
            Err(illegal) => self.stop(illegal.into()),
        }
    }

    /// Applies a record that the writer has made together with a local step.
    pub(super) fn apply_written(&mut self, record: &Record) {
        if let Err(illegal) = self.apply(record, 0) {
            self.stop(illegal.into());
        }
    }

    /// Applies a record that the write `write` makes durable; 0 if it is.
    pub(super) fn apply(&mut self, record: &Record, write: u64) -> Result<(), IllegalRecord> {
        let applied = match record.clone() {
            Record::Received { path, from, operation, payload } => {
                self.inputs.note_message(path, from, operation, payload)
            }
            Record::Observed { path, name, result } => self.inputs.note_observation(path, name, result),
            Record::Intended { path, name, input } => self.steps.note_step(&path, &name, input).map(drop),
            Record::Committed { path, name, input, order, result } => {
                self.steps.note_result(&path, &name, input, order, result)
            }
            Record::Compensated { path } => {
                self.steps.note_compensated(&path);
                Ok(())
            }
            Record::Troubled { path, input, trouble } => self.steps.note_trouble(&path, input, trouble),
            Record::Checkpoint { path, turn, state } => self.loops.note_turn(&path, turn, state),
            Record::Signalled { number, name, key, fingerprint, payload } => {
                self.caller.signals.note(number, Signal { name, key, fingerprint, payload })
            }
            // The code that loads the instance handles this record.
            Record::Quarantined { .. } => Ok(()),
            Record::Aborted { abort, own } => self.apply_abort(abort, own, write),
            Record::Ended { outcome, output } => self.apply_end(outcome, output, write),
            Record::Closing if !self.identity.initiates() => Err("only the initiator closes the session for all"),
            Record::Closing => self.phase.note_closing(),
            Record::Passivated(passivated) => {
                self.apply_passivated(passivated);
                Ok(())
            }
            Record::Terminated => {
                self.program = Program::Terminated;
                Ok(())
            }
        };
        applied.map_err(|reason| IllegalRecord { record: format!("{record:?}"), reason })
    }

    fn apply_abort(&mut self, abort: Abort, own: bool, write: u64) -> Result<(), Refusal> {
        if own && !self.identity.initiates() && self.phase.outcome() == Some(&Outcome::Finished) {
            return Err("of the roles that have finished, only the initiator may decide to abort");
        }
        if self.phase.note_abort(&abort, own)? {
            self.caller.give_abort(abort, write);
            // Held frames are not needed any more. Answers to frames that were already sent are handled or ignored.
            self.outbox.drop_all();
            self.outbox.forget_sent();
            self.outbox.note_unannounced();
        }
        Ok(())
    }

    fn apply_end(&mut self, outcome: Outcome, output: Option<Payload>, write: u64) -> Result<(), Refusal> {
        if output.is_some() && (!self.identity.initiates() || outcome != Outcome::Finished) {
            return Err("only an initiator that has finished has an output");
        }
        if self.phase.note_end(outcome, write, self.identity.initiates())? {
            self.caller.note_output(output);
            self.outbox.forget_sent();
        }
        Ok(())
    }

    fn apply_passivated(&mut self, passivated: PassivatedState) {
        for (role, outcome) in &passivated.done {
            self.peers.note_closed(*role, outcome.clone());
        }
        self.timers.passivated_since = passivated.since.iter().cloned().collect();
        self.outbox.restore(passivated);
        if self.phase != Phase::Running {
            self.outbox.forget_sent();
        }
    }
}

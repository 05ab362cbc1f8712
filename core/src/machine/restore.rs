//! Restores an instance from its records, after a crash or a passivation.
//!
//! The messages that the instance has sent are not recorded: its program sends them again. Next: `program`, which a
//! replay calls like any other run.

use super::phase::{End, Phase, Program};
use super::signals::Signal;
use super::{Limits, Machine};
use crate::id::InstanceId;
use crate::message::Fingerprint;
use crate::record::{Opened, Record};

impl Machine {
    /// Restores an instance from its records.
    pub fn restore(id: InstanceId, role: &'static str, opened: &Opened, records: Vec<Record>, limits: Limits) -> Self {
        let mut instance = Self::new(id, role, opened, limits);
        instance.program = Program::Replaying;
        for record in records {
            instance.restore_record(record);
        }
        if instance.phase != Phase::Running {
            instance.outbox.forget_sent();
        }
        if let Some(End { outcome, after }) = instance.phase.end().filter(|_| !instance.identity.initiates()).cloned()
            && !instance.outbox.has_announced_only(&outcome)
        {
            // The initiator does not ask while this instance is passivated.
            instance.say_done(outcome, after);
        }
        if !instance.troubles().is_empty() {
            instance.tell_troubles();
        }
        match instance.phase.abort().cloned() {
            Some(abort) => instance.caller.give_abort(abort, 0),
            None => instance.caller.give_output(0),
        }
        instance
    }

    fn restore_record(&mut self, record: Record) {
        match record {
            Record::Received { path, from, operation, payload } => {
                self.inputs.note_message(path, from, operation, payload);
            }
            Record::Observed { path, name, result } => self.inputs.note_observation(path, name, result),
            Record::Intended { path, name, input } => {
                self.steps.entry(&path, &name, input);
            }
            Record::Committed { path, name, input, order, result } => {
                self.steps.note_order(order);
                let entry = self.steps.entry(&path, &name, input);
                entry.order = order;
                entry.result = Some(result);
            }
            Record::Compensated { path } => self.steps.entry(&path, "", Fingerprint::default()).compensated = true,
            Record::Troubled { path, input, trouble } => {
                let entry = self.steps.entry(&path, &trouble.step, input);
                (entry.tries, entry.in_doubt) = (trouble.tries, trouble.in_doubt);
                entry.trouble = Some(trouble);
            }
            Record::Checkpoint { path, turn, state } => self.loops.note_turn(&path, turn, state),
            Record::Signalled { number, name, key, fingerprint, payload } => {
                self.caller.signals.restore(number, Signal { name, key, fingerprint, payload });
            }
            // The code that loads the instance handles this record.
            Record::Quarantined { .. } => {}
            Record::Aborted { abort, own } => {
                self.phase.note_abort(abort.clone(), own);
                if own {
                    self.tell_abort(&abort);
                }
            }
            Record::Ended { outcome, output } => {
                self.phase.note_end(outcome, 0);
                // The instance ended only once everything it had sent was acknowledged. Nothing is known about the
                // acknowledgement of a later abort.
                if self.phase.has_ended() {
                    self.caller.note_output(output);
                    self.outbox.drop_all();
                }
            }
            Record::PassivatedState(passivated) => {
                self.outbox.restore(&passivated);
                passivated.done.iter().for_each(|(role, outcome)| self.peers.note_closed(*role, outcome.clone()));
                self.outbox.note_passivated(passivated);
            }
            // There is no program that could reach the recorded operations, and all steps count as compensated.
            Record::Terminated => self.program = Program::Terminated,
            Record::Closing => {
                self.phase.note_closing();
                if let Some(outcome) = self.phase.outcome().cloned() {
                    self.say_close(&outcome, 0);
                }
            }
        }
    }
}

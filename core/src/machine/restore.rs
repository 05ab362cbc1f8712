//! Restores an instance from its records, after a crash or a passivation.
//!
//! The messages that the instance has sent are not recorded: its program sends them again. Next: `program`, which a
//! replay calls like any other run.

use super::phase::{End, Phase, Program};
use super::signals::Signal;
use super::{Limits, Machine, Observation};
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
            instance.sent.clear();
        }
        if let Some(End { outcome, after }) = instance.phase.end().filter(|_| !instance.initiates()).cloned() {
            instance.announced = instance.announced.take().filter(|announced| *announced == outcome);
            if instance.announced.is_none() {
                // The initiator does not ask while this instance is passivated.
                instance.say_done(outcome, after);
            }
        }
        let abort = instance.phase.abort().cloned().map(Err);
        if !instance.troubles().is_empty() {
            instance.tell_troubles();
        }
        instance.output_after = abort.or(instance.output.clone().map(Ok)).map(|output| (0, output));
        instance
    }

    fn restore_record(&mut self, record: Record) {
        match record {
            Record::Received { path, from, operation, payload } => {
                self.mailbox.insert((path, from), (operation, payload));
            }
            Record::Observed { path, name, result } => {
                self.observed.insert(path, Observation { name, result, visited: false });
            }
            Record::Intended { path, name, input } => {
                self.step_entry(path, &name, input);
            }
            Record::Committed { path, name, input, order, result } => {
                self.next_order = self.next_order.max(order.saturating_add(1));
                let entry = self.step_entry(path, &name, input);
                entry.order = order;
                entry.result = Some(result);
            }
            Record::Compensated { path } => self.step_entry(path, "", Fingerprint::default()).compensated = true,
            Record::Troubled { path, input, trouble } => {
                let entry = self.step_entry(path, &trouble.step, input);
                (entry.tries, entry.in_doubt) = (trouble.tries, trouble.in_doubt);
                entry.trouble = Some(trouble);
            }
            Record::Checkpoint { path, turn, state } => self.restore_loop(path, turn, state),
            Record::Signalled { number, name, key, fingerprint, payload } => {
                self.signals.restore(number, Signal { name, key, fingerprint, payload });
            }
            // The code that loads the instance handles this record.
            Record::Quarantined { .. } => {}
            Record::Aborted { abort, own } => {
                self.phase.note_abort(abort.clone(), own);
                self.output = None;
                if own {
                    self.tell_abort(&abort);
                }
            }
            Record::Ended { outcome, output } => {
                self.phase.note_end(outcome, 0);
                // The instance ended only once everything it had sent was acknowledged. Nothing is known about the
                // acknowledgement of a later abort.
                if self.phase.has_ended() {
                    self.output = output;
                    self.held.clear();
                    self.unacked.clear();
                }
            }
            Record::PassivatedState(passivated) => self.restore_passivated(passivated),
            // There is no program that could reach the recorded operations, and all steps count as compensated.
            Record::Terminated => self.program = Program::Terminated,
            // The journal's keys order this record after the end.
            Record::Closing => {
                self.phase.note_closing();
                if let Some(outcome) = self.phase.outcome().cloned() {
                    self.say_close(&outcome, 0);
                }
            }
        }
    }
}

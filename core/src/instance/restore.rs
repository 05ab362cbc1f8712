//! An instance out of its records, as a crash has left them.
//!
//! What it has said is not among them: its program says it again. Next: `program`, which a replay asks like any run.

use super::{Instance, Limits, Observation};
use crate::frame::Outcome;
use crate::id::InstanceId;
use crate::record::{Opened, Record};

impl Instance {
    /// An instance as its records tell.
    pub fn restore(id: InstanceId, role: &'static str, opened: &Opened, records: Vec<Record>, limits: Limits) -> Self {
        let mut instance = Self::new(id, role, opened, limits);
        for record in records {
            if let Ok(key) = record.key(id) {
                instance.journal_keys.push(key);
            }
            instance.restore_record(record);
        }
        if instance.abort.is_some() && matches!(instance.ended, Some((_, Outcome::Finished))) {
            // It had finished when it was told to compensate, and has not ended anew since.
            (instance.ended, instance.output) = (None, None);
        }
        let abort = instance.abort.clone().map(Err);
        instance.output_after = abort.or(instance.output.clone().map(Ok)).map(|output| (0, output));
        instance
    }

    fn restore_record(&mut self, record: Record) {
        match record {
            Record::Received { path, from, payload } => {
                self.mailbox.insert((path, from), payload);
            }
            Record::Observed { path, name, result } => {
                self.observed.insert(path, Observation { name, result, visited: false });
            }
            Record::Intended { path, name } => {
                self.step_entry(path, &name);
            }
            Record::Committed { path, name, order, result } => {
                self.next_order = self.next_order.max(order.saturating_add(1));
                let entry = self.step_entry(path, &name);
                entry.order = order;
                entry.result = Some(result);
            }
            Record::Compensated { path } => self.step_entry(path, "").compensated = true,
            Record::Aborted { abort, own } => {
                self.abort = Some(abort.clone());
                if own {
                    self.tell_abort(&abort);
                }
            }
            Record::Ended { outcome, output } => {
                self.output = output;
                self.ended = Some((0, outcome));
                // It ended only once all it had to say was heard.
                self.held.clear();
                self.unacked.clear();
            }
            // It comes after the end, as the journal's keys do.
            Record::Closing => {
                self.closing = true;
                if let Some((_, outcome)) = self.ended.clone() {
                    self.say_close(&outcome, 0);
                }
            }
        }
    }
}

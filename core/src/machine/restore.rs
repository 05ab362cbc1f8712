//! Restores an instance from its records, after a crash or a passivation, and checks its replay.
//!
//! The messages that the instance has sent are not recorded: its program sends them again. What the role has to say
//! about the session itself is said here. Next: `apply`, which makes the state of the records, and `program`, which a
//! replay calls like any other run.

use super::phase::{End, Program};
use super::{Limits, Machine, Stop};
use crate::base::id::{InstanceId, Path};
use crate::record::{Opened, Record};

impl Machine {
    /// Restores an instance from its records. A record that no run can have written stops it.
    pub fn restore(id: InstanceId, role: &'static str, opened: &Opened, records: Vec<Record>, limits: Limits) -> Self {
        let mut instance = Self::new(id, role, opened, limits);
        instance.program = Program::Replaying;
        let terminated = records.contains(&Record::Terminated);
        for record in records {
            match instance.apply(&record, 0) {
                Ok(()) => instance.send_again(&record),
                // The operator who has ended this part without its program has decided about such records, too.
                Err(_) if terminated => instance.journal.unrecord(&record),
                Err(illegal) => instance.stop(illegal.into()),
            }
        }
        if instance.is_stopped() {
            instance.outbox.drop_all();
            return instance;
        }
        if !instance.phase.is_aborted() {
            instance.caller.give_output(0);
        }
        if let Some(End { outcome, after }) = instance.phase.end().filter(|_| !instance.identity.initiates()).cloned()
            && !instance.outbox.keep_announced(&outcome)
        {
            // The initiator does not ask while this instance is passivated.
            instance.send_done(outcome, after);
        }
        if !instance.troubles().is_empty() {
            instance.report_troubles();
        }
        instance
    }

    /// Says again what this role said when it wrote `record`, and what may not be acknowledged.
    fn send_again(&mut self, record: &Record) {
        match record {
            Record::Aborted { abort, own: true } => self.send_abort(abort),
            // The instance ended only once everything it had sent was acknowledged. Nothing is known about the
            // acknowledgement of a later abort.
            Record::Ended { .. } if self.phase.has_ended() => self.outbox.drop_all(),
            // The journal's keys order this record after the end.
            Record::Closing => {
                if let Some(outcome) = self.phase.outcome().cloned() {
                    self.send_close(&outcome, 0);
                }
            }
            _ => {}
        }
    }

    /// Called when a replay has gone as far as it can: checks that the program has reached everything that is
    /// recorded.
    pub(crate) fn check_replay(&mut self) {
        if self.program != Program::Replaying {
            return;
        }
        self.program = Program::Running;
        let unvisited = if self.phase.is_aborted() { self.steps.unvisited(&Path::root()) } else { self.unvisited() };
        if let Some((path, recorded)) = unvisited {
            let waits = self.waits_for().into_iter().map(|(path, what)| format!(", and waits for {what} at {path}"));
            let waits = match waits.collect::<String>() {
                none if none.is_empty() => {
                    ", and waits for nothing that is an operation (what else is awaited belongs into an `effect`)"
                        .into()
                }
                waits => waits,
            };
            let replayed = format!("nothing of the kind{waits}");
            self.stop(Stop::Diverged { path, recorded, replayed });
            // What the program did instead is discarded.
            self.effects.writes.clear();
            self.journal.discard();
            self.outbox.drop_held();
            self.steps.drop_jobs();
        }
    }

    /// Returns something recorded that the program has not reached (again), if there is any.
    pub(super) fn unvisited(&self) -> Option<(Path, String)> {
        self.steps.unvisited(&Path::root()).or_else(|| {
            let mut unvisited = self.inputs.unvisited();
            let (path, observation) = unvisited.find(|(path, _)| self.sagas.aborted_around(path).is_none())?;
            Some((path.clone(), format!("effect `{}`", observation.name)))
        })
    }
}

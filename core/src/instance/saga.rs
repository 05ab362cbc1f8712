//! The way to an end: abort, compensation, done, close.
//!
//! Running -> Finished -> Closed, or -> Compensating -> Compensated -> Closed. A role ends once its program
//! has ended and everything it said has been heard (or, aborted, once everything is taken back and everybody
//! knows). The initiator closes when all have ended alike.

use super::{Instance, Job, LocalJob, OutgoingKey, Pause, Stop};
use crate::abort::Abort;
use crate::choreography::AnyStep;
use crate::frame::{Body, Outcome};
use crate::id::{Path, RoleIndex};
use crate::message::Payload;
use crate::record::{self, Closed, Record};

impl Instance {
    /// The program has returned.
    pub(crate) fn program_ended(&mut self, result: Result<Option<Payload>, Abort>) {
        self.program_ended = true;
        match result {
            Err(abort) => self.decide_abort(&abort),
            Ok(_) if let Some((path, recorded)) = self.unvisited() => {
                self.stop(Stop::Diverged { path, recorded, replayed: "nothing".into() });
            }
            Ok(output) if self.ended.is_none() && self.abort.is_none() => {
                self.output.clone_from(&output);
                self.output_after = output.map(|output| (self.barrier, Ok(output)));
            }
            Ok(_) => {}
        }
    }

    /// Whether a program that waits now waits for nothing: on an aborted session nothing more comes.
    pub(crate) fn program_is_spent(&self) -> bool {
        self.abort.is_some()
    }

    /// A spent program was dropped where it waited. Its commits go on: they are jobs of their own.
    pub(crate) fn program_dropped(&mut self) {
        self.program_ended = true;
    }

    /// A recorded step that the program has not come by (again), and what is recorded of it.
    pub(super) fn unvisited_step(&self) -> Option<(Path, String)> {
        let unvisited = self.steps.iter().find(|(_, entry)| entry.step.is_none() && !entry.compensated)?;
        Some((unvisited.0.clone(), format!("step `{}`", unvisited.1.name)))
    }

    /// As [`Instance::unvisited_step`], of anything recorded.
    fn unvisited(&self) -> Option<(Path, String)> {
        self.unvisited_step().or_else(|| {
            let unvisited = self.observed.iter().find(|(_, observation)| !observation.visited)?;
            Some((unvisited.0.clone(), format!("effect `{}`", unvisited.1.name)))
        })
    }

    /// This role aborts the session, and tells all others.
    pub(crate) fn decide_abort(&mut self, abort: &Abort) {
        if self.abort.is_none() && self.ended.is_none() {
            self.note_abort(abort, true);
            self.tell_abort(abort);
        }
    }

    /// Another role (or the caller) has aborted the session.
    pub(super) fn obey(&mut self, abort: &Abort) {
        if self.abort.is_none() && !self.closing && self.close_after.is_none() {
            self.ended = None;
            self.note_abort(abort, false);
        }
    }

    fn note_abort(&mut self, abort: &Abort, own: bool) {
        self.record_result(&Record::Aborted { abort: abort.clone(), own });
        self.abort = Some(abort.clone());
        self.output = None;
        self.output_after = Some((self.barrier, Err(abort.clone())));
        // What was to be said is of no more use; what has left is answered or ignored.
        self.held.clear();
        self.unacked.clear();
        self.wake();
    }

    pub(super) fn tell_abort(&mut self, abort: &Abort) {
        for to in self.others() {
            self.say(OutgoingKey::Abort(to), to, Body::Abort(abort.clone()), self.barrier);
        }
    }

    fn others(&self) -> Vec<RoleIndex> {
        self.header.roles().filter(|role| *role != self.id.role).collect()
    }

    pub(super) fn note_done(&mut self, role: RoleIndex, outcome: Outcome) {
        if let Outcome::Compensated(abort) = &outcome {
            // Its abort may have been overtaken.
            self.obey(abort);
        }
        // A late "finished" does not undo "compensated".
        if !matches!(self.done.get(&role), Some(Outcome::Compensated(_))) {
            self.done.insert(role, outcome);
        }
    }

    pub(super) fn answer_nudge(&mut self, from: RoleIndex) {
        let Some((after, outcome)) = self.ended.clone() else { return };
        if from == self.header.initiator && after <= self.synced {
            self.say(done_key(&outcome), from, Body::Done(outcome), after);
        }
    }

    pub(super) fn advance(&mut self) {
        if self.close_after == Some(0) {
            self.close();
        }
        if self.close_after.is_some() || !self.program_ended || self.in_flight > 0 || !self.jobs.is_empty() {
            return;
        }
        if self.ended.is_none() {
            match self.abort.clone() {
                Some(abort) => self.compensate(abort),
                None if self.unacked.is_empty() => self.end(Outcome::Finished),
                None => {}
            }
        }
        if self.initiates() {
            self.close_when_all_are_done();
        }
    }

    /// Takes back the latest step that is not taken back yet; after the first one, ends.
    fn compensate(&mut self, abort: Abort) {
        if self.retry.is_some_and(|pause| pause.until_ms > self.now_ms) {
            return;
        }
        if let Some((path, recorded)) = self.unvisited_step() {
            return self.stop(Stop::Diverged { path, recorded, replayed: "nothing".into() });
        }
        let committed = self.steps.iter().filter_map(|(path, entry)| match (&entry.result, &entry.step) {
            (Some(Ok(output)), Some(step)) if !entry.compensated => Some((entry.order, path, output, step)),
            _ => None,
        });
        match committed.max_by_key(|(order, ..)| *order) {
            Some((_, path, output, step)) => {
                let (path, output, step) = (path.clone(), output.clone(), step.clone());
                self.compensate_step(path, output, step);
            }
            None if self.unacked.is_empty() => self.end(Outcome::Compensated(abort)),
            None => {}
        }
    }

    fn compensate_step(&mut self, path: Path, output: Payload, step: AnyStep) {
        let compensates = Some(output);
        match step {
            // After a crash the abort, and that the step was committed, must still be known: else the session would go
            // on without the step, or commit it anew.
            AnyStep::External(step) => self.jobs.push_back((self.barrier, Job { path, step, compensates })),
            AnyStep::BuiltIn(step) => {
                let (instance, role) = (self.id, self.role);
                self.flush(Some(LocalJob { instance, role, path, name: "", order: 0, step, compensates }));
            }
        }
    }

    fn end(&mut self, outcome: Outcome) {
        let output = self.output.clone();
        self.record(&Record::Ended { outcome: outcome.clone(), output }, false);
        self.ended = Some((self.number, outcome.clone()));
        if !self.initiates() {
            self.say(done_key(&outcome), self.header.initiator, Body::Done(outcome), self.number);
        }
    }

    fn close_when_all_are_done(&mut self) {
        let Some((after, outcome)) = self.ended.clone() else { return };
        if !self.closing && self.unlike(&outcome).is_empty() {
            self.closing = true;
            self.record(&Record::Closing, false);
            self.say_close(&outcome, self.number);
        }
        if self.closing && after <= self.synced && self.unacked.is_empty() {
            self.close();
        }
    }

    /// Tells all others to close, once the write that says so is durable.
    pub(super) fn say_close(&mut self, outcome: &Outcome, after: u64) {
        for to in self.others() {
            self.say(OutgoingKey::Close(to), to, Body::Close(outcome.clone()), after);
        }
    }

    /// The other roles that have not said yet that they ended as this one did.
    fn unlike(&self, outcome: &Outcome) -> Vec<RoleIndex> {
        let alike = |other: &Outcome| std::mem::discriminant(other) == std::mem::discriminant(outcome);
        self.others().into_iter().filter(|role| !self.done.get(role).is_some_and(alike)).collect()
    }

    /// Writes the tombstone, and drops the journal with it.
    fn close(&mut self) {
        let Some((_, outcome)) = self.ended.clone() else {
            // A close for an instance that has not ended cannot be: the initiator waits for all.
            self.close_after = None;
            return;
        };
        let closed = Closed { header: self.header.clone(), outcome, output: self.output.clone() };
        match record::close(self.id, &closed, std::mem::take(&mut self.journal_keys)) {
            Err(error) => self.stop(Stop::Undecodable { path: Path::root(), reason: error.to_string() }),
            Ok(batch) => {
                self.pending.changes.extend(batch);
                self.close_after = Some(self.number);
                self.closed = Some(closed);
                self.nudge = None;
            }
        }
    }

    /// The roles that this instance cannot go on without.
    fn awaited(&self) -> Vec<RoleIndex> {
        if self.close_after.is_some() || self.closing {
            return Vec::new();
        }
        if let (true, Some((_, outcome))) = (self.initiates(), &self.ended) {
            return self.unlike(outcome);
        }
        let waits = self.abort.is_none() && !self.program_ended;
        if waits { self.waiting.iter().copied().collect() } else { Vec::new() }
    }

    /// Nudges those that are awaited, with growing pauses.
    pub(super) fn nudge_when_due(&mut self) {
        let awaited = self.awaited();
        match self.nudge {
            _ if awaited.is_empty() => self.nudge = None,
            None => self.nudge = Some(Pause::first(self.now_ms, self.limits.nudge_delay_min_ms)),
            Some(pause) if pause.until_ms <= self.now_ms => {
                for to in awaited {
                    self.say(OutgoingKey::Nudge(to), to, Body::Nudge, 0);
                }
                self.nudge = Some(pause.next(self.now_ms, self.limits.nudge_delay_max_ms));
            }
            Some(_) => {}
        }
    }
}

fn done_key(outcome: &Outcome) -> OutgoingKey {
    OutgoingKey::Done { compensated: matches!(outcome, Outcome::Compensated(_)) }
}

//! The way to an end: abort, compensation, done, close.
//!
//! Running -> Finished -> Closed, or -> Compensating -> Compensated -> Closed. A role ends once its program
//! has ended and everything it said has been heard (or, aborted, once everything is taken back and everybody
//! knows). The initiator closes when all have ended alike.

use super::{Instance, OutgoingKey, Stop};
use crate::abort::Abort;
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

    pub(super) fn note_abort(&mut self, abort: &Abort, own: bool) {
        self.record_result(&Record::Aborted { abort: abort.clone(), own });
        self.abort = Some(abort.clone());
        self.output = None;
        self.output_after = Some((self.barrier, Err(abort.clone())));
        // What was to be said is of no more use; what has left is answered or ignored.
        self.held.clear();
        self.unacked.clear();
        self.said.clear();
        self.told = None;
        self.view_after = None;
        self.give_up_retries(&Path::root());
        if self.has_loops() {
            for to in self.others() {
                self.tell_turns(to);
            }
        }
        self.wake();
    }

    pub(super) fn tell_abort(&mut self, abort: &Abort) {
        for to in self.others() {
            self.say(OutgoingKey::Abort(to), to, Body::Abort(abort.clone()), self.barrier);
        }
    }

    pub(super) fn others(&self) -> Vec<RoleIndex> {
        self.header.roles().filter(|role| *role != self.id.role).collect()
    }

    pub(super) fn note_done(&mut self, role: RoleIndex, outcome: Outcome) {
        if let Outcome::Compensated(abort) = &outcome {
            // Its abort may have been overtaken.
            self.obey(abort);
            self.note_undoing(role, None);
        }
        // A late "finished" does not undo "compensated".
        if !matches!(self.done.get(&role), Some(Outcome::Compensated(_))) {
            self.done.insert(role, outcome);
        }
    }

    /// Tells the initiator how this role has ended.
    pub(super) fn say_done(&mut self, outcome: Outcome, after: u64) {
        self.told = None;
        let key = OutgoingKey::Done { compensated: matches!(outcome, Outcome::Compensated(_)) };
        self.say(key, self.header.initiator, Body::Done(outcome), after);
    }

    pub(super) fn advance(&mut self) {
        if self.close_after == Some(0) {
            self.close();
        }
        self.retry_when_due();
        self.undo_sagas();
        if self.close_after.is_some() || !self.program_ended || self.running > 0 || !self.jobs.is_empty() {
            return;
        }
        self.answer_what_is_gone();
        if self.ended.is_none() {
            match self.abort.clone() {
                Some(abort) => {
                    self.tell_undoing();
                    if self.take_back(&Path::root()) && self.unacked.is_empty() {
                        self.end(Outcome::Compensated(abort));
                    }
                }
                None if self.unacked.is_empty() => self.end(Outcome::Finished),
                None => {}
            }
        }
        if self.initiates() {
            self.close_when_all_are_done();
        }
    }

    fn end(&mut self, outcome: Outcome) {
        let output = self.output.clone();
        self.record(&Record::Ended { outcome: outcome.clone(), output }, false);
        self.ended = Some((self.number, outcome.clone()));
        self.said.clear();
        if !self.initiates() {
            self.say_done(outcome, self.number);
        }
    }

    fn close_when_all_are_done(&mut self) {
        let Some((after, outcome)) = self.ended.clone() else { return };
        // Not while an invitation is under way: it would be said again to those who have closed.
        if !self.closing && self.unlike(&outcome).is_empty() && self.unacked.is_empty() {
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
    pub(super) fn unlike(&self, outcome: &Outcome) -> Vec<RoleIndex> {
        let alike = |other: &Outcome| std::mem::discriminant(other) == std::mem::discriminant(outcome);
        self.others().into_iter().filter(|role| !self.done.get(role).is_some_and(alike)).collect()
    }

    /// Writes the tombstone, and drops the journal with it.
    fn close(&mut self) {
        let Some((_, outcome)) = self.ended.clone() else {
            // Told to close before it has ended: `note_closed` has seen to that.
            self.close_after = None;
            return;
        };
        let closed = Closed { header: self.header.clone(), outcome, output: self.output.clone() };
        match record::close(self.id, &closed, self.all_keys(&closed.outcome)) {
            Err(error) => self.stop(Stop::Undecodable { path: Path::root(), reason: error.to_string() }),
            Ok(batch) => {
                self.pending.changes.extend(batch);
                self.close_after = Some(self.number);
                self.closed = Some(closed);
                self.nudge = None;
            }
        }
    }

    /// The keys of the whole journal of an instance that has ended.
    fn all_keys(&self, outcome: &Outcome) -> Vec<Vec<u8>> {
        let abort = self.abort.clone().map(|abort| Record::Aborted { abort, own: false });
        let ended = Record::Ended { outcome: outcome.clone(), output: None };
        let closing = self.closing.then_some(Record::Closing);
        let rested = self.rested.clone().map(Record::Rested);
        let terminated = self.terminated.then_some(Record::Terminated);
        let records = abort.into_iter().chain([ended]).chain(closing).chain(rested).chain(terminated);
        let records = records.chain(self.signals.records());
        let mut keys = self.journal_keys(&Path::root());
        keys.extend(records.map(|record| record.key(self.id)));
        keys
    }
}

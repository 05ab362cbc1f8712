//! The end of a session: abort, compensation, done, close.
//!
//! The states are Running -> Finished -> Closed, or -> Compensating -> Compensated -> Closed. A role ends once its
//! program has ended and everything it sent is acknowledged; on an aborted session, everything must also be
//! compensated. The initiator closes the session when all roles have ended with the same outcome.

use super::journal::Urgency;
use super::phase::{End, Phase, Program};
use super::{Machine, OutgoingKey, Stop};
use crate::base::abort::Abort;
use crate::base::id::{Path, RoleIndex};
use crate::base::message::Payload;
use crate::frame::{Body, Outcome};
use crate::record::{self, Closed, Record};

impl Machine {
    /// Handles the return of the program.
    pub(crate) fn program_ended(&mut self, result: Result<Option<Payload>, Abort>) {
        self.program.end();
        match result {
            Err(abort) => self.decide_abort(&abort),
            Ok(output) => {
                if let Some((path, recorded)) = self.unvisited() {
                    self.stop(Stop::Diverged { path, recorded, replayed: "nothing".into() });
                } else if self.phase == Phase::Running {
                    self.caller.note_output(output);
                    self.caller.give_output(self.journal.barrier());
                }
            }
        }
    }

    /// Whether a waiting program waits in vain: on an aborted session nothing more arrives.
    pub(crate) fn program_is_spent(&self) -> bool {
        self.phase.is_aborted()
    }

    /// Notes that a spent program was dropped where it waited. Its commits continue, because they are separate jobs.
    pub(crate) fn program_dropped(&mut self) {
        self.program.end();
    }

    /// Aborts the session by decision of this role, and informs all others.
    pub(crate) fn decide_abort(&mut self, abort: &Abort) {
        if self.phase == Phase::Running {
            self.note_abort(abort, true);
            self.send_abort(abort);
        }
    }

    /// Aborts the session on behalf of the caller, who may repeat this. Returns the number of the write that makes
    /// the abort durable, or `None` if it is too late.
    pub fn cancel(&mut self, abort: &Abort) -> Option<u64> {
        if self.identity.initiates() && self.phase.may_abort() {
            self.note_abort(abort, true);
            self.send_abort(abort);
        }
        (self.phase.abort() == Some(abort)).then_some(self.journal.barrier())
    }

    /// The time at which the session is aborted if it has not ended, at the role that is responsible for that.
    pub(super) fn open_deadline_unix_ms(&self) -> Option<u64> {
        let open = self.identity.initiates() && self.phase.may_abort();
        self.identity.header.deadline_unix_ms.filter(|_| open)
    }

    pub(super) fn abort_at_deadline(&mut self) {
        if self.open_deadline_unix_ms().is_some_and(|deadline| deadline <= self.timers.unix_ms) {
            self.cancel(&Abort::new(Abort::DEADLINE, "the session's deadline has passed"));
        }
    }

    /// Handles an abort by another role (or the caller).
    pub(super) fn obey(&mut self, abort: &Abort) {
        if self.phase.may_abort() {
            self.note_abort(abort, false);
        }
    }

    pub(super) fn note_abort(&mut self, abort: &Abort, own: bool) {
        self.commit(&Record::Aborted { abort: abort.clone(), own }, Urgency::Result);
        self.give_up_retries(&Path::root());
        if !self.loops.is_empty() {
            for to in self.identity.others() {
                self.send_turns(to);
            }
        }
        self.wake();
    }

    pub(super) fn send_abort(&mut self, abort: &Abort) {
        for to in self.identity.others() {
            self.send(OutgoingKey::Abort(to), to, Body::Abort(abort.clone()), self.journal.barrier());
        }
    }

    pub(super) fn note_done(&mut self, role: RoleIndex, outcome: Outcome) {
        if let Outcome::Compensated(abort) = &outcome {
            // The outcome may have overtaken the role's abort.
            self.obey(abort);
            self.peers.note_compensating(role, None);
        }
        // A role that has just ended is in no trouble. What it reports once more says nothing of what happened since.
        if !self.peers.is_like(role, &outcome) {
            self.note_peer_trouble(role, None);
        }
        self.peers.note_done(role, outcome);
    }

    pub(super) fn advance(&mut self) {
        if matches!(self.phase, Phase::CloseDue(_)) {
            self.close();
        }
        self.retry_when_due();
        self.compensate_nested_sagas();
        if self.phase.closes() || !self.program.is_over() || self.steps.is_any_running() || self.steps.has_jobs() {
            return;
        }
        self.answer_what_is_gone();
        match self.phase.clone() {
            Phase::Compensating { abort, .. } => {
                self.announce_compensating();
                if self.compensate(&Path::root()) && self.outbox.all_is_acknowledged() {
                    self.end(Outcome::Compensated(abort));
                }
            }
            Phase::Running if self.outbox.all_is_acknowledged() => self.end(Outcome::Finished),
            _ => {}
        }
        if self.identity.initiates() {
            self.close_when_all_are_done();
        }
    }

    fn end(&mut self, outcome: Outcome) {
        let output = self.caller.output().cloned();
        self.commit(&Record::Ended { outcome: outcome.clone(), output }, Urgency::Lazy);
        if !self.identity.initiates() {
            self.send_done(outcome, self.journal.next());
        }
    }

    fn close_when_all_are_done(&mut self) {
        // The close waits until all invitations are acknowledged, because an invitation would be resent to roles that
        // have closed.
        if let Phase::Ended(End { outcome, .. }) = self.phase.clone()
            && self.unlike(&outcome).is_empty()
            && self.outbox.all_is_acknowledged()
        {
            self.commit(&Record::Closing, Urgency::Lazy);
            self.send_close(&outcome, self.journal.next());
        }
        if matches!(&self.phase, Phase::Closing(end) if self.journal.is_synced(end.after))
            && self.outbox.all_is_acknowledged()
        {
            self.close();
        }
    }

    /// Sends the close to all other roles, once the write `after` that records it is durable.
    pub(super) fn send_close(&mut self, outcome: &Outcome, after: u64) {
        for to in self.identity.others() {
            self.send(OutgoingKey::Close(to), to, Body::Close(outcome.clone()), after);
        }
    }

    /// The other roles that have not yet reported the same outcome as this role's.
    pub(super) fn unlike(&self, outcome: &Outcome) -> Vec<RoleIndex> {
        self.identity.others().into_iter().filter(|role| !self.peers.is_like(*role, outcome)).collect()
    }

    /// Writes the tombstone and removes the journal.
    fn close(&mut self) {
        let Some(outcome) = self.phase.outcome().cloned() else { return };
        let closed = Closed { header: self.identity.header.clone(), outcome, output: self.caller.output().cloned() };
        match record::close(self.identity.id, &closed, self.all_keys(&closed.outcome)) {
            Err(error) => self.stop(Stop::unstorable(&error)),
            Ok(batch) => {
                self.journal.change(batch);
                self.phase.note_closed(self.journal.next(), closed);
                self.timers.nudge = None;
            }
        }
    }

    /// The keys of the whole journal of an ended instance.
    fn all_keys(&self, outcome: &Outcome) -> Vec<Vec<u8>> {
        let abort = self.phase.abort().cloned().map(|abort| Record::Aborted { abort, own: false });
        let ended = Record::Ended { outcome: outcome.clone(), output: None };
        let closing = matches!(self.phase, Phase::Closing(_)).then_some(Record::Closing);
        let passivated = self.outbox.last_passivated().cloned().map(Record::Passivated);
        let terminated = (self.program == Program::Terminated).then_some(Record::Terminated);
        let records = abort.into_iter().chain([ended]).chain(closing).chain(passivated).chain(terminated);
        let records = records.chain(self.caller.signals.records());
        let mut keys = self.journal_keys(&Path::root());
        keys.extend(records.map(|record| record.key(self.identity.id)));
        keys
    }
}

//! What a role that waits asks of the others, and what it is answered: nothing hangs since something was forgotten.
//!
//! An acknowledgement may be false: forged, or true of a store that went back since. So a nudge says what the nudger
//! lacks, and whoever is nudged sends that again out of its journal, whatever was acknowledged. Answers ask for no
//! acknowledgement and carry no header, so that one that comes late begins nothing: who lacks more nudges again. Next:
//! `saga`, which says of an end what is said once.

use std::collections::BTreeSet;

use super::waiting::Wanted;
use super::{Instance, OutgoingKey, Pause, Stop};
use crate::abort::Abort;
use crate::contract::Change;
use crate::frame::{Body, Lacks, NUDGE_PATHS_MAX, Operation, Outcome};
use crate::id::{Path, RoleIndex};
use crate::message::Payload;

/// A role that has ended asks for the close after so many of the pauses before a first nudge: the others may have far to go.
const CLOSE_PAUSES: u64 = 10;

/// The most counters of the paths in a nudge together, but for a first one with more: it is to stay a small frame.
const NUDGE_COUNTERS_MAX: usize = 256;

/// A role that comes back to nudge does so this often, with growing pauses, before it leaves memory again: the next time is
/// far, and one nudge may be lost. Nudges ask for no acknowledgement, since one that is sent again after the session has
/// closed would begin it anew where it is forgotten.
const NUDGES_OF_A_RETURN: u8 = 5;

impl Instance {
    /// Whether an awaited role speaks by itself: it has the session on its disk. That a role has ended is kept in memory
    /// only, so for that it has to have been asked in this life.
    pub(super) fn is_sure_of(&self, role: RoleIndex) -> bool {
        match self.ended {
            Some(_) => self.invited.contains(&role),
            None => role == self.header.initiator || self.acquainted.contains(&role),
        }
    }

    /// The roles that this instance cannot go on without.
    pub(super) fn awaited(&self) -> Vec<RoleIndex> {
        if self.close_after.is_some() || self.closing {
            return Vec::new();
        }
        if let (true, Some((_, outcome))) = (self.initiates(), &self.ended) {
            return self.unlike(outcome);
        }
        if self.ended.is_some() {
            // But for the close, which it asks for in another way: an initiator that has closed may have forgotten it.
            return Vec::new();
        }
        let mut awaited = self.deciders_in_doubt();
        awaited.extend(self.awaited_to_undo());
        if self.abort.is_none() && !self.program_ended {
            awaited.extend(self.waiting.speakers());
            if self.has_sagas() {
                awaited.extend(self.wanted().into_iter().map(|wanted| wanted.from));
            }
        }
        awaited.sort_unstable();
        awaited.dedup();
        awaited
    }

    /// The messages that the program waits for, the verdicts on the sagas that it waits in, and the ends of turns.
    fn wanted(&self) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = self.wanted_messages().collect();
        let verdicts =
            wanted.iter().filter_map(|wanted| wanted.path.as_ref()).flat_map(|path| self.verdicts_around(path));
        let verdicts: BTreeSet<_> = verdicts.collect();
        wanted.extend(verdicts.into_iter().map(|(path, from)| Wanted { path: Some(path), from }));
        wanted
    }

    /// Where this instance stands, as far as `to` can help it.
    fn lacks(&self, to: RoleIndex) -> Lacks {
        let runs = self.abort.is_none() && self.ended.is_none() && !self.program_ended;
        let wanted = if runs { self.wanted() } else { Vec::new() };
        let awaits = wanted.into_iter().filter(|wanted| wanted.from == to).filter_map(|wanted| wanted.path);
        let mut counters = 0;
        let fits = |path: &Path| {
            let first = counters == 0;
            counters += path.depth();
            first || counters <= NUDGE_COUNTERS_MAX
        };
        let awaits = awaits.take(NUDGE_PATHS_MAX).take_while(fits).collect();
        Lacks { awaits, aborted: self.abort.is_some() }
    }

    /// How it has ended, if the initiator knows that, and has not said yet that all have: the close may be lost.
    fn asks_for_the_close(&self) -> Option<(u64, Outcome)> {
        let waits = !self.initiates() && self.close_after.is_none() && self.told.is_some();
        self.ended.clone().filter(|_| waits)
    }

    /// Nudges those that are awaited, with growing pauses.
    pub(super) fn nudge_when_due(&mut self) {
        let (awaited, ended) = (self.awaited(), self.asks_for_the_close());
        match self.nudge {
            _ if awaited.is_empty() && ended.is_none() => self.nudge = None,
            None => {
                let pauses = if ended.is_some() { CLOSE_PAUSES } else { 1 };
                let pause_ms = self.limits.nudge_delay_min_ms.saturating_mul(pauses);
                let pause_ms = pause_ms.min(self.limits.nudge_delay_max_ms);
                self.nudge = Some(Pause::first(self.now_ms, pause_ms));
            }
            Some(pause) if pause.until_ms <= self.now_ms => {
                for to in awaited {
                    self.nudge(to);
                }
                self.nudges_due = self.nudges_due.saturating_sub(1);
                if let Some((after, outcome)) = ended {
                    self.say(
                        OutgoingKey::Nudge(self.header.initiator),
                        self.header.initiator,
                        Body::Done(outcome),
                        after,
                    );
                }
                self.nudge = Some(pause.next(self.now_ms, self.limits.nudge_delay_max_ms));
            }
            Some(_) => {}
        }
    }

    fn nudge(&mut self, to: RoleIndex) {
        let lacks = self.lacks(to);
        // An invitation is sent again as it is: what is awaited then, the next nudge says, if there is one.
        let (key, lacks) = if self.is_sure_of(to) {
            (OutgoingKey::Nudge(to), lacks)
        } else {
            (OutgoingKey::Invite(to), Lacks { awaits: Vec::new(), ..lacks })
        };
        // One that is under way is sent again by itself.
        if !self.unacked.contains(&key) {
            self.say(key, to, Body::Nudge(lacks), 0);
        }
    }

    /// It has come back to nudge: does so with the next turn, if it waits for anybody, and five times
    /// before it leaves memory.
    pub fn nudge_soon(&mut self) {
        self.nudges_due = NUDGES_OF_A_RETURN;
        let waits = !self.awaited().is_empty() || self.asks_for_the_close().is_some();
        let now = Pause { until_ms: self.now_ms, length_ms: self.limits.nudge_delay_min_ms };
        self.nudge = waits.then_some(now);
    }

    /// Whether it has nudged those it waits for often enough in this life to leave memory.
    pub fn has_nudged(&self) -> bool {
        self.nudges_due == 0 || self.awaited().is_empty()
    }

    /// Another role waits for this one: sends again what that one lacks.
    pub(super) fn answer_nudge(&mut self, from: RoleIndex, lacks: Lacks) {
        if self.has_loops() || self.abort.is_some() {
            self.tell_turns(from);
        }
        if let Some(undoing) = self.said_undoing.clone().or_else(|| self.has_undone_all()) {
            self.answer(from, undoing);
        }
        match self.abort.clone() {
            Some(abort) if !lacks.aborted => self.answer(from, Body::Abort(abort)),
            None if lacks.aborted => self.nudge_back(from, Vec::new()),
            Some(_) => {}
            None => lacks.awaits.into_iter().take(NUDGE_PATHS_MAX).for_each(|path| self.answer_waiting(from, path)),
        }
        let Some((after, outcome)) = self.ended.clone() else { return };
        if from == self.header.initiator && after <= self.synced {
            self.say_done(outcome, after);
        }
    }

    /// `from` waits for the message `path` of this role.
    fn answer_waiting(&mut self, from: RoleIndex, path: Path) {
        if self.closing || self.close_after.is_some() {
            return; // All have ended: it did wait once.
        }
        if self.is_over(&path) {
            return self.answer(from, Body::Gone(path));
        }
        if let Some(vote) = self.missing_vote(&path, from) {
            return self.nudge_back(from, vec![vote]);
        }
        let acknowledged = match &self.ended {
            // It has ended only once all that it had to say was acknowledged.
            Some((after, _)) => *after <= self.synced,
            None => self.said.get(&(path.clone(), from)).is_some_and(|said| said.heard),
        };
        if acknowledged {
            self.lacking.insert((path, from));
        }
    }

    /// Asks the nudger in return for what this role lacks, which has kept it from answering. Begins nothing.
    fn nudge_back(&mut self, to: RoleIndex, awaits: Vec<Path>) {
        if !self.closing && self.close_after.is_none() {
            self.answer(to, Body::Nudge(Lacks { awaits, aborted: self.abort.is_some() }));
        }
    }

    /// What has to be sent again, once nothing is under way that leaving memory would cut.
    pub(super) fn take_lacking(&mut self) -> BTreeSet<(Path, RoleIndex)> {
        let works = self.running > 0 || !self.retrying.is_empty() || !self.jobs.is_empty();
        // The replay of a program that ends is over with it.
        let replays = self.replaying && !self.program_ended;
        let over = self.stopped.is_some() || self.rehearsing || replays || self.close_after.is_some();
        if self.lacking.is_empty() || works || over || !self.is_durable() {
            return BTreeSet::new();
        }
        std::mem::take(&mut self.lacking)
    }

    /// As [`Instance::rest`], for an instance that leaves memory to send `lacking` again: these count as acknowledged no more.
    pub fn rest_without(&mut self, lacking: &BTreeSet<(Path, RoleIndex)>) -> Option<Change> {
        self.said.retain(|id, _| !lacking.contains(id));
        self.rest()
    }

    /// Made anew to send these again; see [`Effects::lacking`](super::Effects::lacking). An instance that has not ended
    /// does so by its replay.
    #[must_use]
    pub fn resending(mut self, lacking: BTreeSet<(Path, RoleIndex)>) -> Self {
        self.said.retain(|id, _| !lacking.contains(id));
        if self.ended.is_some() {
            self.resends = lacking;
        }
        self
    }

    /// The program of an instance that has ended has come to a message once more.
    pub(super) fn resend(&mut self, path: &Path, to: RoleIndex, operation: Operation, payload: &Payload) {
        if self.resends.remove(&(path.clone(), to)) {
            self.answer(to, Body::Deliver { path: path.clone(), operation, payload: payload.clone() });
        }
    }

    /// The program has gone through all it does: what it has not come by, it does not say. What belongs to an aborted
    /// saga, the saga's verdict answers.
    pub(super) fn answer_what_is_gone(&mut self) {
        for (path, to) in std::mem::take(&mut self.resends) {
            if self.abort.is_none() && self.aborted_saga(&path).is_none() {
                self.answer(to, Body::Gone(path));
            }
        }
    }

    /// A role that has ended asks, at its initiator, for the close, or for the abort that keeps it from coming.
    pub(super) fn answer_done(&mut self, from: RoleIndex, outcome: &Outcome) {
        let close = OutgoingKey::Close(from);
        match (self.abort.clone(), outcome) {
            _ if !self.initiates() || self.close_after.is_some() => {}
            (Some(abort), Outcome::Finished) => self.answer(from, Body::Abort(abort)),
            _ if !self.closing || self.unacked.contains(&close) => {}
            // It was acknowledged once, so it was sent: what it says is durable.
            _ => {
                if let Some((after, own)) = self.ended.clone() {
                    self.say(close, from, Body::Close(own), after);
                }
            }
        }
    }

    /// `from` has no message at `path`, and this role may wait for it.
    pub(super) fn note_gone(&mut self, from: RoleIndex, path: &Path) {
        let waits = self.wanted_messages().any(|wanted| wanted.from == from && wanted.path.as_ref() == Some(path));
        if waits && self.abort.is_none() && self.ended.is_none() {
            let waits =
                self.waits_for().into_iter().find(|(at, _)| at == path).map(|(_, what)| what).unwrap_or_default();
            self.stop_behind(from, format!("has no message at {path} any more, where this role waits for {waits},"));
        }
    }

    /// The session is closed at `from`, or not known there. If this role can still end alike, it does.
    pub(super) fn note_closed(&mut self, from: RoleIndex, outcome: Option<Outcome>) {
        if self.close_after.is_some() || self.closing || from == self.id.role {
            return;
        }
        match outcome {
            None if from == self.header.initiator => match self.ended {
                Some(_) if self.terminated => self.close_after = Some(0),
                _ => self.stop_behind(from, "does not know the session any more".into()),
            },
            None => self.invite_again(from),
            Some(Outcome::Compensated(abort)) => self.note_closed_compensated(from, &abort),
            Some(Outcome::Finished) => self.note_closed_finished(from),
        }
    }

    /// `from` was said something without a header, and does not know the session, though it has acknowledged something of it.
    fn invite_again(&mut self, from: RoleIndex) {
        let is_said =
            |key: &OutgoingKey| matches!(key, OutgoingKey::Deliver(_, to) | OutgoingKey::Abort(to) if *to == from);
        if self.unacked.iter().any(is_said) {
            self.acquainted.remove(&from);
            self.invited.remove(&from);
            let invitation = Body::Nudge(self.lacks(from));
            if !self.unacked.contains(&OutgoingKey::Invite(from)) {
                self.say(OutgoingKey::Invite(from), from, invitation, 0);
            }
        }
    }

    fn note_closed_compensated(&mut self, from: RoleIndex, abort: &Abort) {
        self.obey(abort);
        self.note_undoing(from, None);
        if self.ended.is_none() && self.deciders_in_doubt().contains(&from) {
            return self.stop_behind(from, format!("has closed the session as compensated ({abort}),"));
        }
        if self.initiates() {
            self.done.insert(from, Outcome::Compensated(abort.clone()));
        }
        if self.ended.is_some() && from == self.header.initiator {
            self.close_after = Some(0);
        }
    }

    fn note_closed_finished(&mut self, from: RoleIndex) {
        let counts = from == self.header.initiator || self.initiates();
        let alike = match &self.ended {
            Some((_, Outcome::Finished)) => true,
            // An operator has ended it by hand.
            Some(_) => self.terminated,
            None => {
                let doubts = self.abort.is_some() && self.deciders_in_doubt().contains(&from);
                let waits = self.abort.is_none() && self.awaited().contains(&from);
                if doubts || waits {
                    self.stop_behind(from, "has closed the session as finished,".into());
                }
                self.note_undoing(from, None);
                return;
            }
        };
        match self.ended.clone() {
            Some(_) if !counts => {}
            Some((_, own)) if alike && self.initiates() => drop(self.done.insert(from, own)),
            Some(_) if alike => self.close_after = Some(0),
            _ => self.stop_behind(from, "has closed the session as finished,".into()),
        }
    }

    fn stop_behind(&mut self, from: RoleIndex, what: String) {
        let node = self.header.node_of(from).map(ToString::to_string).unwrap_or_default();
        self.stop(Stop::LeftBehind { role: self.name_of(from), node, what });
    }
}

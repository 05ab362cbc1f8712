//! Nudges: what a waiting role asks of the others, and how they answer. Nudges keep a session from hanging because
//! something was forgotten.
//!
//! An acknowledgement may be false: forged, or sent by a store that has gone back since. Therefore a nudge says what
//! the nudging role lacks, and the nudged role resends that from its journal even if it was acknowledged. Answers ask
//! for no acknowledgement and carry no header, so that a late answer creates no instance: a role that lacks more
//! nudges again. Next: `ending`, which sends what concerns the end of a session once.

use std::collections::BTreeSet;

use super::phase::{End, Phase, Program};
use super::timers::Pause;
use super::waiting::Wanted;
use super::{Machine, OutgoingKey, Stop};
use crate::base::abort::Abort;
use crate::base::id::{Path, RoleIndex};
use crate::base::message::Payload;
use crate::contract::Change;
use crate::frame::{Body, Lacks, NUDGE_PATHS_MAX, Operation, Outcome};

/// The number of first-nudge pauses after which an ended role asks for the close. The pause is longer because the
/// other roles may still have far to go.
const CLOSE_PAUSES: u64 = 10;

/// The maximum total number of counters in the paths of a nudge, which keeps the frame small. The first path is
/// included even if it has more.
const NUDGE_COUNTERS_MAX: usize = 256;

/// The number of times that an instance reactivated to nudge does so, with growing pauses, before it is passivated
/// again. There are several because the next reactivation is far away and a single nudge may be lost. Nudges ask for
/// no acknowledgement: a nudge resent after the session has closed would create it again where it is forgotten.
const NUDGES_OF_A_RETURN: u8 = 5;

impl Machine {
    /// Whether an awaited role sends by itself, because it has the session on disk. The outcome of a role is held in
    /// memory only, so it must have been requested since this instance was loaded.
    pub(super) fn is_sure_of(&self, role: RoleIndex) -> bool {
        if self.phase.has_ended() {
            return self.outbox.has_invited(role);
        }
        role == self.identity.header.initiator || self.outbox.is_acquainted(role)
    }

    /// The roles without which this instance cannot continue.
    pub(super) fn awaited(&self) -> Vec<RoleIndex> {
        if self.phase.is_settled() {
            return Vec::new();
        }
        if let (true, Some(outcome)) = (self.identity.initiates(), self.phase.outcome()) {
            return self.unlike(outcome);
        }
        if self.phase.has_ended() {
            // An ended role waits for the close only, and asks for it in another way, because an initiator that has
            // closed may have forgotten the session.
            return Vec::new();
        }
        let mut awaited = self.deciders_in_doubt();
        awaited.extend(self.awaited_to_compensate());
        if self.runs() {
            awaited.extend(self.waits.speakers());
            if !self.sagas.is_empty() {
                awaited.extend(self.wanted().into_iter().map(|wanted| wanted.from));
            }
        }
        awaited.sort_unstable();
        awaited.dedup();
        awaited
    }

    /// The messages that the program waits for, the verdicts on the sagas that it waits in, and the ends of turns.
    fn wanted(&self) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = self.waits.wanted().collect();
        let paths = wanted.iter().filter_map(|wanted| wanted.path.as_ref());
        let verdicts: BTreeSet<_> = paths.flat_map(|path| self.sagas.open_verdicts(path, &self.inputs)).collect();
        wanted.extend(verdicts.into_iter().map(|(path, from)| Wanted { path: Some(path), from }));
        wanted
    }

    /// Describes what this instance lacks and `to` can provide.
    fn lacks(&self, to: RoleIndex) -> Lacks {
        let wanted = if self.runs() { self.wanted() } else { Vec::new() };
        let awaits = wanted.into_iter().filter(|wanted| wanted.from == to).filter_map(|wanted| wanted.path);
        let mut counters = 0;
        let fits = |path: &Path| {
            let first = counters == 0;
            counters += path.depth();
            first || counters <= NUDGE_COUNTERS_MAX
        };
        let awaits = awaits.take(NUDGE_PATHS_MAX).take_while(fits).collect();
        Lacks { awaits, aborted: self.phase.is_aborted() }
    }

    /// The own outcome, if the initiator knows it and has not yet sent the close, which may be lost.
    fn asks_for_the_close(&self) -> Option<End> {
        let waits = !self.identity.initiates() && !self.phase.closes() && self.outbox.has_announced();
        self.phase.end().filter(|_| waits).cloned()
    }

    /// Nudges the awaited roles, with growing pauses.
    pub(super) fn nudge_when_due(&mut self) {
        let (awaited, ended, troubled) = (self.awaited(), self.asks_for_the_close(), self.troubled_peers());
        match self.timers.nudge {
            _ if awaited.is_empty() && ended.is_none() && troubled.is_empty() => self.timers.nudge = None,
            None => {
                let pauses = if ended.is_some() { CLOSE_PAUSES } else { 1 };
                let limits = &self.identity.limits;
                let pause_ms = limits.nudge_delay_min_ms.saturating_mul(pauses).min(limits.nudge_delay_max_ms);
                self.timers.nudge = Some(Pause::first(self.timers.now_ms, pause_ms));
            }
            Some(pause) if pause.until_ms <= self.timers.now_ms => {
                for to in awaited {
                    self.nudge(to);
                }
                for to in troubled {
                    self.answer(to, Body::TroubleAsked);
                }
                self.timers.nudges_due = self.timers.nudges_due.saturating_sub(1);
                if let Some(End { outcome, after }) = ended {
                    let initiator = self.identity.header.initiator;
                    self.send(OutgoingKey::Nudge(initiator), initiator, Body::Done(outcome), after);
                }
                self.timers.nudge = Some(pause.next(self.timers.now_ms, self.identity.limits.nudge_delay_max_ms));
            }
            Some(_) => {}
        }
    }

    fn nudge(&mut self, to: RoleIndex) {
        let lacks = self.lacks(to);
        // An invitation is resent unchanged, so it names no awaited paths; the next nudge does, if there is one.
        let (key, lacks) = if self.is_sure_of(to) {
            (OutgoingKey::Nudge(to), lacks)
        } else {
            (OutgoingKey::Invite(to), Lacks { awaits: Vec::new(), ..lacks })
        };
        // An unacknowledged invitation is resent by itself.
        if !self.outbox.is_unacknowledged(&key) {
            self.send(key, to, Body::Nudge(lacks), 0);
        }
    }

    /// Makes a reactivated instance nudge in its next turn, if it waits for any role, and five times before it is
    /// passivated.
    pub fn nudge_soon(&mut self) {
        self.timers.nudges_due = NUDGES_OF_A_RETURN;
        let waits = !self.awaited().is_empty() || self.asks_for_the_close().is_some();
        let now = Pause { until_ms: self.timers.now_ms, length_ms: self.identity.limits.nudge_delay_min_ms };
        self.timers.nudge = waits.then_some(now);
    }

    /// Whether the instance has nudged often enough since it was loaded to be passivated, or waits for nobody.
    pub fn has_nudged(&self) -> bool {
        self.timers.nudges_due == 0 || self.awaited().is_empty()
    }

    /// Answers the nudge of a waiting role: resends what that role lacks.
    pub(super) fn answer_nudge(&mut self, from: RoleIndex, lacks: Lacks) {
        // Whoever waits for this role may wait for an operator, and it is the initiator that says so.
        self.tell_trouble_again();
        if !self.loops.is_empty() || self.phase.is_aborted() {
            self.send_turns(from);
        }
        if let Some(compensating) = self.outbox.announced_compensating().cloned().or_else(|| self.has_compensated_all())
        {
            self.answer(from, compensating);
        }
        match self.phase.abort().cloned() {
            Some(abort) if !lacks.aborted => self.answer(from, Body::Abort(abort)),
            None if lacks.aborted => self.nudge_back(from, Vec::new()),
            Some(_) => {}
            None => lacks.awaits.into_iter().take(NUDGE_PATHS_MAX).for_each(|path| self.answer_waiting(from, path)),
        }
        let Some(End { outcome, after }) = self.phase.end().cloned() else { return };
        if from == self.identity.header.initiator && self.journal.is_synced(after) {
            self.send_done(outcome, after);
        }
    }

    /// Handles the fact that `from` waits for this role's message at `path`.
    fn answer_waiting(&mut self, from: RoleIndex, path: Path) {
        if self.phase.is_settled() {
            return; // All roles have ended, so the nudge is out of date.
        }
        if self.loops.is_over(&path) {
            return self.answer(from, Body::Gone(path));
        }
        if let Some(vote) = self.sagas.missing_vote(&path, from, &self.inputs) {
            return self.nudge_back(from, vec![vote]);
        }
        let acknowledged = match self.phase.end() {
            // This instance ended only once everything it had sent was acknowledged.
            Some(end) => self.journal.is_synced(end.after),
            None => self.outbox.sent(&path, from).is_some_and(|sent| sent.acknowledged),
        };
        if acknowledged {
            self.outbox.note_lacking(path, from);
        }
    }

    /// Nudges the nudging role in return, for what this role lacks and therefore could not answer. Creates no
    /// instance.
    fn nudge_back(&mut self, to: RoleIndex, awaits: Vec<Path>) {
        if !self.phase.is_settled() {
            self.answer(to, Body::Nudge(Lacks { awaits, aborted: self.phase.is_aborted() }));
        }
    }

    /// Takes the messages to resend, once nothing is running that passivation would interrupt.
    pub(super) fn take_lacking(&mut self) -> BTreeSet<(Path, RoleIndex)> {
        let replays = self.program == Program::Replaying;
        let over = self.stopped.is_some() || self.identity.rehearsing || replays || self.phase.closes();
        if self.outbox.lacks_nothing() || self.steps.are_busy() || over || !self.is_durable() {
            return BTreeSet::new();
        }
        self.outbox.take_lacking()
    }

    /// Like [`Machine::passivation`], for an instance that is passivated in order to resend `lacking`: these messages
    /// no longer count as acknowledged.
    pub fn passivation_without(&mut self, lacking: &BTreeSet<(Path, RoleIndex)>) -> Option<Change> {
        self.outbox.unsend(lacking);
        self.passivation()
    }

    /// Makes a restored instance resend these messages; see [`Effects::lacking`](super::Effects::lacking). An
    /// instance that has not ended does so through its replay.
    #[must_use]
    pub fn resending(mut self, lacking: BTreeSet<(Path, RoleIndex)>) -> Self {
        self.outbox.unsend(&lacking);
        if self.phase.has_ended() {
            self.outbox.resend(lacking);
        }
        self
    }

    /// Resends a message that the program of an ended instance has reached again, if it was requested.
    pub(super) fn resend(&mut self, path: &Path, to: RoleIndex, operation: Operation, payload: &Payload) {
        if self.outbox.take_resend(path, to) {
            self.answer(to, Body::Deliver { path: path.clone(), operation, payload: payload.clone() });
        }
    }

    /// Answers requests for messages that the replayed program did not reach: it does not send them. Requests in an
    /// aborted saga are answered by the saga's verdict.
    pub(super) fn answer_what_is_gone(&mut self) {
        for (path, to) in self.outbox.take_resends() {
            if !self.phase.is_aborted() && self.sagas.aborted_around(&path).is_none() {
                self.answer(to, Body::Gone(path));
            }
        }
    }

    /// Answers an ended role that asks its initiator for the close: with the close, or with the abort that prevents
    /// it.
    pub(super) fn answer_done(&mut self, from: RoleIndex, outcome: &Outcome) {
        let close = OutgoingKey::Close(from);
        if !self.identity.initiates() || self.phase.closes() {
            return;
        }
        match (self.phase.abort().cloned(), outcome, &self.phase) {
            (Some(abort), Outcome::Finished, _) => self.answer(from, Body::Abort(abort)),
            // The close was acknowledged before, so it was sent, and its outcome is durable.
            (_, _, Phase::Closing(own)) if !self.outbox.is_unacknowledged(&close) => {
                let End { outcome, after } = own.clone();
                self.send(close, from, Body::Close(outcome), after);
            }
            _ => {}
        }
    }

    /// Handles the answer that `from` has no message at `path`. This role may be waiting for it.
    pub(super) fn note_gone(&mut self, from: RoleIndex, path: &Path) {
        let waits = self.waits.wanted().any(|wanted| wanted.from == from && wanted.path.as_ref() == Some(path));
        if waits && self.phase == Phase::Running {
            let waits =
                self.waits_for().into_iter().find(|(at, _)| at == path).map(|(_, what)| what).unwrap_or_default();
            self.stop_behind(from, format!("has no message at {path} any more, where this role waits for {waits},"));
        }
    }

    /// Handles the answer that the session is closed at `from`, or unknown there. If this role can still end with the
    /// same outcome, it does.
    pub(super) fn note_closed(&mut self, from: RoleIndex, outcome: Option<Outcome>) {
        if self.phase.is_settled() || from == self.identity.id.role {
            return;
        }
        match outcome {
            None if from == self.identity.header.initiator => match self.phase {
                Phase::Ended(_) if self.program == Program::Terminated => self.phase.note_close_due(),
                _ => self.stop_behind(from, "does not know the session any more".into()),
            },
            None => self.invite_again(from),
            Some(Outcome::Compensated(abort)) => self.note_closed_compensated(from, &abort),
            Some(Outcome::Finished) => self.note_closed_finished(from),
        }
    }

    /// Invites `from` again: a frame without a header was sent to it, but it does not know the session, although it
    /// has acknowledged something of it.
    fn invite_again(&mut self, from: RoleIndex) {
        if self.outbox.note_unacquainted(from) {
            let invitation = Body::Nudge(self.lacks(from));
            if !self.outbox.is_unacknowledged(&OutgoingKey::Invite(from)) {
                self.send(OutgoingKey::Invite(from), from, invitation, 0);
            }
        }
    }

    fn note_closed_compensated(&mut self, from: RoleIndex, abort: &Abort) {
        self.obey(abort);
        self.peers.note_compensating(from, None);
        if !self.phase.has_ended() && self.deciders_in_doubt().contains(&from) {
            return self.stop_behind(from, format!("has closed the session as compensated ({abort}),"));
        }
        if self.identity.initiates() {
            self.peers.note_closed(from, Outcome::Compensated(abort.clone()));
        }
        if from == self.identity.header.initiator {
            self.phase.note_close_due();
        }
    }

    fn note_closed_finished(&mut self, from: RoleIndex) {
        let counts = from == self.identity.header.initiator || self.identity.initiates();
        let alike = match self.phase.outcome() {
            Some(Outcome::Finished) => true,
            // An operator has ended this part by hand.
            Some(_) => self.program == Program::Terminated,
            None => {
                let doubts = self.phase.is_aborted() && self.deciders_in_doubt().contains(&from);
                let waits = !self.phase.is_aborted() && self.awaited().contains(&from);
                if doubts || waits {
                    self.stop_behind(from, "has closed the session as finished,".into());
                }
                self.peers.note_compensating(from, None);
                return;
            }
        };
        match self.phase.outcome().cloned() {
            Some(_) if !counts => {}
            Some(own) if alike && self.identity.initiates() => self.peers.note_closed(from, own),
            Some(_) if alike => self.phase.note_close_due(),
            _ => self.stop_behind(from, "has closed the session as finished,".into()),
        }
    }

    fn stop_behind(&mut self, from: RoleIndex, what: String) {
        let node = self.identity.header.node_of(from).map(ToString::to_string).unwrap_or_default();
        self.stop(Stop::LeftBehind { role: self.identity.name_of(from), node, what });
    }
}

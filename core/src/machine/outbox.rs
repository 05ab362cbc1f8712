//! Everything that an instance says to the other roles, and what is known of its acknowledgement.
//!
//! A frame is held back until the write that it depends on is durable. This module knows neither why something is said
//! nor how frames travel. Next: `delivery`, what the others say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::digest::Since;
use super::identity::Identity;
use super::{Outgoing, OutgoingKey};
use crate::base::id::{NodeId, Path, RoleIndex};
use crate::base::message::Fingerprint;
use crate::frame::{Body, Frame, Header, Outcome, Receipt};
use crate::record::PassivatedState;

/// A message of the program that has been sent.
#[derive(Hash)]
pub(super) struct SentMessage {
    pub(super) fingerprint: Fingerprint,
    /// Whether the receiver has the message on disk.
    pub(super) acknowledged: bool,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Outbox {
    /// The messages that the program has sent, since the instance was loaded or before its last passivation. Empty
    /// once the instance has ended.
    sent: BTreeMap<(Path, RoleIndex), SentMessage>,
    held: VecDeque<(u64, Outgoing)>,
    unacked: BTreeSet<OutgoingKey>,
    /// The roles that are known to have the header.
    acquainted: BTreeSet<RoleIndex>,
    /// The roles that have acknowledged an invitation since this instance was loaded. Those among them that had ended
    /// have reported their outcome to it.
    invited: BTreeSet<RoleIndex>,
    /// The own outcome that the initiator has acknowledged.
    announced: Option<Outcome>,
    /// Receipts to acknowledge once the initiator knows the own outcome.
    acks_once_announced: Vec<Receipt>,
    /// The latest message to the others about the steps that this role still has to compensate.
    announced_compensating: Option<Body>,
    /// Messages that were acknowledged but that their receivers have requested nevertheless.
    lacking: BTreeSet<(Path, RoleIndex)>,
    /// Messages that an ended instance resends since it was loaded.
    resends: BTreeSet<(Path, RoleIndex)>,
    /// The knowledge that the last passivation has put on disk, if any.
    passivated: Option<PassivatedState>,
}

impl Outbox {
    /// Sends `body` to `to` once write `after` is durable.
    pub(super) fn send(&mut self, me: &Identity, key: OutgoingKey, to: RoleIndex, body: Body, after: u64) {
        // A nudged role may not know the session yet, or may have forgotten it and need to know whom to answer.
        let nudges = matches!(key, OutgoingKey::Nudge(_) | OutgoingKey::Invite(_));
        let header = (nudges || !self.acquainted.contains(&to)).then(|| me.header.clone());
        self.send_with(me, key, to, header, body, after);
    }

    /// Sends an answer without a header, which creates no instance, however late it arrives. It asks for no
    /// acknowledgement.
    pub(super) fn answer(&mut self, me: &Identity, to: RoleIndex, body: Body, after: u64) {
        self.send_with(me, OutgoingKey::Nudge(to), to, None, body, after);
    }

    fn send_with(
        &mut self,
        me: &Identity,
        key: OutgoingKey,
        to: RoleIndex,
        header: Option<Arc<Header>>,
        body: Body,
        after: u64,
    ) {
        let Some(node) = me.header.node_of(to).cloned() else { return };
        let frame = Frame { session: me.id.session, from: me.id.role, to, header, body };
        let asked_for = matches!(key, OutgoingKey::Nudge(_) | OutgoingKey::Done { .. });
        if key.is_acknowledged() {
            self.unacked.insert(key.clone());
        }
        let sent = (after, Outgoing { key, node, frame });
        // An answer that is requested several times while it is held is sent once.
        if !(asked_for && self.held.contains(&sent)) {
            self.held.push_back(sent);
        }
    }

    /// Reports the own outcome to the initiator.
    pub(super) fn send_done(&mut self, me: &Identity, outcome: Outcome, after: u64) {
        self.announced = None;
        let key = OutgoingKey::Done { compensated: matches!(outcome, Outcome::Compensated(_)) };
        self.send(me, key, me.header.initiator, Body::Done(outcome), after);
    }

    /// Takes the next frame that may be sent.
    pub(super) fn take_ready(&mut self, is_synced: impl Fn(u64) -> bool) -> Option<Outgoing> {
        self.held.pop_front_if(|(after, _)| is_synced(*after)).map(|(_, outgoing)| outgoing)
    }

    /// Whether nothing is held back.
    pub(super) fn holds_nothing(&self) -> bool {
        self.held.is_empty()
    }

    /// Drops all frames that are held back.
    pub(super) fn drop_held(&mut self) {
        self.held.clear();
    }

    /// Drops everything that was to be sent, and expects no acknowledgement any more.
    pub(super) fn drop_all(&mut self) {
        self.held.clear();
        self.unacked.clear();
    }

    /// Notes that the receiver has the frame `key` on disk; `outcome` is the own one. Returns whether that was open.
    pub(super) fn note_acked(&mut self, key: &OutgoingKey, outcome: Option<&Outcome>) -> bool {
        if !self.unacked.remove(key) {
            return false;
        }
        match key {
            OutgoingKey::Deliver(path, to) => {
                self.acquainted.insert(*to);
                if let Some(sent) = self.sent.get_mut(&(path.clone(), *to)) {
                    sent.acknowledged = true;
                }
            }
            OutgoingKey::Abort(to) => drop(self.acquainted.insert(*to)),
            OutgoingKey::Invite(to) => {
                self.acquainted.insert(*to);
                self.invited.insert(*to);
            }
            OutgoingKey::Done { .. } => self.announced = outcome.cloned(),
            OutgoingKey::Close(_) | OutgoingKey::Nudge(_) => {}
        }
        true
    }

    /// The number of frames that are not acknowledged.
    pub(super) fn window(&self) -> usize {
        self.unacked.len()
    }

    pub(super) fn all_is_acknowledged(&self) -> bool {
        self.unacked.is_empty()
    }

    pub(super) fn is_unacknowledged(&self, key: &OutgoingKey) -> bool {
        self.unacked.contains(key)
    }

    /// The nodes that have not acknowledged everything.
    pub(super) fn unacknowledged(&self, header: &Header) -> BTreeSet<NodeId> {
        let receivers = self.unacked.iter().map(|key| key.receiver(header.initiator));
        receivers.filter_map(|role| header.node_of(role).cloned()).collect()
    }

    /// The number of unacknowledged frames to each role that has not acknowledged all, in a session that `initiator`
    /// has started.
    pub(super) fn unacknowledged_by(&self, initiator: RoleIndex) -> BTreeMap<RoleIndex, usize> {
        let mut frames = BTreeMap::new();
        for key in &self.unacked {
            *frames.entry(key.receiver(initiator)).or_default() += 1;
        }
        frames
    }

    /// Whether `role` is known to have the session on disk.
    pub(super) fn is_acquainted(&self, role: RoleIndex) -> bool {
        self.acquainted.contains(&role)
    }

    /// Whether `role` has acknowledged an invitation since this instance was loaded.
    pub(super) fn has_invited(&self, role: RoleIndex) -> bool {
        self.invited.contains(&role)
    }

    /// Notes that `role` does not know the session. Returns whether a message to it shows that it should.
    pub(super) fn note_unacquainted(&mut self, role: RoleIndex) -> bool {
        let is_said =
            |key: &OutgoingKey| matches!(key, OutgoingKey::Deliver(_, to) | OutgoingKey::Abort(to) if *to == role);
        let said = self.unacked.iter().any(is_said);
        if said {
            self.acquainted.remove(&role);
            self.invited.remove(&role);
        }
        said
    }

    pub(super) fn sent(&self, path: &Path, to: RoleIndex) -> Option<&SentMessage> {
        self.sent.get(&(path.clone(), to))
    }

    pub(super) fn note_sent(&mut self, path: &Path, to: RoleIndex, fingerprint: Fingerprint) {
        self.sent.insert((path.clone(), to), SentMessage { fingerprint, acknowledged: false });
    }

    /// Forgets what the program has sent: the session is aborted, or everything was acknowledged.
    pub(super) fn forget_sent(&mut self) {
        self.sent.clear();
    }

    /// Forgets what the program has sent in `scope`.
    pub(super) fn forget(&mut self, scope: &Path) {
        self.sent.retain(|(path, _), _| !path.is_in(scope));
    }

    /// These messages no longer count as sent.
    pub(super) fn unsend(&mut self, lacking: &BTreeSet<(Path, RoleIndex)>) {
        self.sent.retain(|id, _| !lacking.contains(id));
    }

    /// Notes that the receiver of a message lacks it although it has acknowledged it.
    pub(super) fn note_lacking(&mut self, path: Path, to: RoleIndex) {
        self.lacking.insert((path, to));
    }

    pub(super) fn lacks_nothing(&self) -> bool {
        self.lacking.is_empty()
    }

    pub(super) fn take_lacking(&mut self) -> BTreeSet<(Path, RoleIndex)> {
        std::mem::take(&mut self.lacking)
    }

    pub(super) fn resend(&mut self, lacking: BTreeSet<(Path, RoleIndex)>) {
        self.resends = lacking;
    }

    /// Whether the message is to be resent, which it now is.
    pub(super) fn take_resend(&mut self, path: &Path, to: RoleIndex) -> bool {
        self.resends.remove(&(path.clone(), to))
    }

    /// Takes the messages that were to be resent and that the program has not reached again.
    pub(super) fn take_resends(&mut self) -> BTreeSet<(Path, RoleIndex)> {
        std::mem::take(&mut self.resends)
    }

    /// Whether the initiator has acknowledged the own outcome.
    pub(super) fn has_announced(&self) -> bool {
        self.announced.is_some()
    }

    /// Keeps what the initiator has acknowledged if it is this outcome. Returns whether it is.
    pub(super) fn keep_announced(&mut self, outcome: &Outcome) -> bool {
        self.announced = self.announced.take().filter(|announced| announced == outcome);
        self.announced.is_some()
    }

    /// The own outcome has changed, so it is not reported any more.
    pub(super) fn note_unannounced(&mut self) {
        self.announced = None;
    }

    /// Acknowledges once the initiator knows the own outcome.
    pub(super) fn ack_once_announced(&mut self, receipt: Option<Receipt>) {
        let new = receipt.filter(|receipt| !self.acks_once_announced.contains(receipt));
        self.acks_once_announced.extend(new);
    }

    /// Takes what waits for the initiator to know the own outcome.
    pub(super) fn take_acks_once_announced(&mut self) -> Vec<Receipt> {
        std::mem::take(&mut self.acks_once_announced)
    }

    /// The latest report about the steps that this role still has to compensate.
    pub(super) fn announced_compensating(&self) -> Option<&Body> {
        self.announced_compensating.as_ref()
    }

    /// Notes a report about the steps that this role still has to compensate. Returns whether it is new.
    pub(super) fn announces_compensating(&mut self, compensating: &Body) -> bool {
        let new = self.announced_compensating.as_ref() != Some(compensating);
        self.announced_compensating = Some(compensating.clone());
        new
    }

    /// What passivation puts on disk of this part; `done` is what the others have reported, and `since` the time since
    /// which operations wait.
    pub(super) fn passivated(&self, done: Vec<(RoleIndex, Outcome)>, since: Vec<(Path, u64)>) -> PassivatedState {
        let acknowledged = self.sent.iter().filter(|(_, sent)| sent.acknowledged);
        PassivatedState {
            acknowledged: acknowledged.map(|((path, to), sent)| (path.clone(), *to, sent.fingerprint)).collect(),
            acquainted: self.acquainted.iter().copied().collect(),
            done,
            announced: self.announced.clone(),
            since,
        }
    }

    /// What the last passivation has put on disk.
    pub(super) fn last_passivated(&self) -> Option<&PassivatedState> {
        self.passivated.as_ref()
    }

    /// Takes up what a passivation puts, or has put, on disk.
    pub(super) fn restore(&mut self, passivated: PassivatedState) {
        let PassivatedState { acknowledged, acquainted, done: _, announced, since: _ } = passivated.clone();
        self.passivated = Some(passivated);
        let acknowledged = acknowledged
            .into_iter()
            .map(|(path, to, fingerprint)| ((path, to), SentMessage { fingerprint, acknowledged: true }));
        self.sent.extend(acknowledged);
        self.acquainted.extend(acquainted);
        self.announced = announced;
    }

    pub(super) fn digest(&self, since: Since, hasher: &mut impl Hasher) {
        let Self {
            sent,
            held,
            unacked,
            acquainted,
            invited,
            announced,
            acks_once_announced,
            announced_compensating,
            lacking,
            resends,
            // Only the record written at passivation depends on this.
            passivated: _,
        } = self;
        (sent, unacked, acquainted, invited, announced, acks_once_announced).hash(hasher);
        (announced_compensating, lacking, resends, held.len()).hash(hasher);
        for (after, outgoing) in held {
            (since.ahead(*after), outgoing).hash(hasher);
        }
    }
}

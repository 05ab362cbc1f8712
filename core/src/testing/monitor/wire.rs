//! The rules for sending: no frame is sent before what it reports is durable, and no acknowledgement before what it
//! names is durable.

use super::disk::Seen;
use super::session::Message;
use super::{InvariantMonitor, Verdict, require};
use crate::base::id::{InstanceId, NodeId, Path, RoleIndex, SessionId};
use crate::base::message::Fingerprint;
use crate::base::role_names::role_name;
use crate::frame::{Body, Frame, Operation, Packet, Receipt};
use crate::machine::CAUSES_OF_DIVERGENCE;
use crate::record::Record;

/// A sent frame, with the facts that its acknowledgement needs.
#[derive(Debug, Clone)]
pub(super) struct SentFrame {
    receiver: InstanceId,
    from: RoleIndex,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Deliver(Path),
    Abort,
    Close,
    Other,
}

impl InvariantMonitor {
    /// Reports that `node` is about to send `packet` to `to`.
    ///
    /// # Errors
    /// Those of [`InvariantMonitor::said`] and [`InvariantMonitor::acked`], for the first frame or acknowledgement in
    /// the packet that breaks an invariant.
    pub fn sent(&mut self, node: &NodeId, to: &NodeId, packet: &Packet) -> Result<(), super::Violation> {
        let mut verdict = Ok(());
        for (epoch, numbers) in &packet.acks {
            for number in numbers {
                let receipt = Receipt { to: to.clone(), epoch: *epoch, number: *number };
                verdict = verdict.and(self.acked(node, &receipt));
            }
        }
        for (number, frame) in &packet.frames {
            let receipt = Receipt { to: node.clone(), epoch: packet.epoch, number: *number };
            verdict = verdict.and(self.said(node, frame, Some(&receipt).filter(|_| *number > 0)));
        }
        verdict
    }

    /// Reports that an instance on `node` is about to send `frame`; `receipt` is what its acknowledgement will name.
    /// For harnesses without packets.
    ///
    /// # Errors
    /// [`Violation`](super::Violation) of 8 if what the frame reports is not durable, of 20 for a `Done` or `Close`
    /// that is not durable, of 22 for another message under a known id, of 32 for another header, of 34 if the
    /// session has closed somewhere.
    pub fn said(&mut self, node: &NodeId, frame: &Frame, receipt: Option<&Receipt>) -> Result<(), super::Violation> {
        if let Some(receipt) = receipt {
            let kind = match &frame.body {
                Body::Deliver { path, .. } => Kind::Deliver(path.clone()),
                Body::Abort(_) => Kind::Abort,
                Body::Close(_) => Kind::Close,
                _ => Kind::Other,
            };
            let said = SentFrame { receiver: frame.receiver(), from: frame.from, kind };
            self.sent.insert(receipt.clone(), said);
        }
        let id = InstanceId { session: frame.session, role: frame.from };
        let durable = self.is_durable(id, node, frame, receipt.is_some());
        let known = self.is_known(node, frame, receipt.is_some());
        durable.and(known).map_err(|violation| self.named(violation))
    }

    /// Checks that what the frame reports about its sender is on disk there.
    fn is_durable(&mut self, id: InstanceId, node: &NodeId, frame: &Frame, is_sent_again: bool) -> Verdict {
        let names = self.roles_of(id.session);
        let facts = self.sessions.entry(id.session).or_default();
        let (closed_at, header) = (facts.closed_at(), facts.header.clone().or_else(|| frame.header.clone()));
        let from = facts.roles.entry(id.role).or_default();
        let said =
            |what: &str| format!("{id} at {node} sends {:?} to {}, and {what}", frame.body, role_name(names, frame.to));
        if header.is_some_and(|header| header.initiator == id.role) {
            require(from.opened, 8, || said("a crash would forget the session: its beginning is not durable"))?;
        }
        // A frame without a header that is sent only once creates no instance.
        let may_begin = frame.header.is_some() || is_sent_again;
        let invites = may_begin && matches!(frame.body, Body::Deliver { .. } | Body::Nudge(_) | Body::Abort(_));
        if let Some(role) = closed_at.filter(|_| invites) {
            return require(false, 34, || said(&format!("{} has closed", role_name(names, role))));
        }
        match &frame.body {
            Body::Deliver { path, operation: Operation::Verdict, .. } => {
                let decided = path.scopes().next().is_some_and(|saga| from.observed.contains(&saga));
                require(decided, 8, || said("has no durable record of the verdict"))
            }
            Body::Abort(_) => require(from.aborted, 8, || said("a crash would forget the abort")),
            Body::Done(outcome) => require(from.has_ended(outcome), 20, || said("has no durable record of that")),
            Body::Close(outcome) => {
                let closing = from.closing || from.closed.is_some();
                require(closing, 20, || said("has no durable record `Closing`"))?;
                let unlike = facts.not_ended_as(outcome);
                let unlike: Vec<String> = unlike.into_iter().map(|role| role_name(names, role)).collect();
                require(unlike.is_empty(), 20, || {
                    said(&format!("{} has no durable end of that kind", unlike.join(", ")))
                })
            }
            _ => Ok(()),
        }
    }

    /// Checks that the frame equals what was sent before.
    fn is_known(&mut self, node: &NodeId, frame: &Frame, is_sent_again: bool) -> Verdict {
        let names = self.roles_of(frame.session);
        let facts = self.sessions.entry(frame.session).or_default();
        if let (Some(known), Some(header)) = (&facts.header, &frame.header) {
            require(known == header, 32, || format!("{} has the headers {known:?} and {header:?}", frame.session))?;
        }
        match &frame.body {
            Body::Deliver { path, payload, .. } => {
                let id = (path.clone(), frame.from, frame.to);
                let new = || Message { payload: payload.clone(), acked: false };
                let message = facts.messages.entry(id).or_insert_with(new);
                require(message.payload == *payload, 22, || {
                    let (from, to) = (role_name(names, frame.from), role_name(names, frame.to));
                    let before = Fingerprint::of(&message.payload);
                    let now = Fingerprint::of(payload);
                    format!(
                        "{from} on node `{node}` sends another value to {to} at {path} ({now}) than before ({before}): \
                         the program is not deterministic. {CAUSES_OF_DIVERGENCE} (session {})",
                        frame.session
                    )
                })
            }
            Body::Abort(_) if is_sent_again => {
                facts.aborts.entry((frame.from, frame.to)).or_default();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Reports that `node` is about to acknowledge the frame that `receipt` names. For harnesses without packets.
    ///
    /// # Errors
    /// [`Violation`](super::Violation) of 9 if what the frame caused is not durable.
    pub fn acked(&mut self, node: &NodeId, receipt: &Receipt) -> Result<(), super::Violation> {
        self.is_durable_there(node, receipt).map_err(|violation| self.named(violation))
    }

    fn is_durable_there(&mut self, node: &NodeId, receipt: &Receipt) -> Verdict {
        let Some(SentFrame { receiver, from, kind }) = self.sent.get(receipt).cloned() else { return Ok(()) };
        let names = self.roles_of(receiver.session);
        let facts = self.sessions.entry(receiver.session).or_default();
        let role = facts.roles.entry(receiver.role).or_default();
        let closed = role.closed.is_some();
        let from_name = || role_name(names, from);
        let acks =
            |what: &str| format!("{receiver} at {node} acknowledges {what} of {}, and has not synced it", from_name());
        match kind {
            Kind::Deliver(path) => {
                let durable = closed || role.received.contains(&(path.clone(), from)) || role.is_over(&path);
                require(durable, 9, || acks(&format!("the message {path}")))?;
                if let Some(message) = facts.messages.get_mut(&(path, from, receiver.role)) {
                    message.acked = true;
                }
            }
            Kind::Abort => {
                require(closed || role.aborted || role.closing, 9, || acks("the abort"))?;
                facts.aborts.insert((from, receiver.role), true);
            }
            Kind::Close => require(closed, 9, || acks("the close"))?,
            Kind::Other => {}
        }
        Ok(())
    }

    /// Notes that the sender of this frame falsely regards it as acknowledged, whether it was ever sent or not.
    pub fn forgot(&mut self, frame: &Frame) {
        let Frame { session, from, to, body, .. } = frame;
        let facts = self.sessions.entry(*session).or_default();
        match body {
            Body::Deliver { path, .. } => {
                if let Some(message) = facts.messages.get_mut(&(path.clone(), *from, *to)) {
                    message.acked = true;
                }
            }
            Body::Abort(_) => drop(facts.aborts.insert((*from, *to), true)),
            _ => {}
        }
    }

    /// Checks that everything the instance has sent is acknowledged, except what an abort of the session, or of a
    /// saga around it, has cancelled.
    pub(super) fn is_heard(&self, id: InstanceId, seen: &Seen, aborted: bool) -> Verdict {
        let Some(facts) = self.sessions.get(&id.session) else { return Ok(()) };
        let unacknowledged = facts.messages.iter().filter(|((_, from, _), message)| *from == id.role && !message.acked);
        let mut due = unacknowledged.filter(|((path, ..), _)| !aborted && seen.aborted_saga(path).is_none());
        if let Some(((path, _, to), _)) = due.next() {
            return require(false, 15, || {
                format!("{id} has ended, and {} has not acknowledged {path}", self.role_name(id.session, *to))
            });
        }
        let unacknowledged = facts.aborts.iter().find(|((from, _), heard)| *from == id.role && !**heard);
        require(unacknowledged.is_none(), 15, || format!("{id} has ended, and its abort is not acknowledged by all"))
    }

    /// Checks that what was received is what was sent, as far as that was seen.
    pub(super) fn is_as_sent(&self, session: SessionId, to: RoleIndex, record: &Record) -> Verdict {
        let Record::Received { path, from, payload, .. } = record else { return Ok(()) };
        let sent = self.sessions.get(&session).and_then(|facts| facts.messages.get(&(path.clone(), *from, to)));
        require(sent.is_none_or(|sent| sent.payload == *payload), 4, || {
            let (from, to) = (self.role_name(session, *from), self.role_name(session, to));
            format!(
                "{to} has received another value at {path} than {from} has sent last: the program is not \
                 deterministic. {CAUSES_OF_DIVERGENCE} (session {session})"
            )
        })
    }
}

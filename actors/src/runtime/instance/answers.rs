//! Answers to frames for a session that is over or unknown here, from actors that then stop.

use accompanist_core::NodeId;
use accompanist_core::frame::{Body, Delivery, Frame, Outcome};
use accompanist_core::machine::{Outgoing, OutgoingKey};
use accompanist_core::record::Closed;
use ractor::ActorRef;

use super::{InstanceState, ends, stop};
use crate::runtime::messages::{InstanceMessage, LinkMessage};

impl InstanceState {
    /// Answers frames for a session that is over here, and starts nothing.
    pub(super) fn answer_closed(
        &self,
        myself: &ActorRef<InstanceMessage>,
        closed: &Closed,
        early: Vec<InstanceMessage>,
    ) {
        self.context.directory.publish(self.id, |progress| {
            progress.opened = true;
            progress.version = Some(closed.header.version);
            progress.settle(closed);
        });
        self.context.operator.forget_dead(self.context.operator.dead_letters.of(self.id));
        let (mut frames, mut acks) = (Vec::new(), Vec::new());
        for message in early {
            let InstanceMessage::Deliver(delivery) = message else { continue };
            if !delivery.is_of_cast(&closed.header) {
                self.context.note_not_of_cast(&delivery);
                continue;
            }
            let Delivery { from: node, frame, receipt } = delivery;
            let is_answered = frame.asks_the_closed(receipt.is_none());
            acks.extend(receipt);
            if is_answered {
                frames.push(answer_of_the_closed(&frame, &node, Some(closed.outcome.clone())));
            }
        }
        self.context.routes.to_link(LinkMessage::Send { id: self.id, frames, acks });
        stop(myself, ends::CLOSED);
    }

    /// Answers frames for a session that is over at all roles and whose tombstone is collected: only a `Close` still
    /// arrives for it.
    pub(super) fn answer_collected(&self, myself: &ActorRef<InstanceMessage>, early: Vec<InstanceMessage>) {
        let receipts = early.into_iter().filter_map(|message| match message {
            InstanceMessage::Deliver(delivery) => delivery.receipt,
            _ => None,
        });
        self.context.routes.to_link(LinkMessage::Send { id: self.id, frames: Vec::new(), acks: receipts.collect() });
        stop(myself, ends::CLOSED);
    }

    /// Answers frames for a session that is unknown here: it is over and forgotten, or the store has lost it, or its
    /// start was lost. Roles that wait for the initiator learn this and inform an operator; roles that take this one
    /// for known invite it. Returns whether there was nothing else to answer.
    pub(super) fn answer_unknown(&self, early: &[InstanceMessage]) -> bool {
        let takes_for_known = |message: &InstanceMessage| match message {
            InstanceMessage::Deliver(delivery) => delivery.frame.takes_for_known(delivery.receipt.is_none()),
            _ => false,
        };
        let wants = |message: &&InstanceMessage| {
            asks_the_initiator(message) || tells_the_initiator(message) || takes_for_known(message)
        };
        let answers = early.iter().filter(wants).filter_map(|message| match message {
            InstanceMessage::Deliver(delivery) => Some(answer_of_the_closed(&delivery.frame, &delivery.from, None)),
            _ => None,
        });
        let frames: Vec<_> = answers.collect();
        if !frames.is_empty() {
            self.context.routes.to_link(LinkMessage::Send { id: self.id, frames, acks: Vec::new() });
        }
        early.iter().all(asks_the_initiator)
    }
}

pub(super) fn is_close(message: &InstanceMessage) -> bool {
    matches!(message, InstanceMessage::Deliver(Delivery { frame: Frame { body: Body::Close(_), .. }, .. }))
}

/// Returns whether the message asks the role that has initiated its session, and that would know it.
fn asks_the_initiator(message: &InstanceMessage) -> bool {
    let InstanceMessage::Deliver(Delivery { frame, .. }) = message else { return false };
    match frame.body {
        // Only the initiating role receives this frame.
        Body::Done(_) => true,
        Body::Nudge(_) => frame.header.as_ref().is_some_and(|header| header.initiator == frame.to),
        _ => false,
    }
}

/// Returns whether the message is sent to the role that has initiated its session, and that would know it. The sender
/// waits for an acknowledgement and may nudge no role meanwhile. Without an answer, a session whose start was lost or
/// forged would stay open there for ever.
fn tells_the_initiator(message: &InstanceMessage) -> bool {
    let InstanceMessage::Deliver(Delivery { frame, .. }) = message else { return false };
    let told = matches!(frame.body, Body::Deliver { .. } | Body::Abort(_));
    told && frame.header.as_ref().is_some_and(|header| header.initiator == frame.to)
}

/// Returns an answer that is not resent until acknowledged: a role that waits asks again.
fn answer_of_the_closed(question: &Frame, node: &NodeId, outcome: Option<Outcome>) -> Outgoing {
    Outgoing { key: OutgoingKey::Nudge(question.from), node: node.clone(), frame: question.answered(outcome) }
}

//! The frames to one node: those under way, and those that wait for room. Pure.
//!
//! Next: `outbox`, which decides when each is sent.

use std::collections::{BTreeMap, VecDeque};

use accompanist_core::NodeId;
use accompanist_core::id::InstanceId;
use accompanist_core::machine::{Outgoing, OutgoingKey};

use crate::runtime::link::round_trip::RoundTrip;

/// A frame under way.
pub(super) struct UnderWay {
    pub(super) id: InstanceId,
    pub(super) outgoing: Outgoing,
    pub(super) due_ms: u64,
    pub(super) pause_ms: u64,
    /// When the frame was first sent; `None` once this says nothing about the acknowledgement latency: its receiver
    /// was away, or the frame was lost.
    pub(super) sent_ms: Option<u64>,
    /// The number of its first transmission among all of this outbox, and that of its last one, with the time of the
    /// latter.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) last_ms: u64,
    /// The number of times it was resent.
    pub(super) repeats: u32,
    /// Whether it is due because a frame that was sent later is acknowledged.
    pub(super) is_overtaken: bool,
}

impl UnderWay {
    /// Returns the time after which the frame counts as lost, where `usual_ms` is that of others: doubled once the
    /// frame was resent twice, and so on, because it may be its receiver that does not accept it.
    pub(super) fn loss_ms(&self, usual_ms: u64) -> u64 {
        usual_ms.saturating_mul(1 << self.repeats.saturating_sub(1).min(16))
    }
}

/// The key that identifies a frame among all frames of this node.
pub(super) type FrameKey = (InstanceId, OutgoingKey);

/// The place of an unacknowledged frame.
#[derive(Clone)]
pub(super) enum Place {
    UnderWay(u64),
    Waiting(NodeId),
}

/// The frames to one node.
#[derive(Default)]
pub(super) struct Window {
    pub(super) under_way: usize,
    pub(super) waiting: VecDeque<(InstanceId, Outgoing)>,
    /// The number of waiting frames that are useless by now.
    pub(super) stale: usize,
    pub(super) trip: RoundTrip,
    /// The frames under way by their last transmission, except those that are known to be overtaken.
    pub(super) sent: BTreeMap<u64, u64>,
    /// The time at which the last frame and the first are resent, to learn whether anything arrives.
    pub(super) probe_ms: Option<u64>,
}

impl Window {
    /// Returns the next waiting frame that is still useful.
    pub(super) fn next(&mut self, known: &BTreeMap<FrameKey, Place>) -> Option<(InstanceId, Outgoing)> {
        loop {
            let (id, outgoing) = self.waiting.pop_front()?;
            if is_waiting(known, id, &outgoing) {
                return Some((id, outgoing));
            }
            self.stale = self.stale.saturating_sub(1);
        }
    }

    /// Returns the time after which a frame counts as lost when a later one is acknowledged; `None` while nothing is
    /// known.
    pub(super) fn loss_ms(&self, ack_delay_ms: u64) -> Option<u64> {
        Some(self.trip.ack_latency_ms().max(self.trip.mean_ms()?.saturating_add(ack_delay_ms)))
    }

    /// Notes that a waiting frame is useless by now. Such frames are dropped together, once they are half of all.
    pub(super) fn forget_one(&mut self, known: &BTreeMap<FrameKey, Place>) {
        self.stale += 1;
        if self.stale * 2 > self.waiting.len() {
            self.waiting.retain(|(id, outgoing)| is_waiting(known, *id, outgoing));
            self.stale = 0;
        }
    }
}

fn is_waiting(known: &BTreeMap<FrameKey, Place>, id: InstanceId, outgoing: &Outgoing) -> bool {
    matches!(known.get(&(id, outgoing.key.clone())), Some(Place::Waiting(_)))
}

//! The frames under way: numbered, within a window per node, each due to be resent at some time.
//!
//! A frame is resent when it has been unacknowledged for long, and about a round trip after it was sent if its node
//! has acknowledged a frame that was sent later (RACK, RFC 8985, section 6.2). The last frame sent to a node should
//! not have to wait for long; it and the first one are therefore resent when the node has acknowledged nothing for
//! about a round trip, and then at growing intervals (the probe of QUIC, RFC 9002, section 6.2, also of two frames).
//! An acknowledgement does not say which transmission it answers; it is attributed to the first.
//!
//! Pure: time and randomness are arguments, transmissions are results.

mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use accompanist_core::contract::Environment;
use accompanist_core::frame::Frame;
use accompanist_core::id::{InstanceId, RoleIndex};
use accompanist_core::machine::{Forget, Outgoing, OutgoingKey};
use accompanist_core::{NodeId, Path};

use self::window::{FrameKey, Place, UnderWay, Window};
use super::round_trip::RoundTrip;
use crate::config::Settings;

/// A frame to be put on the wire now.
pub(super) struct Transmission {
    pub(super) node: NodeId,
    pub(super) number: u64,
    pub(super) frame: Frame,
}

/// The frames under way to all nodes; see the module's documentation.
pub(super) struct Outbox {
    next_number: u64,
    transmissions: u64,
    under_way: BTreeMap<u64, UnderWay>,
    due: BTreeSet<(u64, u64)>,
    /// The windows that have a time to probe.
    probes: BTreeSet<(u64, NodeId)>,
    /// The frames that are under way or wait already: a restarted instance sends them again.
    known: BTreeMap<FrameKey, Place>,
    windows: BTreeMap<NodeId, Window>,
    /// The round trips of all nodes together.
    trip: RoundTrip,
    window_max: usize,
    pause_min_ms: u64,
    pause_max_ms: u64,
    /// How much longer than others an acknowledgement takes that is delayed at its sender to share a sync. The sender
    /// is assumed to have the same settings.
    ack_delay_ms: u64,
    /// When the timer of the next retransmission ends, if it runs.
    timer_ms: Option<u64>,
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Outbox {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            next_number: 1,
            transmissions: 0,
            under_way: BTreeMap::new(),
            due: BTreeSet::new(),
            probes: BTreeSet::new(),
            known: BTreeMap::new(),
            windows: BTreeMap::new(),
            trip: RoundTrip::default(),
            window_max: settings.window_frames_max,
            pause_min_ms: millis(settings.retransmission_delay_min),
            pause_max_ms: millis(settings.retransmission_delay_max),
            ack_delay_ms: millis(settings.lazy_write_delay_max),
            timer_ms: None,
        }
    }

    /// Takes a frame; returns it to be sent if the window has room and the frame is not under way already.
    pub(super) fn add(&mut self, id: InstanceId, outgoing: Outgoing, now_ms: u64) -> Option<Transmission> {
        let key = (id, outgoing.key.clone());
        if self.known.contains_key(&key) {
            return None;
        }
        let window = self.windows.entry(outgoing.node.clone()).or_default();
        if window.under_way >= self.window_max {
            self.known.insert(key, Place::Waiting(outgoing.node.clone()));
            window.waiting.push_back((id, outgoing));
            return None;
        }
        window.under_way += 1;
        Some(self.begin(id, outgoing, now_ms))
    }

    fn begin(&mut self, id: InstanceId, outgoing: Outgoing, now_ms: u64) -> Transmission {
        let number = self.next_number;
        self.next_number += 1;
        self.known.insert((id, outgoing.key.clone()), Place::UnderWay(number));
        // A busy node acknowledges late; resending frames meanwhile would add to its load.
        let usual_ms = self.windows.get(&outgoing.node).map_or(0, |window| window.trip.ack_latency_ms());
        let pause_ms = usual_ms.clamp(self.pause_min_ms, self.pause_max_ms);
        let due_ms = now_ms.saturating_add(pause_ms);
        let node = outgoing.node.clone();
        let transmission = Transmission { node: node.clone(), number, frame: outgoing.frame.clone() };
        self.due.insert((due_ms, number));
        self.transmissions += 1;
        let sent = self.transmissions;
        let frame = UnderWay {
            id,
            outgoing,
            due_ms,
            pause_ms,
            sent_ms: Some(now_ms),
            first: sent,
            last: sent,
            last_ms: now_ms,
            repeats: 0,
            is_overtaken: false,
        };
        self.under_way.insert(number, frame);
        if let Some(window) = self.windows.get_mut(&node) {
            window.sent.insert(sent, number);
        }
        self.plan_probe(&node, now_ms);
        transmission
    }

    /// Plans when a frame is resent to a node that acknowledges nothing meanwhile.
    fn plan_probe(&mut self, node: &NodeId, now_ms: u64) {
        let (ack_delay_ms, pause_max_ms) = (self.ack_delay_ms, self.pause_max_ms);
        let Some(window) = self.windows.get_mut(node) else { return };
        if let Some(at_ms) = window.probe_ms.take() {
            self.probes.remove(&(at_ms, node.clone()));
        }
        let last = window.sent.last_key_value().and_then(|(_, number)| self.under_way.get(number));
        if let (Some(frame), Some(loss_ms)) = (last, window.loss_ms(ack_delay_ms)) {
            let at_ms = frame.last_ms.saturating_add(frame.loss_ms(loss_ms).min(pause_max_ms)).max(now_ms);
            window.probe_ms = Some(at_ms);
            self.probes.insert((at_ms, node.clone()));
        }
    }

    /// Returns whether `node` may acknowledge the frame `number`: the frame was sent there, or is no longer under
    /// way.
    pub(super) fn is_sent_to(&self, number: u64, node: &NodeId) -> bool {
        self.under_way.get(&number).is_none_or(|frame| frame.outgoing.node == *node)
    }

    /// Returns how long the frame `number` was under way, unless it is not any more or was probably lost.
    pub(super) fn took(&self, number: u64, now_ms: u64) -> Option<Duration> {
        let sent_ms = self.under_way.get(&number)?.sent_ms?;
        Some(Duration::from_millis(now_ms.saturating_sub(sent_ms)))
    }

    /// Handles the acknowledgement of the frame `number`; returns the frame's instance, key and receiver, and the
    /// frame that may be sent in its place.
    pub(super) fn acknowledge(
        &mut self,
        number: u64,
        now_ms: u64,
    ) -> (Option<(InstanceId, OutgoingKey, NodeId)>, Option<Transmission>) {
        let Some(frame) = self.under_way.get(&number) else { return (None, None) };
        let (node, first) = (frame.outgoing.node.clone(), frame.first);
        if let (Some(sent_ms), Some(window)) = (frame.sent_ms, self.windows.get_mut(&node)) {
            let took_ms = now_ms.saturating_sub(sent_ms).min(self.pause_max_ms);
            window.trip.took(took_ms);
            self.trip.took(took_ms);
        }
        let left = self.leave(number, now_ms);
        self.note_overtaken(&node, first, now_ms);
        self.plan_probe(&node, now_ms);
        left
    }

    /// Handles the arrival of a transmission: frames that were sent to the node before it are likely lost if they are
    /// not acknowledged within about a round trip either.
    fn note_overtaken(&mut self, node: &NodeId, arrived: u64, now_ms: u64) {
        let Some(window) = self.windows.get_mut(node) else { return };
        let Some(loss_ms) = window.loss_ms(self.ack_delay_ms) else { return };
        let later = window.sent.split_off(&arrived);
        for number in std::mem::replace(&mut window.sent, later).into_values() {
            let Some(frame) = self.under_way.get_mut(&number) else { continue };
            let due_ms = frame.last_ms.saturating_add(frame.loss_ms(loss_ms)).max(now_ms);
            if due_ms < frame.due_ms {
                self.due.remove(&(frame.due_ms, number));
                (frame.due_ms, frame.is_overtaken) = (due_ms, true);
                self.due.insert((due_ms, number));
            }
        }
    }

    /// Returns the usual acknowledgement latency over all nodes; 0 while nothing is known.
    pub(super) fn ack_latency_ms(&self) -> u64 {
        self.trip.ack_latency_ms()
    }

    /// Removes the frame `number`, which is no longer under way; the next one may be sent in its place.
    fn leave(&mut self, number: u64, now_ms: u64) -> (Option<(InstanceId, OutgoingKey, NodeId)>, Option<Transmission>) {
        let Some(frame) = self.under_way.remove(&number) else { return (None, None) };
        let UnderWay { id, outgoing, due_ms, last, .. } = frame;
        self.due.remove(&(due_ms, number));
        let known = (id, outgoing.key);
        self.known.remove(&known);
        let next = self.windows.get_mut(&outgoing.node).and_then(|window| {
            window.sent.remove(&last);
            let next = window.next(&self.known);
            window.under_way -= usize::from(next.is_none());
            next
        });
        let (id, key) = known;
        (Some((id, key, outgoing.node)), next.map(|(id, outgoing)| self.begin(id, outgoing, now_ms)))
    }

    /// Returns how many more frames may be under way to `node` at once.
    pub(super) fn room(&self, node: &NodeId) -> usize {
        let taken = self.windows.get(node).map_or(0, |window| window.under_way + window.waiting.len() - window.stale);
        self.window_max.saturating_sub(taken)
    }

    /// Drops these frames of `id`: they are not resent. Returns the frames that may be sent in their place.
    pub(super) fn forget(&mut self, id: InstanceId, what: Forget, now_ms: u64) -> Vec<Transmission> {
        // The least key of an instance is that of a message under the root.
        let first = (id, OutgoingKey::Deliver(Path::root(), RoleIndex(0)));
        let of_instance = self.known.range(first..).take_while(|((of, _), _)| *of == id);
        let gone = of_instance.filter(|((_, key), _)| what.includes(key));
        let gone: Vec<(FrameKey, Place)> = gone.map(|(key, place)| (key.clone(), place.clone())).collect();
        let mut next = Vec::new();
        for (key, place) in gone {
            self.known.remove(&key);
            match place {
                Place::UnderWay(number) => next.extend(self.leave(number, now_ms).1),
                Place::Waiting(node) => {
                    if let Some(window) = self.windows.get_mut(&node) {
                        window.forget_one(&self.known);
                    }
                }
            }
        }
        next
    }

    /// Returns the frames that are due to be resent; each then waits longer, with random jitter.
    pub(super) fn take_due(&mut self, now_ms: u64, environment: &dyn Environment) -> Vec<Transmission> {
        let mut transmissions = Vec::new();
        while let Some(&(due_ms, number)) = self.due.first()
            && due_ms <= now_ms
        {
            self.due.pop_first();
            let Some(frame) = self.under_way.get_mut(&number) else { continue };
            if frame.is_overtaken {
                frame.sent_ms = None; // The frame was most likely lost.
            } else {
                frame.pause_ms = frame.pause_ms.saturating_mul(2).min(self.pause_max_ms);
            }
            transmissions.extend(self.repeat(number, now_ms, environment));
        }
        while let Some((at_ms, node)) = self.probes.first()
            && *at_ms <= now_ms
        {
            let node = node.clone();
            self.probes.pop_first();
            let Some(window) = self.windows.get_mut(&node) else { continue };
            window.probe_ms = None;
            let (first, last) = (window.sent.first_key_value(), window.sent.last_key_value());
            let numbers: BTreeSet<u64> = first.into_iter().chain(last).map(|(_, number)| *number).collect();
            for number in numbers {
                transmissions.extend(self.repeat(number, now_ms, environment));
            }
            self.plan_probe(&node, now_ms);
        }
        transmissions
    }

    /// Resends a frame, and notes when it is due again.
    fn repeat(&mut self, number: u64, now_ms: u64, environment: &dyn Environment) -> Option<Transmission> {
        let frame = self.under_way.get_mut(&number)?;
        self.due.remove(&(frame.due_ms, number));
        let jitter = environment.random() % (frame.pause_ms / 4).max(1);
        frame.due_ms = now_ms.saturating_add(frame.pause_ms).saturating_add(jitter);
        self.due.insert((frame.due_ms, number));
        self.transmissions += 1;
        if let Some(window) = self.windows.get_mut(&frame.outgoing.node) {
            window.sent.remove(&frame.last);
            window.sent.insert(self.transmissions, number);
        }
        (frame.last, frame.last_ms, frame.is_overtaken) = (self.transmissions, now_ms, false);
        frame.repeats = frame.repeats.saturating_add(1);
        Some(Transmission { node: frame.outgoing.node.clone(), number, frame: frame.outgoing.frame.clone() })
    }

    /// Makes all frames under way to `node` due now, and restarts their pauses from short ones.
    pub(super) fn hurry(&mut self, node: &NodeId, now_ms: u64) {
        for (number, frame) in self.under_way.iter_mut().filter(|(_, frame)| frame.outgoing.node == *node) {
            self.due.remove(&(frame.due_ms, *number));
            (frame.due_ms, frame.pause_ms, frame.sent_ms) = (now_ms, self.pause_min_ms / 2, None);
            frame.repeats = 0;
            self.due.insert((now_ms, *number));
        }
    }

    /// Plans a timer if a frame is due to be resent before the present one ends. Returns the time when it has to end.
    pub(super) fn plan_timer(&mut self) -> Option<u64> {
        let due_ms = self.next_due_ms()?;
        if self.timer_ms.is_some_and(|timer_ms| timer_ms <= due_ms) {
            return None;
        }
        self.timer_ms = Some(due_ms);
        Some(due_ms)
    }

    /// Notes that a timer has ended.
    pub(super) fn timer_ended(&mut self) {
        self.timer_ms = None;
    }

    fn next_due_ms(&self) -> Option<u64> {
        let due_ms = self.due.first().map(|(due_ms, _)| *due_ms);
        let probe_ms = self.probes.first().map(|(at_ms, _)| *at_ms);
        due_ms.into_iter().chain(probe_ms).min()
    }
}

#[cfg(test)]
mod tests;

//! The trace of a simulated world: its events in order, in readable form, and comparable with another run.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use accompanist_core::contract::Heal;
use accompanist_core::frame::{Body, Outcome, Packet};
use accompanist_core::id::{InstanceId, RoleIndex};
use accompanist_core::message::Fingerprint;
use accompanist_core::{NodeId, SessionId};
use accompanist_transport::Deafness;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Event {
    /// The time since the world began, independent of any node's clock.
    pub at: Duration,
    /// The node; `None` for an event that concerns more than one.
    pub node: Option<NodeId>,
    /// The event itself.
    pub what: What,
}

/// The kind of an [`Event`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum What {
    /// A node begins to start.
    Starts,
    /// The node runs.
    Runs,
    /// The node has lost power: of the batches that were not synced, the first ones still reached the disk.
    Crashed {
        /// How many reached the disk.
        kept: usize,
        /// How many were not synced.
        of: usize,
    },
    /// The node is removed for good.
    Removed,
    /// Packets from this node to the other one are lost from now on.
    Cut(NodeId),
    /// The other node is deaf to this node from now on, until this node recreates the given part of its connection to
    /// it; broadcasts may still arrive.
    Deafened(NodeId, Deafness),
    /// No packets are lost to cuts any more.
    Healed,
    /// The node recreates the given part of its connection to the other one.
    Heals(NodeId, Heal),
    /// The node's wall clock was set by this many milliseconds.
    ClockSet(i64),
    /// The node has sent a packet to one node, or to all.
    Sent {
        /// The receiver; `None` is all.
        to: Option<NodeId>,
        /// The packet's contents, with a fingerprint of each value.
        says: String,
        /// Whether the packet contains nothing of a session except nudges and acknowledgements.
        routine: bool,
        /// How many copies of the packet are lost.
        lost: u64,
        /// How many duplicates of the packet there are.
        doubled: u64,
    },
    /// The node has synced this many batches.
    Synced(usize),
    /// A session has begun at a role on this node. Not durable yet.
    Opened {
        /// The instance.
        instance: InstanceId,
        /// The role's name.
        role: String,
    },
    /// The session has ended at a role on this node. Not durable yet.
    Closed {
        /// The instance.
        instance: InstanceId,
        /// The role's name.
        role: String,
        /// Finished or compensated.
        outcome: String,
    },
    /// A note of the test.
    Noted(String),
    /// A failure.
    Failed(String),
}

impl Event {
    /// Whether many events of this kind carry no more information than one.
    fn is_routine(&self) -> bool {
        matches!(self.what, What::Sent { routine: true, .. } | What::Synced(_))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node.as_ref().map_or("*", NodeId::as_str);
        write!(f, "{:>12.6}s {node:>12}  {}", self.at.as_secs_f64(), self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starts => f.write_str("starts"),
            Self::Runs => f.write_str("runs"),
            Self::Crashed { kept, of } => write!(f, "CRASHES, and keeps {kept} of {of} batches that were not synced"),
            Self::Removed => f.write_str("is REMOVED"),
            Self::Cut(to) => write!(f, "is CUT OFF: nothing gets to {to}"),
            Self::Deafened(to, Deafness { until, broadcasts_arrive }) => {
                let arrives = if *broadcasts_arrive { "alone" } else { "or to all" };
                write!(f, "has {to} DEAF to what it sends there {arrives}, until its {until:?} is made anew")
            }
            Self::Heals(to, level) => write!(f, "makes its {level:?} to {to} anew"),
            Self::Healed => f.write_str("the network is whole"),
            Self::ClockSet(ms) => write!(f, "has its clock SET by {ms} ms"),
            Self::Sent { to, says, lost, doubled, .. } => {
                write!(f, "-> {}: {says}", to.as_ref().map_or("all", NodeId::as_str))?;
                let lost = if *lost > 0 { " (LOST)" } else { "" };
                write!(f, "{lost}{}", if *doubled > 0 { " (doubled)" } else { "" })
            }
            Self::Synced(batches) => {
                write!(f, "syncs {batches} batch{}", if *batches == 1 { "" } else { "es" })
            }
            Self::Opened { instance, role } => write!(f, "opens {role} of {}", Short(instance.session)),
            Self::Closed { instance, role, outcome } => {
                write!(f, "closes {role} of {} as {outcome}", Short(instance.session))
            }
            Self::Noted(text) => f.write_str(text),
            Self::Failed(text) => write!(f, "FAILED: {text}"),
        }
    }
}

/// The end of a session's id, which is enough to identify it.
struct Short(SessionId);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = self.0.to_string();
        write!(f, "..{}", session.get(session.len().saturating_sub(6)..).unwrap_or(&session))
    }
}

/// Returns an outcome in a few words.
pub(super) fn ended(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Finished => word(outcome).into(),
        Outcome::Compensated(abort) => format!("{}: {abort}", word(outcome)),
    }
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Finished => "finished",
        Outcome::Compensated(_) => "compensated",
    }
}

/// Returns the contents of a packet in a few words, and whether the packet is routine; `name` returns the names of
/// roles.
pub(super) fn described(packet: &Packet, name: impl Fn(SessionId, RoleIndex) -> String) -> (String, bool) {
    let mut words = Vec::new();
    let routine = packet.frames.iter().all(|(_, frame)| matches!(frame.body, Body::Nudge(_)));
    for (number, frame) in &packet.frames {
        let says = match &frame.body {
            Body::Deliver { path, operation, payload } => {
                format!("{operation} {path} ({})", Fingerprint::of(payload))
            }
            Body::Nudge(_) => "nudge".into(),
            Body::Abort(_) => "abort".into(),
            Body::Done(outcome) => word(outcome).into(),
            Body::Close(_) => "close".into(),
            Body::Turns { .. } => "turns".into(),
            Body::Compensating(_) => "undoing".into(),
            Body::Closed(_) => "closed".into(),
            Body::Gone(path) => format!("nothing at {path}"),
            Body::Trouble(Some(_)) => "in trouble".into(),
            Body::Trouble(None) => "out of trouble".into(),
            Body::TroubleAsked => "in trouble?".into(),
        };
        let [from, to] = [frame.from, frame.to].map(|role| name(frame.session, role));
        words.push(format!("{number} {says} of {from} to {to} in {}", Short(frame.session)));
    }
    for (_, numbers) in &packet.acks {
        words.push(format!("has {numbers:?}"));
    }
    if packet.advertisement.is_some() {
        words.push("offer".into());
    }
    if words.is_empty() {
        words.push("probe".into());
    }
    (words.join(", "), routine)
}

/// Everything that happened in a world.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Trace {
    /// The events in order.
    pub events: Vec<Event>,
}

impl Trace {
    /// Returns a fingerprint that is equal for two runs with the same events at the same times, in this build of the
    /// program.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Returns the last lines without routine (advertisements, nudges, acknowledgements, syncs), in readable form.
    pub fn tail(&self, lines: usize) -> String {
        let told = self.events.iter().rev().filter(|event| !event.is_routine());
        let mut tail: Vec<String> = told.take(lines).map(ToString::to_string).collect();
        tail.reverse();
        tail.join("\n")
    }

    /// Returns the first events that differ, this trace's first.
    pub fn difference<'a>(&'a self, other: &'a Self) -> Option<(Option<&'a Event>, Option<&'a Event>)> {
        let length = self.events.len().max(other.events.len());
        let pairs = (0..length).map(|index| (self.events.get(index), other.events.get(index)));
        { pairs }.find(|(one, other)| one != other)
    }
}

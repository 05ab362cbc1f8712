//! The numbers of a node, each with its unit and its reason. No behaviour.

use std::path::PathBuf;
use std::time::Duration;

use accompanist_core::instance::Limits;
use serde::{Deserialize, Serialize};

use crate::config::bound;
use crate::supervision::Supervision;

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A power cut: every group commit is followed by an fdatasync.
    #[default]
    Power,
    /// A crash of the process, not of the machine: writes reach the operating system.
    Process,
}

/// How long what is left of closed sessions is kept: that they are closed, and at the initiator their result.
///
/// What closed first goes first, as soon as one of the three bounds is passed; `None` is no bound. Nothing goes before
/// `age_min`, whatever the bounds say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Below this age nothing is collected: a late frame must still find that its session is closed. Has to be far above
    /// `retransmission_delay_max` and above the time that a packet can spend on the wire.
    #[serde(with = "humantime_serde")]
    pub age_min: Duration,
    /// Above this age a result is no longer kept, and a caller's key is free again.
    #[serde(with = "bound::time")]
    pub age_max: Option<Duration>,
    /// The most closed instances that are kept; several roles of one session played here count each.
    #[serde(with = "bound::number")]
    pub count_max: Option<u64>,
    /// The most bytes that are kept, keys included.
    #[serde(with = "bound::number")]
    pub bytes_max: Option<u64>,
}

impl Default for Retention {
    /// Twenty minutes at least: TCP gives up a packet after fifteen, and nothing under Zenoh keeps one longer. A week at
    /// most: a caller that comes back on Monday finds what it started on Tuesday. A million of them are counted in about
    /// a second at a start, and take some hundred bytes each besides their outputs.
    fn default() -> Self {
        Self {
            age_min: Duration::from_mins(20),
            age_max: Some(Duration::from_hours(7 * 24)),
            count_max: Some(1_000_000),
            bytes_max: Some(1 << 30),
        }
    }
}

/// Bounds and pauses of durable actors; their mailboxes are bounded by `limits.signals_max`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Actors {
    /// The most messages of one sender that are sent to an actor, and handled by it, together. A larger batch makes its
    /// first message wait, and is one step in the store's writer. At most 1 024, the keys that are remembered.
    pub batch_max: usize,
    /// The most messages that handling one may make an actor tell others. More stop it where it is.
    pub tells_max: usize,
    /// The most messages that each instance of an actor was told and has refused that are kept. More push the oldest out.
    pub refusals_max: usize,
    /// The pause before what an actor tells another one is tried again, since that one's mailbox is full or nobody is
    /// known to play it; it doubles from one to the next.
    #[serde(with = "humantime_serde")]
    pub forward_delay_min: Duration,
    /// The longest of these pauses.
    #[serde(with = "humantime_serde")]
    pub forward_delay_max: Duration,
}

impl Default for Actors {
    fn default() -> Self {
        Self {
            batch_max: 256,
            tells_max: 1_024,
            refusals_max: 256,
            forward_delay_min: Duration::from_millis(5),
            forward_delay_max: Duration::from_secs(1),
        }
    }
}

/// Bounds and pauses of a node; the same names in `accompanist.toml`, see [`Config`](crate::Config). Each has a least and a
/// greatest value ([`Settings::ranges`], and `docs/accompanist.toml`): anything else is refused at the start, by the key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// As [`NodeBuilder::seal_key_file`](crate::NodeBuilder::seal_key_file), which may not say otherwise: the file with the node's secret keys; `none` for a
    /// node that does not seal.
    #[serde(with = "bound::path")]
    pub seal_key_file: Option<PathBuf>,
    /// The name of the system that the node belongs to, to which its store is pinned. Empty for that of the transport (with
    /// Zenoh: its namespace); if both have one, they have to be the same.
    pub system: String,
    /// As [`NodeBuilder::fresh`](crate::NodeBuilder::fresh). For one start: take it out again.
    pub fresh: bool,
    /// As [`NodeBuilder::accept_restore`](crate::NodeBuilder::accept_restore). For one start: take it out again.
    pub accept_restore: bool,
    /// How long a write that nothing waits for may wait for company, so that it costs no sync of its own; it waits only while other
    /// sessions are written.
    /// Has to be well below `retransmission_delay_min`, since acknowledgements wait with it.
    #[serde(with = "humantime_serde")]
    pub lazy_write_delay_max: Duration,
    /// The most writes of one group commit. A larger group gains nothing and makes its first write wait.
    pub group_writes_max: usize,
    /// Frames to one node that are sent and not acknowledged; more wait in memory at their instances' expense.
    pub window_frames_max: usize,
    /// The pause before a frame is sent again to a node that may be away; it doubles from one to the next. Longer from the start
    /// where acknowledgements usually take longer: a node that is behind must not get everything twice. What is likely to be lost
    /// is sent again after about a round trip.
    #[serde(with = "humantime_serde")]
    pub retransmission_delay_min: Duration,
    /// The longest pause between two transmissions of a frame.
    #[serde(with = "humantime_serde")]
    pub retransmission_delay_max: Duration,
    /// Packets that have arrived and wait for the link. More are dropped, and sent again by their sender.
    pub inbox_packets_max: usize,
    /// The bytes of these.
    pub inbox_bytes_max: usize,
    /// Dead letters that are kept: what has arrived and could not be handled. More push the oldest out; none turns it off.
    pub dead_letters_max: usize,
    /// The bytes of these.
    pub dead_letter_bytes_max: usize,
    /// Role instances in memory. Half of it, rounded up, is open to sessions started here (a start beyond is refused as
    /// overloaded), the rest to those that others begin, whose frames beyond are dropped and sent again.
    pub instances_max: usize,
    /// How long a session may wait in the queues of its nodes, all in all. While what arrives at one of them takes longer than
    /// a quarter of this until it is on disk, new sessions that it is cast in are refused: a session has some four messages one
    /// after the other, as a rule.
    #[serde(with = "humantime_serde")]
    pub queue_delay_max: Duration,
    /// Role instances that are open in the store, in memory or not: with `limits` what the mailboxes of this node may take
    /// on disk. Starts beyond are refused, frames that would begin more are dropped and sent again; what is open goes on.
    /// What is on its way to the disk may pass it by its own number.
    pub open_max: u64,
    /// Sessions that nudges of one peer have begun here and in which nothing has happened since. Nudges that would begin more
    /// are dropped, and come again.
    pub nudged_sessions_max: usize,
    /// What callers have asked of the store, and of instances, and wait for. More wait for their turn.
    pub callers_max: usize,
    /// How long an instance that only waits (for a message, a signal, a time) stays in memory. Far above the time that a
    /// message takes between its roles, or it is loaded anew for each.
    #[serde(with = "humantime_serde")]
    pub passivation_delay: Duration,
    /// Instances that the node itself brings back into memory at a time: all that are open after a start, and those whose
    /// time has come. More wait on disk.
    pub returns_max: usize,
    /// In such a time each instance that has left memory, and that no message brings back before, comes back once to nudge those
    /// it waits for, in case one has forgotten it; one after the other, evenly over the time. A million of them are 46 a
    /// second by default.
    #[serde(with = "humantime_serde")]
    pub passivated_nudge_period: Duration,
    /// How long [`Node::shutdown`](crate::Node::shutdown) waits for steps on services that are running; no other one begins meanwhile. What
    /// still runs then is cut off, and runs again when the node starts again. Below the time that whatever stops the process waits
    /// before it kills it (30 s for Kubernetes, 10 s for Docker).
    #[serde(with = "humantime_serde")]
    pub shutdown_grace: Duration,
    /// How long a start waits until a node for each role is known.
    #[serde(with = "humantime_serde")]
    pub cast_wait_max: Duration,
    /// The longest pause between two offers of this node to all; 50 ms at least. A peer of which nothing arrives for three of
    /// them is silent, one that reports for three that nothing arrives there is deaf: give all nodes the same.
    #[serde(with = "humantime_serde")]
    pub offer_period_max: Duration,
    /// Bounds and pauses of each role instance.
    pub limits: Limits,
    /// Bounds and pauses of durable actors.
    pub actors: Actors,
    /// How long results and the other remains of closed sessions are kept.
    pub retention: Retention,
    /// What is done about actors that fail.
    pub supervision: Supervision,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seal_key_file: None,
            system: String::new(),
            fresh: false,
            accept_restore: false,
            limits: Limits::default(),
            lazy_write_delay_max: Duration::from_millis(5),
            group_writes_max: 1_024,
            window_frames_max: 1_024,
            retransmission_delay_min: Duration::from_millis(80),
            retransmission_delay_max: Duration::from_secs(2),
            inbox_packets_max: 16_384,
            inbox_bytes_max: 64 << 20,
            dead_letters_max: 1_024,
            dead_letter_bytes_max: 16 << 20,
            instances_max: 200_000,
            queue_delay_max: Duration::from_secs(1),
            open_max: 10_000_000,
            nudged_sessions_max: 10_000,
            callers_max: 4_096,
            passivation_delay: Duration::from_secs(1),
            returns_max: 256,
            passivated_nudge_period: Duration::from_hours(6),
            shutdown_grace: Duration::from_secs(5),
            cast_wait_max: Duration::from_secs(10),
            offer_period_max: Duration::from_secs(3),
            actors: Actors::default(),
            retention: Retention::default(),
            supervision: Supervision::default(),
        }
    }
}

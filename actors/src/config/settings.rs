//! The settings of a node, each with its unit and its reason. No behaviour.
//!
//! Public enums and structs that may grow are `#[non_exhaustive]`, with two exceptions:
//! - What users write as `Settings { .., ..Settings::default() }`, which would no longer compile: [`Settings`],
//!   [`Actors`], [`Retention`], [`AdminSettings`], `Limits`, `Policy`, `PolicyChange`, `Supervision`, `FjallSizes`,
//!   `Faults` and `FaultProfile`. A new field breaks nobody who ends the literal like that.
//! - What has to be matched completely, so that the compiler shows each place where a new variant is missing:
//!   [`Durability`], `Kind`, `CommitOutcome`, `Compensation`, `Resolution`, and the enums of `contract` that are no
//!   errors.

use std::path::PathBuf;
use std::time::Duration;

use accompanist_core::machine::Limits;
use serde::{Deserialize, Serialize};

use super::bound;
use super::policy::Supervision;

/// The kind of failure that an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Survives a power cut: every group commit is followed by an fdatasync.
    #[default]
    Power,
    /// Survives a crash of the process, not of the machine: writes reach the operating system.
    Process,
}

/// How long tombstones of closed sessions are kept: the fact that they are closed, and at the initiator their result.
///
/// The oldest tombstone is collected first, as soon as one of the three bounds is exceeded; `None` means no bound.
/// Nothing is collected before `age_min`, whatever the bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// The age below which nothing is collected: a late frame must still find that its session is closed. Must be far
    /// above `retransmission_delay_max` and above the time that a packet can spend on the wire.
    #[serde(with = "humantime_serde")]
    pub age_min: Duration,
    /// The age above which a result is no longer kept and the caller's key is free again.
    #[serde(with = "bound::time")]
    pub age_max: Option<Duration>,
    /// The most tombstones that are kept; several roles of one session played here count separately.
    #[serde(with = "bound::number")]
    pub count_max: Option<u64>,
    /// The most bytes that are kept, keys included.
    #[serde(with = "bound::number")]
    pub bytes_max: Option<u64>,
}

impl Default for Retention {
    /// Defaults to at least twenty minutes: TCP gives up a packet after fifteen, and nothing under Zenoh keeps one
    /// longer. At most a week: a caller that returns on Monday finds what it started on Tuesday. A million tombstones
    /// are counted in about a second at a start, and take some hundred bytes each besides their outputs.
    fn default() -> Self {
        Self {
            age_min: Duration::from_mins(20),
            age_max: Some(Duration::from_hours(7 * 24)),
            count_max: Some(1_000_000),
            bytes_max: Some(1 << 30),
        }
    }
}

/// Bounds and pauses of durable actors. Their mailboxes are bounded by `limits.signals_max`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Actors {
    /// The most messages of one sender that are sent to an actor together and handled by it together. In a larger
    /// batch the first message waits longer; a batch is one step in the store's writer. At most 1 024, the number of
    /// keys that are remembered.
    pub batch_max: usize,
    /// The most messages that an actor may tell others while it handles one. More stop the channel.
    pub tells_max: usize,
    /// The most refused tells that are kept per instance of an actor. More push the oldest out.
    pub refusals_max: usize,
    /// The pause before a tell from one actor to another is retried because the receiver's mailbox is full or no node
    /// is known to play it. The pause doubles each time.
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

/// What operators' tools may do over the node's network; see [`admin`](crate::admin).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AdminNetworkAccess {
    /// Nothing.
    Off,
    /// Read what the node knows.
    Read,
    /// Also change something: end sessions, drain the node.
    #[default]
    Write,
}

impl AdminNetworkAccess {
    /// The value's name in a file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// The administrative interface of a node; see [`admin`](crate::admin).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminSettings {
    /// What operators' tools may do over the node's network. With a members file only those in the name of a member
    /// with `operator = true` are answered.
    pub network: AdminNetworkAccess,
    /// The address on which the interface is served over HTTP, such as `127.0.0.1:8181`, with `/livez`, `/readyz` and
    /// `/metrics`; empty for none. Needs the cargo feature `admin-http`.
    pub http_listen: String,
    /// The file with the bearer token that changes over HTTP need; `none` forbids them. On an address that other
    /// machines reach, reading sessions needs it, too; probes and metrics never do.
    #[serde(with = "bound::path")]
    pub http_token_file: Option<PathBuf>,
}

/// Bounds and pauses of a node. `accompanist.toml` uses the same names, see [`Config`](crate::Config). Each has a
/// least and a greatest value ([`Settings::ranges`], and `docs/accompanist.toml`); the start refuses any other value,
/// naming the key.
///
/// ```
/// use accompanist::Settings;
/// use accompanist::machine::Limits;
/// # use std::sync::Arc;
/// # use accompanist::prelude::{Node, NodeId, Role};
/// # use accompanist::store::MemoryDisk;
/// # use accompanist::transport::LocalNetwork;
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let builder = || -> Result<_, Box<dyn std::error::Error>> {
/// #     let builder = Node::builder(NodeId::new("shop-1")?).store(MemoryDisk::default().open()?);
/// #     Ok(builder.transport(LocalNetwork::new()).role(Seller, Arc::new(())))
/// # };
/// let limits = Limits { tries_max: 5, ..Limits::default() };
/// let settings = Settings { instances_max: 1_000, limits, ..Settings::default() };
/// let node = builder()?.settings(settings).start().await?;
/// # node.shutdown().await;
///
/// let settings = Settings { group_writes_max: 0, ..Settings::default() };
/// let error = builder()?.settings(settings).start().await.unwrap_err();
/// let text = "settings: group_writes_max: 0 is too little: give 1 or more (for example: group_writes_max = 1024)";
/// assert_eq!(error.to_string(), text);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The file with the node's secret keys, as for
    /// [`NodeBuilder::seal_key_file`](crate::NodeBuilder::seal_key_file), which must not name another; `none` for a
    /// node that does not seal.
    #[serde(with = "bound::path")]
    pub seal_key_file: Option<PathBuf>,
    /// The name of the system that the node belongs to; the node's store is pinned to it. Empty takes the transport's
    /// system (with Zenoh: its namespace); if both are given, they must be equal.
    pub system: String,
    /// Starts the node anew, as [`NodeBuilder::fresh`](crate::NodeBuilder::fresh) does. Set it for one start and
    /// remove it again.
    pub fresh: bool,
    /// Accepts an older copy of the store, as [`NodeBuilder::accept_restore`](crate::NodeBuilder::accept_restore)
    /// does. Set it for one start and remove it again.
    pub accept_restore: bool,
    /// The longest time that a write that nothing waits for may be delayed to share a sync. Such a write is delayed
    /// only while other sessions are written. Must be well below `retransmission_delay_min`, because acknowledgements
    /// are delayed with it.
    #[serde(with = "humantime_serde")]
    pub lazy_write_delay_max: Duration,
    /// The most writes of one group commit. A larger group gains nothing and makes its first write wait.
    pub group_writes_max: usize,
    /// The most frames to one node that are sent and unacknowledged; further frames wait in memory at their
    /// instances' expense.
    pub window_frames_max: usize,
    /// The pause before a frame is resent to a node that may be away; the pause doubles each time. The first pause is
    /// longer where acknowledgements usually take longer, so that a slow node does not receive everything twice. A
    /// frame that was likely lost is resent after about one round trip.
    #[serde(with = "humantime_serde")]
    pub retransmission_delay_min: Duration,
    /// The longest pause between two transmissions of a frame.
    #[serde(with = "humantime_serde")]
    pub retransmission_delay_max: Duration,
    /// The most arrived packets that wait for the link. Further packets are dropped, and their sender resends them.
    pub inbox_packets_max: usize,
    /// The most bytes of these packets.
    pub inbox_bytes_max: usize,
    /// The most dead letters (messages that arrived and could not be handled) that are kept. More push the oldest
    /// out; 0 turns them off.
    pub dead_letters_max: usize,
    /// The most bytes of these dead letters.
    pub dead_letter_bytes_max: usize,
    /// The most role instances in memory. Half of them, rounded up, is available to sessions started here (a start
    /// beyond that is refused as overloaded). The rest is for sessions that other nodes start; their frames beyond
    /// the limit are dropped and resent.
    pub instances_max: usize,
    /// The longest time that a session may wait in the queues of its nodes, all together. While messages that arrive
    /// at a node take longer than a quarter of this until they are on disk, new sessions that cast it are refused,
    /// because a session usually has some four messages in sequence.
    #[serde(with = "humantime_serde")]
    pub queue_delay_max: Duration,
    /// The most role instances open in the store, in memory or not. Together with `limits` this bounds the disk space
    /// of this node's mailboxes. Starts beyond the limit are refused, frames that would create more instances are
    /// dropped and resent; open instances continue. The limit may be exceeded by the number of instances on their way
    /// to the disk.
    pub open_max: u64,
    /// The most sessions that one peer's nudges have created here and that have not progressed since. Nudges that
    /// would create more are dropped, and arrive again.
    pub nudged_sessions_max: usize,
    /// The most calls on the store and on instances that callers wait for. Further calls wait for their turn.
    pub callers_max: usize,
    /// How long an instance that only waits (for a message, a signal, a time) stays in memory. Should be far above
    /// the time that a message takes between the session's roles; otherwise the instance is loaded again for each
    /// message.
    #[serde(with = "humantime_serde")]
    pub passivation_delay: Duration,
    /// The most instances that the node itself reactivates at a time: all open ones after a start, and those whose
    /// time has come. More wait on disk.
    pub reactivations_max: usize,
    /// The period in which each passivated instance that no message reactivates before is reactivated once, to nudge
    /// the roles it waits for, in case one of them has forgotten it. The instances are spread evenly over the period,
    /// one after the other. A million of them are 46 a second by default.
    #[serde(with = "humantime_serde")]
    pub passivated_nudge_period: Duration,
    /// How long [`Node::shutdown`](crate::Node::shutdown) waits for running steps on services; no other step begins
    /// meanwhile. Steps that still run then are cut off, and run again when the node starts again. Set it below the
    /// time that whatever stops the process waits before it kills it (30 s for Kubernetes, 10 s for Docker).
    #[serde(with = "humantime_serde")]
    pub shutdown_grace: Duration,
    /// How long a start waits until a node for each role is known.
    #[serde(with = "humantime_serde")]
    pub cast_wait_max: Duration,
    /// The longest pause between two advertisements of this node to all; at least 50 ms. A peer from which nothing
    /// arrives for three of these periods is silent; a peer that reports for three of them that nothing arrives there
    /// is deaf. Use the same value on all nodes.
    #[serde(with = "humantime_serde")]
    pub advertisement_period_max: Duration,
    /// The administrative interface.
    pub admin: AdminSettings,
    /// Bounds and pauses of each role instance.
    pub limits: Limits,
    /// Bounds and pauses of durable actors.
    pub actors: Actors,
    /// How long results and other tombstones of closed sessions are kept.
    pub retention: Retention,
    /// The handling of actors that fail.
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
            reactivations_max: 256,
            passivated_nudge_period: Duration::from_hours(6),
            shutdown_grace: Duration::from_secs(5),
            cast_wait_max: Duration::from_secs(10),
            advertisement_period_max: Duration::from_secs(3),
            admin: AdminSettings::default(),
            actors: Actors::default(),
            retention: Retention::default(),
            supervision: Supervision::default(),
        }
    }
}

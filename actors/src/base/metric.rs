//! The names of this crate's metrics, for dashboards and tests.

/// Counter: group commits.
pub const GROUP_COMMITS: &str = "accompanist_group_commits_total";
/// Counter: writes of instances, many of which share a group commit.
pub const WRITES: &str = "accompanist_writes_total";
/// Counter: frames sent for the first time.
pub const FRAMES_SENT: &str = "accompanist_frames_sent_total";
/// Counter: frames resent because no acknowledgement arrived in time.
pub const FRAMES_SENT_AGAIN: &str = "accompanist_frames_sent_again_total";
/// Counter: times that the connection to a peer was rebuilt because the peer received nothing; with a label `level`
/// of `publisher` or `session`.
pub const HEALS: &str = "accompanist_heals_total";
/// Gauge: the time from a message's arrival until it is on disk, in seconds; 0 while too few messages arrive to
/// measure it.
pub const QUEUE_DELAY: &str = "accompanist_queue_delay_seconds";
/// Gauge: peers that are received but receive nothing from this node.
pub const PEERS_DEAF: &str = "accompanist_peers_deaf";
/// Gauge: peers from which nothing is received.
pub const PEERS_SILENT: &str = "accompanist_peers_silent";
/// Counter: times that a peer went silent.
pub const PEERS_WENT_SILENT: &str = "accompanist_peers_went_silent_total";
/// Counter: times that a silent peer was received again.
pub const PEERS_CAME_BACK: &str = "accompanist_peers_came_back_total";
/// Counter: advertisements of peers that have an older copy of their store, or that run twice.
pub const ADVERTISEMENTS_DISPUTED: &str = "accompanist_advertisements_disputed_total";
/// Gauge: peers that have an older copy of their store, or that run twice.
pub const PEERS_DISPUTED: &str = "accompanist_peers_disputed";
/// Counter: packets and frames that arrived and were dropped, with a label `reason`.
pub const DROPPED: &str = "accompanist_dropped_total";
/// Counter: sessions started here.
pub const SESSIONS_STARTED: &str = "accompanist_sessions_started_total";
/// Counter: role instances closed, with a label `outcome` of `finished` or `compensated`.
pub const INSTANCES_CLOSED: &str = "accompanist_instances_closed_total";
/// Counter: role instances that failed and were restarted.
pub const INSTANCES_RESTARTED: &str = "accompanist_instances_restarted_total";
/// Counter: role instances that were stopped until an operator acts.
pub const INSTANCES_STOPPED: &str = "accompanist_instances_stopped_total";
/// Counter: role instances that only waited and were passivated.
pub const INSTANCES_PASSIVATED: &str = "accompanist_instances_passivated_total";
/// Counter: role instances that the node itself reactivated: after a start, at a time, or to resend something.
pub const INSTANCES_RETURNED: &str = "accompanist_instances_returned_total";
/// Counter: messages that were resent although they counted as acknowledged, because their receivers lacked them.
pub const MESSAGES_SENT_ANEW: &str = "accompanist_messages_sent_anew_total";
/// Gauge: role instances that are open in the store, in memory or not.
pub const INSTANCES_OPEN: &str = "accompanist_instances_open";
/// Gauge: tombstones of closed role instances that are kept.
pub const TOMBSTONES: &str = "accompanist_tombstones";
/// Gauge: bytes of the tombstones that are kept, outputs included.
pub const TOMBSTONE_BYTES: &str = "accompanist_tombstone_bytes";
/// Counter: tombstones collected because their retention has ended.
pub const TOMBSTONES_COLLECTED: &str = "accompanist_tombstones_collected_total";
/// Counter: times that more tombstones were kept than retention allows, all of them too young to be collected.
pub const RETENTION_HELD_BACK: &str = "accompanist_retention_held_back_total";
/// Gauge: dead letters.
pub const DEAD_LETTERS: &str = "accompanist_dead_letters";
/// Counter: dead letters that were discarded to make room for newer ones.
pub const DEAD_LETTERS_PUSHED_OUT: &str = "accompanist_dead_letters_pushed_out_total";
/// Gauge: role instances that are still open on nodes that drain.
pub const DRAINING_INSTANCES: &str = "accompanist_draining_instances";

/// Counter: steps that need an operator.
pub const STEPS_IN_TROUBLE: &str = "accompanist_steps_in_trouble_total";
/// Counter: instances whose journal has grown beyond `journal_records_warn`.
pub const LONG_JOURNALS: &str = "accompanist_long_journals_total";
/// Counter: messages that durable actors have handled, with a label `actor`.
pub const ACTOR_MESSAGES: &str = "accompanist_actor_messages_total";
/// Counter: tells that durable actors have refused, with a label `actor`.
pub const ACTOR_REFUSALS: &str = "accompanist_actor_refusals_total";

/// Describes all metrics to the installed recorder.
pub fn describe() {
    use metrics::{describe_counter as counter, describe_gauge as gauge};
    counter!(GROUP_COMMITS, "Group commits");
    counter!(WRITES, "Writes of instances");
    counter!(FRAMES_SENT, "Frames sent for the first time");
    counter!(FRAMES_SENT_AGAIN, "Frames sent again");
    counter!(HEALS, "Times that the way to a peer was made anew, by level");
    gauge!(QUEUE_DELAY, metrics::Unit::Seconds, "How long what arrives takes until it is on disk");
    gauge!(PEERS_DEAF, "Peers that are received and receive nothing");
    gauge!(PEERS_SILENT, "Peers from which nothing is received");
    counter!(PEERS_WENT_SILENT, "Times that a peer went silent");
    counter!(PEERS_CAME_BACK, "Times that a silent peer came back");
    counter!(ADVERTISEMENTS_DISPUTED, "Offers of peers with another copy of their store");
    gauge!(PEERS_DISPUTED, "Peers with another copy of their store");
    counter!(DROPPED, "What arrived and was dropped, by reason");
    counter!(SESSIONS_STARTED, "Sessions started here");
    counter!(INSTANCES_CLOSED, "Role instances closed, by outcome");
    counter!(INSTANCES_RESTARTED, "Role instances restarted after a failure");
    counter!(INSTANCES_STOPPED, "Role instances that are stopped");
    counter!(INSTANCES_PASSIVATED, "Role instances that waited, and left memory");
    counter!(INSTANCES_RETURNED, "Role instances that the node brought back by itself");
    counter!(MESSAGES_SENT_ANEW, "Messages that counted as acknowledged, and were lacking");
    counter!(STEPS_IN_TROUBLE, "Steps that need an operator");
    counter!(LONG_JOURNALS, "Instances with a long journal");
    counter!(ACTOR_MESSAGES, "Messages handled by durable actors");
    counter!(ACTOR_REFUSALS, "Messages that durable actors were told and have refused");
    gauge!(INSTANCES_OPEN, "Role instances open in the store");
    gauge!(DEAD_LETTERS, "Dead letters");
    counter!(DEAD_LETTERS_PUSHED_OUT, "Dead letters that had to make room");
    gauge!(TOMBSTONES, "Tombstones kept");
    gauge!(TOMBSTONE_BYTES, metrics::Unit::Bytes, "Bytes of the tombstones kept");
    counter!(TOMBSTONES_COLLECTED, "Tombstones collected");
    gauge!(DRAINING_INSTANCES, "Role instances still open on nodes that drain");
    counter!(RETENTION_HELD_BACK, "Times that the least age kept more tombstones than retention allows");
}

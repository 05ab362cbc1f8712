//! The names of this crate's metrics, for dashboards and tests, and their descriptions.
//!
//! Install an exporter for the `metrics` facade before the node starts. The values of labels are names from the
//! program: of choreographies, roles, steps and actors, and of fixed outcomes and reasons. There are therefore as many
//! time series as the program has names, whatever its callers do.

use accompanist_transport::described_metrics;

/// The bounds that suit the histograms whose names end with `_seconds`, for an exporter that needs bounds: from half
/// a millisecond to a day.
pub const SECONDS_BOUNDS: [f64; 19] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3_600.0,
    86_400.0,
];

/// The bounds that suit [`GROUP_COMMIT_WRITES`].
pub const WRITES_BOUNDS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];

described_metrics! {
    /// Sessions started here.
    counter SESSIONS_STARTED = "accompanist_sessions_started_total";
    /// The time from the start of a session until its output (or its abort) is known here, at its initiator, by
    /// `choreography` and `outcome` (`finished`, `aborted`). To the millisecond, by the wall clock, restarts included.
    histogram SESSION_OUTPUT = "accompanist_session_output_seconds" in Seconds;
    /// The time from the start of a session until it is settled at all roles, at its initiator, by `choreography` and
    /// `outcome` (`finished`, `compensated`). To the millisecond, by the wall clock, restarts included.
    histogram SESSION_SETTLED = "accompanist_session_settled_seconds" in Seconds;
    /// The time of one call of a step, its compensation or the question for its outcome, by `choreography`, `step` and
    /// `outcome` (`committed`, `aborted`, `failed` for a try that settled nothing, `compensated`). To the millisecond.
    histogram STEP = "accompanist_step_seconds" in Seconds;
    /// Steps in memory whose last call has failed and that are called again.
    gauge STEPS_RETRIED_NOW = "accompanist_steps_retried_now";
    /// Steps that need an operator.
    counter STEPS_IN_TROUBLE = "accompanist_steps_in_trouble_total";
    /// Role instances with steps that need an operator.
    gauge INSTANCES_IN_TROUBLE_NOW = "accompanist_instances_in_trouble_now";
    /// Role instances that were stopped until an operator acts.
    counter INSTANCES_STOPPED = "accompanist_instances_stopped_total";
    /// Role instances that are stopped until an operator acts.
    gauge INSTANCES_STOPPED_NOW = "accompanist_instances_stopped_now";
    /// Role instances that are open in the store, in memory or not.
    gauge INSTANCES_OPEN = "accompanist_instances_open";
    /// The age of the session that was started first, of those that are open here, by `choreography`; 0 if none is
    /// open. Channels of durable actors, which never end, do not count. Updated every ten seconds.
    gauge OLDEST_OPEN_AGE = "accompanist_oldest_open_age_seconds" in Seconds;
    /// Role instances closed, with a label `outcome` of `finished` or `compensated`.
    counter INSTANCES_CLOSED = "accompanist_instances_closed_total";
    /// Role instances that failed and were restarted.
    counter INSTANCES_RESTARTED = "accompanist_instances_restarted_total";
    /// Role instances that only waited and were passivated.
    counter INSTANCES_PASSIVATED = "accompanist_instances_passivated_total";
    /// Role instances that the node itself reactivated: after a start, at a time, or to resend something.
    counter INSTANCES_RETURNED = "accompanist_instances_returned_total";
    /// Role instances that are still open on nodes that drain.
    gauge DRAINING_INSTANCES = "accompanist_draining_instances";
    /// Instances whose journal has grown beyond `journal_records_warn`.
    counter LONG_JOURNALS = "accompanist_long_journals_total";
    /// Group commits.
    counter GROUP_COMMITS = "accompanist_group_commits_total";
    /// Writes of instances, many of which share a group commit.
    counter WRITES = "accompanist_writes_total";
    /// Writes in one group commit.
    histogram GROUP_COMMIT_WRITES = "accompanist_group_commit_writes";
    /// The time from when an instance hands a write to the writer until it is on disk, with a label `urgency`:
    /// something waits for an `urgent` one, and a `lazy` one is delayed to share a sync.
    histogram COMMIT_WAIT = "accompanist_commit_wait_seconds" in Seconds;
    /// The time that the store takes to sync a group commit.
    histogram SYNC = "accompanist_sync_seconds" in Seconds;
    /// The time from a message's arrival until it is on disk; 0 while too few messages arrive to measure it.
    gauge QUEUE_DELAY = "accompanist_queue_delay_seconds" in Seconds;
    /// Frames sent for the first time.
    counter FRAMES_SENT = "accompanist_frames_sent_total";
    /// Frames resent because no acknowledgement arrived in time.
    counter FRAMES_SENT_AGAIN = "accompanist_frames_sent_again_total";
    /// The time from when a frame is sent to another node until that node acknowledges it, which it does once the
    /// frame is on its disk. To the millisecond; frames that were probably lost are left out.
    histogram ACKNOWLEDGEMENT = "accompanist_acknowledgement_seconds" in Seconds;
    /// Messages that were resent although they counted as acknowledged, because their receivers lacked them.
    counter MESSAGES_SENT_ANEW = "accompanist_messages_sent_anew_total";
    /// Packets and frames that arrived and were dropped, with a label `reason`.
    counter DROPPED = "accompanist_dropped_total";
    /// Times that the connection to a peer was rebuilt because the peer received nothing; with a label `level` of
    /// `publisher` or `session`.
    counter HEALS = "accompanist_heals_total";
    /// Peers that are received but receive nothing from this node.
    gauge PEERS_DEAF = "accompanist_peers_deaf";
    /// Peers from which nothing is received.
    gauge PEERS_SILENT = "accompanist_peers_silent";
    /// Times that a peer went silent.
    counter PEERS_WENT_SILENT = "accompanist_peers_went_silent_total";
    /// Times that a silent peer was received again.
    counter PEERS_CAME_BACK = "accompanist_peers_came_back_total";
    /// Peers that have an older copy of their store, or that run twice.
    gauge PEERS_DISPUTED = "accompanist_peers_disputed";
    /// Advertisements of peers that have an older copy of their store, or that run twice.
    counter ADVERTISEMENTS_DISPUTED = "accompanist_advertisements_disputed_total";
    /// Dead letters.
    gauge DEAD_LETTERS = "accompanist_dead_letters";
    /// Dead letters that were discarded to make room for newer ones.
    counter DEAD_LETTERS_PUSHED_OUT = "accompanist_dead_letters_pushed_out_total";
    /// Tombstones of closed role instances that are kept.
    gauge TOMBSTONES = "accompanist_tombstones";
    /// Bytes of the tombstones that are kept, outputs included.
    gauge TOMBSTONE_BYTES = "accompanist_tombstone_bytes" in Bytes;
    /// Tombstones collected because their retention has ended.
    counter TOMBSTONES_COLLECTED = "accompanist_tombstones_collected_total";
    /// Times that more tombstones were kept than retention allows, all of them too young to be collected.
    counter RETENTION_HELD_BACK = "accompanist_retention_held_back_total";
    /// Messages that durable actors have handled, with a label `actor`.
    counter ACTOR_MESSAGES = "accompanist_actor_messages_total";
    /// Tells that durable actors have refused, with a label `actor`.
    counter ACTOR_REFUSALS = "accompanist_actor_refusals_total";
    /// The time from when a batch of messages arrives at a durable actor's node until the actor has handled it, with a
    /// label `actor`. Messages that wait at their senders' nodes, for earlier ones, have not arrived.
    histogram ACTOR_MAILBOX_WAIT = "accompanist_actor_mailbox_wait_seconds" in Seconds;
}

/// Describes all metrics, those of [`transport::metric`](crate::transport::metric) included, to the installed
/// recorder: what each counts, and its unit. A node that starts does so; call this for a recorder that is installed
/// later. May be repeated.
pub fn describe() {
    describe_own();
    accompanist_transport::metric::describe();
}

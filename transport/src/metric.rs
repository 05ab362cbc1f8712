//! The counters that every network of this crate updates, through the `metrics` facade.
//!
//! This module knows no exporter: an application installs one and may call [`describe`] after it. Next:
//! [`crate::LocalNetwork`] for the places where they are counted.

use metrics::{counter, describe_counter};
#[cfg(feature = "zenoh")]
use metrics::{describe_gauge, gauge};

/// Packets handed to the network. A packet that is sent need not arrive.
pub const PACKETS_SENT: &str = "accompanist_transport_packets_sent_total";
/// Packets that were passed to an inbox.
pub const PACKETS_RECEIVED: &str = "accompanist_transport_packets_received_total";
/// Packets dropped on this side of the network, by [`REASON`].
pub const PACKETS_DROPPED: &str = "accompanist_transport_packets_dropped_total";
/// Bytes of the packets sent.
pub const BYTES_SENT: &str = "accompanist_transport_bytes_sent_total";
/// Bytes of the packets received.
pub const BYTES_RECEIVED: &str = "accompanist_transport_bytes_received_total";
/// Sessions of the network that were closed and reopened while nodes were attached, by [`REASON`].
pub const SESSIONS_REOPENED: &str = "accompanist_transport_sessions_reopened_total";
/// Log lines of Zenoh that [`crate::ZenohLogFilter`] left out, since they repeat earlier lines.
#[cfg(feature = "zenoh")]
pub const LOG_LINES_LEFT_OUT: &str = "accompanist_transport_log_lines_left_out_total";
/// For how many seconds the certificate of this node is still valid.
#[cfg(feature = "zenoh")]
pub const CERTIFICATE_GOOD_FOR: &str = "accompanist_transport_certificate_good_for_seconds";
/// The label of [`PACKETS_DROPPED`] and [`SESSIONS_REOPENED`] that says why.
pub const REASON: &str = "reason";

/// The reason why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drop {
    /// The packet is larger than the network carries.
    Oversize,
    /// No node of that name is attached.
    Unreachable,
    /// The simulated network lost it.
    Fault,
    /// The queue of the sender thread is full.
    #[cfg(feature = "zenoh")]
    QueueFull,
    /// The network refused it, for example because it is closed.
    #[cfg(feature = "zenoh")]
    Refused,
    /// The packet's key names no node as its sender.
    #[cfg(feature = "zenoh")]
    NoSender,
}

impl Drop {
    const fn label(self) -> &'static str {
        match self {
            Self::Oversize => "oversize",
            Self::Unreachable => "unreachable",
            Self::Fault => "fault",
            #[cfg(feature = "zenoh")]
            Self::QueueFull => "queue_full",
            #[cfg(feature = "zenoh")]
            Self::Refused => "refused",
            #[cfg(feature = "zenoh")]
            Self::NoSender => "no_sender",
        }
    }
}

/// The reason why a session was closed and reopened.
#[cfg(feature = "zenoh")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reopening {
    /// The link asked for it: a peer receives nothing from this node.
    Asked,
    /// A connection is new at this end and old at the peer's, so nothing is received from the peer.
    NotHeard,
    /// The configuration or a certificate has changed.
    Files,
}

#[cfg(feature = "zenoh")]
impl Reopening {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::NotHeard => "peer_not_heard",
            Self::Files => "files_changed",
        }
    }
}

/// Describes the counters to the installed recorder.
pub fn describe() {
    describe_counter!(PACKETS_SENT, "packets handed to the network");
    describe_counter!(PACKETS_RECEIVED, "packets given to an inbox");
    describe_counter!(PACKETS_DROPPED, "packets dropped before they left or arrived, by reason");
    describe_counter!(SESSIONS_REOPENED, "network sessions closed and opened anew under attached nodes, by reason");
    #[cfg(feature = "zenoh")]
    describe_counter!(LOG_LINES_LEFT_OUT, "repeated log lines of zenoh that were left out");
    #[cfg(feature = "zenoh")]
    describe_gauge!(CERTIFICATE_GOOD_FOR, metrics::Unit::Seconds, "time until the node's certificate expires");
    describe_counter!(BYTES_SENT, metrics::Unit::Bytes, "bytes of the packets sent");
    describe_counter!(BYTES_RECEIVED, metrics::Unit::Bytes, "bytes of the packets received");
}

pub(crate) fn sent(bytes: usize) {
    counter!(PACKETS_SENT).increment(1);
    counter!(BYTES_SENT).increment(bytes as u64);
}

pub(crate) fn received(bytes: usize) {
    counter!(PACKETS_RECEIVED).increment(1);
    counter!(BYTES_RECEIVED).increment(bytes as u64);
}

pub(crate) fn dropped(reason: Drop) {
    counter!(PACKETS_DROPPED, REASON => reason.label()).increment(1);
}

#[cfg(feature = "zenoh")]
pub(crate) fn reopened(reason: Reopening) {
    counter!(SESSIONS_REOPENED, REASON => reason.label()).increment(1);
}

#[cfg(feature = "zenoh")]
pub(crate) fn certificate_good_for(time: std::time::Duration) {
    gauge!(CERTIFICATE_GOOD_FOR).set(time.as_secs_f64());
}

#[cfg(feature = "zenoh")]
pub(crate) fn log_line_left_out() {
    counter!(LOG_LINES_LEFT_OUT).increment(1);
}

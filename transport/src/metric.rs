//! The counters that every network of this crate keeps, through the `metrics` facade.
//!
//! Knows no exporter: an application installs one and may call [`describe`] after it.
//! Next: [`crate::LocalNetwork`] for the places where they are counted.

use metrics::{counter, describe_counter};

/// Packets handed to the network. Being sent does not mean having arrived.
pub const PACKETS_SENT: &str = "accompanist_transport_packets_sent_total";
/// Packets that were given to an inbox.
pub const PACKETS_RECEIVED: &str = "accompanist_transport_packets_received_total";
/// Packets dropped on this side of the network, by [`REASON`].
pub const PACKETS_DROPPED: &str = "accompanist_transport_packets_dropped_total";
/// Bytes of the packets sent.
pub const BYTES_SENT: &str = "accompanist_transport_bytes_sent_total";
/// Bytes of the packets received.
pub const BYTES_RECEIVED: &str = "accompanist_transport_bytes_received_total";
/// The label of [`PACKETS_DROPPED`] that says why.
pub const REASON: &str = "reason";

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drop {
    /// It is larger than the network carries.
    Oversize,
    /// Nobody of that name is attached.
    Unreachable,
    /// The simulated network lost it.
    Fault,
    /// The queue of the sender thread is full.
    #[cfg(feature = "zenoh")]
    QueueFull,
    /// The network refused it, for instance because it is closed.
    #[cfg(feature = "zenoh")]
    Refused,
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
        }
    }
}

/// Tells the installed recorder what the counters mean.
pub fn describe() {
    describe_counter!(PACKETS_SENT, "packets handed to the network");
    describe_counter!(PACKETS_RECEIVED, "packets given to an inbox");
    describe_counter!(PACKETS_DROPPED, "packets dropped before they left or arrived, by reason");
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

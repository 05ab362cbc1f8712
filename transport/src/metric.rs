//! The counters that every network of this crate updates, through the `metrics` facade.
//!
//! This module knows no exporter: an application installs one. A node that starts describes them to it; an application
//! that installs it later calls [`describe`]. Next: [`crate::LocalNetwork`] for the places where they are counted.

use metrics::counter;
#[cfg(feature = "zenoh")]
use metrics::gauge;

/// Makes, from one text each, the constants that name metrics and the function `describe_own` that describes them to
/// the installed recorder. A condition comes before the text.
#[doc(hidden)]
#[macro_export]
macro_rules! described_metrics {
    (@describe counter $($what:tt)*) => { ::metrics::describe_counter!($($what)*) };
    (@describe gauge $($what:tt)*) => { ::metrics::describe_gauge!($($what)*) };
    (@describe histogram $($what:tt)*) => { ::metrics::describe_histogram!($($what)*) };
    ($(
        $(#[cfg($($condition:tt)*)])?
        $(#[doc = $text:literal])+
        $kind:ident $constant:ident = $name:literal $(in $unit:ident)?;
    )+) => {
        $(
            $(#[cfg($($condition)*)])?
            $(#[doc = $text])+
            #[doc = ""]
            #[doc = concat!("A ", stringify!($kind), ".")]
            pub const $constant: &str = $name;
        )+

        fn describe_own() {
            $(
                $(#[cfg($($condition)*)])?
                $crate::described_metrics!(
                    @describe $kind $constant, $(::metrics::Unit::$unit,)? concat!($($text),+).trim_start()
                );
            )+
        }
    };
}

described_metrics! {
    /// Packets handed to the network. A packet that is sent need not arrive.
    counter PACKETS_SENT = "accompanist_transport_packets_sent_total";
    /// Packets that were passed to an inbox.
    counter PACKETS_RECEIVED = "accompanist_transport_packets_received_total";
    /// Packets dropped on this side of the network, by `reason`.
    counter PACKETS_DROPPED = "accompanist_transport_packets_dropped_total";
    /// Bytes of the packets sent.
    counter BYTES_SENT = "accompanist_transport_bytes_sent_total" in Bytes;
    /// Bytes of the packets received.
    counter BYTES_RECEIVED = "accompanist_transport_bytes_received_total" in Bytes;
    /// Sessions of the network that were closed and reopened while nodes were attached, by `reason`.
    counter SESSIONS_REOPENED = "accompanist_transport_sessions_reopened_total";
    #[cfg(feature = "zenoh")]
    /// Log lines of Zenoh that `ZenohLogFilter` left out, since they repeat earlier lines.
    counter LOG_LINES_LEFT_OUT = "accompanist_transport_log_lines_left_out_total";
    #[cfg(feature = "zenoh")]
    /// For how many seconds the certificate of this node is still valid.
    gauge CERTIFICATE_GOOD_FOR = "accompanist_transport_certificate_good_for_seconds" in Seconds;
}

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

/// Describes the metrics of networks to the installed recorder. May be repeated.
pub fn describe() {
    describe_own();
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

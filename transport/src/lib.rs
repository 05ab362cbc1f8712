//! The wires of Accompanist: networks to which a node can be attached.
//!
//! All of them implement [`Transport`](accompanist_core::contract::Transport), which promises little: a packet may be
//! lost, duplicated, reordered or delayed. Making delivery reliable is the link's work.
//!
//! | network | for |
//! |---|---|
//! | [`ZenohTransport`] (feature `zenoh`, on by default) | real deployments |
//! | [`LocalNetwork`] | several nodes in one process, with no fault at all |
//! | [`FaultyNetwork`] | tests and simulations: every fault, derived from one seed |
//!
//! This crate must not know frames, actors or stores. Next: [`LocalNetwork`], the smallest of the three.

// On docs.rs each item says which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod faulty;
mod local;
#[cfg(feature = "zenoh")]
mod log;
pub mod metric;
mod registry;
#[cfg(feature = "zenoh")]
mod zenoh;

pub use faulty::{Counts, Deafness, Faults, FaultyNetwork};
pub use local::LocalNetwork;

#[cfg(feature = "zenoh")]
pub use self::log::ZenohLogFilter;
#[cfg(feature = "zenoh")]
pub use self::zenoh::{
    CA_FILE, CERTIFICATE_FILE, KEY_FILE, ZenohAccess, ZenohAdmin, ZenohConfig, ZenohMode, ZenohTransport, probe,
};

/// The largest packet, in bytes, that a network carries unless configured otherwise: 1 MiB.
pub const PACKET_BYTES_MAX_DEFAULT: usize = 1 << 20;

/// The namespace of a `ZenohConfig` that is given none.
pub const ZENOH_NAMESPACE_DEFAULT: &str = "accompanist";

/// The least number of bytes that `ZenohConfig::packet_bytes_max` may be.
pub const ZENOH_PACKET_BYTES_LEAST: usize = 1024;

/// The greatest number of bytes that `ZenohConfig::packet_bytes_max` may be, which is Zenoh's own limit: 1 GiB.
pub const ZENOH_PACKET_BYTES_GREATEST: usize = 1 << 30;

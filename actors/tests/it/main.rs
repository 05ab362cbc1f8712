//! The runtime as a whole: nodes, faults, and what survives them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "tests"
)]

mod actor;
mod actor_worlds;
#[cfg(feature = "zenoh")]
mod actor_zenoh;
mod asked;
mod bounds;
mod canary;
mod capabilities;
mod changed_types;
mod changes;
mod channels;
mod config;
mod configured;
mod damage;
mod damaged_store;
mod deaf;
mod delivery;
#[cfg(feature = "zenoh")]
mod deploy;
#[cfg(feature = "encryption")]
mod encrypted;
mod errors;
mod every_byte_of_a_store;
mod evolution;
mod failing;
mod families;
mod forgotten;
mod gone_store;
mod grace;
mod groups;
mod health;
#[cfg(target_os = "linux")]
mod leaks;
mod letters;
mod log;
mod long;
mod loss;
mod members;
mod metrics;
mod node;
mod opening;
mod overload;
mod panics;
mod passivation;
mod paused;
mod pins;
mod quiet;
mod releases;
mod replicas;
mod restores;
mod results;
mod retention;
mod rogue;
mod rolling;
mod saga;
mod sealed;
mod sent_anew;
mod simulation;
mod state;
mod stopping;
mod stores;
mod stranger;
mod supervision;
mod support;
mod torn;
mod trade;
mod tree;
mod trouble;
mod twice;
mod twins;
mod unusable;
mod upgrade;
mod values;
mod ways;
mod worlds;
#[cfg(feature = "zenoh")]
mod zenoh;

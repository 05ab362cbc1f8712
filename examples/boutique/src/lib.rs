//! Online Boutique: an order over seven roles, each a sidecar beside a service with the original's gRPC interface.
//!
//! [`program`] has the choreography and the same order with one role in the middle, [`steps`] what the sidecars ask of
//! the services, [`services`] the services themselves, [`orchestrator`] the original's way: one place that calls all of
//! them.

pub mod call;
pub mod check;
pub mod messages;
pub mod money;
pub mod orchestrator;
pub mod program;
pub mod sample;
pub mod services;
pub mod steps;

/// The interface of Online Boutique's services, from `proto/hipstershop.proto` by `generate/`.
#[allow(missing_docs, clippy::pedantic, reason = "generated")]
pub mod hipstershop {
    include!("generated/hipstershop.rs");
}

/// What ours offer besides, from `proto/reversal.proto` by `generate/`.
#[allow(missing_docs, clippy::pedantic, reason = "generated")]
pub mod reversal {
    include!("generated/accompanist.boutique.rs");
}

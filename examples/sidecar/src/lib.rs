//! A choreography beside an orchestrator, and sidecars beside services that know nothing of either.
//!
//! The shop has services with a plain HTTP interface ([`service`]) and an orchestrator ([`office`]). One part of its
//! order workflow, the delivery, has become a choreography ([`program`]), whose roles are sidecars: clients of the
//! services. The office starts it as a step ([`door`]); and one of its own steps is a workflow of the office. An
//! idempotency key crosses the border each time.

pub mod api;
pub mod check;
pub mod door;
pub mod model;
pub mod office;
pub mod program;
pub mod service;

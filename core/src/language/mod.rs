//! The choreography language: the program that users write, and the operations it calls.
//!
//! Next: `engine`, through which the operations reach the machine of their role.

pub(crate) mod call;
pub(crate) mod choreography;
pub(crate) mod context;
pub(crate) mod engine;
pub(crate) mod family;
pub(crate) mod group;
pub(crate) mod loop_state;
pub(crate) mod value_of;

//! Drivers: they poll a role's program and give its machine turns.
//!
//! `role_instance` is one role's part of a session; `local` runs all roles of a session in one process. The runtime
//! and the tests are drivers, too.

pub(crate) mod local;
#[cfg(feature = "testing")]
pub(crate) mod requests;
pub mod role_instance;

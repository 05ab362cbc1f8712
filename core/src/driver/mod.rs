//! Drivers: they poll a role's program and give its machine turns.
//!
//! `role_instance` is one role's part of a session; `role_driver` carries out its effects by hand, for `local`, which
//! runs all roles of a session in one process, and for tests. The runtime's actors are drivers, too.

pub(crate) mod local;
#[cfg(feature = "testing")]
pub(crate) mod requests;
pub mod role_driver;
pub mod role_instance;

pub use role_driver::RoleDriver;

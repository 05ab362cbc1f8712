//! What everything else is made of: identities, roles, values at roles, values as bytes, aborts.
//!
//! These modules know no store, no network and no protocol.

#[doc(hidden)]
pub mod error_text;
pub mod id;
pub mod message;
pub mod panics;

pub(crate) mod abort;
pub(crate) mod known;
pub(crate) mod located;
pub(crate) mod name;
pub(crate) mod role;
pub(crate) mod role_names;
pub(crate) mod uses;
mod value;

//! The interfaces that the protocol requires: a store, a transport, a clock and random numbers.
//!
//! The implementations live in other crates, so that a simulator can replace each of them. The contracts know bytes
//! and ids, never choreographies.

mod calls;
mod environment;
mod range;
mod store;
mod transport;

pub use calls::{CallEnd, CallKind, CallObserver, ObservedCall, StepCall};
pub use environment::Environment;
pub use range::{ByteBounds, Direction, KeyRange};
pub(crate) use store::unstorable;
pub use store::{Batch, Change, Entry, KEY_BYTES_MAX, Space, Store, StoreError, VALUE_BYTES_MAX};
pub use transport::{AdminAccess, AdminCall, BoxFuture, Exposure, Heal, Inbox, Transport, TransportError, Wire};

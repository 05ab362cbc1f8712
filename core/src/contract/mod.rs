//! What the protocol asks of the world: a store, a transport, a clock and chance.
//!
//! The implementations live in other crates, so that a simulator can take the place of each. The contracts
//! know bytes and ids, never choreographies.

mod environment;
mod range;
mod store;
mod transport;

pub use environment::Environment;
pub use range::{ByteBounds, Direction, KeyRange};
pub use store::{Batch, Change, Entry, Space, Store, StoreError};
pub use transport::{BoxFuture, Heal, Inbox, Transport, TransportError, Wire};

//! Machines that are broken on purpose: the model has to find each.
//!
//! They are broken around the machine, not in it. Where the fault itself is watched, it is found at once; with that
//! left out, what comes of it is.

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A frame is acknowledged when it arrives.
    AckBeforeSync,
    /// Who has closed forgets the session altogether.
    NoTombstone,
    /// A message that comes twice is taken for the next one.
    NoDedup,
    /// A service that does not go by the idempotency key.
    DeafService,
    /// The intent of a step is not written.
    LostIntent,
    /// What is written is said to be durable before it is.
    SyncedTooEarly,
    /// That the session is being closed is not written.
    LostClosing,
}

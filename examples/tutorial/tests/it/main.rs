//! What the chapters say is what happens.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod chapters;
#[cfg(feature = "zenoh")]
mod crash_it;
mod test_it;

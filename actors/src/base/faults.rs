//! Faults that tests inject into a node, where no service, store or transport could cause them. Knows frames, no
//! worlds. Next: `testing/faults.rs`.

use std::sync::Arc;

use accompanist_core::frame::Frame;

/// One of a node's own actors, for [`Node::panic_in`](crate::Node::panic_in).
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeActor {
    /// The root of the tree.
    Root,
    /// The link.
    Link,
    /// The supervisor of the instances.
    Roles,
}

/// Panics.
#[expect(clippy::panic, reason = "that is what it is for")]
pub(crate) fn as_ordered() -> ! {
    panic!("as the test has ordered")
}

/// Chooses frames that a node's instances treat as acknowledged though they were never sent: as after a forged
/// acknowledgement, or after one from a store that has been rolled back since.
pub(crate) struct Forgetting {
    random: fastrand::Rng,
    left: u32,
    /// Told of each of these frames.
    forgot: Arc<dyn Fn(&Frame) + Send + Sync>,
}

impl Forgetting {
    pub(crate) fn new(seed: u64, frames_max: u32, forgot: Arc<dyn Fn(&Frame) + Send + Sync>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Self { left: random.u32(0..=frames_max), random, forgot }
    }

    /// Whether this frame is one of them.
    pub(crate) fn strikes(&mut self, frame: &Frame) -> bool {
        let strikes = self.left > 0 && self.random.u8(0..6) == 0;
        if strikes {
            self.left -= 1;
            (self.forgot)(frame);
        }
        strikes
    }
}

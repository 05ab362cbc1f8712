//! Faults that are put into a node on purpose, where no service, store or transport could bring them about.

/// An actor of a node's own, for [`Node::panic_in`](crate::Node::panic_in).
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

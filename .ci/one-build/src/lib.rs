//! Nothing: the manifest of this crate is what counts.

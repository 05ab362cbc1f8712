//! Time and random numbers, provided from outside so that a simulation can draw both from its seed.

/// The source of a node's time and random numbers.
pub trait Environment: Send + Sync + 'static {
    /// The wall-clock time, in milliseconds since the Unix epoch. The clock may jump.
    fn unix_ms(&self) -> u64;

    /// The time since an arbitrary moment, in milliseconds. The clock never goes back.
    fn monotonic_ms(&self) -> u64;

    /// Returns 64 random bits.
    fn random(&self) -> u64;

    /// Returns 128 random bits, from two calls of [`Environment::random`].
    fn random_u128(&self) -> u128 {
        let high = u128::from(self.random());
        (high << 64) | u128::from(self.random())
    }
}

//! Time and chance, from outside, so that a simulation draws both from its seed.

/// Where a node takes the time and its random numbers from.
pub trait Environment: Send + Sync + 'static {
    /// Wall-clock time, in milliseconds since the Unix epoch. May jump.
    fn unix_ms(&self) -> u64;

    /// Time since an arbitrary moment, in milliseconds. Never goes back.
    fn monotonic_ms(&self) -> u64;

    /// 64 random bits.
    fn random(&self) -> u64;

    /// 128 random bits, of two times [`Environment::random`].
    fn random_u128(&self) -> u128 {
        let high = u128::from(self.random());
        (high << 64) | u128::from(self.random())
    }
}

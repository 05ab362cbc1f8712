//! The part of a gauge that one owner contributes.

use metrics::gauge;

/// One owner's share of a gauge. It is set by differences and given back when it is dropped, so that the shares of all
/// instances, and of all nodes in one process, add up.
#[derive(Debug)]
pub(crate) struct GaugeShare {
    name: &'static str,
    value: usize,
}

impl GaugeShare {
    /// Creates a share of 0.
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, value: 0 }
    }

    pub(crate) const fn value(&self) -> usize {
        self.value
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge's numbers are floating, and exact up to 2^53")]
    pub(crate) fn set(&mut self, value: usize) {
        let before = std::mem::replace(&mut self.value, value);
        if before != value {
            gauge!(self.name).increment(value as f64 - before as f64);
        }
    }
}

impl Drop for GaugeShare {
    fn drop(&mut self) {
        self.set(0);
    }
}

//! Who is how far from whom.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A delay of the way between two, in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Layout {
    /// The same between any two.
    Even { delay_ms: u64 },
    /// Two and two stand together, with no delay between them: client and first, second and third, fourth and fifth.
    Zones { delay_ms: u64 },
}

impl Layout {
    /// Between the two at these places of the chain, of which the client is the first.
    pub(crate) fn delay(self, one: usize, other: usize) -> Duration {
        let delay_ms = match self {
            Self::Zones { .. } if one / 2 == other / 2 => 0,
            Self::Even { delay_ms } | Self::Zones { delay_ms } => delay_ms,
        };
        Duration::from_millis(delay_ms)
    }

    /// What the ways of a chain of so many services add up to.
    pub(crate) fn of_chain(self, services: usize) -> Duration {
        (0..services).map(|place| self.delay(place, place + 1)).sum::<Duration>() + self.delay(services, 0)
    }

    /// The same when each answers the client, which asks the next.
    pub(crate) fn of_coordinator(self, services: usize) -> Duration {
        (1..=services).map(|place| 2 * self.delay(0, place)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_goes_every_way_twice() {
        let (even, zones) = (Layout::Even { delay_ms: 5 }, Layout::Zones { delay_ms: 5 });
        let ms = Duration::from_millis;
        assert_eq!((even.of_chain(1), even.of_coordinator(1)), (ms(10), ms(10)));
        assert_eq!((even.of_chain(5), even.of_coordinator(5)), (ms(30), ms(50)));
        assert_eq!((zones.of_chain(5), zones.of_coordinator(5)), (ms(15), ms(40)));
        assert_eq!(zones.of_chain(1), ms(0), "they stand together");
    }
}

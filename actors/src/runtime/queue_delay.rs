//! Measures how long a frame that arrives at this node takes until it is on disk: the time that it waits for the
//! link, for its instance and for the writer. While that is too long, new sessions are refused, here and at all nodes
//! that are informed of it.
//!
//! One frame in some milliseconds is timed. The delay is the time that three of four of the last frames took at least
//! until they were acknowledged: this measures a standing queue, not a single late frame (RFC 8289 uses the least
//! time in an interval for the same reason). Under a flood this would be too late, so frames that have not reached an
//! instance yet count as well. A frame that has reached its instance and is unacknowledged does not count: it may
//! stay so for ever. Pure: time is an argument.

use std::collections::{BTreeMap, VecDeque};

use accompanist_core::frame::Receipt;
use accompanist_core::id::InstanceId;

/// The pause between two frames that are timed.
const PAUSE_MS: u64 = 8;
/// The most frames that are timed at once.
const TIMED_MAX: usize = 64;
/// The number of measurements that are evaluated; fewer are not conclusive.
const TIMES: usize = 16;
/// The age at which a measurement says nothing about the present any more.
const AGE_MAX_MS: u64 = 1_000;
/// How many frames may wait longer for an instance for another reason than a queue.
const STRAYS: usize = 3;
/// The time after which a frame that reaches no instance counts as lost with its actor; it will be resent.
const WAITS_MAX_MS: u64 = 5_000;
/// The time after which an unacknowledged frame is no longer timed: it cannot be handled here.
const TAKES_MAX_MS: u64 = 30_000;

/// An arrival that is timed until it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Arrival {
    Frame(Receipt),
    /// A session is started here.
    Start(InstanceId),
}

#[derive(Clone, Copy)]
struct Timed {
    arrived_ms: u64,
    /// Whether it has reached its instance, which may not be able to go on with it. A start always can.
    is_taken: bool,
}

/// The queue delay of a node; see the module's documentation.
#[derive(Default)]
pub(crate) struct QueueDelay {
    timed: BTreeMap<Arrival, Timed>,
    next_ms: u64,
    /// When each frame was acknowledged, and how long that took.
    times: VecDeque<(u64, u64)>,
}

impl QueueDelay {
    pub(crate) fn arrived(&mut self, arrival: Arrival, arrived_ms: u64, now_ms: u64) {
        if now_ms < self.next_ms {
            return;
        }
        self.next_ms = now_ms.saturating_add(PAUSE_MS);
        if self.timed.len() >= TIMED_MAX {
            self.timed.retain(|_, timed| now_ms.saturating_sub(timed.arrived_ms) < TAKES_MAX_MS);
        }
        if self.timed.len() < TIMED_MAX {
            self.timed.entry(arrival).or_insert(Timed { arrived_ms, is_taken: false });
        }
    }

    /// Stops timing a start: its caller no longer waits.
    pub(crate) fn end_start(&mut self, id: InstanceId) {
        self.timed.remove(&Arrival::Start(id));
    }

    /// Notes that an arrival has reached its instance, or was found to have no receiver.
    pub(crate) fn taken(&mut self, arrival: &Arrival) {
        if let Some(timed) = self.timed.get_mut(arrival) {
            timed.is_taken = true;
        }
    }

    /// Notes that an arrival is on disk.
    pub(crate) fn stored(&mut self, arrival: &Arrival, now_ms: u64) {
        let Some(timed) = self.timed.remove(arrival) else { return };
        if self.times.len() >= TIMES {
            self.times.pop_front();
        }
        self.times.push_back((now_ms, now_ms.saturating_sub(timed.arrived_ms)));
    }

    /// Returns the delay in milliseconds; 0 while too few frames arrive to measure it.
    pub(crate) fn ms(&self, now_ms: u64) -> u64 {
        self.least_ms(now_ms).max(self.waiting_ms(now_ms))
    }

    /// Returns the time that three of four frames took at least.
    fn least_ms(&self, now_ms: u64) -> u64 {
        let is_recent = |acknowledged_ms: u64| now_ms.saturating_sub(acknowledged_ms) <= AGE_MAX_MS;
        let recent = self.times.iter().filter(|(acknowledged_ms, _)| is_recent(*acknowledged_ms));
        let mut times: Vec<u64> = recent.map(|(_, took_ms)| *took_ms).collect();
        if times.len() < TIMES { 0 } else { *times.select_nth_unstable(TIMES / 4).1 }
    }

    /// Returns how long the frames that have not reached an instance have waited, except for a few.
    fn waiting_ms(&self, now_ms: u64) -> u64 {
        let waiting = self.timed.values().filter(|timed| !timed.is_taken);
        let ages = waiting.map(|timed| now_ms.saturating_sub(timed.arrived_ms));
        let mut ages: Vec<u64> = ages.filter(|age_ms| *age_ms < WAITS_MAX_MS).collect();
        ages.sort_unstable_by(|one, other| other.cmp(one));
        ages.get(STRAYS).copied().unwrap_or_default()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use accompanist_core::NodeId;
    use accompanist_core::frame::Epoch;

    use super::*;

    fn arrival(number: u64) -> Arrival {
        Arrival::Frame(Receipt { to: NodeId::new("peer").unwrap(), epoch: Epoch(1), number })
    }

    /// Lets one frame arrive in each millisecond from `from_ms` on, reach its instance at once, and be acknowledged
    /// after the time that `times_ms` gives for it.
    fn run(delay: &mut QueueDelay, from_ms: u64, times_ms: impl Fn(u64) -> u64) {
        let arrivals = from_ms..from_ms + 1_000;
        let mut events: Vec<_> = arrivals.clone().map(|at_ms| (at_ms, true, at_ms)).collect();
        events.extend(arrivals.map(|at_ms| (at_ms + times_ms(at_ms), false, at_ms)));
        events.sort_unstable();
        for (now_ms, arrives, number) in events {
            let arrival = arrival(number);
            if arrives {
                delay.arrived(arrival.clone(), now_ms, now_ms);
                delay.taken(&arrival);
            } else {
                delay.stored(&arrival, now_ms);
            }
        }
    }

    #[test]
    fn a_queue_that_stands_is_seen_and_one_hesitation_is_not() {
        let mut delay = QueueDelay::default();
        assert_eq!(delay.ms(0), 0);
        run(&mut delay, 0, |_| 5);
        assert_eq!(delay.ms(1_000), 5);
        run(&mut delay, 2_000, |at_ms| if (2_990..2_999).contains(&at_ms) { 200 } else { 5 });
        assert_eq!(delay.ms(3_200), 5, "two of sixteen");
        run(&mut delay, 4_000, |_| 400);
        assert_eq!(delay.ms(5_400), 400);
        assert_eq!(delay.ms(5_400 + 2 * AGE_MAX_MS), 0, "nothing arrives any more");
    }

    #[test]
    fn frames_count_from_their_arrival_on_while_more_than_three_wait() {
        let mut delay = QueueDelay::default();
        for number in 0..20 {
            delay.arrived(arrival(number), number * PAUSE_MS, number * PAUSE_MS);
        }
        assert_eq!(delay.ms(200), 200 - 3 * PAUSE_MS, "but for three");
        for number in 0..17 {
            delay.taken(&arrival(number));
        }
        assert_eq!(delay.ms(10_000), 0, "three are left");
    }

    #[test]
    fn frames_that_are_taken_and_never_stored_do_not_count() {
        let mut delay = QueueDelay::default();
        for number in 0..TIMED_MAX as u64 {
            delay.arrived(arrival(number), number * PAUSE_MS, number * PAUSE_MS);
            delay.taken(&arrival(number));
        }
        assert_eq!(delay.ms(TAKES_MAX_MS), 0);
        run(&mut delay, TAKES_MAX_MS + 1_000, |_| 7);
        assert_eq!(delay.ms(TAKES_MAX_MS + 2_000), 7);
    }
}

//! What is known of each order, and how long it took, with and without a process down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use warehouse::{Order, Outcome, Placed};

/// The longest latency that is told apart, in microseconds.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Open orders that are named when the system is stopped.
const OPEN_NAMED_MAX: usize = 10;

/// When a process was down. An outage is over once an order that was placed after the restart has settled: only that
/// shows that all is well again.
#[derive(Debug, Default)]
pub(super) struct Outages(Mutex<Vec<Outage>>);

#[derive(Debug)]
struct Outage {
    down: Instant,
    ready: Option<Instant>,
    over: Option<Instant>,
}

impl Outages {
    /// A process is about to be killed.
    pub(super) fn down(&self) {
        self.lock().push(Outage { down: Instant::now(), ready: None, over: None });
    }

    /// The process is up again.
    pub(super) fn ready(&self) {
        if let Some(outage) = self.lock().last_mut() {
            outage.ready = Some(Instant::now());
        }
    }

    /// Whether an order that was placed at `placed` and has settled now met an outage.
    fn met(&self, placed: Instant) -> bool {
        let (now, mut met) = (Instant::now(), false);
        for outage in self.lock().iter_mut() {
            met |= outage.over.is_none_or(|over| over >= placed) && outage.down <= now;
            if outage.over.is_none() && outage.ready.is_some_and(|ready| ready <= placed) {
                outage.over = Some(now);
            }
        }
        met
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Outage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An order on its way.
struct Open {
    order: Order,
    placed: Instant,
    accepted: Option<Duration>,
    output: Option<Duration>,
}

/// Latencies of orders from placing them, in microseconds.
pub(super) struct Latencies {
    /// Until the order is on the warehouse's disk.
    pub(super) accepted: Histogram<u64>,
    /// Until its output.
    pub(super) output: Histogram<u64>,
    /// Until its session is closed at all roles.
    pub(super) settled: Histogram<u64>,
}

impl Latencies {
    fn new() -> anyhow::Result<Self> {
        let histogram = || Histogram::new_with_max(LATENCY_US_MAX, 3);
        Ok(Self { accepted: histogram()?, output: histogram()?, settled: histogram()? })
    }

    /// What no answer has told is known to have happened when the order has settled.
    fn record(&mut self, open: &Open) {
        let settled = open.placed.elapsed();
        let output = open.output.unwrap_or(settled);
        let accepted = open.accepted.unwrap_or(output);
        for (histogram, took) in
            [(&mut self.accepted, accepted), (&mut self.output, output), (&mut self.settled, settled)]
        {
            histogram.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }
}

/// All orders of a run.
pub(super) struct Tracker {
    waiting: std::vec::IntoIter<Order>,
    open: BTreeMap<String, Open>,
    placed: BTreeMap<String, Placed>,
    settled: u64,
    in_flight_max: usize,
    outages: Arc<Outages>,
    reset_after: Latencies,
    disturbed: Latencies,
}

impl Tracker {
    pub(super) fn new(orders: Vec<Order>, in_flight_max: usize, outages: Arc<Outages>) -> anyhow::Result<Self> {
        let placed = orders
            .iter()
            .map(|order| (order.id.clone(), Placed { expected: order.expected_outcome(), answered: None }));
        Ok(Self {
            placed: placed.collect(),
            waiting: orders.into_iter(),
            open: BTreeMap::new(),
            settled: 0,
            in_flight_max,
            outages,
            reset_after: Latencies::new()?,
            disturbed: Latencies::new()?,
        })
    }

    /// The next order to place, which is open from now on; `None` when enough are.
    pub(super) fn next_order(&mut self) -> Option<Order> {
        if self.open.len() >= self.in_flight_max {
            return None;
        }
        let order = self.waiting.next()?;
        let open = Open { order: order.clone(), placed: Instant::now(), accepted: None, output: None };
        self.open.insert(order.id.clone(), open);
        Some(order)
    }

    /// The orders without a settled answer.
    pub(super) fn open_orders(&self) -> Vec<Order> {
        self.open.values().map(|open| open.order.clone()).collect()
    }

    /// An order is on the warehouse's disk.
    pub(super) fn accepted(&mut self, id: &str) {
        if let Some(open) = self.open.get_mut(id) {
            open.accepted.get_or_insert(open.placed.elapsed());
        }
    }

    /// An order's output has come.
    pub(super) fn output(&mut self, id: &str) {
        if let Some(open) = self.open.get_mut(id) {
            open.output.get_or_insert(open.placed.elapsed());
        }
    }

    /// An order has settled; gives how many have. A second time changes nothing.
    pub(super) fn settled(&mut self, id: &str, outcome: Outcome) -> u64 {
        if let Some(open) = self.open.remove(id) {
            self.settled += 1;
            let met = self.outages.met(open.placed);
            let latencies = if met { &mut self.disturbed } else { &mut self.reset_after };
            latencies.record(&open);
            if let Some(placed) = self.placed.get_mut(id) {
                placed.answered = Some(outcome);
            }
        }
        self.settled
    }

    pub(super) fn all_settled(&self) -> bool {
        self.settled == self.placed.len() as u64
    }

    /// Names some of the open orders.
    pub(super) fn describe_open(&self) -> String {
        let named = self.open.keys().take(OPEN_NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
        format!("{} orders, among them {named}", self.open.len())
    }

    /// All orders, with their answers.
    pub(super) fn placed(&self) -> &BTreeMap<String, Placed> {
        &self.placed
    }

    /// Of orders that met no outage, and of the others.
    pub(super) fn latencies(&self) -> (&Latencies, &Latencies) {
        (&self.reset_after, &self.disturbed)
    }
}

//! Places orders, follows each to its end, and asks again after every crash of the shop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::audit::Told;
use crate::fleet::Desk;
use crate::model::{Order, Outcome};
use crate::wire::{Answer, Command};

/// The longest time without the end of any order.
const STALL_MAX: Duration = Duration::from_mins(3);
/// Open orders that are named when the system is stopped.
const OPEN_NAMED_MAX: usize = 10;

/// How many orders, and how fast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// At most so many.
    pub(crate) orders_max: u32,
    /// At most so many at the same time.
    pub(crate) in_flight_max: usize,
    /// At most so many in a second.
    pub(crate) per_second: u32,
}

/// All orders, and what was said of them.
pub(crate) struct Source {
    desk: Arc<Desk>,
    answers: mpsc::Receiver<Answer>,
    random: fastrand::Rng,
    placed: u32,
    open: BTreeSet<String>,
    /// When an order ended last, or none was open.
    progress: Instant,
    /// The longest time in which orders were open and none ended.
    pub(crate) standstill: Duration,
    pub(crate) told: BTreeMap<String, Told>,
}

impl Source {
    pub(crate) fn new(desk: Arc<Desk>, answers: mpsc::Receiver<Answer>, random: fastrand::Rng) -> Self {
        Self {
            desk,
            answers,
            random,
            placed: 0,
            open: BTreeSet::new(),
            progress: Instant::now(),
            standstill: Duration::ZERO,
            told: BTreeMap::new(),
        }
    }

    /// Places orders until there are enough or `enough` says so, and waits until all have ended.
    pub(crate) async fn place(&mut self, pace: Pace, enough: &watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut tick = interval(Duration::from_secs(1) / pace.per_second.max(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lives = self.desk.lives();
        self.note_progress();
        loop {
            let is_enough = *enough.borrow() || self.placed >= pace.orders_max;
            if is_enough && self.open.is_empty() {
                return Ok(());
            }
            let deadline = self.progress + STALL_MAX;
            tokio::select! {
                answer = timeout_at(deadline, self.answers.recv()) => {
                    self.note_progress();
                    let Ok(Some(answer)) = answer else {
                        bail!("no order has ended for {STALL_MAX:?}; open are {}", self.describe_open())
                    };
                    self.take(answer)?;
                }
                Ok(()) = lives.changed() => self.say_open_again().await,
                _ = tick.tick() => {
                    if !is_enough && self.open.len() < pace.in_flight_max {
                        self.placed += 1;
                        let order = Order::draw(self.placed, &mut self.random);
                        self.say(order).await;
                    }
                    if self.open.is_empty() {
                        self.note_progress();
                    }
                }
            }
        }
    }

    /// From here on the time without progress counts anew.
    fn note_progress(&mut self) {
        self.standstill = self.standstill.max(self.progress.elapsed());
        self.progress = Instant::now();
    }

    /// Asks what became of each order once more, and waits for all the answers.
    pub(crate) async fn ask_again(&mut self, pace: Pace) -> anyhow::Result<()> {
        let ids: Vec<_> = self.told.keys().cloned().collect();
        for some in ids.chunks(pace.in_flight_max) {
            for id in some {
                if let Some(order) = self.told.get(id).map(|told| told.order.clone()) {
                    self.say(order).await;
                }
            }
            while !self.open.is_empty() {
                let deadline = Instant::now() + STALL_MAX;
                match timeout_at(deadline, self.answers.recv()).await {
                    Ok(Some(answer)) => self.take(answer)?,
                    _ => bail!("the shop does not say again how orders have ended: {}", self.describe_open()),
                }
            }
        }
        Ok(())
    }

    async fn say(&mut self, order: Order) {
        self.open.insert(order.id.clone());
        let told = || Told { order: order.clone(), outcomes: Vec::new() };
        self.told.entry(order.id.clone()).or_insert_with(told);
        self.desk.say(&Command::Place(order)).await;
    }

    async fn say_open_again(&mut self) {
        for id in &self.open {
            if let Some(told) = self.told.get(id) {
                self.desk.say(&Command::Place(told.order.clone())).await;
            }
        }
    }

    fn take(&mut self, answer: Answer) -> anyhow::Result<()> {
        match answer {
            Answer::Settled { id, outcome } => {
                self.open.remove(&id);
                match self.told.get_mut(&id) {
                    Some(told) => told.outcomes.push(outcome),
                    None => bail!("the shop says that {id} ended, which was never placed"),
                }
            }
            Answer::Failed { id, reason } => bail!("{id} is stopped: {reason}"),
            Answer::Ready | Answer::Report { .. } => {}
        }
        Ok(())
    }

    /// How many orders ended so.
    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        self.told.values().filter(|told| told.outcomes.first() == Some(&outcome)).count()
    }

    fn describe_open(&self) -> String {
        let named = self.open.iter().take(OPEN_NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
        format!("{} orders, among them {named}", self.open.len())
    }
}

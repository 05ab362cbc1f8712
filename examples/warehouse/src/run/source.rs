//! The order source: outside of the system, it places orders and survives the warehouse being killed.
//!
//! It knows one rule: an order without a settled answer is placed again after a reconnect, under the same id.

use std::io;
use std::time::Duration;

use anyhow::bail;
use indicatif::ProgressBar;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::tracker::Tracker;
use crate::client::Client;
use crate::wire::Answer;

/// The pause before the next try to reach the warehouse.
const RECONNECT_DELAY: Duration = Duration::from_millis(20);

/// Places the orders of a tracker and follows them until all are settled.
pub(super) struct Source<'a> {
    pub(super) desk: &'a str,
    pub(super) tracker: &'a mut Tracker,
    /// How many orders have settled, for those who wait for it.
    pub(super) settled: &'a watch::Sender<u64>,
    pub(super) bar: &'a ProgressBar,
    /// The longest time without any order settling.
    pub(super) stall_max: Duration,
}

/// Why a connection is of no more use.
enum Broken {
    Connection,
    Order { id: String, reason: String },
    Stalled,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Connection
    }
}

impl Source<'_> {
    pub(super) async fn place_all(mut self) -> anyhow::Result<()> {
        let mut deadline = Instant::now() + self.stall_max;
        while !self.tracker.all_settled() {
            match self.connected(&mut deadline).await {
                Ok(()) => {}
                // The warehouse is down, or was.
                Err(Broken::Connection) if Instant::now() < deadline => sleep(RECONNECT_DELAY).await,
                Err(Broken::Order { id, reason }) => bail!("order `{id}` is stopped: {reason}"),
                Err(Broken::Connection | Broken::Stalled) => {
                    let (waited, open) = (self.stall_max, self.tracker.describe_open());
                    bail!("no order has settled for {waited:?}; open are {open}")
                }
            }
        }
        Ok(())
    }

    /// Places orders and takes answers for as long as the connection lasts.
    async fn connected(&mut self, deadline: &mut Instant) -> Result<(), Broken> {
        let mut client = Client::connect(self.desk).await?;
        for order in self.tracker.open_orders() {
            client.place(&order).await?;
        }
        while !self.tracker.all_settled() {
            while let Some(order) = self.tracker.next_order() {
                client.place(&order).await?;
            }
            match timeout_at(*deadline, client.answer()).await.map_err(|_| Broken::Stalled)?? {
                Answer::Accepted { id } => self.tracker.accepted(&id),
                Answer::Output { id, .. } => self.tracker.output(&id),
                Answer::Settled { id, outcome } => {
                    let count = self.tracker.settled(&id, outcome);
                    self.settled.send_replace(count);
                    self.bar.set_position(count);
                    *deadline = Instant::now() + self.stall_max;
                }
                Answer::Failed { id, reason } => return Err(Broken::Order { id, reason }),
            }
        }
        Ok(())
    }
}

//! A shutdown and the steps on services that are running: they end, none begins, and what takes too long is cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use accompanist::StartError;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use tokio::sync::watch;

use crate::support::{on_disk, quick, until, within};

#[derive(Clone, Copy)]
struct Bank;
impl Role for Bank {
    const NAME: &'static str = "bank";
    type Service = Books;
}

/// What each step has begun and ended, and when it may end.
#[derive(Default)]
struct Books {
    charges: Counts,
    refunds: Counts,
    receipts: Counts,
}

struct Counts {
    begun: AtomicU32,
    ended: AtomicU32,
    gate: watch::Sender<bool>,
}

impl Default for Counts {
    fn default() -> Self {
        Self { begun: AtomicU32::new(0), ended: AtomicU32::new(0), gate: watch::Sender::new(true) }
    }
}

impl Counts {
    async fn pass(&self) {
        self.begun.fetch_add(1, SeqCst);
        // The sender is not gone: it is this one.
        let _ = self.gate.subscribe().wait_for(|is_open| *is_open).await;
        self.ended.fetch_add(1, SeqCst);
    }

    fn close(&self) {
        self.gate.send_replace(false);
    }

    fn open(&self) {
        self.gate.send_replace(true);
    }

    fn counts(&self) -> (u32, u32) {
        (self.begun.load(SeqCst), self.ended.load(SeqCst))
    }
}

struct Charge;
impl Transaction for Charge {
    const NAME: &'static str = "charge";
    type Role = Bank;
    type Input = bool;
    type Output = ();
    async fn commit(&self, here: &Local<Bank>, _: &bool) -> Result<(), Abort> {
        here.service().charges.pass().await;
        Ok(())
    }
    async fn compensate(&self, here: &Local<Bank>, _: &bool, (): &()) -> Result<(), Retry> {
        here.service().refunds.pass().await;
        Ok(())
    }
}

struct Receipt;
impl Transaction for Receipt {
    const NAME: &'static str = "receipt";
    type Role = Bank;
    type Input = bool;
    type Output = ();
    async fn commit(&self, here: &Local<Bank>, is_refused: &bool) -> Result<(), Abort> {
        here.service().receipts.pass().await;
        if *is_refused { Err(Abort::new("refused", "as the test wants")) } else { Ok(()) }
    }
    async fn compensate(&self, _: &Local<Bank>, _: &bool, (): &()) -> Result<(), Retry> {
        Ok(())
    }
}

/// A charge and a receipt, which may be refused.
struct Sale;
impl Choreography for Sale {
    const NAME: &'static str = "sale";
    type Roles = (Bank,);
    type Input = At<Bank, bool>;
    type Output = At<Bank, ()>;
    async fn run(&self, ctx: &Context<(Bank,)>, is_refused: At<Bank, bool>) -> Result<Self::Output, Abort> {
        ctx.transact(Charge, &is_refused).await?;
        ctx.transact(Receipt, &is_refused).await
    }
}

/// A node that a shutdown waits for so long.
async fn node(disk: &MemoryDisk, books: &Arc<Books>, shutdown_grace: Duration) -> Node {
    let builder = on_disk("bank", disk, LocalNetwork::new()).settings(Settings { shutdown_grace, ..quick() });
    within(builder.role(Bank, books.clone()).choreography(Sale).start()).await.unwrap()
}

/// In the next life the session ends, as it has to.
async fn ends(disk: &MemoryDisk, books: &Arc<Books>, session: SessionId, is_refused: bool) {
    let node = node(disk, books, Duration::ZERO).await;
    let settled = within(async { node.session::<Sale>(session).await.unwrap().settled().await }).await;
    assert_eq!(settled.is_err(), is_refused, "{settled:?}");
    within(node.shutdown()).await;
}

/// Longer than any test.
const LONG: Duration = Duration::from_hours(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_runs_ends_and_nothing_begins() {
    let (disk, books) = (MemoryDisk::default(), Arc::new(Books::default()));
    let node = node(&disk, &books, LONG).await;
    books.charges.close();
    let session = within(node.start(Sale, false)).await.unwrap().id();
    until("a charge that runs", || books.charges.counts().0 == 1).await;
    let stopping = tokio::spawn({
        let node = node.clone();
        async move { node.shutdown().await }
    });
    let is_refused = async {
        loop {
            match node.start(Sale, false).await {
                Err(StartError::NodeStopped) => return,
                _ => tokio::task::yield_now().await, // The shutdown has not begun yet.
            }
        }
    };
    within(is_refused).await;
    let begun = books.charges.counts().0;
    books.charges.open();
    within(stopping).await.unwrap();
    assert_eq!(books.charges.counts(), (begun, begun), "whatever ran has ended");
    assert_eq!(books.receipts.counts(), (0, 0), "nothing has begun");
    ends(&disk, &books, session, false).await;
    assert_eq!(books.charges.counts().0, books.charges.counts().1);
    assert!(books.receipts.counts().0 >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_has_ended_in_time_is_not_run_again() {
    let (disk, books) = (MemoryDisk::default(), Arc::new(Books::default()));
    let node = node(&disk, &books, LONG).await;
    books.charges.close();
    let session = within(node.start(Sale, false)).await.unwrap().id();
    until("a charge that runs", || books.charges.counts().0 == 1).await;
    let stopping = tokio::spawn(async move { node.shutdown().await });
    books.charges.open();
    within(stopping).await.unwrap();
    ends(&disk, &books, session, false).await;
    assert_eq!(books.charges.counts(), (1, 1));
    assert_eq!(books.receipts.counts(), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compensation_that_runs_ends_too() {
    let (disk, books) = (MemoryDisk::default(), Arc::new(Books::default()));
    let node = node(&disk, &books, LONG).await;
    books.refunds.close();
    let session = within(node.start(Sale, true)).await.unwrap().id();
    until("a refund that runs", || books.refunds.counts().0 == 1).await;
    let stopping = tokio::spawn(async move { node.shutdown().await });
    books.refunds.open();
    within(stopping).await.unwrap();
    ends(&disk, &books, session, true).await;
    assert_eq!(books.refunds.counts(), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_outlasts_the_grace_period_is_cancelled_and_retried() {
    let (disk, books) = (MemoryDisk::default(), Arc::new(Books::default()));
    let node = node(&disk, &books, Duration::from_millis(20)).await;
    books.charges.close();
    let session = within(node.start(Sale, false)).await.unwrap().id();
    until("a charge that runs", || books.charges.counts().0 == 1).await;
    within(node.shutdown()).await;
    assert_eq!(books.charges.counts(), (1, 0));
    books.charges.open();
    ends(&disk, &books, session, false).await;
    assert_eq!(books.charges.counts(), (2, 1));
}

/// Whoever waits for somebody else's message is no reason to wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_running_steps_stops_at_once() {
    let (disk, books) = (MemoryDisk::default(), Arc::new(Books::default()));
    let node = node(&disk, &books, LONG).await;
    within(async { node.start(Sale, false).await.unwrap().settled().await }).await.unwrap();
    within(node.shutdown()).await;
}

//! What each process does: one node, with one role, driven over its pipes.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use accompanist::contract::{Batch, Direction, Entry, KeyRange, Space, Store, StoreError};
use accompanist::prelude::*;
use accompanist::store::FjallSizes;
use accompanist::transport::ZenohTransport;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use fleet::security::Protection;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::clock::JumpingClock;
use crate::model::{Bank, Fate, Order, Outcome, RoleName, Shop, Stock};
use crate::program::{BOOK_TWICE, FORGET_BACK, HurriedSale, Sale};
use crate::tap::Tapped;
use crate::wire::{Answer, Command};

/// The pause before an order that could not be started is tried again.
const START_RETRY_DELAY: Duration = Duration::from_millis(100);
/// Small, so that a short run has tables on disk, too, and several journals.
const MEMTABLE_BYTES: u64 = 256 << 10;
/// Answers that wait for the pipe.
const ANSWERS_WAITING_MAX: usize = 1_024;
/// Commands that wait to be obeyed; more wait in the pipe.
const COMMANDS_WAITING_MAX: usize = 64;

/// A mistake that is made on purpose, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sabotage {
    /// A step books twice
    BookTwice,
    /// A compensation does nothing
    ForgetBack,
    /// A batch is acknowledged before it is written
    AckEarly,
}

/// A store that keeps the last batch in memory until it is asked for something else, and says that it is synced.
struct Hasty {
    store: RefCell<FjallStore>,
    waiting: RefCell<Batch>,
}

impl Hasty {
    fn write(&self) -> Result<(), StoreError> {
        let waiting = self.waiting.take();
        if waiting.is_empty() { Ok(()) } else { self.store.borrow_mut().apply(waiting) }
    }
}

impl Store for Hasty {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.write()?;
        self.store.borrow().get(space, key)
    }
    fn range(
        &self,
        space: Space,
        keys: &KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.write()?;
        self.store.borrow().range(space, keys, direction, limit)
    }
    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.write()?;
        self.waiting.replace(batch);
        Ok(())
    }
    fn sync(&mut self) -> Result<(), StoreError> {
        self.store.borrow_mut().sync()
    }
    fn check(&mut self) -> Result<(), StoreError> {
        self.store.borrow_mut().check()
    }
    fn commits(&self) -> u64 {
        self.store.borrow().commits()
    }
}

#[derive(Debug, Args)]
pub(crate) struct NodeArguments {
    /// The role to play
    role: RoleName,
    /// Where to listen for the other roles
    #[arg(long)]
    listen: String,
    /// Where another role listens
    #[arg(long)]
    connect: Vec<String>,
    /// The folder of the store
    #[arg(long)]
    store: PathBuf,
    /// How far the clock is ahead, in milliseconds
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    clock_ahead_ms: i64,
    /// Talk with certificates
    #[arg(long)]
    secured: bool,
    /// Seal what is sent
    #[arg(long)]
    sealed: bool,
    /// The folder with certificates and keys
    #[arg(long)]
    security: PathBuf,
    /// Where an attacker overhears what is sent
    #[arg(long)]
    tap: PathBuf,
    /// A mistake to make
    #[arg(long)]
    sabotage: Option<Sabotage>,
}

pub(crate) async fn play(arguments: NodeArguments) -> anyhow::Result<()> {
    let NodeArguments { role, listen, connect, store, clock_ahead_ms, secured, sealed, security, tap, sabotage } =
        arguments;
    BOOK_TWICE.store(sabotage == Some(Sabotage::BookTwice), Ordering::Relaxed);
    FORGET_BACK.store(sabotage == Some(Sabotage::ForgetBack), Ordering::Relaxed);
    let clock = Arc::new(JumpingClock::default());
    clock.set_ahead(clock_ahead_ms);
    let protection = Protection { secured, sealed };
    let config = protection.wire(&security, &listen, &connect).insecure(!secured);
    let transport = Tapped::new(ZenohTransport::open(config).await?, &tap)?;
    let builder = protection
        .node(Node::builder(NodeId::new(role.name())?), &security)
        .transport(transport)
        .environment(clock.clone())
        .choreography(Sale)
        .choreography(HurriedSale);
    let sizes = FjallSizes { memtable_bytes: MEMTABLE_BYTES, ..FjallSizes::default() };
    let store = FjallStore::open_with(&store, &sizes)?;
    let builder = match sabotage {
        Some(Sabotage::AckEarly) => builder.store(Hasty { store: RefCell::new(store), waiting: RefCell::default() }),
        _ => builder.store(store),
    };
    let builder = match role {
        RoleName::Shop => builder.role(Shop, Arc::new(())),
        RoleName::Stock => builder.role(Stock, Arc::new(())),
        RoleName::Bank => builder.role(Bank, Arc::new(())),
    };
    let node = builder.start().await?;
    let (answers, waiting) = mpsc::channel(ANSWERS_WAITING_MAX);
    tokio::spawn(say(waiting));
    answers.send(Answer::Ready).await.context("standard output has gone")?;
    tokio::select! {
        error = node.failed() => return Err(error.into()),
        () = obey(&node, &clock, &answers) => {}
    }
    node.shutdown().await;
    Ok(())
}

/// Writes answers until nobody reads them any more.
async fn say(mut waiting: mpsc::Receiver<Answer>) {
    let mut stdout = tokio::io::stdout();
    while let Some(answer) = waiting.recv().await {
        let Ok(mut line) = serde_json::to_vec(&answer) else { continue };
        line.push(b'\n');
        if stdout.write_all(&line).await.is_err() || stdout.flush().await.is_err() {
            return;
        }
    }
}

/// Does what it is told until standard input ends.
async fn obey(node: &Node, clock: &JumpingClock, answers: &mpsc::Sender<Answer>) {
    let mut lines = lines_of_stdin();
    while let Some(line) = lines.recv().await {
        match serde_json::from_str(&line) {
            Ok(Command::Place(order)) => {
                tokio::spawn(follow(node.clone(), order, answers.clone()));
            }
            Ok(Command::ClockAhead(ahead_ms)) => clock.set_ahead(ahead_ms),
            Ok(Command::Report) => {
                let _ = answers.send(report(node).await).await; // Who asked may have gone.
            }
            Err(error) => tracing::error!(%error, line, "this is no command"),
        }
    }
}

/// Standard input, read on a thread of its own: tokio's reader would keep a node that has failed from ending.
fn lines_of_stdin() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(COMMANDS_WAITING_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

async fn report(node: &Node) -> Answer {
    let stopped = node
        .operator()
        .stopped_sessions()
        .into_iter()
        .map(|stopped| format!("{}: {}", stopped.session, stopped.reason));
    let troubled = node.operator().troubled_sessions().into_iter().flat_map(|troubled| {
        let session = troubled.session;
        troubled.steps.into_iter().map(move |(path, trouble)| format!("{session} at {path}: {trouble}"))
    });
    // A store that has failed says so by itself.
    let open = node.operator().open_versions().await.map_or(0, |versions| versions.values().sum());
    Answer::Report { open, stopped: stopped.chain(troubled).collect() }
}

/// Starts an order, or finds it, and follows it until it is closed at all roles.
async fn follow(node: Node, order: Order, answers: mpsc::Sender<Answer>) {
    let id = order.id.clone();
    let settled = if order.fate == Fate::Hurried {
        let deadline = Duration::from_millis(order.deadline_ms);
        settled(&node, HurriedSale, order, Some(deadline)).await
    } else {
        settled(&node, Sale, order, None).await
    };
    let answer = match settled {
        Ok(outcome) => Answer::Settled { id, outcome },
        Err(SessionError::NodeStopped) => return,
        Err(error) => Answer::Failed { id, reason: error.to_string() },
    };
    let _ = answers.send(answer).await; // Who asked may have gone, and asks again.
}

async fn settled<C>(node: &Node, sale: C, order: Order, deadline: Option<Duration>) -> Result<Outcome, SessionError>
where
    C: Choreography<Input = At<Shop, Order>, Output = At<Shop, Order>> + Copy,
{
    let session = loop {
        let mut start = node.start(sale, order.clone()).key(&order.id);
        if let Some(after) = deadline {
            start = start.deadline(after);
        }
        match start.await {
            Ok(session) => break session,
            Err(StartError::NodeStopped) => return Err(SessionError::NodeStopped),
            Err(error) => {
                tracing::info!(%error, order = order.id, "not started yet");
                tokio::time::sleep(START_RETRY_DELAY).await;
            }
        }
    };
    match session.settled().await {
        Ok(_) => Ok(Outcome::Finished),
        Err(SessionError::Aborted(_)) => Ok(Outcome::Aborted),
        Err(error) => Err(error),
    }
}

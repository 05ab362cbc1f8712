//! The store of one part: raw fjall behind one thread, which makes one batch and one sync of all that waits.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use accompanist::Durability;
use accompanist::contract::Space;
use anyhow::{Context, Result};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use tokio::sync::oneshot;

use super::message::Session;
use super::rows;
use crate::timed_store::StoreWatch;
use crate::usage::Usage;

/// As a node's `lazy_write_delay_max` and `group_writes_max`.
const LAZY_DELAY_MAX: Duration = Duration::from_millis(5);
const GROUP_WRITES_MAX: usize = 1_024;

/// A key set to a value, or removed.
pub(super) struct Row {
    pub(super) space: Space,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

/// Adds to a number, and notes the sum in a row of its own.
pub(super) struct Step {
    pub(super) key: Vec<u8>,
    pub(super) difference: i64,
    pub(super) record: fn(&Session, i64) -> Row,
}

/// What becomes durable together.
pub(super) struct Write {
    pub(super) session: Session,
    pub(super) rows: Vec<Row>,
    pub(super) step: Option<Step>,
}

struct Job {
    write: Write,
    urgent: bool,
    done: oneshot::Sender<i64>,
}

/// The way to the thread, which ends with the process.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: Sender<Job>,
    writes: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn start(folder: &Path, durability: Durability, watch: StoreWatch) -> Result<Self> {
        let store = Store::open(folder, durability, watch)?;
        let (jobs, queue) = mpsc::channel();
        thread::Builder::new().name("floor-writer".into()).spawn(move || {
            if let Err(error) = store.run(&queue) {
                eprintln!("the floor's writer: {error:#}");
            }
        })?;
        Ok(Self { jobs, writes: Arc::default() })
    }

    /// Something waits for it.
    pub(super) async fn urgent(&self, write: Write) -> Result<i64> {
        self.submit(write, true).await
    }

    /// May wait for company.
    pub(super) async fn lazy(&self, write: Write) -> Result<i64> {
        self.submit(write, false).await
    }

    /// Gives the sum of the step once all of it is durable.
    async fn submit(&self, write: Write, urgent: bool) -> Result<i64> {
        let (done, written) = oneshot::channel();
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.jobs.send(Job { write, urgent, done }).ok().context("the floor's writer has ended")?;
        written.await.context("the floor's writer has failed")
    }

    pub(super) fn usage(&self) -> Usage {
        Usage { writes: self.writes.load(Ordering::Relaxed), ..Usage::default() }
    }
}

struct Store {
    database: Database,
    spaces: Vec<(Space, Keyspace)>,
    sync: PersistMode,
    watch: StoreWatch,
}

impl Store {
    /// With the sizes that `FjallStore` has.
    fn open(folder: &Path, durability: Durability, watch: StoreWatch) -> Result<Self> {
        let database = Database::builder(folder)
            .cache_size(32 << 20)
            .max_journaling_size(64 << 20)
            .worker_threads(1)
            .open()
            .context("the floor's database")?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(16 << 20);
        let spaces = Space::ALL.into_iter().map(|space| Ok((space, database.keyspace(space.name(), options)?)));
        let spaces = spaces.collect::<fjall::Result<_>>()?;
        let sync = match durability {
            Durability::Power => PersistMode::SyncData,
            Durability::Process => PersistMode::Buffer,
        };
        Ok(Self { database, spaces, sync, watch })
    }

    fn run(&self, queue: &Receiver<Job>) -> Result<()> {
        while let Ok(first) = queue.recv() {
            let mut until = (!first.urgent).then(|| Instant::now() + LAZY_DELAY_MAX);
            let mut group = vec![first];
            while group.len() < GROUP_WRITES_MAX {
                let next = match until {
                    None => queue.try_recv().ok(),
                    // Nothing in time, or nothing any more.
                    Some(until) => queue.recv_timeout(until.saturating_duration_since(Instant::now())).ok(),
                };
                let Some(job) = next else { break };
                if job.urgent {
                    until = None;
                }
                group.push(job);
            }
            self.commit(group)?;
        }
        Ok(())
    }

    fn commit(&self, group: Vec<Job>) -> Result<()> {
        let (mut count, mut row_bytes) = (0, 0);
        let mut batch = self.database.batch();
        let mut put = |row: Row| {
            count += 1;
            row_bytes += (row.key.len() + row.value.as_ref().map_or(0, Vec::len)) as u64;
            let keyspace = self.keyspace(row.space)?;
            match row.value {
                Some(value) => batch.insert(keyspace, row.key, value),
                None => batch.remove(keyspace, row.key),
            }
            anyhow::Ok(())
        };
        let mut sums = BTreeMap::new();
        let mut answers = Vec::with_capacity(group.len());
        for Job { write: Write { session, rows: of_write, step }, done, .. } in group {
            of_write.into_iter().try_for_each(&mut put)?;
            let mut sum = 0;
            if let Some(Step { key, difference, record }) = step {
                sum = self.sum(&sums, &key)? + difference;
                sums.insert(key, sum);
                put(record(&session, sum))?;
            }
            answers.push((done, sum));
        }
        for (key, sum) in sums {
            put(rows::state(key, sum))?;
        }
        let begun = Instant::now();
        batch.commit()?;
        self.watch.applied(count, row_bytes, begun.elapsed());
        let begun = Instant::now();
        self.database.persist(self.sync)?;
        self.watch.synced(begun.elapsed());
        for (done, sum) in answers {
            let _ = done.send(sum); // A task that is gone needs no answer.
        }
        Ok(())
    }

    /// What stands under `key`, as the steps before have left it.
    fn sum(&self, sums: &BTreeMap<Vec<u8>, i64>, key: &[u8]) -> Result<i64> {
        if let Some(sum) = sums.get(key) {
            return Ok(*sum);
        }
        let stored = self.keyspace(Space::State)?.get(key)?;
        Ok(stored.map(|bytes| rows::read_number(&bytes)).transpose()?.unwrap_or_default())
    }

    fn keyspace(&self, space: Space) -> Result<&Keyspace> {
        let found = self.spaces.iter().find(|(known, _)| *known == space);
        found.map(|(_, keyspace)| keyspace).context("a keyspace")
    }
}

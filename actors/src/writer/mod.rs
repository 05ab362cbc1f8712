//! The writer of a node: takes all waiting writes, makes one batch and one sync of them, and answers them all.
//!
//! The writer owns the store, runs local transactions between its reads and its batch, and refuses writes of an actor
//! that another one has replaced. It knows keys and values, no sessions. For real stores, whose calls block, it runs
//! on a separate thread; for simulated ones it is a task.

mod age_clock;
mod census;
mod collector;
mod company;
mod end;
mod group;
mod handle;
mod journal;
mod keys;
mod open;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use accompanist_core::SessionId;
use accompanist_core::contract::{Space, Store, StoreError};
use accompanist_core::id::InstanceId;
use accompanist_core::message::Fingerprint;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use self::census::Census;
pub(crate) use self::census::{CensusQuery, Counts};
pub(crate) use self::collector::Collector;
pub use self::collector::Tombstones;
use self::company::Company;
use self::end::End;
pub(crate) use self::end::WriterFailure;
use self::group::{Member, check};
pub(crate) use self::handle::{Incarnation, Job, Loaded, WriterHandle, Written};
pub(crate) use self::journal::{Readable, load, load_readable};
pub(crate) use self::keys::{Claimed, claimed_by};
pub(crate) use self::open::Open;
use self::open::OpenCount;
use crate::config::Settings;

/// The way in which the writer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A separate thread.
    Thread,
    /// A task, with a sync that takes this long.
    Task { sync: Duration },
}

/// Starts the writer over `store`.
pub(crate) fn start(
    store: Box<dyn Store>,
    mode: Mode,
    settings: &Settings,
    collector: Collector,
) -> std::io::Result<WriterHandle> {
    let (jobs, queue) = mpsc::unbounded_channel();
    let end = End::default();
    let (failed, ended) = (end.failed.clone(), end.ended.clone());
    let tombstones = collector.watch();
    let open_count = OpenCount::new();
    let open = open_count.watch();
    let batch = Arc::new(AtomicU64::new(store.commits()));
    let writer = Writer {
        store,
        queue,
        owners: HashMap::new(),
        group: Vec::new(),
        lazy_until: None,
        lazy_delay_max: settings.lazy_write_delay_max,
        company: Company::new(settings.lazy_write_delay_max),
        group_max: settings.group_writes_max,
        sync_delay: None,
        checked: Some(Instant::now()),
        claims: HashMap::new(),
        collector,
        census: Census::default(),
        open_count,
        batch: batch.clone(),
    };
    let thread = match mode {
        Mode::Thread => {
            // A runtime only for the channel and its timeouts: its only thread is this one.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
            let run = move || runtime.block_on(end::run(writer, end));
            let thread = std::thread::Builder::new().name("accompanist-writer".into()).spawn(run)?;
            Some(thread.thread().id())
        }
        Mode::Task { sync } => {
            let writer = Writer { sync_delay: Some(sync), checked: None, ..writer };
            tokio::spawn(end::run(writer, end));
            None
        }
    };
    let callers = Arc::new(Semaphore::new(settings.callers_max.min(Semaphore::MAX_PERMITS)));
    let (order, incarnations) = (Arc::default(), Arc::default());
    Ok(WriterHandle { jobs, callers, open, failed, ended, batch, incarnations, tombstones, order, thread })
}

/// How often an idle store is checked for still being there.
const CHECK_PERIOD: Duration = Duration::from_secs(1);

struct Writer {
    store: Box<dyn Store>,
    queue: mpsc::UnboundedReceiver<Job>,
    owners: HashMap<InstanceId, Incarnation>,
    group: Vec<Member>,
    /// The time when the group must be committed even if nothing urgent joins it.
    lazy_until: Option<Instant>,
    lazy_delay_max: Duration,
    company: Company,
    group_max: usize,
    sync_delay: Option<Duration>,
    /// When the store was last checked for still being there; `None` for one in memory, which is checked only by a
    /// commit.
    checked: Option<Instant>,
    /// The keys that the group claims, and the sessions for which it does.
    claims: HashMap<SessionId, (InstanceId, Fingerprint)>,
    collector: Collector,
    census: Census,
    open_count: OpenCount,
    /// See [`WriterHandle::batch`].
    batch: Arc<AtomicU64>,
}

impl Writer {
    async fn run(&mut self) -> Result<(), StoreError> {
        while let Some(job) = self.next().await? {
            if matches!(job, Job::End) {
                break;
            }
            self.take(job).await?;
        }
        self.commit().await
    }

    /// Returns the next job; commits the group whenever no job arrives before it is due.
    async fn next(&mut self) -> Result<Option<Job>, StoreError> {
        loop {
            self.check()?;
            if self.group.is_empty() && self.collector.is_due() {
                self.collect_tombstones().await?;
            }
            if self.group.is_empty() && self.is_counting() {
                self.count_page()?;
            }
            if self.group.len() < self.group_max
                && let Ok(job) = self.queue.try_recv()
            {
                return Ok(Some(job));
            }
            if self.group.is_empty() && self.is_counting() {
                tokio::task::yield_now().await;
                continue;
            }
            if self.group.is_empty() {
                let check_pause = self.checked.map(|_| CHECK_PERIOD);
                let pause = self.collector.pause().into_iter().chain(check_pause).min();
                let Some(pause) = pause else { return Ok(self.queue.recv().await) };
                if let Ok(job) = tokio::time::timeout(pause, self.queue.recv()).await {
                    return Ok(job);
                }
                continue;
            }
            if let Some(until) = self.lazy_until
                && self.group.len() < self.group_max
                && let Ok(job) = tokio::time::timeout_at(until, self.queue.recv()).await
            {
                return Ok(job);
            }
            self.commit().await?;
        }
    }

    /// Checks that the store is still there, if the last check was long enough ago.
    fn check(&mut self) -> Result<(), StoreError> {
        match self.checked {
            Some(checked) if checked.elapsed() >= CHECK_PERIOD => {
                self.checked = Some(Instant::now());
                self.store.check()
            }
            _ => Ok(()),
        }
    }

    fn is_counting(&self) -> bool {
        self.census.is_counting() || self.open_count.is_counting()
    }

    fn count_page(&mut self) -> Result<(), StoreError> {
        if self.census.is_counting() {
            self.census.page(self.store.as_ref())?;
        }
        if self.open_count.is_counting() {
            self.open_count.page(self.store.as_ref())?;
        }
        Ok(())
    }

    /// Makes one page of tombstones to collect the first member of the next group, and lets it wait for other writes:
    /// an urgent write joins the group, and is delayed by no more than this page.
    async fn collect_tombstones(&mut self) -> Result<(), StoreError> {
        let changes = self.collector.page(self.store.as_ref())?;
        if changes.is_empty() {
            tokio::task::yield_now().await;
        } else {
            self.join(false);
            self.group.push(Member::Change { changes, done: Box::new(|_| ()) });
        }
        Ok(())
    }

    async fn take(&mut self, job: Job) -> Result<(), StoreError> {
        match job {
            Job::Load { id, incarnation, done } => {
                // The writes of an earlier actor of this instance come first.
                if self.is_in_group(id) {
                    self.commit().await?;
                }
                let owner = self.owners.entry(id).or_insert(incarnation);
                *owner = (*owner).max(incarnation);
                done(load(self.store.as_ref(), id));
            }
            Job::Write { id, begins: true, done, incarnation, .. } if self.knows(id)? => {
                // Later writes of this actor are refused too.
                let next = Incarnation(incarnation.0 + 1);
                let owner = self.owners.entry(id).or_insert(next);
                *owner = (*owner).max(next);
                done(Ok(Written::Known));
            }
            Job::Write { id, incarnation, write, done, since, .. } => {
                let owner = self.owners.entry(id).or_insert(incarnation);
                if *owner > incarnation {
                    // This is no error. Usually a frame has begun an instance that had been passivated, and its actor
                    // wrote again before it learned that the store knows the instance.
                    tracing::debug!(session = %id.session, role = id.role.0, "dropped a write of an actor that has been replaced");
                    done(Err(StoreError::Closed));
                } else if let Err(error) = check(&write.changes) {
                    // Refuse this write alone, since the others of its group are not at fault; and refuse later
                    // writes of the actor.
                    *owner = Incarnation(incarnation.0 + 1);
                    done(Err(error));
                } else {
                    *owner = incarnation;
                    self.company.note(id.session, Instant::now());
                    self.join(write.urgent);
                    self.group.push(Member::Write { id, write, done, since });
                }
            }
            Job::Passivate { id, incarnation, passivation } if self.owners.get(&id) == Some(&incarnation) => {
                self.owners.remove(&id);
                if let Some(change) = passivation {
                    self.join(false);
                    self.group.push(Member::Passivate { id, change });
                }
            }
            Job::Claim { key, new, done } => done(self.claim(key, new)),
            Job::Read(read) => read(Ok(self.store.as_ref())),
            Job::Count(question) => {
                self.census.ask(question);
                if self.group.is_empty() {
                    self.census.committed();
                }
            }
            Job::Change { changes, done } => match check(&changes) {
                Err(error) => done(Err(error)),
                Ok(()) => {
                    self.join(true);
                    self.group.push(Member::Change { changes, done });
                }
            },
            Job::Fail(error) => return Err(error),
            Job::Passivate { .. } | Job::End => {}
        }
        Ok(())
    }

    /// Whether the instance has begun at any time.
    fn knows(&self, id: InstanceId) -> Result<bool, StoreError> {
        let key = id.to_bytes();
        let known = |space| Ok(self.store.get(space, &key)?.is_some());
        Ok(self.is_in_group(id) || known(Space::Open)? || known(Space::Closed)?)
    }

    /// Refuses everything: the store's state is unknown now, so nothing is written any more, and every sender is
    /// informed.
    async fn refuse(&mut self, error: &StoreError) {
        for member in self.group.drain(..) {
            match member {
                Member::Write { done, .. } => done(Err(error.clone())),
                Member::Change { done, .. } => done(Err(error.clone())),
                Member::Passivate { .. } => {}
            }
        }
        self.census.refuse(error);
        while let Some(job) = self.queue.recv().await {
            if matches!(job, Job::End) {
                break;
            }
            job.refuse(error);
        }
    }

    /// Closes the queue. Jobs that are being sent at this moment are waited for and refused. If the queue were
    /// dropped before they arrive, it would hold them, and their callers would wait, as long as there is a handle.
    async fn let_go(&mut self) {
        self.queue.close();
        while let Some(job) = self.queue.recv().await {
            job.refuse(&StoreError::Closed);
        }
    }
}

#[cfg(test)]
mod tests;

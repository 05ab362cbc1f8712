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
mod keys;
mod open;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use accompanist_core::contract::{Batch, Change, Space, Store, StoreError};
use accompanist_core::id::InstanceId;
use accompanist_core::machine::{LocalResult, Write};
use accompanist_core::message::Fingerprint;
use accompanist_core::panics;
use accompanist_core::record::{Closed, Opened, Record, read_value};
use accompanist_core::state::Writes;
use accompanist_core::{Path, SessionId};
use metrics::counter;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use self::census::Census;
pub(crate) use self::census::{CensusQuery, Counts};
pub(crate) use self::collector::Collector;
pub use self::collector::Tombstones;
use self::company::Company;
use self::end::End;
pub(crate) use self::end::WriterFailure;
pub(crate) use self::journal::{Readable, load_readable};
pub(crate) use self::keys::{Claimed, claimed_by};
pub(crate) use self::open::Open;
use self::open::OpenCount;
use crate::base::latch::Latch;
use crate::base::metric;
use crate::config::Settings;
use crate::store::OPENING_KEY;

/// The number of the actor that writes for an instance: a later actor takes over from an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Incarnation(pub(crate) u64);

/// The contents of a store for an instance.
pub(crate) enum Loaded {
    Nothing,
    Open(Opened, Vec<Record>),
    Closed(Closed),
}

type Done<T> = Box<dyn FnOnce(Result<T, StoreError>) + Send>;
/// A read of the store as it is after the last group commit.
type Read = Box<dyn FnOnce(Result<&dyn Store, StoreError>) + Send>;
/// The result of a write.
#[derive(Debug)]
pub(crate) enum Written {
    /// The write is durable. If it contained a local transaction, this has the path and result of that transaction.
    Durable(Option<(Path, LocalResult)>),
    /// The write was the beginning of an instance that the store knows already. Nothing was written.
    Known,
}

pub(crate) enum Job {
    Load {
        id: InstanceId,
        incarnation: Incarnation,
        done: Done<Loaded>,
    },
    Write {
        id: InstanceId,
        incarnation: Incarnation,
        write: Write,
        /// Write only if the store does not know the instance: its actor has not checked.
        begins: bool,
        done: Done<Written>,
    },
    /// The actor has been passivated, and sends nothing after this.
    Leave {
        id: InstanceId,
        incarnation: Incarnation,
        rest: Option<Change>,
    },
    Read(Read),
    /// Asks how many open instances belong to sessions that have a node in their cast.
    Count(CensusQuery),
    /// Claims a key for a new session, or looks up the session that the key stands for.
    Claim {
        key: SessionId,
        /// The new session, and the fingerprint of its input.
        new: Option<(InstanceId, Fingerprint)>,
        done: Done<Option<Claimed>>,
    },
    Change {
        changes: Batch,
        done: Done<()>,
    },
    /// Forbids all further writes, for a reason from outside.
    Fail(StoreError),
    /// Commits the writes that wait, and ends the writer.
    End,
}

/// The way in which the writer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A separate thread.
    Thread,
    /// A task, with a sync that takes this long.
    Task { sync: Duration },
}

/// A handle to the writer. Its queue is bounded by the senders: the instances in memory, each with the writes that
/// its window allows; callers, which wait for a permit; and what other nodes send about themselves, one page at a
/// time.
#[derive(Clone)]
pub(crate) struct WriterHandle {
    jobs: mpsc::UnboundedSender<Job>,
    callers: Arc<Semaphore>,
    open: watch::Receiver<Open>,
    failed: Latch<WriterFailure>,
    ended: Latch<()>,
    batch: Arc<AtomicU64>,
    incarnations: Arc<AtomicU64>,
    tombstones: watch::Receiver<Option<Tombstones>>,
    /// See [`WriterHandle::in_order`].
    order: Arc<Mutex<()>>,
    /// Set with [`Mode::Thread`].
    thread: Option<ThreadId>,
}

impl WriterHandle {
    /// Locks the order of changes. Hold the guard from a change in memory until the corresponding change on disk is
    /// submitted, wherever two threads may change the same data: otherwise the disk may end with the earlier of the
    /// two changes. One thread must not lock it twice.
    pub(crate) fn in_order(&self) -> MutexGuard<'_, ()> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner) // The lock guards an order, no data.
    }

    pub(crate) fn submit(&self, job: Job) {
        if let Err(mpsc::error::SendError(job)) = self.jobs.send(job) {
            job.refuse(&StoreError::Closed);
        }
    }

    /// Lets a caller read the store as it is after the last group commit. The number of concurrent reads is bounded;
    /// further callers wait here. A panic of `read` becomes its error, and the writer continues.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.callers.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.submit(Job::Read(Box::new(move |store| {
            let found = panics::catch(|| store.and_then(read)).unwrap_or_else(|panic| Err(StoreError::Panicked(panic)));
            let _ = reply.send(found); // The caller may have gone.
            drop(permit);
        })));
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Returns how many instances are open in the store.
    pub(crate) fn open(&self) -> Open {
        *self.open.borrow()
    }

    /// Returns how many batches of the store are on disk. The last batches are left out if they only record how far
    /// the stores of other nodes are: otherwise two idle nodes would make each other write forever.
    pub(crate) fn batch(&self) -> u64 {
        self.batch.load(Ordering::SeqCst)
    }

    /// Returns the number of an actor that is about to load or write an instance: above those of all earlier actors.
    pub(crate) fn next_incarnation(&self) -> Incarnation {
        Incarnation(self.incarnations.fetch_add(1, Ordering::SeqCst))
    }

    /// Waits for the failure that ends the writer.
    pub(crate) fn failed(&self) -> impl Future<Output = WriterFailure> + use<> {
        self.failed.wait()
    }

    /// Returns the number and size of the tombstones; `None` while they are being counted.
    pub(crate) fn tombstones(&self) -> Option<Tombstones> {
        *self.tombstones.borrow()
    }

    /// Ends the writer, and waits until the store is closed.
    pub(crate) async fn end(&self) {
        self.submit(Job::End);
        self.ended().await;
    }

    /// Waits until the writer has ended, and the store is closed.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + use<> {
        self.ended.wait()
    }

    /// Returns a function that ends the writer, if there is still a handle to it.
    pub(crate) fn ender(&self) -> impl Fn() + Send + use<> {
        let jobs = self.jobs.downgrade();
        move || {
            if let Some(jobs) = jobs.upgrade() {
                let _ = jobs.send(Job::End);
            }
        }
    }

    /// Whether this is the writer's own thread, which must not wait for its end.
    pub(crate) fn is_own_thread(&self) -> bool {
        self.thread == Some(std::thread::current().id())
    }
}

impl Job {
    fn refuse(self, error: &StoreError) {
        match self {
            Self::Load { done, .. } => done(Err(error.clone())),
            Self::Write { done, .. } => done(Err(error.clone())),
            // This drops a caller's closure.
            Self::Read(read) => drop(panics::catch(|| read(Err(error.clone())))),
            Self::Count(CensusQuery { done, .. }) => done(Err(error.clone())),
            Self::Claim { done, .. } => done(Err(error.clone())),
            Self::Change { done, .. } => done(Err(error.clone())),
            Self::Leave { .. } | Self::Fail(_) | Self::End => {}
        }
    }
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

/// The number of changes that the writer adds to most writes: the state and the record of a step, or the place of a
/// tombstone in the order of closing.
const CHANGES_BESIDE: usize = 2;

/// A write or change of the group that is being collected.
enum Member {
    Write { id: InstanceId, write: Write, done: Done<Written> },
    Leave { id: InstanceId, change: Change },
    Change { changes: Batch, done: Done<()> },
}

enum Reply {
    Write(Done<Written>, Option<(Path, LocalResult)>),
    Change(Done<()>),
}

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
            Job::Write { id, incarnation, write, done, .. } => {
                let owner = self.owners.entry(id).or_insert(incarnation);
                if *owner > incarnation {
                    // This is no error. Usually a frame has begun an instance that had been passivated, and its actor
                    // wrote again before it learned that the store knows the instance.
                    tracing::debug!(%id, "dropped a write of an actor that has been replaced");
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
                    self.group.push(Member::Write { id, write, done });
                }
            }
            Job::Leave { id, incarnation, rest } if self.owners.get(&id) == Some(&incarnation) => {
                self.owners.remove(&id);
                if let Some(change) = rest {
                    self.join(false);
                    self.group.push(Member::Leave { id, change });
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
            Job::Leave { .. } | Job::End => {}
        }
        Ok(())
    }

    fn is_in_group(&self, id: InstanceId) -> bool {
        let is_of_it = |member: &Member| match member {
            Member::Write { id: other, .. } | Member::Leave { id: other, .. } => *other == id,
            Member::Change { .. } => false,
        };
        self.group.iter().any(is_of_it)
    }

    /// Whether the instance has begun at any time.
    fn knows(&self, id: InstanceId) -> Result<bool, StoreError> {
        let key = id.to_bytes();
        let known = |space| Ok(self.store.get(space, &key)?.is_some());
        Ok(self.is_in_group(id) || known(Space::Open)? || known(Space::Closed)?)
    }

    /// Records that a member joins the group: an urgent one makes the group due now, a lazy first one after a delay.
    fn join(&mut self, urgent: bool) {
        if urgent {
            self.lazy_until = None;
        } else if self.group.is_empty() {
            let now = Instant::now();
            let waits = if self.company.is_likely(now) { self.lazy_delay_max } else { Duration::ZERO };
            self.lazy_until = Some(now + waits);
        }
    }

    /// Writes the group as one batch with one sync, and then answers all of its members.
    async fn commit(&mut self) -> Result<(), StoreError> {
        self.lazy_until = None;
        if self.group.is_empty() {
            return Ok(());
        }
        counter!(metric::GROUP_COMMITS).increment(1);
        counter!(metric::WRITES).increment(self.group.len() as u64);
        let (batch, replies) = self.collect();
        let is_note = |change: &Change| change.space == Space::Meta && change.key.starts_with(OPENING_KEY);
        let is_told = !batch.iter().all(is_note);
        let written = self.write(batch).await;
        if written.is_ok() {
            if is_told {
                self.batch.store(self.store.commits(), Ordering::SeqCst);
            }
            self.claims.clear();
            self.collector.publish();
            self.census.committed();
            self.open_count.committed();
        }
        for reply in replies {
            match (reply, &written) {
                (Reply::Write(done, result), Ok(())) => done(Ok(Written::Durable(result))),
                (Reply::Write(done, _), Err(error)) => done(Err(error.clone())),
                (Reply::Change(done), written) => done(written.clone()),
            }
        }
        if written.is_ok() {
            self.store.make_ready();
        }
        written
    }

    /// Returns the group as one batch, after running its local transactions in order.
    fn collect(&mut self) -> (Batch, Vec<Reply>) {
        // Allocated once: a large vector that grows is copied again and again.
        let changes = |member: &Member| match member {
            Member::Write { write, .. } => write.changes.len() + CHANGES_BESIDE,
            Member::Change { changes, .. } => changes.len(),
            Member::Leave { .. } => 1,
        };
        let mut batch = Batch::with_capacity(self.group.iter().map(changes).sum());
        let mut state = Writes::default();
        let mut replies = Vec::with_capacity(self.group.len());
        let store = self.store.as_ref();
        for member in self.group.drain(..) {
            match member {
                Member::Leave { change, .. } => batch.push(change),
                Member::Change { changes, done } => {
                    batch.extend(changes);
                    replies.push(Reply::Change(done));
                }
                Member::Write { id, write, done } => {
                    if let Some(tombstone) = write.changes.iter().find(|change| change.space == Space::Closed) {
                        self.owners.remove(&id);
                        batch.extend(self.collector.note_closed(id, tombstone));
                    }
                    self.census.note(&write.changes);
                    self.open_count.note(&write.changes);
                    batch.extend(write.changes);
                    let result = write.local.map(|job| {
                        // The transaction sees the writes of the steps before it in this group.
                        let (writes, record, result) = job.run(&state.over(&store));
                        state.absorb(writes);
                        batch.extend(record);
                        let path = job.path().clone();
                        // This also drops the step's input, which is a user's value.
                        let _ = panics::catch(|| drop(job));
                        (path, result)
                    });
                    replies.push(Reply::Write(done, result));
                }
            }
        }
        batch.extend(state.into_batch());
        (batch, replies)
    }

    async fn write(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.store.apply(batch)?;
        if let Some(delay) = self.sync_delay {
            tokio::time::sleep(delay).await;
        }
        self.store.sync()
    }

    /// Refuses everything: the store's state is unknown now, so nothing is written any more, and every sender is
    /// informed.
    async fn refuse(&mut self, error: &StoreError) {
        for member in self.group.drain(..) {
            match member {
                Member::Write { done, .. } => done(Err(error.clone())),
                Member::Change { done, .. } => done(Err(error.clone())),
                Member::Leave { .. } => {}
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

/// Checks that stores can hold these changes.
fn check(changes: &[Change]) -> Result<(), StoreError> {
    changes.iter().try_for_each(Change::check)
}

/// Loads what the store knows of an instance.
pub(crate) fn load(store: &dyn Store, id: InstanceId) -> Result<Loaded, StoreError> {
    let key = id.to_bytes();
    if let Some(bytes) = store.get(Space::Open, &key)? {
        let opened = read_value(Space::Open, &bytes)?;
        return Ok(Loaded::Open(opened, journal::load(store, id)?));
    }
    match store.get(Space::Closed, &key)? {
        Some(bytes) => Ok(Loaded::Closed(read_value(Space::Closed, &bytes)?)),
        None => Ok(Loaded::Nothing),
    }
}

mod journal;
#[cfg(test)]
mod tests;

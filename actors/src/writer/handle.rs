//! What others tell the writer, and the handle by which they do. Knows no order of commits. Next: `group.rs`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use accompanist_core::contract::{Batch, Change, Store, StoreError};
use accompanist_core::id::InstanceId;
use accompanist_core::machine::{LocalResult, Write};
use accompanist_core::message::Fingerprint;
use accompanist_core::panics;
use accompanist_core::record::{Closed, Opened, Record};
use accompanist_core::{Path, SessionId};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::census::CensusQuery;
use super::collector::Tombstones;
use super::end::WriterFailure;
use super::keys::Claimed;
use super::open::Open;
use crate::base::latch::Latch;

/// The number of the actor that writes for an instance: a later actor takes over from an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Incarnation(pub(crate) u64);

/// The contents of a store for an instance.
pub(crate) enum Loaded {
    Nothing,
    Open(Opened, Vec<Record>),
    Closed(Closed),
}

pub(super) type Done<T> = Box<dyn FnOnce(Result<T, StoreError>) + Send>;
/// A read of the store as it is after the last group commit.
pub(super) type Read = Box<dyn FnOnce(Result<&dyn Store, StoreError>) + Send>;

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
        /// When the actor handed it over.
        since: Instant,
    },
    /// The actor has been passivated, and sends nothing after this.
    Passivate {
        id: InstanceId,
        incarnation: Incarnation,
        passivation: Option<Change>,
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

/// A handle to the writer. Its queue is bounded by the senders: the instances in memory, each with the writes that
/// its window allows; callers, which wait for a permit; and what other nodes send about themselves, one page at a
/// time.
#[derive(Clone)]
pub(crate) struct WriterHandle {
    pub(super) jobs: mpsc::UnboundedSender<Job>,
    pub(super) callers: Arc<Semaphore>,
    pub(super) open: watch::Receiver<Open>,
    pub(super) failed: Latch<WriterFailure>,
    pub(super) ended: Latch<()>,
    pub(super) batch: Arc<AtomicU64>,
    pub(super) incarnations: Arc<AtomicU64>,
    pub(super) tombstones: watch::Receiver<Option<Tombstones>>,
    /// See [`WriterHandle::in_order`].
    pub(super) order: Arc<Mutex<()>>,
    /// Set with [`Mode::Thread`].
    pub(super) thread: Option<ThreadId>,
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

    /// Returns whether the writer runs and its store has not failed.
    pub(crate) fn takes_writes(&self) -> bool {
        self.failed.get().is_none() && self.ended.get().is_none()
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
    pub(super) fn refuse(self, error: &StoreError) {
        match self {
            Self::Load { done, .. } => done(Err(error.clone())),
            Self::Write { done, .. } => done(Err(error.clone())),
            // This drops a caller's closure.
            Self::Read(read) => drop(panics::catch(|| read(Err(error.clone())))),
            Self::Count(CensusQuery { done, .. }) => done(Err(error.clone())),
            Self::Claim { done, .. } => done(Err(error.clone())),
            Self::Change { done, .. } => done(Err(error.clone())),
            Self::Passivate { .. } | Self::Fail(_) | Self::End => {}
        }
    }
}

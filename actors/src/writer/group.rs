//! The group commit: the writes that wait become one batch with one sync, and are answered together. Knows no queue.

use std::sync::atomic::Ordering;
use std::time::Duration;

use accompanist_core::Path;
use accompanist_core::contract::{Batch, Change, Space, StoreError};
use accompanist_core::id::InstanceId;
use accompanist_core::machine::{LocalResult, Write};
use accompanist_core::panics;
use accompanist_core::state::Writes;
use metrics::{counter, histogram};
use tokio::time::Instant;

use super::Writer;
use super::handle::{Done, Written};
use crate::base::metric;
use crate::store::OPENING_KEY;

/// The number of changes that the writer adds to most writes: the state and the record of a step, or the place of a
/// tombstone in the order of closing.
const CHANGES_BESIDE: usize = 2;

/// A write or change of the group that is being collected.
pub(super) enum Member {
    Write { id: InstanceId, write: Write, done: Done<Written>, since: Instant },
    Passivate { id: InstanceId, change: Change },
    Change { changes: Batch, done: Done<()> },
}

enum Reply {
    Write(Done<Written>, Option<(Path, LocalResult)>, Waited),
    Change(Done<()>),
}

/// How long a write has waited.
struct Waited {
    since: Instant,
    is_urgent: bool,
}

impl Writer {
    pub(super) fn is_in_group(&self, id: InstanceId) -> bool {
        let is_of_it = |member: &Member| match member {
            Member::Write { id: other, .. } | Member::Passivate { id: other, .. } => *other == id,
            Member::Change { .. } => false,
        };
        self.group.iter().any(is_of_it)
    }

    /// Records that a member joins the group: an urgent one makes the group due now, a lazy first one after a delay.
    pub(super) fn join(&mut self, urgent: bool) {
        if urgent {
            self.lazy_until = None;
        } else if self.group.is_empty() {
            let now = Instant::now();
            let waits = if self.company.is_likely(now) { self.lazy_delay_max } else { Duration::ZERO };
            self.lazy_until = Some(now + waits);
        }
    }

    /// Writes the group as one batch with one sync, and then answers all of its members.
    pub(super) async fn commit(&mut self) -> Result<(), StoreError> {
        self.lazy_until = None;
        if self.group.is_empty() {
            return Ok(());
        }
        counter!(metric::GROUP_COMMITS).increment(1);
        counter!(metric::WRITES).increment(self.group.len() as u64);
        histogram!(metric::GROUP_COMMIT_WRITES).record(f64::from(u32::try_from(self.group.len()).unwrap_or(u32::MAX)));
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
        // Asked for once, since a group may be large.
        let [urgent, lazy] = [
            histogram!(metric::COMMIT_WAIT, "urgency" => "urgent"),
            histogram!(metric::COMMIT_WAIT, "urgency" => "lazy"),
        ];
        let now = Instant::now();
        for reply in replies {
            match (reply, &written) {
                (Reply::Write(done, result, Waited { since, is_urgent }), Ok(())) => {
                    (if is_urgent { &urgent } else { &lazy }).record(now.saturating_duration_since(since));
                    done(Ok(Written::Durable(result)));
                }
                (Reply::Write(done, ..), Err(error)) => done(Err(error.clone())),
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
            Member::Passivate { .. } => 1,
        };
        let mut batch = Batch::with_capacity(self.group.iter().map(changes).sum());
        let mut state = Writes::default();
        let mut replies = Vec::with_capacity(self.group.len());
        let store = self.store.as_ref();
        for member in self.group.drain(..) {
            match member {
                Member::Passivate { change, .. } => batch.push(change),
                Member::Change { changes, done } => {
                    batch.extend(changes);
                    replies.push(Reply::Change(done));
                }
                Member::Write { id, write, done, since } => {
                    let waited = Waited { since, is_urgent: write.urgent };
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
                    replies.push(Reply::Write(done, result, waited));
                }
            }
        }
        batch.extend(state.into_batch());
        (batch, replies)
    }

    async fn write(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.store.apply(batch)?;
        let begun = Instant::now();
        if let Some(delay) = self.sync_delay {
            tokio::time::sleep(delay).await;
        }
        self.store.sync()?;
        histogram!(metric::SYNC).record(begun.elapsed());
        Ok(())
    }
}

/// Checks that stores can hold these changes.
pub(super) fn check(changes: &[Change]) -> Result<(), StoreError> {
    changes.iter().try_for_each(Change::check)
}

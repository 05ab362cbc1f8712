//! The journal of an instance, as far as it is not durable yet: numbers the writes, knows which of them are durable,
//! and holds acknowledgements back until then.
//!
//! This module knows neither what the records mean nor the store. Next: `outbox`, what is sent after these writes.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};

use super::digest::Since;
use super::{LocalJob, Stop, Write};
use crate::base::id::InstanceId;
use crate::contract::{Batch, Change};
use crate::frame::Receipt;
use crate::record::{self, Opened, Record};

/// The maximum number of changes that a loop accumulates for one write.
const PENDING_CHANGES_MAX: usize = 1_024;

/// How soon a record has to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Nothing waits for the record, so its write may be delayed to share a sync.
    Lazy,
    /// Something waits for the record.
    Urgent,
    /// The record is a result: everything sent from now on waits for it.
    Result,
}

/// Changes that go into the next write.
#[derive(Default, Hash)]
struct Pending {
    changes: Batch,
    acks: Vec<Receipt>,
    urgent: bool,
}

/// See the module's documentation.
pub(super) struct Journal {
    instance: InstanceId,
    pending: Pending,
    /// The number of the next write, which will contain the pending changes.
    number: u64,
    synced: u64,
    /// The write with the latest recorded result. Everything sent from now on depends on it.
    barrier: u64,
    acks_after: VecDeque<(u64, Receipt)>,
    /// Everything that will be acknowledged after a write.
    acks_due: BTreeSet<Receipt>,
    /// Whether the beginning of the instance is not durable yet.
    opening: bool,
    warned: bool,
}

impl Journal {
    pub(super) fn new(instance: InstanceId) -> Self {
        Self {
            instance,
            pending: Pending::default(),
            number: 1,
            synced: 0,
            barrier: 0,
            acks_after: VecDeque::new(),
            acks_due: BTreeSet::new(),
            opening: false,
            warned: false,
        }
    }

    /// Records the beginning of the instance.
    pub(super) fn open(&mut self, opened: &Opened) -> Result<(), Stop> {
        self.opening = true;
        if opened.input.is_some() {
            // No other role may learn of a session that a crash would forget.
            self.pending.urgent = true;
            self.barrier = self.number;
        }
        self.pending.changes.push(record::open(self.instance, opened).map_err(|error| Stop::unstorable(&error))?);
        Ok(())
    }

    /// Adds `record` to the next write.
    pub(super) fn record(&mut self, record: &Record, urgency: Urgency) -> Result<(), Stop> {
        if urgency == Urgency::Result {
            self.barrier = self.number;
        }
        let change = record.change(self.instance).map_err(|error| Stop::unstorable(&error))?;
        change.check().map_err(|error| Stop::Unstorable { reason: error.to_string() })?;
        self.pending.changes.push(change);
        self.pending.urgent |= urgency != Urgency::Lazy;
        Ok(())
    }

    /// Removes `record` with the next write.
    pub(super) fn unrecord(&mut self, record: &Record) {
        self.pending.changes.push(record::remove(self.instance, record));
    }

    /// Adds changes that are no records to the next write.
    pub(super) fn change(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.pending.changes.extend(changes);
    }

    /// Makes the next write urgent.
    pub(super) fn hurry(&mut self) {
        self.pending.urgent = true;
    }

    /// Makes the write `after` urgent if it has not been made yet.
    pub(super) fn hurry_for(&mut self, after: u64) {
        self.pending.urgent |= after == self.number;
    }

    /// Drops what has not been written yet.
    pub(super) fn discard(&mut self) {
        self.pending = Pending::default();
    }

    /// The number of the next write.
    pub(super) fn next(&self) -> u64 {
        self.number
    }

    /// The number of the write that makes everything so far durable.
    pub(super) fn all_so_far(&self) -> u64 {
        if self.pending.changes.is_empty() { self.number - 1 } else { self.number }
    }

    /// The write that everything sent now waits for.
    pub(super) fn barrier(&self) -> u64 {
        self.barrier
    }

    /// Makes everything sent from now on wait for all that is recorded.
    pub(super) fn raise_barrier(&mut self) {
        self.barrier = self.barrier.max(self.all_so_far());
    }

    pub(super) fn is_synced(&self, write: u64) -> bool {
        write <= self.synced
    }

    /// Whether a result is not on disk yet.
    pub(super) fn has_unsynced_results(&self) -> bool {
        self.barrier > self.synced
    }

    /// Whether everything is on disk, and nothing waits to be acknowledged.
    pub(super) fn is_durable(&self) -> bool {
        let written = self.pending.changes.is_empty() && self.pending.acks.is_empty() && self.synced + 1 == self.number;
        written && self.acks_after.is_empty()
    }

    /// Whether so much is pending that a loop has to wait for the disk. Otherwise a program that never waits would
    /// fill the memory.
    pub(super) fn is_crowded(&self) -> bool {
        self.pending.changes.len() >= PENDING_CHANGES_MAX
    }

    /// Turns the pending changes (and a local step with them) into the next write.
    pub(super) fn flush(&mut self, local: Option<LocalJob>) -> Option<Write> {
        if local.is_none() && self.pending.changes.is_empty() {
            return None;
        }
        let Pending { changes, acks, urgent } = std::mem::take(&mut self.pending);
        self.acks_after.extend(acks.into_iter().map(|receipt| (self.number, receipt)));
        let write = Write { number: self.number, changes, urgent: urgent || local.is_some(), local };
        self.number += 1;
        Some(write)
    }

    /// Acknowledges once everything that is written or pending now is durable. Returns the receipt if that is now.
    pub(super) fn ack_when_written(&mut self, receipt: Option<Receipt>) -> Option<Receipt> {
        let receipt = receipt.filter(|receipt| !self.acks_due.contains(receipt))?;
        if self.pending.changes.is_empty() && self.is_synced(self.all_so_far()) {
            return Some(receipt);
        }
        self.acks_due.insert(receipt.clone());
        if self.pending.changes.is_empty() {
            self.acks_after.push_back((self.all_so_far(), receipt));
        } else {
            self.pending.acks.push(receipt);
        }
        None
    }

    /// Acknowledges once the next write is durable, which follows in any case.
    pub(super) fn ack_with_next_write(&mut self, receipt: Option<Receipt>) {
        // A frame that arrives several times meanwhile is listed once.
        let receipt = receipt.filter(|receipt| self.acks_due.insert(receipt.clone()));
        self.pending.acks.extend(receipt);
    }

    /// Notes that write `number` is durable. Returns whether that is the beginning of the instance, and what is to be
    /// acknowledged.
    pub(super) fn note_synced(&mut self, number: u64) -> (bool, Vec<Receipt>) {
        self.synced = self.synced.max(number);
        let mut acks = Vec::new();
        while let Some((_, receipt)) = self.acks_after.pop_front_if(|(after, _)| *after <= number) {
            self.acks_due.remove(&receipt);
            acks.push(receipt);
        }
        (std::mem::take(&mut self.opening), acks)
    }

    /// Whether to warn that the journal has become too long. Returns true once.
    pub(super) fn has_become_long(&mut self, records: usize, records_max: usize) -> bool {
        records > records_max && !std::mem::replace(&mut self.warned, true)
    }

    /// What the hashes of the other parts are relative to.
    pub(super) fn since(&self, now_ms: u64) -> Since {
        Since { synced: self.synced, now_ms }
    }

    pub(super) fn digest(&self, since: Since, hasher: &mut impl Hasher) {
        let Self {
            instance: _,
            pending,
            number,
            synced: _,
            barrier,
            acks_after,
            // `pending` and `acks_after` contain these receipts.
            acks_due: _,
            opening,
            warned,
        } = self;
        (pending, since.ahead(*number), since.ahead(*barrier), opening, warned, acks_after.len()).hash(hasher);
        for (after, receipt) in acks_after {
            (since.ahead(*after), receipt).hash(hasher);
        }
    }
}

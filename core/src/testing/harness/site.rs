//! One role of a run: its disk, its current life, and what is to happen to it.
//!
//! This module knows no other role. Next: `driver`, which keeps the life.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::base::id::{Path, RoleIndex};
use crate::base::located::Service;
use crate::contract::{Batch, Change, Space};
use crate::driver::RoleDriver;
use crate::machine::Outgoing;
use crate::record::{Record, read_value};
use crate::testing::disk::Disk;
use crate::testing::setup::Signal;

/// One role; see the module's documentation.
pub(super) struct RoleSite {
    pub(super) disk: Disk,
    pub(super) driver: RoleDriver,
    /// Whether something has happened to the role since its last turn.
    pub(super) due: Arc<AtomicBool>,
    /// The numbers of the frames that have arrived since the last retransmission.
    pub(super) arrived: BTreeSet<u64>,
    pub(super) signals: Vec<Signal>,
    /// The messages that the next life resends; see [`Effects::lacking`](crate::machine::Effects::lacking).
    pub(super) lacking: BTreeSet<(Path, RoleIndex)>,
    pub(super) service: Service,
}

impl RoleSite {
    pub(super) fn new(service: Service) -> Self {
        Self {
            disk: Disk::default(),
            driver: RoleDriver::default(),
            due: Arc::default(),
            arrived: BTreeSet::new(),
            signals: Vec::new(),
            lacking: BTreeSet::new(),
            service,
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.driver.instance().is_some()
    }

    /// The next frame to arrive from here.
    pub(super) fn next_arrival(&self) -> Option<(&u64, &Outgoing)> {
        self.driver.outbox().iter().find(|(number, _)| !self.arrived.contains(number))
    }

    /// Makes the next write durable. Returns its number, and everything that was stored.
    pub(super) fn sync(&mut self) -> Option<(u64, Batch)> {
        let (disk, mut stored) = (&mut self.disk, Batch::new());
        let number = self.driver.sync(|write| {
            let (batch, local) = disk.prepare(write);
            disk.apply(batch.clone());
            stored = batch;
            local
        });
        Some((number?, stored))
    }
}

/// Whether a change records something that was drawn, or depended on time.
pub(super) fn is_drawn(change: &Change) -> bool {
    let record = change.value.as_ref().filter(|_| change.space == Space::Journal);
    let record = record.and_then(|value| read_value::<Record>(Space::Journal, value).ok());
    let Some(Record::Observed { name, .. }) = record else { return false };
    // The other observations follow from what is sent and done.
    name != "saga" && name != "vote" && !name.starts_with("signal ") && !name.starts_with("signals ")
}

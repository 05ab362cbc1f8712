//! Fills stores with closed sessions, fast: the rows that a node leaves of each, without running them.
//!
//! What running them would leave besides, the marks of removed journals, is gone after the next compaction.

use std::path::Path;
use std::sync::Arc;

use accompanist::contract::{Batch, Change, Space, Store};
use accompanist::id::{InstanceId, RoleIndex, SessionId};
use accompanist::store::FjallStore;
use accompanist::{Choreography, Durability, NodeId, Role};
use accompanist_core::frame::{Header, Outcome};
use accompanist_core::record::{self, Closed};
use anyhow::Result;

use crate::saga::{Loyalty, Payment, Warehouse, WarehouseOrder};

/// Sessions of each batch.
const BATCH: u64 = 1_000;
/// Closed sessions of one millisecond, as on a busy node.
const PER_MS: u64 = 10;

/// Makes the stores of all three roles in `folder`, with `count` closed sessions in each.
pub(crate) fn closed(folder: &Path, count: u64) -> Result<()> {
    let cast = [Warehouse::NAME, Payment::NAME, Loyalty::NAME];
    let header = Arc::new(Header {
        choreography: WarehouseOrder::NAME.into(),
        version: WarehouseOrder::VERSION,
        initiator: RoleIndex(0),
        cast: cast.iter().map(NodeId::new).collect::<Result<_, _>>()?,
        started_unix_ms: unix_ms(),
        deadline_unix_ms: None,
        patches: Vec::new(),
        traceparent: None,
    });
    for (role, name) in (0..).map(RoleIndex).zip(cast) {
        let mut store = FjallStore::open(folder.join(name))?.durability(Durability::Process);
        let output = (role == header.initiator).then(|| vec![2].into());
        let closed = Closed { header: header.clone(), outcome: Outcome::Finished, output };
        for first in (0..count).step_by(usize::try_from(BATCH)?) {
            let mut batch = Batch::new();
            for number in first..count.min(first + BATCH) {
                // The same sessions at all three.
                let closed_unix_ms = header.started_unix_ms - (count - number) / PER_MS;
                let session = SessionId::fresh(closed_unix_ms, u128::from(number) << 48);
                batch.extend(rows(InstanceId { session, role }, closed_unix_ms, &closed)?);
            }
            store.apply(batch)?;
        }
        store.durability(Durability::Power).sync()?;
    }
    Ok(())
}

/// The tombstone, and its place in the order of closing.
fn rows(id: InstanceId, closed_unix_ms: u64, closed: &Closed) -> Result<Batch> {
    let mut batch = record::close(id, closed, Vec::new())?;
    batch.retain(|change| change.value.is_some()); // Nothing was opened.
    let bytes: usize = batch.iter().map(|change| change.key.len() + change.value.as_ref().map_or(0, Vec::len)).sum();
    let key = [&closed_unix_ms.to_be_bytes()[..], &id.to_bytes()].concat();
    batch.push(Change { space: Space::Ended, key, value: Some(record::value_bytes(&(bytes as u64))?) });
    Ok(batch)
}

fn unix_ms() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default(); // No clock stands before it.
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

//! The audit trail: who changed what through the administrative interface, and with which result. Kept in the node's
//! store; bounded, the oldest entry goes first.
//!
//! An entry is on disk before its action begins, and is completed after it: an action that a crash interrupts is there
//! without a result.

use accompanist_core::contract::{Batch, Change, Direction, KeyRange, Space, Store, StoreError};
use accompanist_core::message::CodecError;
use accompanist_core::record::{read_value, value_bytes};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::text::cut;
use crate::runtime::context::NodeContext;
use crate::writer::Job;

/// The prefix of the entries' keys in [`Space::Meta`].
const AUDIT_KEY: &[u8] = b"audit/";
/// The most entries that are kept.
const ENTRIES_MAX: u64 = 4_096;
/// The most entries in one reply.
const PAGE_MAX: usize = 256;
/// The longest text of an entry, in bytes; longer ones are cut.
const TEXT_BYTES_MAX: usize = 1_024;

/// One change through the administrative interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditEntry {
    /// The entry's number at this node, from 1.
    pub number: u64,
    /// When it began, by the node's clock.
    pub unix_ms: u64,
    /// Who asked, as the network or the process knows it.
    pub caller: String,
    /// Who asked, as the tool says.
    pub by: Option<String>,
    /// What was asked, as JSON.
    pub request: String,
    /// What came of it; absent while it is under way, or if the node ended before.
    pub result: Option<String>,
}

fn key(number: u64) -> Vec<u8> {
    [AUDIT_KEY, &number.to_be_bytes()].concat()
}

/// Returns a page of entries before the number `before`, the latest first.
pub(super) fn page(
    store: &dyn Store,
    before: Option<u64>,
    limit: Option<usize>,
) -> Result<Vec<AuditEntry>, StoreError> {
    let mut keys = KeyRange::under(AUDIT_KEY);
    if let Some(before) = before {
        keys.to = Some(key(before));
    }
    let limit = limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
    let entries = store.range(Space::Meta, &keys, Direction::Backward, limit)?;
    entries.iter().map(|(_, value)| read_value(Space::Meta, value)).collect()
}

/// Begins an entry: it is on disk when this returns.
pub(super) async fn begin(
    context: &NodeContext,
    caller: &str,
    by: Option<&str>,
    request: String,
) -> Result<AuditEntry, StoreError> {
    // One at a time, so that no two entries get one number.
    let _turn = context.admissions.audit.lock().await;
    let last = context.writer.read(|store| page(store, None, Some(1))).await?;
    let number = last.first().map_or(0, |entry| entry.number) + 1;
    let entry = AuditEntry {
        number,
        unix_ms: context.environment.unix_ms(),
        caller: cut(caller.to_owned(), TEXT_BYTES_MAX),
        by: by.map(|by| cut(by.to_owned(), TEXT_BYTES_MAX)),
        request: cut(request, TEXT_BYTES_MAX),
        result: None,
    };
    let mut changes = vec![change(&entry).map_err(|error| StoreError::Failed(error.to_string()))?];
    if let Some(oldest) = number.checked_sub(ENTRIES_MAX) {
        changes.push(Change { space: Space::Meta, key: key(oldest), value: None });
    }
    write(context, changes).await?;
    Ok(entry)
}

/// Completes an entry with what came of it.
pub(super) async fn complete(context: &NodeContext, entry: AuditEntry, result: String) {
    let entry = AuditEntry { result: Some(cut(result, TEXT_BYTES_MAX)), ..entry };
    let written = match change(&entry) {
        Ok(change) => write(context, vec![change]).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = written {
        tracing::warn!(error, number = entry.number, "the result of an operator's request is not in the audit trail");
    }
}

fn change(entry: &AuditEntry) -> Result<Change, CodecError> {
    Ok(Change { space: Space::Meta, key: key(entry.number), value: Some(value_bytes(entry)?) })
}

async fn write(context: &NodeContext, changes: Batch) -> Result<(), StoreError> {
    let (reply, answer) = oneshot::channel();
    let done = Box::new(move |written| drop(reply.send(written))); // The caller may have gone.
    context.writer.submit(Job::Change { changes, done });
    answer.await.map_err(|_| StoreError::Closed)?
}

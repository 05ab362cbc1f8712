//! An instance as it is on disk, with its journal.

use accompanist_core::contract::{Direction, Entry, KeyRange, Space, Store, StoreError};
use accompanist_core::id::InstanceId;
use accompanist_core::record::{Opened, Record, read_value};

use super::handle::Loaded;

/// Returns all records of an instance. The finished turns of a loop are skipped: however many there were, the
/// deletion markers that a database keeps for them cost nothing.
fn records(store: &dyn Store, id: InstanceId) -> Result<Vec<Record>, StoreError> {
    let mut records = read(&store.scan(Space::Journal, &Record::checkpoints(id), None, usize::MAX)?)?;
    let over = records.iter().filter_map(|record| match record {
        Record::Checkpoint { path, turn, .. } => {
            let key = |turn| Record::events_in(id, &path.child(turn));
            Some((key(0), key(*turn)))
        }
        _ => None,
    });
    let (mut over, end): (Vec<_>, _) = (over.collect(), Record::events_end(id));
    over.sort();
    over.push((end.clone(), end));
    let mut after = Record::events_in(id, &accompanist_core::Path::root());
    for (from, until) in over {
        let keys = KeyRange { from: after, to: Some(from) };
        records.extend(read(&store.range(Space::Journal, &keys, Direction::Forward, usize::MAX)?)?);
        after = until;
    }
    Ok(records)
}

/// Loads what the store knows of an instance.
pub(crate) fn load(store: &dyn Store, id: InstanceId) -> Result<Loaded, StoreError> {
    let key = id.to_bytes();
    if let Some(bytes) = store.get(Space::Open, &key)? {
        let opened = read_value(Space::Open, &bytes)?;
        return Ok(Loaded::Open(opened, records(store, id)?));
    }
    match store.get(Space::Closed, &key)? {
        Some(bytes) => Ok(Loaded::Closed(read_value(Space::Closed, &bytes)?)),
        None => Ok(Loaded::Nothing),
    }
}

/// The readable part of an open instance, for an operator: one damaged row does not hide the others.
pub(crate) struct Readable {
    pub(crate) opened: Opened,
    pub(crate) records: Vec<Record>,
    /// The keys of the records that cannot be read.
    pub(crate) damaged: Vec<Vec<u8>>,
}

/// Returns what can be read of the instance, if it is open.
pub(crate) fn load_readable(store: &dyn Store, id: InstanceId) -> Result<Option<Readable>, StoreError> {
    let Some(opened) = store.get(Space::Open, &id.to_bytes())? else { return Ok(None) };
    let opened = read_value(Space::Open, &opened)?;
    let (mut records, mut damaged) = (Vec::new(), Vec::new());
    for (key, value) in store.scan(Space::Journal, &id.to_bytes(), None, usize::MAX)? {
        match read_value(Space::Journal, &value) {
            Ok(record) => records.push(record),
            Err(_) => damaged.push(key),
        }
    }
    Ok(Some(Readable { opened, records, damaged }))
}

fn read(entries: &[Entry]) -> Result<Vec<Record>, StoreError> {
    entries.iter().map(|(_, value)| read_value(Space::Journal, value)).collect()
}

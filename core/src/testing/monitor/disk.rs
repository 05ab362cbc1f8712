//! The content of a node's disk, reconstructed from its batches: what is durable, what a crash puts at risk, and both
//! together.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::{Verdict, Violation, require};
use crate::base::abort::Abort;
use crate::base::id::{InstanceId, NodeId, Path};
use crate::base::message::decode;
use crate::contract::{Batch, Space};
use crate::record::{Closed, Opened, Record, read_value};

/// A decoded change.
#[derive(Debug, Clone)]
pub(super) enum Fact {
    Opened(InstanceId, Option<Arc<Opened>>),
    Closed(InstanceId, Option<Arc<Closed>>),
    Record(InstanceId, Vec<u8>, Option<Arc<Record>>),
    /// A tombstone's entry in the order of closing.
    Place(InstanceId, bool),
    /// The session that a caller's key stands for.
    Key(Vec<u8>, Option<Vec<u8>>),
    /// A change of the built-in state.
    State,
}

impl Fact {
    pub(super) fn instance(&self) -> Option<InstanceId> {
        match self {
            Self::Opened(id, _) | Self::Closed(id, _) | Self::Record(id, ..) | Self::Place(id, _) => Some(*id),
            Self::Key(..) | Self::State => None,
        }
    }
}

/// Decodes a batch.
pub(super) fn read(batch: &Batch) -> Result<Vec<Fact>, Violation> {
    let mut facts = Vec::with_capacity(batch.len());
    for change in batch {
        let (space, key, value) = (change.space, &change.key, change.value.as_deref());
        let unreadable = |reason: String| Violation::new(27, format!("a change of `{space}` cannot be read: {reason}"));
        let strange = || unreadable(format!("its key {key:?} names no instance"));
        let head = |from: usize| InstanceId::from_bytes(key.get(from..from + InstanceId::BYTES)?);
        facts.push(match space {
            Space::Meta | Space::Dead => continue,
            Space::State => Fact::State,
            Space::Keys => Fact::Key(key.clone(), change.value.clone()),
            Space::Ended => Fact::Place(head(size_of::<u64>()).ok_or_else(strange)?, value.is_some()),
            Space::Open => Fact::Opened(head(0).ok_or_else(strange)?, read_as(space, value)?),
            Space::Closed => Fact::Closed(head(0).ok_or_else(strange)?, read_as(space, value)?),
            Space::Journal => Fact::Record(head(0).ok_or_else(strange)?, key.clone(), read_as(space, value)?),
        });
    }
    Ok(facts)
}

fn read_as<T: serde::de::DeserializeOwned>(space: Space, value: Option<&[u8]>) -> Result<Option<Arc<T>>, Violation> {
    let read = value.map(|bytes| read_value(space, bytes)).transpose();
    read.map(|value| value.map(Arc::new)).map_err(|error| Violation::new(27, error.to_string()))
}

/// A record, and when it was applied.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) record: Arc<Record>,
    pub(super) at: u64,
}

/// The content of a disk that concerns one instance.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) opened: Option<Arc<Opened>>,
    pub(super) closed: Option<Arc<Closed>>,
    pub(super) records: BTreeMap<Vec<u8>, Entry>,
    /// Whether the instance has an entry in the order of closing.
    pub(super) place: bool,
}

impl Seen {
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values().map(|entry| entry.record.as_ref())
    }

    pub(super) fn take(&mut self, fact: &Fact, at: u64) {
        match fact {
            Fact::Opened(_, opened) => self.opened.clone_from(opened),
            Fact::Closed(_, closed) => self.closed.clone_from(closed),
            Fact::Record(_, key, Some(record)) => {
                self.records.insert(key.clone(), Entry { record: record.clone(), at });
            }
            Fact::Record(_, key, None) => {
                self.records.remove(key);
            }
            Fact::Place(_, place) => self.place = *place,
            Fact::Key(..) | Fact::State => {}
        }
    }

    fn is_nothing(&self) -> bool {
        self.opened.is_none() && self.closed.is_none() && self.records.is_empty() && !self.place
    }

    /// The loops, and how many turns of each have ended here.
    pub(super) fn turns_over(&self) -> impl Iterator<Item = (&Path, u32)> {
        self.records().filter_map(|record| match record {
            Record::Checkpoint { path, turn, .. } => Some((path, *turn)),
            _ => None,
        })
    }

    /// The bodies of the sagas that are aborted according to this instance's disk: `p.0` of the saga `p`.
    fn aborted_sagas(&self) -> impl Iterator<Item = Path> {
        self.records().filter_map(|record| {
            let (saga, verdict) = match record {
                Record::Observed { path, name, result } if name == "saga" => (path.clone(), result),
                Record::Observed { path, name, result } if name == "vote" => (path.scopes().next()?, result),
                Record::Received { path, operation: crate::frame::Operation::Verdict, payload, .. } => {
                    (path.scopes().next()?, payload)
                }
                _ => return None,
            };
            let verdict: Result<(), Abort> = decode(verdict.as_slice()).ok()?;
            verdict.is_err().then(|| saga.child(0))
        })
    }

    /// The innermost aborted saga around a step; `None` stands for the session.
    pub(super) fn aborted_saga(&self, path: &Path) -> Option<Path> {
        self.aborted_sagas().filter(|body| path.is_in(body)).max()
    }
}

/// The content of a disk at some moment.
#[derive(Debug, Clone, Default)]
struct View {
    instances: BTreeMap<InstanceId, Seen>,
    keys: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl View {
    fn take(&mut self, facts: &[Fact], at: u64) {
        for fact in facts {
            match (fact, fact.instance()) {
                (Fact::Key(key, Some(value)), _) => drop(self.keys.insert(key.clone(), value.clone())),
                (Fact::Key(key, None), _) => drop(self.keys.remove(key)),
                (_, None) => {}
                (_, Some(id)) => {
                    let seen = self.instances.entry(id).or_default();
                    seen.take(fact, at);
                    if seen.is_nothing() {
                        self.instances.remove(&id);
                    }
                }
            }
        }
    }
}

/// The mirror of a disk. See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Disk {
    durable: View,
    unsynced: VecDeque<(Vec<Fact>, u64)>,
    ahead: View,
}

impl Disk {
    pub(super) fn apply(&mut self, facts: Vec<Fact>, at: u64) {
        self.ahead.take(&facts, at);
        self.unsynced.push_back((facts, at));
    }

    /// Makes the first `count` batches durable, or all if there are fewer. Returns them.
    pub(super) fn sync(&mut self, count: usize) -> Vec<Vec<Fact>> {
        let count = count.min(self.unsynced.len());
        let synced: Vec<_> = self.unsynced.drain(..count).collect();
        for (facts, at) in &synced {
            self.durable.take(facts, *at);
        }
        synced.into_iter().map(|(facts, _)| facts).collect()
    }

    /// Discards everything that is not durable.
    pub(super) fn lose(&mut self) {
        if !self.unsynced.is_empty() {
            self.unsynced.clear();
            self.ahead = self.durable.clone();
        }
    }

    /// The content that concerns one instance, including unsynced changes.
    pub(super) fn seen(&self, id: InstanceId) -> Option<&Seen> {
        self.ahead.instances.get(&id)
    }

    pub(super) fn key(&self, key: &[u8]) -> Option<&Vec<u8>> {
        self.ahead.keys.get(key)
    }

    pub(super) fn instances(&self) -> impl Iterator<Item = (InstanceId, &Seen)> {
        self.ahead.instances.iter().map(|(id, seen)| (*id, seen))
    }

    /// Checks that a store that has just been opened contains everything it must.
    pub(super) fn compare(&self, node: &NodeId, found: &[Fact]) -> Verdict {
        let mut view = View::default();
        view.take(found, 0);
        for (id, durable) in &self.durable.instances {
            let found = view.instances.get(id).cloned().unwrap_or_default();
            let same = durable.opened == found.opened && durable.closed == found.closed;
            require(same, 1, || format!("{node} has lost how {id} began or ended"))?;
            for (key, entry) in &durable.records {
                let record = found.records.get(key).map(|entry| &entry.record);
                let same = record == Some(&entry.record);
                require(same, 1, || format!("{id} at {node} had {:?}, and comes back with {record:?}", entry.record))?;
            }
        }
        Ok(())
    }
}

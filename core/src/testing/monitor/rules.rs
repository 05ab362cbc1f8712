//! The rules for batches: each compares the state of an instance on disk before and after a batch.

use std::collections::{BTreeMap, BTreeSet};

use super::disk::{Entry, Fact, Seen};
use super::session::{are_alike, is_over};
use super::{InvariantMonitor, Verdict, require};
use crate::base::id::{InstanceId, NodeId, Path};
use crate::frame::Outcome;
use crate::language::context::is_timer;
use crate::record::Record;

/// An instance before and after a batch.
struct Change<'a> {
    id: InstanceId,
    node: &'a NodeId,
    before: &'a Seen,
    after: &'a Seen,
}

impl Change<'_> {
    fn added(&self) -> impl Iterator<Item = &Record> {
        let added =
            self.after.records.iter().filter(|(key, entry)| {
                self.before.records.get(*key).is_none_or(|before| before.record != entry.record)
            });
        added.map(|(_, entry)| entry.record.as_ref())
    }
}

impl InvariantMonitor {
    /// Returns the first rule that a batch breaks.
    pub(super) fn judge(&self, node: &NodeId, facts: &[Fact]) -> Verdict {
        let nothing = Seen::default();
        let disk = self.disks.get(node);
        let mut touched: BTreeMap<InstanceId, Seen> = BTreeMap::new();
        for fact in facts {
            let Some(id) = fact.instance() else { continue };
            let before = || disk.and_then(|disk| disk.seen(id)).cloned().unwrap_or_default();
            touched.entry(id).or_insert_with(before).take(fact, self.now);
        }
        for (id, after) in &touched {
            let before = disk.and_then(|disk| disk.seen(*id)).unwrap_or(&nothing);
            let change = Change { id: *id, node, before, after };
            keeps_records(&change)?;
            self.opens(&change)?;
            self.records(&change)?;
            self.closes(&change)?;
        }
        self.commits_once(node, facts)?;
        let is_result = |fact: &Fact| match fact {
            Fact::Record(_, _, Some(record)) => {
                matches!(record.as_ref(), Record::Committed { result: Ok(_), .. } | Record::Compensated { .. })
            }
            _ => false,
        };
        let changes_state = facts.iter().any(|fact| matches!(fact, Fact::State));
        require(!changes_state || facts.iter().any(is_result), 12, || {
            format!("{node} changes its state in a batch without the record of any step")
        })
    }

    fn opens(&self, Change { id, node, before, after }: &Change<'_>) -> Verdict {
        let facts = self.sessions.get(&id.session);
        let Some(opened) = &after.opened else {
            let stray = after.records().next();
            return require(stray.is_none(), 21, || format!("{id} is not open at {node}, and has a record {stray:?}"));
        };
        let known = facts.and_then(|facts| facts.header.as_ref());
        require(known.is_none_or(|known| *known == opened.header), 32, || {
            format!("{id} begins at {node} with the header {:?}, the session has {known:?}", opened.header)
        })?;
        let closed = facts.and_then(|facts| facts.roles.get(&id.role)).is_some_and(|role| role.closed.is_some());
        let begins = before.opened.is_none();
        require(!(begins && (closed || before.closed.is_some())), 21, || {
            format!(
                "{id} begins at {node} once more, and was closed there (if the tombstone was collected: is `age_min` \
                 longer than a packet may travel?)"
            )
        })
    }

    /// Checks the new records of the journal.
    fn records(&self, change: &Change<'_>) -> Verdict {
        let (id, after) = (change.id, change.after);
        for record in change.added() {
            self.is_as_sent(id.session, id.role, record)?;
            match record {
                Record::Ended { outcome, .. } => self.is_heard(id, after, *outcome != Outcome::Finished)?,
                Record::Compensated { path } if !self.header_says_backwards(id) => latest_first(change, path)?,
                Record::Committed { path, .. } => {
                    let others = self.sessions.get(&id.session).into_iter().flat_map(|facts| &facts.roles);
                    let other = others.filter(|(role, _)| **role != id.role).find(|(_, role)| role.has_step(path));
                    require(other.is_none(), 2, || format!("{id} commits {path}, which another role has committed"))?;
                    let outside = self.sessions.get(&id.session).is_some_and(|facts| facts.effects.contains_key(path));
                    let intended =
                        after.records().any(|other| matches!(other, Record::Intended { path: at, .. } if at == path));
                    require(!outside || intended, 11, || {
                        format!("{id} has committed {path}, and has no intent of it")
                    })?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn closes(&self, Change { id, node, before, after }: &Change<'_>) -> Verdict {
        require(after.closed.is_some() == after.place, 35, || {
            let [tombstone, place] = [after.closed.is_some(), after.place];
            format!(
                "{id} at {node}: a tombstone ({tombstone}) without a place in the order of closing ({place}), or the \
                 other way"
            )
        })?;
        let Some(closed) = after.closed.as_ref().filter(|_| before.closed.is_none()) else {
            let same = before.closed.is_none() || after.closed.is_none() || before.closed == after.closed;
            return require(same, 21, || format!("the tombstone of {id} at {node} changes"));
        };
        let empty = after.opened.is_none() && after.records.is_empty();
        require(empty, 21, || format!("{id} at {node} is closed, and its journal stays"))?;
        let Some(facts) = self.sessions.get(&id.session) else { return Ok(()) };
        let unlike = facts.not_ended_as(&closed.outcome);
        require(unlike.is_empty(), 20, || {
            let roles = self.role_names(id.session, &unlike);
            format!("{id} closes at {node} with {:?}, and {roles} has no durable end of that kind", closed.outcome)
        })?;
        let steps = before.records().filter_map(|record| match record {
            Record::Committed { path, result: Ok(_), .. } => Some(path),
            _ => None,
        });
        let compensated: BTreeSet<&Path> = compensated(before).collect();
        for path in steps {
            let in_saga = before.aborted_saga(path).is_some();
            let is_compensated = compensated.contains(path);
            match closed.outcome {
                Outcome::Finished if in_saga => require(is_compensated, 42, || {
                    format!("{id} has finished, and {path} of an aborted saga is not compensated")
                })?,
                Outcome::Finished => {
                    require(!is_compensated, 3, || format!("{id} has finished, and {path} is compensated"))?;
                }
                Outcome::Compensated(_) => require(is_compensated || facts.is_final(before, path), 3, || {
                    format!("{id} closes as compensated, and {path} is not compensated")
                })?,
            }
        }
        Ok(())
    }

    /// Checks that a step is recorded as committed only once, and that a key is given to only one session.
    fn commits_once(&self, node: &NodeId, facts: &[Fact]) -> Verdict {
        let Some(disk) = self.disks.get(node) else { return Ok(()) };
        for fact in facts {
            match fact {
                Fact::Record(id, key, Some(record)) if matches!(record.as_ref(), Record::Committed { .. }) => {
                    let known = disk.seen(*id).and_then(|seen| seen.records.get(key));
                    require(known.is_none(), 2, || format!("{id} at {node} records a second time: {record:?}"))?;
                }
                Fact::Key(key, Some(value)) if key.first() == Some(&b'k') => {
                    let known = disk.key(key).and_then(|known| InstanceId::from_bytes(known));
                    let new = InstanceId::from_bytes(value);
                    require(known.is_none() || known == new, 33, || {
                        format!("a key that stands for {known:?} at {node} is given to {new:?}")
                    })?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn compensated(seen: &Seen) -> impl Iterator<Item = &Path> {
    seen.records().filter_map(|record| match record {
        Record::Compensated { path } => Some(path),
        _ => None,
    })
}

/// Checks that what is on disk stays unchanged until the instance closes, except for records that are meant to
/// change.
fn keeps_records(Change { id, node, before, after }: &Change<'_>) -> Verdict {
    if after.closed.is_some() {
        return Ok(());
    }
    require(before.opened.is_none() || after.opened.is_some(), 1, || {
        format!("{id} at {node} is gone, and not closed")
    })?;
    for (key, Entry { record, .. }) in &before.records {
        match (record.as_ref(), after.records.get(key).map(|entry| entry.record.as_ref())) {
            (before, Some(after)) if before == after => {}
            (Record::Troubled { .. } | Record::Quarantined { .. } | Record::Signalled { .. }, _)
            | (Record::Passivated(_), Some(_)) => {}
            // The commit had not started when the session was aborted.
            (Record::Intended { path, .. }, None) if !has_result(before, path) => {}
            // The timer is over.
            (Record::Observed { name, .. }, Some(Record::Observed { name: now, .. }))
                if name == now && is_timer(name) => {}
            (Record::Checkpoint { turn, .. }, Some(Record::Checkpoint { turn: next, .. })) if next > turn => {}
            (Record::Ended { outcome: Outcome::Finished, .. }, Some(Record::Ended { outcome, .. }))
                if !are_alike(outcome, &Outcome::Finished) => {}
            (record, None) if path_of(record).is_some_and(|path| is_over(after.turns_over(), path)) => {}
            (record, now) => {
                return require(false, 1, || format!("{id} at {node} had {record:?}, and now has {now:?}"));
            }
        }
    }
    Ok(())
}

fn has_result(seen: &Seen, path: &Path) -> bool {
    seen.records().any(|record| matches!(record, Record::Committed { path: at, .. } if at == path))
}

fn path_of(record: &Record) -> Option<&Path> {
    match record {
        Record::Received { path, .. }
        | Record::Observed { path, .. }
        | Record::Intended { path, .. }
        | Record::Committed { path, .. }
        | Record::Compensated { path }
        | Record::Checkpoint { path, .. } => Some(path),
        _ => None,
    }
}

/// Checks that no step committed later remains to be compensated, in the aborted scope.
fn latest_first(Change { id, before, after, .. }: &Change<'_>, path: &Path) -> Verdict {
    let order = |of: &Path| {
        let mut committed = after.records.values();
        committed.find_map(|Entry { record, at }| match record.as_ref() {
            Record::Committed { path, order, result: Ok(_), .. } if path == of => Some((*order, *at)),
            _ => None,
        })
    };
    let resolved = before.records().any(|record| matches!(record, Record::Troubled { path: at, .. } if at == path));
    let (Some((own, committed_at)), false) = (order(path), resolved) else { return Ok(()) };
    let scope = before.aborted_saga(path);
    for Entry { record, at } in before.records.values() {
        let Record::Compensated { path: other } = record.as_ref() else { continue };
        let same_scope = before.aborted_saga(other) == scope;
        // Compensations before this step was committed do not count.
        if let Some((earlier, _)) = order(other).filter(|_| same_scope && *at > committed_at) {
            require(earlier > own, 18, || {
                format!("{id} compensates {path} after {other}, which was committed before it")
            })?;
        }
    }
    Ok(())
}

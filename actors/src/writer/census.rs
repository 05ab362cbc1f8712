//! Counts how many open instances belong to sessions that have a given node in their cast. The instances in the store
//! are counted when a node drains; each group commit then updates the counts.
//!
//! This costs nothing while nobody asks. The module knows headers, but not the membership of nodes. The count reads
//! the store in pages, between two group commits. An instance written meanwhile is added if its key was already
//! passed; otherwise a later page sees it.

use std::collections::{BTreeMap, BTreeSet};

use accompanist_core::NodeId;
use accompanist_core::contract::{Change, Space, Store, StoreError};
use accompanist_core::frame::Header;
use accompanist_core::record::{Closed, Opened, read_value};
use metrics::gauge;

use super::handle::Done;
use crate::base::metric;

/// How many open instances one page counts: about a millisecond's work.
const PAGE: usize = 256;

/// The number of instances, by node.
pub(crate) type Counts = BTreeMap<NodeId, u64>;

/// A request to count instances.
pub(crate) struct CensusQuery {
    /// The nodes to count for; with none, counting ends.
    pub(crate) nodes: BTreeSet<NodeId>,
    /// The node whose store this is. An opening that cannot be read is counted for this node only.
    pub(crate) own: NodeId,
    /// Called once, when all earlier writes are on disk and counted.
    pub(crate) done: Done<Counts>,
    /// Called whenever a count has dropped to 0, until somebody asks again.
    pub(crate) emptied: Option<Box<dyn Fn() + Send>>,
}

/// An opening or a closing in the group that is being committed.
struct CastChange {
    key: Vec<u8>,
    cast: Vec<NodeId>,
    opens: bool,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Census {
    counts: Counts,
    /// All instances up to this key are counted; `None` once all are.
    counting: Option<Vec<u8>>,
    noted: Vec<CastChange>,
    waiting: Vec<Done<Counts>>,
    emptied: Option<Box<dyn Fn() + Send>>,
    own: Option<NodeId>,
    /// The gauge's current value for this node.
    shown: u64,
}

impl Census {
    pub(super) fn ask(&mut self, question: CensusQuery) {
        let CensusQuery { nodes, own, done, emptied } = question;
        if !self.counts.keys().eq(&nodes) {
            self.counting = (!nodes.is_empty()).then(Vec::new);
            self.counts = nodes.into_iter().map(|node| (node, 0)).collect();
        }
        self.own = Some(own);
        self.emptied = emptied.or(self.emptied.take());
        self.waiting.push(done);
    }

    pub(super) fn is_counting(&self) -> bool {
        self.counting.is_some()
    }

    /// Records an instance's changes that are about to be written.
    pub(super) fn note(&mut self, changes: &[Change]) {
        if self.counts.is_empty() {
            return;
        }
        for change in changes {
            let Some(value) = &change.value else { continue };
            let header = match change.space {
                Space::Open => read_value(Space::Open, value).map(|opened: Opened| opened.header),
                Space::Closed => read_value(Space::Closed, value).map(|closed: Closed| closed.header),
                _ => continue,
            };
            // The writer wrote the value, so it can be read.
            if let Ok(header) = header {
                let (key, cast) = (change.key.clone(), self.concerned(&header));
                self.noted.push(CastChange { key, cast, opens: change.space == Space::Open });
            }
        }
    }

    fn concerned(&self, header: &Header) -> Vec<NodeId> {
        let nodes: BTreeSet<_> = header.cast.iter().filter(|node| self.counts.contains_key(*node)).collect();
        nodes.into_iter().cloned().collect()
    }

    /// Applies the recorded changes, which are now on disk. Answers, if everything is counted.
    pub(super) fn committed(&mut self) {
        let mut emptied = false;
        for CastChange { key, cast, opens } in std::mem::take(&mut self.noted) {
            // The count has not reached this key yet, and will see it.
            if self.counting.as_ref().is_some_and(|counted_to| key > *counted_to) {
                continue;
            }
            for node in cast {
                let Some(count) = self.counts.get_mut(&node) else { continue };
                *count = if opens { *count + 1 } else { count.saturating_sub(1) };
                emptied |= *count == 0;
            }
        }
        self.answer();
        if let Some(tell) = self.emptied.as_ref().filter(|_| emptied && self.counting.is_none()) {
            tell();
        }
    }

    /// Counts a page. Call it only when all recorded changes are in the store.
    pub(super) fn page(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let entries = store.scan(Space::Open, &[], self.counting.as_deref().filter(|key| !key.is_empty()), PAGE)?;
        for (_, value) in &entries {
            let cast = match read_value(Space::Open, value) {
                Ok(Opened { header, .. }) => self.concerned(&header),
                // The instance is stopped, and belongs to this node in any case.
                Err(_) => self.own.iter().filter(|own| self.counts.contains_key(*own)).cloned().collect(),
            };
            for node in cast {
                *self.counts.entry(node).or_default() += 1;
            }
        }
        let complete = entries.len() < PAGE;
        self.counting = entries.into_iter().next_back().map(|(key, _)| key).filter(|_| !complete);
        self.answer();
        Ok(())
    }

    fn answer(&mut self) {
        if self.counting.is_some() {
            return;
        }
        self.show();
        for done in std::mem::take(&mut self.waiting) {
            done(Ok(self.counts.clone()));
        }
    }

    /// Refuses all questions from now on.
    pub(super) fn refuse(&mut self, error: &StoreError) {
        for done in std::mem::take(&mut self.waiting) {
            done(Err(error.clone()));
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge's numbers are floating, and exact up to 2^53")]
    fn show(&mut self) {
        let now = self.own.as_ref().and_then(|own| self.counts.get(own)).copied().unwrap_or_default();
        // Set by differences, so that the values of several nodes in one process add up.
        let before = std::mem::replace(&mut self.shown, now);
        gauge!(metric::DRAINING_INSTANCES).increment(now as f64 - before as f64);
    }
}

impl Drop for Census {
    fn drop(&mut self) {
        self.counts.clear();
        self.show();
    }
}

#[cfg(test)]
mod tests;

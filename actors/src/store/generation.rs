//! The openings of a store. Each opening is claimed and on disk before a node serves anything, so that other nodes
//! can distinguish an older copy, or a second one, from the store that they know (decision 0033). This module also
//! records why a node must not be started on the store again until an operator decides which store is to continue
//! (decision 0034).
//!
//! It handles rows and numbers, and knows no peers: `peers/openings.rs` compares the openings of others.

use accompanist_core::contract::{Batch, Change, Space, Store, StoreError};
use accompanist_core::frame::Generation;
use accompanist_core::record::{read_value, value_bytes};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The key of the latest opening in [`Space::Meta`].
const GENERATION_KEY: &[u8] = b"generation";
/// The key, in [`Space::Meta`], of the reason why the store is not served.
const HALT_KEY: &[u8] = b"halt";

/// The reason why a node has stopped, and cannot be started again on this store before an operator has decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Halt {
    /// The node that detected it.
    pub(crate) by: String,
    /// The opening of this store.
    pub(crate) own: Generation,
    /// The opening that is known instead, or that of the other owner.
    pub(crate) other: Generation,
    /// Whether the other store is in use.
    pub(crate) both_live: bool,
}

impl Halt {
    pub(crate) fn error(&self) -> StoreError {
        let (by, own, other) = (self.by.clone(), self.own.to_string(), self.other.to_string());
        if self.both_live {
            StoreError::TwoOwners { by, own, other }
        } else {
            StoreError::GoneBack { by, known: other, own }
        }
    }

    pub(crate) fn stored(&self) -> Batch {
        change(HALT_KEY, value_bytes(self).ok()).into()
    }
}

fn change(key: &[u8], value: Option<Vec<u8>>) -> [Change; 1] {
    [Change { space: Space::Meta, key: key.to_vec(), value }]
}

fn read<T: DeserializeOwned>(store: &dyn Store, key: &[u8]) -> Result<Option<T>, StoreError> {
    store.get(Space::Meta, key)?.map(|value| read_value(Space::Meta, &value)).transpose()
}

/// Returns the next opening of the store, and the changes that must be on disk before the opening is sent to anyone.
/// With `accept_restore` the opening supersedes all openings that the other nodes know.
pub(crate) fn claim(store: &dyn Store, id: u128, accept_restore: bool) -> Result<(Generation, Batch), StoreError> {
    let before: Generation = read(store, GENERATION_KEY)?.unwrap_or_default();
    let halt: Option<Halt> = read(store, HALT_KEY)?;
    if let Some(halt) = halt.as_ref().filter(|_| !accept_restore) {
        return Err(halt.error());
    }
    let restores = if accept_restore {
        // Above the restores of the store that others know, if that store is known.
        let others = halt.as_ref().map_or(0, |halt| halt.other.restores);
        before.restores.max(others).saturating_add(1)
    } else {
        before.restores
    };
    let opened = store.commits();
    let generation =
        Generation { restores, number: before.number.saturating_add(1), id, opened, batch: opened.saturating_add(1) };
    let value = value_bytes(&generation).map_err(|error| StoreError::Failed(error.to_string()))?;
    let mut changes = Batch::from(change(GENERATION_KEY, Some(value)));
    if halt.is_some() {
        changes.extend(change(HALT_KEY, None));
    }
    Ok((generation, changes))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::store::MemoryDisk;

    #[test]
    fn each_opening_counts_and_knows_how_far_the_store_was() {
        let mut store = MemoryDisk::default().open().unwrap();
        let mut opened = Vec::new();
        for id in 1..=3 {
            let (generation, changes) = claim(&store, id, false).unwrap();
            store.apply(changes).unwrap();
            store.sync().unwrap();
            opened.push((generation.number, generation.opened, generation.batch, store.commits()));
        }
        // The store's format is its first batch.
        assert_eq!(opened, [(1, 1, 2, 2), (2, 2, 3, 3), (3, 3, 4, 4)]);
    }

    #[test]
    fn a_store_that_was_halted_is_opened_once_the_restore_is_accepted() {
        let mut store = MemoryDisk::default().open().unwrap();
        let (own, changes) = claim(&store, 7, false).unwrap();
        store.apply(changes).unwrap();
        let other = Generation { restores: 4, number: 9, id: 8, opened: 20, batch: 30 };
        for (both_live, is_it) in [
            (false, (|error| matches!(error, StoreError::GoneBack { .. })) as fn(&StoreError) -> bool),
            (true, |error| matches!(error, StoreError::TwoOwners { .. })),
        ] {
            let halt = Halt { by: "shop".into(), own, other, both_live };
            store.apply(halt.stored()).unwrap();
            let error = claim(&store, 9, false).unwrap_err();
            assert!(is_it(&error) && error.to_string().contains("`shop`"), "{error}");
        }
        let (restored, changes) = claim(&store, 9, true).unwrap();
        assert_eq!(restored.order(), (5, 2));
        store.apply(changes).unwrap();
        assert_eq!(claim(&store, 10, false).unwrap().0.order(), (5, 3));
    }

    /// Later releases read these bytes from stores.
    #[test]
    fn the_bytes_of_generation_and_halt_stay() {
        let own = Generation { restores: 1, number: 2, id: 3, opened: 4, batch: 5 };
        assert_eq!(value_bytes(&own).unwrap(), b"\x01\x01\x02\x03\x04\x05");
        let halt = Halt { by: "b".into(), own, other: own, both_live: true };
        let stored = halt.stored().pop().unwrap().value.unwrap();
        assert_eq!(stored, b"\x01\x01b\x01\x02\x03\x04\x05\x01\x02\x03\x04\x05\x01");
    }
}

//! Which markers belong to which node's store: each start of a node pins them anew, and each step looks at the pin.
//!
//! The pin is a row among the markers, so that it goes where they go. The node's store keeps the same. A table that was
//! emptied, made anew or restored from an older copy has another pin or none, and is noticed. Knows no database's
//! statements. Next: `database.rs`.

use std::sync::{Arc, PoisonError, RwLock};

use accompanist_core::contract::{BoxFuture, Change, Environment, Space, Store, StoreError};
use accompanist_core::record::{read_value, value_bytes};
use serde::{Deserialize, Serialize};

use super::SqlSteps;
use super::database::SqlDatabase;
use crate::error::NodeError;
use crate::node::Attach;

/// Keys of what the node's store keeps begin so.
const KEPT_KEY: &[u8] = b"markers/";

/// What the markers are pinned with for one life of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The key of its row.
    pub key: String,
    /// What is in it.
    pub life: Vec<u8>,
}

/// Whose the steps are.
#[derive(Debug, Default, Clone)]
pub(super) enum Owner {
    /// No node's yet.
    #[default]
    Nobody,
    /// They are used without a node.
    Standalone,
    Node(Pin),
}

pub(super) type Owned = Arc<RwLock<Owner>>;

pub(super) fn owner(owned: &Owned) -> Owner {
    owned.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// What the node's store knows of the markers of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// What the store is called among the markers.
    store: u128,
    /// The life that the markers are pinned with, once they are.
    pinned: Option<u128>,
    /// The life that they are being pinned with.
    next: Option<u128>,
}

impl Kept {
    fn key(name: &str) -> Vec<u8> {
        [KEPT_KEY, name.as_bytes()].concat()
    }

    fn read(store: &dyn Store, name: &str) -> Result<Option<Self>, StoreError> {
        store.get(Space::Meta, &Self::key(name))?.map(|bytes| read_value(Space::Meta, &bytes)).transpose()
    }

    fn write(&self, store: &mut dyn Store, name: &str) -> Result<(), StoreError> {
        let value = value_bytes(self).map_err(|error| StoreError::Failed(error.to_string()))?;
        store.apply(vec![Change { space: Space::Meta, key: Self::key(name), value: Some(value) }])?;
        store.sync()
    }

    fn pin(&self, life: u128) -> Pin {
        Pin { key: format!("store {:032x}", self.store), life: life.to_be_bytes().to_vec() }
    }

    /// What an operator says to have these markers given up.
    fn token(&self) -> Option<String> {
        self.pinned.map(|life| format!("{life:032x}"))
    }

    /// Whether the markers are those that were pinned last, if any were.
    fn fits(&self, found: Option<&[u8]>) -> bool {
        let lives = [self.pinned, self.next];
        let known = lives.iter().flatten().any(|life| found == Some(&life.to_be_bytes()[..]));
        known || (self.pinned.is_none() && found.is_none())
    }
}

/// The steps of a node on one database, which it knows by this name.
pub(crate) struct NamedSteps<DB: SqlDatabase> {
    pub(crate) name: String,
    pub(crate) steps: SqlSteps<DB>,
}

impl<DB: SqlDatabase> Attach for NamedSteps<DB> {
    fn attach<'a>(
        &'a self,
        store: &'a mut dyn Store,
        environment: Arc<dyn Environment>,
    ) -> BoxFuture<'a, Result<(), NodeError>> {
        Box::pin(async move {
            let Self { name, steps } = self;
            let kept = Kept::read(store, name)?;
            let mut kept = kept.unwrap_or_else(|| Kept { store: environment.random_u128(), pinned: None, next: None });
            let found = DB::pinned(steps.pool(), &kept.pin(0).key).await;
            let found = found.map_err(|error| failed(name, error.to_string()))?;
            if !kept.fits(found.as_deref()) {
                if steps.given_up.is_none() || steps.given_up != kept.token() {
                    return Err(failed(name, lost(found.is_some(), &kept.token().unwrap_or_default())));
                }
                tracing::warn!(name, "an operator has given up the markers of steps that were there before");
                (kept.pinned, kept.next) = (None, None);
            } else if let Some(next) = kept.next.take_if(|next| found.as_deref() == Some(&next.to_be_bytes()[..])) {
                kept.pinned = Some(next);
            }
            // On disk here first: a crash in between leaves markers that one of the two fits.
            let life = environment.random_u128();
            kept.next = Some(life);
            kept.write(store, name)?;
            let pin = kept.pin(life);
            let makes_table = kept.pinned.is_none();
            DB::pin(steps.pool(), &pin, makes_table).await.map_err(|error| failed(name, error.to_string()))?;
            (kept.pinned, kept.next) = (Some(life), None);
            kept.write(store, name)?;
            *steps.owned.write().unwrap_or_else(PoisonError::into_inner) = Owner::Node(pin);
            Ok(())
        })
    }
}

fn failed(name: &str, reason: String) -> NodeError {
    NodeError::Markers { name: name.to_owned(), reason }
}

/// Why a node does not start on these markers.
fn lost(older: bool, token: &str) -> String {
    let what = if older {
        "the table `accompanist_steps` is of an earlier time than this node's store: it was restored from an older copy"
    } else {
        "the table `accompanist_steps` is not there, or was emptied or made anew since this node has used it, or this is \
         another database"
    };
    format!(
        "{what}; bring the table back as it was, or connect to the database that has it. If its markers are lost for good: \
         look by hand for steps that were running, since they run again, and start once with \
         `.give_up_markers(\"{token}\")` on the steps; each compensation without a marker is then listed for an operator"
    )
}

/// Why a step does not run on these markers.
pub(super) const GONE: &str = "the table `accompanist_steps` is not the one that this node has started with: it was emptied, \
    dropped, made anew or restored from a copy, or this node was started elsewhere. Nothing was done. Start the node again, \
    which says what to do";

/// Why a step does not run at all.
pub(super) const NOBODYS: &str = "these steps are no node's, so nobody would notice if their markers were lost: give them to \
    the builder of the node (`NodeBuilder::sql`), or use `SqlSteps::standalone`";

/// Why a compensation does not run.
pub(super) const NO_MARKER: &str = "the step was committed, and its marker is not in the table `accompanist_steps` (any more): \
    it was deleted, or the database has lost what it had committed. Look whether the step's effect is there; take it back by \
    hand and `remedy(Resolve)`, or bring the marker back and `remedy(Retry)`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_fit_that_were_pinned_last_or_are_being_pinned() {
        let bytes = |life: u128| life.to_be_bytes();
        let kept = |pinned, next| Kept { store: 1, pinned, next };
        for (pinned, next, found, fits) in [
            (None, None, None, true),
            (None, Some(5), None, true),
            (None, Some(5), Some(5), true),
            (Some(4), None, Some(4), true),
            (Some(4), Some(5), Some(4), true),
            (Some(4), Some(5), Some(5), true),
            (Some(4), None, None, false),
            (Some(4), Some(5), None, false),
            (Some(4), Some(5), Some(3), false),
            (None, None, Some(3), false),
        ] {
            let found = found.map(bytes);
            let found = found.as_ref().map(<[u8; 16]>::as_slice);
            assert_eq!(kept(pinned, next).fits(found), fits, "{pinned:?} {next:?} {found:?}");
        }
    }
}

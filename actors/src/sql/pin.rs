//! Pins, which record the markers that belong to a node's store: each start of a node pins them again, and each step
//! checks the pin.
//!
//! The pin is a row among the markers, so that it goes where they go. The node's store remembers the same value. A
//! table that was emptied, recreated or restored from an older copy has another pin or none, and is detected. This
//! module knows no database's statements. Next: `database.rs`.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use accompanist_core::contract::{BoxFuture, Change, Environment, Space, Store, StoreError};
use accompanist_core::record::{read_value, value_bytes};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::SqlSteps;
use super::database::SqlDatabase;
use super::error_class::ErrorClass;
use crate::error::NodeError;
use crate::node::NodeBuilder;
use crate::runtime::attach::{Attach, DatabaseState};
use crate::writer::{Job, WriterHandle};

/// The prefix of the keys of what the node's store remembers.
const KEPT_KEY: &[u8] = b"markers/";

/// The value with which the markers are pinned during one run of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The key of the pin's row.
    pub key: String,
    /// The contents of the row.
    pub life: Vec<u8>,
}

/// The owner of the steps.
#[derive(Debug, Default, Clone)]
pub(super) enum Owner {
    /// No node yet.
    #[default]
    Nobody,
    /// The steps are used without a node.
    Standalone,
    /// A node that has not reached the database since its start, for this reason.
    Away(String),
    /// A node that found other markers than its own when it finally reached the database.
    Refused(String),
    Node(Pin),
}

pub(super) type Owned = Arc<RwLock<Owner>>;

pub(super) fn owner(owned: &Owned) -> Owner {
    owned.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn set_owner(owned: &Owned, to: Owner) {
    *owned.write().unwrap_or_else(PoisonError::into_inner) = to;
}

/// The node's store's knowledge of the markers of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// The id of the store among the markers.
    store: u128,
    /// The run with which the markers are pinned, once they are.
    pinned: Option<u128>,
    /// The run with which they are being pinned.
    next: Option<u128>,
}

impl Kept {
    fn key(name: &str) -> Vec<u8> {
        [KEPT_KEY, name.as_bytes()].concat()
    }

    fn read(store: &dyn Store, name: &str) -> Result<Option<Self>, StoreError> {
        store.get(Space::Meta, &Self::key(name))?.map(|bytes| read_value(Space::Meta, &bytes)).transpose()
    }

    fn change(&self, name: &str) -> Result<Change, StoreError> {
        let value = value_bytes(self).map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Change { space: Space::Meta, key: Self::key(name), value: Some(value) })
    }

    fn pin(&self, life: u128) -> Pin {
        Pin { key: format!("store {:032x}", self.store), life: life.to_be_bytes().to_vec() }
    }

    /// Returns the token with which an operator gives up these markers.
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

/// How long the start of a node waits for its database; after that the node starts without it.
const START_WAIT_MAX: Duration = Duration::from_secs(3);
/// The pauses between two tries to reach a database that is away.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(100);
const LOOK_PAUSE_MAX: Duration = Duration::from_secs(10);

/// The reason why markers are not pinned.
enum Fault {
    /// A temporary reason.
    Away(String),
    Other(NodeError),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Other(error.into())
    }
}

/// The place of the node's store.
enum Place<'a> {
    /// Nobody else has the store yet.
    Start(&'a mut dyn Store),
    /// The writer of a running node has the store.
    Running(&'a WriterHandle),
}

impl Place<'_> {
    async fn read(&mut self, name: &str) -> Result<Option<Kept>, StoreError> {
        match self {
            Self::Start(store) => Kept::read(*store, name),
            Self::Running(writer) => {
                let name = name.to_owned();
                writer.read(move |store| Kept::read(store, &name)).await
            }
        }
    }

    /// Writes the change to disk.
    async fn write(&mut self, change: Change) -> Result<(), StoreError> {
        match self {
            Self::Start(store) => {
                store.apply(vec![change])?;
                store.sync()
            }
            Self::Running(writer) => {
                let (reply, written) = oneshot::channel();
                let done = Box::new(move |result| drop(reply.send(result)));
                writer.submit(Job::Change { changes: vec![change], done });
                written.await.map_err(|_| StoreError::Closed)?
            }
        }
    }
}

/// The steps of a node on one database, with the name by which the node knows it.
struct NamedSteps<DB: SqlDatabase> {
    pub(crate) name: String,
    pub(crate) steps: SqlSteps<DB>,
}

impl<DB: SqlDatabase> NamedSteps<DB> {
    /// Pins the markers, if they are those that the node's store knows; the store is at `place`.
    async fn pin(&self, mut place: Place<'_>, environment: &dyn Environment) -> Result<(), Fault> {
        let Self { name, steps } = self;
        let kept = place.read(name).await?;
        let mut kept = kept.unwrap_or_else(|| Kept { store: environment.random_u128(), pinned: None, next: None });
        let found = DB::pinned(steps.pool(), &kept.pin(0).key).await.map_err(|error| self.fault(&error))?;
        if !kept.fits(found.as_deref()) {
            if steps.given_up.is_none() || steps.given_up != kept.token() {
                let reason = lost(found.is_some(), &kept.token().unwrap_or_default());
                return Err(Fault::Other(failed(name, reason)));
            }
            tracing::warn!(name, "an operator has given up the markers of steps that were there before");
            (kept.pinned, kept.next) = (None, None);
        } else if let Some(next) = kept.next.take_if(|next| found.as_deref() == Some(&next.to_be_bytes()[..])) {
            kept.pinned = Some(next);
        }
        // Write to the store first: after a crash in between, the markers still fit one of the two.
        let life = environment.random_u128();
        kept.next = Some(life);
        place.write(kept.change(name)?).await?;
        let pin = kept.pin(life);
        let makes_table = kept.pinned.is_none();
        DB::pin(steps.pool(), &pin, makes_table).await.map_err(|error| self.fault(&error))?;
        (kept.pinned, kept.next) = (Some(life), None);
        place.write(kept.change(name)?).await?;
        set_owner(&steps.owned, Owner::Node(pin));
        Ok(())
    }

    fn fault(&self, error: &sqlx::Error) -> Fault {
        if ErrorClass::of::<DB>(error).passes() {
            return Fault::Away(format!("database `{}` is not reached: {error}", self.name));
        }
        Fault::Other(failed(&self.name, error.to_string()))
    }

    fn is_away(&self, reason: String) {
        set_owner(&self.steps.owned, Owner::Away(reason));
    }
}

impl NodeBuilder {
    /// Adds the steps on a database that the node's roles use. The node's store remembers under `name` whose markers
    /// it has used. The name must therefore be the same at every start of the node, and each database needs its own
    /// name. See [`sql`](crate::sql).
    #[must_use]
    pub fn sql<DB: SqlDatabase>(self, name: impl Into<String>, steps: &SqlSteps<DB>) -> Self {
        let name = name.into();
        let named = NamedSteps { name: name.clone(), steps: steps.clone() };
        self.attach(&name, steps.identity(), Arc::new(named))
    }
}

impl<DB: SqlDatabase> Attach for NamedSteps<DB> {
    fn attach<'a>(
        &'a self,
        store: &'a mut dyn Store,
        environment: Arc<dyn Environment>,
    ) -> BoxFuture<'a, Result<(), NodeError>> {
        Box::pin(async move {
            let pinned = timeout(START_WAIT_MAX, self.pin(Place::Start(store), environment.as_ref())).await;
            let away = match pinned {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(Fault::Other(error))) => return Err(error),
                Ok(Err(Fault::Away(reason))) => reason,
                Err(_) => format!("database `{}` does not answer", self.name),
            };
            tracing::warn!(
                name = self.name,
                reason = away,
                "the node starts without a database: its steps wait for it"
            );
            self.is_away(away);
            Ok(())
        })
    }

    fn follow(self: Arc<Self>, writer: WriterHandle, environment: Arc<dyn Environment>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut pause = LOOK_PAUSE_MIN;
            while let Owner::Away(_) = owner(&self.steps.owned) {
                match self.pin(Place::Running(&writer), environment.as_ref()).await {
                    Ok(()) => tracing::info!(name = self.name, "a database is reached"),
                    Err(Fault::Away(reason)) => self.is_away(reason),
                    // There is nobody left to inform.
                    Err(Fault::Other(NodeError::Store(StoreError::Closed))) => return,
                    Err(Fault::Other(error)) => {
                        tracing::error!(name = self.name, %error, "steps on a database do not run");
                        set_owner(&self.steps.owned, Owner::Refused(error.to_string()));
                    }
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LOOK_PAUSE_MAX);
            }
        })
    }

    fn state(&self) -> DatabaseState {
        let (is_ready, reason) = match owner(&self.steps.owned) {
            Owner::Nobody | Owner::Standalone | Owner::Node(_) => (true, None),
            Owner::Away(reason) | Owner::Refused(reason) => (false, Some(reason)),
        };
        DatabaseState { name: self.name.clone(), is_ready, reason }
    }
}

fn failed(name: &str, reason: String) -> NodeError {
    NodeError::Markers { name: name.to_owned(), reason }
}

/// Explains why a node does not start on these markers.
fn lost(older: bool, token: &str) -> String {
    let what = if older {
        "the table `accompanist_steps` is of an earlier time than this node's store: it was restored from an older copy"
    } else {
        "the table `accompanist_steps` is not there, or was emptied or made anew since this node has used it, or this \
         is another database"
    };
    format!(
        "{what}; bring the table back as it was, or connect to the database that has it. If its markers are lost for \
         good: look by hand for steps that were running, since they run again, and start once with \
         `.give_up_markers(\"{token}\")` on the steps; each compensation without a marker is then listed for an \
         operator"
    )
}

/// The reason why a step does not run on these markers.
pub(super) const GONE: &str = "the table `accompanist_steps` is not the one that this node has started with: it was \
    emptied, dropped, made anew or restored from a copy, or this node was started elsewhere. Nothing was done. Start \
    the node again, which says what to do";

/// The reason why a step does not run at all.
pub(super) const NOBODYS: &str = "these steps are no node's, so nobody would notice if their markers were lost: give \
    them to the builder of the node (`NodeBuilder::sql`), or use `SqlSteps::standalone`";

/// The reason why a compensation does not run.
pub(super) const NO_MARKER: &str = "the step was committed, and its marker is not in the table `accompanist_steps` \
    (any more): it was deleted, or the database has lost what it had committed. Look whether the step's effect is \
    there; take it back by hand and `resolve(Compensated)`, or bring the marker back and `resolve(Retry)`";

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

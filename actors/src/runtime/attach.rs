//! Databases that steps of a node run on, as the runtime sees them. Knows no database. Next: `sql/pin.rs`.

use std::sync::Arc;

use accompanist_core::contract::{BoxFuture, Environment, Store};

use crate::error::NodeError;
use crate::writer::WriterHandle;

/// A part that inspects the node's store before anything runs.
pub(crate) trait Attach: Send + Sync {
    /// Reads a few keys of the store (this may block) and writes down what a later start of the node has to know.
    fn attach<'a>(
        &'a self,
        store: &'a mut dyn Store,
        environment: Arc<dyn Environment>,
    ) -> BoxFuture<'a, Result<(), NodeError>>;

    /// Continues, while the node runs, the work that the start could not wait for.
    fn follow(self: Arc<Self>, writer: WriterHandle, environment: Arc<dyn Environment>) -> BoxFuture<'static, ()>;

    /// Returns the state of the database.
    fn state(&self) -> DatabaseState;
}

/// The state of a database that steps of a node run on; see [`Operator::databases`](crate::Operator::databases).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseState {
    /// The name that was given to [`NodeBuilder::sql`](crate::NodeBuilder::sql).
    pub name: String,
    /// Whether steps on the database run. Once true this stays true: if the database goes away later, the steps
    /// themselves report it.
    pub is_ready: bool,
    /// The reason if steps do not run, and what to do if it does not pass by itself.
    pub reason: Option<String>,
}

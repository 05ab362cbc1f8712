//! Checks the builder's single-valued parts. A part that is given twice is refused at the start, with both values
//! named, since the first would otherwise be dropped silently.

use std::collections::BTreeMap;

use crate::error::NodeError;

/// The single-valued parts given so far; see the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Given {
    known: BTreeMap<&'static str, String>,
    /// The names of databases, each with the identity of its steps.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    databases: Vec<(String, usize)>,
    twice: Option<NodeError>,
}

impl Given {
    /// Notes that a `what`, named `called`, was given.
    pub(super) fn note(&mut self, what: &'static str, called: impl Into<String>) {
        let second = called.into();
        if let Some(first) = self.known.insert(what, second.clone()) {
            self.twice.get_or_insert(NodeError::GivenTwice { what, first, second });
        }
    }

    /// Has the start refused with `error`, unless there is an earlier one.
    pub(super) fn refuse(&mut self, error: impl Into<NodeError>) {
        self.twice.get_or_insert(error.into());
    }

    /// Returns whether a `what` was given.
    #[cfg(feature = "testing")]
    pub(super) fn has(&self, what: &'static str) -> bool {
        self.known.contains_key(what)
    }

    /// Notes that steps on a database were given under this name.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn note_database(&mut self, name: &str, steps: usize) {
        if self.databases.iter().any(|(known, _)| known == name) {
            self.twice.get_or_insert(NodeError::DatabaseTwice(name.to_owned()));
        } else if let Some((first, _)) = self.databases.iter().find(|(_, known)| *known == steps) {
            let [first, second] = [first.as_str(), name].map(|name| format!("`{name}`"));
            self.twice.get_or_insert(NodeError::GivenTwice { what: "names for one database", first, second });
        }
        self.databases.push((name.to_owned(), steps));
    }

    pub(super) fn check(self) -> Result<(), NodeError> {
        self.twice.map_or(Ok(()), Err)
    }
}

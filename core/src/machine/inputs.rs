//! All that the program has learned from outside itself, by path: the messages of other roles, and what it observed.
//! A replay gets the same again.
//!
//! This module does not know who waits for an input. Next: `program`, which answers operations with inputs.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::apply::Refusal;
use crate::base::id::{Path, RoleIndex};
use crate::base::message::Payload;
use crate::frame::Operation;
use crate::record::Record;

/// The recorded result of an effect or another observation, with its name.
#[derive(Hash)]
pub(super) struct Observation {
    pub(super) name: String,
    pub(super) result: Payload,
    /// Whether the program (or its replay) has reached the operation.
    visited: bool,
}

/// See the module's documentation.
#[derive(Default, Hash)]
pub(super) struct Inputs {
    messages: BTreeMap<(Path, RoleIndex), (Operation, Payload)>,
    observed: BTreeMap<Path, Observation>,
}

impl Inputs {
    pub(super) fn message(&self, path: &Path, from: RoleIndex) -> Option<&(Operation, Payload)> {
        self.messages.get(&(path.clone(), from))
    }

    /// The first of the messages at `path`.
    pub(super) fn any_message(&self, path: &Path) -> Option<(Operation, RoleIndex)> {
        let here = (path.clone(), RoleIndex(0))..=(path.clone(), RoleIndex(u8::MAX));
        self.messages.range(here).next().map(|(id, (operation, _))| (*operation, id.1))
    }

    pub(super) fn note_message(
        &mut self,
        path: Path,
        from: RoleIndex,
        operation: Operation,
        payload: Payload,
    ) -> Result<(), Refusal> {
        let message = (operation, payload);
        match self.messages.entry((path, from)) {
            Entry::Occupied(known) if *known.get() != message => Err("another message came from there"),
            Entry::Occupied(_) => Ok(()),
            Entry::Vacant(free) => {
                free.insert(message);
                Ok(())
            }
        }
    }

    pub(super) fn observation(&self, path: &Path) -> Option<&Observation> {
        self.observed.get(path)
    }

    /// Returns the observation at `path`, which the program has now reached.
    pub(super) fn visit(&mut self, path: &Path) -> Option<&Observation> {
        let observation = self.observed.get_mut(path)?;
        observation.visited = true;
        Some(observation)
    }

    /// Notes what was observed at `path`. A timer is observed a second time, when it is over.
    pub(super) fn note_observation(&mut self, path: Path, name: String, result: Payload) -> Result<(), Refusal> {
        match self.observed.entry(path) {
            Entry::Occupied(known) if known.get().name != name => return Err("something else was observed there"),
            Entry::Occupied(mut known) => known.get_mut().result = result,
            Entry::Vacant(free) => {
                free.insert(Observation { name, result, visited: false });
            }
        }
        Ok(())
    }

    #[cfg(feature = "testing")]
    pub(super) fn has_observed(&self) -> bool {
        !self.observed.is_empty()
    }

    /// The observations that the program has not reached (again).
    pub(super) fn unvisited(&self) -> impl Iterator<Item = (&Path, &Observation)> {
        self.observed.iter().filter(|(_, observation)| !observation.visited)
    }

    /// The number of inputs.
    pub(super) fn len(&self) -> usize {
        self.messages.len() + self.observed.len()
    }

    /// Forgets the inputs in `scope`.
    pub(super) fn forget(&mut self, scope: &Path) {
        self.messages.retain(|(path, _), _| !path.is_in(scope));
        self.observed.retain(|path, _| !path.is_in(scope));
    }

    /// The records of the inputs in `scope`.
    pub(super) fn records_in<'a>(&'a self, scope: &'a Path) -> impl Iterator<Item = Record> {
        // The paths of a scope are adjacent in the order of paths.
        let messages = self.messages.range((scope.clone(), RoleIndex(0))..);
        let messages = messages.take_while(|((path, _), _)| path.is_in(scope));
        let messages = messages.map(|((path, from), (operation, payload))| Record::Received {
            path: path.clone(),
            from: *from,
            operation: *operation,
            payload: payload.clone(),
        });
        let observed = self.observed.range(scope.clone()..).take_while(|(path, _)| path.is_in(scope));
        messages.chain(observed.map(|(path, Observation { name, result, visited: _ })| Record::Observed {
            path: path.clone(),
            name: name.clone(),
            result: result.clone(),
        }))
    }
}

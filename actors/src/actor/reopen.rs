//! Channels that are over, and the channels opened in their place.
//!
//! A channel is found by a key that counts how often it was reopened; the count is in the store of the sender's node.
//! This module knows nothing about messages.

use accompanist_core::contract::{Change, Space, Store, StoreError};
use accompanist_core::frame::Outcome;
use accompanist_core::id::InstanceId;
use accompanist_core::record::{Closed, Record, read_value, value_bytes};

use crate::writer::load_readable;

/// The prefix of the keys of the counts in [`Space::Meta`].
const COUNT_KEY: &[u8] = b"channel/";

/// The identity of a channel on its node: the name of its choreography, its version, the actor's instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) choreography: &'a str,
    pub(super) version: u32,
    pub(super) name: &'a str,
}

impl Place<'_> {
    fn count_key(&self) -> Vec<u8> {
        let Self { choreography, version, name } = self;
        [COUNT_KEY, choreography.as_bytes(), b"/", version.to_string().as_bytes(), b"/", name.as_bytes()].concat()
    }

    /// Returns how often the channel was reopened.
    pub(super) fn times(&self, store: &dyn Store) -> Result<u32, StoreError> {
        let count = store.get(Space::Meta, &self.count_key())?;
        count.map_or(Ok(0), |count| read_value(Space::Meta, &count))
    }

    /// Returns the change that records that the channel is reopened for the `times`-th time.
    pub(super) fn count(&self, times: u32) -> Result<Change, StoreError> {
        let value = value_bytes(&times).map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Change { space: Space::Meta, key: self.count_key(), value: Some(value) })
    }

    /// Returns the key of the session that is the channel.
    pub(super) fn session_key(&self, times: u32) -> String {
        let Self { version, name, .. } = self;
        if times == 0 { format!("{version}/{name}") } else { format!("{version}.{times}/{name}") }
    }
}

/// Returns why the channel is over, if it is. A channel that is over accepts no more messages.
pub(super) fn over_because(store: &dyn Store, channel: InstanceId) -> Result<Option<String>, StoreError> {
    if let Some(closed) = store.get(Space::Closed, &channel.to_bytes())? {
        let Closed { outcome, .. } = read_value(Space::Closed, &closed)?;
        return Ok(Some(match outcome {
            Outcome::Finished => "it has ended".into(),
            Outcome::Compensated(abort) => abort.to_string(),
        }));
    }
    let records = load_readable(store, channel)?.map(|readable| readable.records).unwrap_or_default();
    let abort = records.into_iter().find_map(|record| match record {
        Record::Aborted { abort, .. } => Some(abort.to_string()),
        _ => None,
    });
    Ok(abort)
}

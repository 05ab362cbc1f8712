//! Callers' keys: each stands for a session until that session's tombstone is collected.
//!
//! A key is claimed for a new session in the same group commit as the session's opening or in an earlier one, and
//! released in the batch that collects the tombstone. A key therefore always leads to its session or to nothing.

use accompanist_core::SessionId;
use accompanist_core::contract::{Batch, Change, Space, Store, StoreError};
use accompanist_core::id::InstanceId;
use accompanist_core::message::Fingerprint;
use accompanist_core::record::{Closed, read_value};

use super::{Member, Writer};

/// The session that a key stands for.
pub(crate) struct Claimed {
    /// The session's instance at its initiator.
    pub(crate) id: InstanceId,
    /// The fingerprint of the input with which the session was first started.
    pub(crate) input: Fingerprint,
    /// The session's end, if it is closed. Otherwise it is open, or has yet to begin.
    pub(crate) closed: Option<Closed>,
}

/// Returns the row's key for a caller's key.
fn by_key(key: SessionId) -> Vec<u8> {
    [b"k", &key.as_bytes()[..]].concat()
}

/// Returns the row's key for a session, with the initiating role.
fn by_instance(id: InstanceId) -> Vec<u8> {
    [b"s", &id.to_bytes()[..]].concat()
}

/// Encodes what a key stands for: the instance, and the fingerprint of the session's input.
fn to_bytes((id, input): (InstanceId, Fingerprint)) -> Vec<u8> {
    [&id.to_bytes()[..], &input.0.to_be_bytes()[..]].concat()
}

fn from_bytes(bytes: &[u8]) -> Option<(InstanceId, Fingerprint)> {
    let (id, input) = bytes.split_last_chunk()?;
    Some((InstanceId::from_bytes(id)?, Fingerprint(u64::from_be_bytes(*input))))
}

/// Returns the changes that release the key of a session whose tombstone is removed, if it has a key.
pub(super) fn release(store: &dyn Store, id: InstanceId) -> Result<Batch, StoreError> {
    if !id.session.has_key() {
        return Ok(Batch::new());
    }
    let of_instance = by_instance(id);
    // The other roles have none.
    let Some(of_key) = store.get(Space::Keys, &of_instance)? else { return Ok(Batch::new()) };
    let remove = |key| Change { space: Space::Keys, key, value: None };
    Ok(vec![remove(of_instance), remove(of_key)])
}

/// Returns the initiator's instance of the session that the key stands for, if there is one.
pub(crate) fn claimed_by(store: &dyn Store, key: SessionId) -> Result<Option<InstanceId>, StoreError> {
    Ok(store.get(Space::Keys, &by_key(key))?.and_then(|bytes| from_bytes(&bytes)).map(|(id, _)| id))
}

impl Writer {
    /// Returns the session that `key` stands for. If there is none and `new` is given, the key stands for `new` from
    /// now on.
    pub(super) fn claim(
        &mut self,
        key: SessionId,
        new: Option<(InstanceId, Fingerprint)>,
    ) -> Result<Option<Claimed>, StoreError> {
        let of_key = by_key(key);
        let known = match self.claims.get(&key) {
            Some(known) => Some(*known),
            None => self.store.get(Space::Keys, &of_key)?.and_then(|bytes| from_bytes(&bytes)),
        };
        if let Some((id, input)) = known {
            let tombstone = self.store.get(Space::Closed, &id.to_bytes())?;
            // A damaged tombstone is left for the instance to find, which is then stopped.
            let closed = tombstone.and_then(|bytes| read_value(Space::Closed, &bytes).ok());
            return Ok(Some(Claimed { id, input, closed }));
        }
        let Some((id, input)) = new else { return Ok(None) };
        let of_instance = by_instance(id);
        let put = |key, value| Change { space: Space::Keys, key, value: Some(value) };
        let changes = vec![put(of_key.clone(), to_bytes((id, input))), put(of_instance, of_key)];
        self.claims.insert(key, (id, input));
        // Nobody waits for this write: the opening follows it.
        self.join(false);
        self.group.push(Member::Change { changes, done: Box::new(|_| ()) });
        Ok(Some(Claimed { id, input, closed: None }))
    }
}

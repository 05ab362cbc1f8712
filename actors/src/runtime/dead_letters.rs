//! Messages that have arrived and could not be handled: kept with the reason until they can be handled or an operator
//! discards them.
//!
//! The sender goes on resending such a message, so nothing depends on its dead letter: it is there to be seen, and to
//! be retried at once. The store keeps the frames, memory everything else. Bounded: the oldest goes first. Knows
//! frames and the store, no actors.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use accompanist_core::contract::{Batch, Change, Space, Store, StoreError};
use accompanist_core::frame::{Body, Delivery, Frame};
use accompanist_core::id::{InstanceId, RoleIndex};
use accompanist_core::message::{Fingerprint, pack};
use accompanist_core::record::{read_value, value_bytes};
use accompanist_core::{NodeId, SessionId};
use metrics::{counter, gauge};
use serde::{Deserialize, Serialize};

use crate::base::metric;

/// The most letters that are being written at a time. Further ones are noted when they arrive again.
const WRITES_MAX: usize = 16;

/// A message that has arrived and could not be handled; see [`Operator::dead_letters`](crate::Operator::dead_letters).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The letter's number in this node's store. Never reused.
    pub number: u64,
    /// The session.
    pub session: SessionId,
    /// The receiving role, which is played here, or should be.
    pub role: RoleIndex,
    /// The sending role.
    pub from_role: RoleIndex,
    /// The node that sent it.
    pub from: NodeId,
    /// The choreography and its version, if the frame names them.
    pub choreography: Option<(String, u32)>,
    /// The reason why it could not be handled.
    pub reason: String,
    /// When it first arrived.
    pub first: SystemTime,
    /// When it last arrived since this node's start.
    pub last: SystemTime,
    /// How often it has arrived, or was replayed without success, since this node's start.
    pub times: u64,
    /// The letter's size in the store, in bytes.
    pub bytes: usize,
}

/// The stored form of a dead letter.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    reason: String,
    from: NodeId,
    first_unix_ms: u64,
    frame: Frame,
}

/// The identity of a frame, which does not depend on how often or with which header it arrives.
type Identity = (InstanceId, RoleIndex, Fingerprint);

fn identity(frame: &Frame) -> Option<Identity> {
    let body = pack(&frame.body).ok()?;
    Some((frame.receiver(), frame.from, Fingerprint::of(&body.into())))
}

#[derive(Default)]
struct Letters {
    known: BTreeMap<u64, (Identity, DeadLetter)>,
    numbers: BTreeMap<Identity, u64>,
    last_number: u64,
    bytes: usize,
    writing: usize,
}

/// The dead letters of a node; see the module's documentation.
#[derive(Default)]
pub(crate) struct DeadLetters {
    letters: Mutex<Letters>,
    count_max: usize,
    bytes_max: usize,
}

fn time(unix_ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(unix_ms)
}

fn key(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn removal(number: u64) -> Change {
    Change { space: Space::Dead, key: key(number), value: None }
}

impl Letters {
    fn add(&mut self, number: u64, kept: &Kept, bytes: usize) -> Option<()> {
        let identity = identity(&kept.frame)?;
        let Frame { session, from, to, header, .. } = &kept.frame;
        let letter = DeadLetter {
            number,
            session: *session,
            role: *to,
            from_role: *from,
            from: kept.from.clone(),
            choreography: header.as_ref().map(|header| (header.choreography.clone(), header.version)),
            reason: kept.reason.clone(),
            first: time(kept.first_unix_ms),
            last: time(kept.first_unix_ms),
            times: 1,
            bytes,
        };
        self.last_number = self.last_number.max(number);
        self.numbers.insert(identity, number);
        self.known.insert(number, (identity, letter));
        self.bytes += bytes;
        gauge!(metric::DEAD_LETTERS).increment(1.0);
        Some(())
    }

    fn remove(&mut self, number: u64) -> Option<Change> {
        let (identity, letter) = self.known.remove(&number)?;
        if self.numbers.get(&identity) == Some(&number) {
            self.numbers.remove(&identity);
        }
        self.bytes -= letter.bytes;
        gauge!(metric::DEAD_LETTERS).decrement(1.0);
        Some(removal(number))
    }
}

impl Drop for Letters {
    fn drop(&mut self) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge's numbers are floating, and these are few")]
        gauge!(metric::DEAD_LETTERS).decrement(self.known.len() as f64);
    }
}

impl DeadLetters {
    /// Restores the letters from the store.
    pub(crate) fn restore(store: &dyn Store, count_max: usize, bytes_max: usize) -> Result<Self, StoreError> {
        let mut letters = Letters::default();
        for (key, value) in store.scan(Space::Dead, &[], None, usize::MAX)? {
            let Ok(number) = <[u8; 8]>::try_from(key.as_slice()) else { continue };
            let kept: Kept = read_value(Space::Dead, &value)?;
            letters.add(u64::from_be_bytes(number), &kept, key.len() + value.len());
        }
        Ok(Self { letters: Mutex::new(letters), count_max, bytes_max })
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a frame that could not be handled. Returns what is to be written, after which the caller calls
    /// [`DeadLetters::written`]; `None` for a known letter, or while too many are being written.
    pub(crate) fn note(&self, delivery: &Delivery, reason: &str, unix_ms: u64) -> Option<Batch> {
        let Delivery { from, frame, .. } = delivery;
        let identity = identity(frame)?;
        let mut letters = self.lock();
        if let Some(number) = letters.numbers.get(&identity).copied() {
            let (_, letter) = letters.known.get_mut(&number)?;
            (letter.last, letter.times) = (time(unix_ms), letter.times + 1);
            return None;
        }
        if letters.writing >= WRITES_MAX {
            return None;
        }
        let kept = Kept { reason: reason.to_owned(), from: from.clone(), first_unix_ms: unix_ms, frame: frame.clone() };
        let number = letters.last_number + 1;
        let (key, value) = (key(number), value_bytes(&kept).ok()?);
        let bytes = key.len() + value.len();
        if bytes > self.bytes_max || self.count_max == 0 {
            return None;
        }
        let mut batch = vec![Change { space: Space::Dead, key, value: Some(value) }];
        while letters.known.len() >= self.count_max || letters.bytes + bytes > self.bytes_max {
            let oldest = *letters.known.keys().next()?;
            batch.extend(letters.remove(oldest));
            counter!(metric::DEAD_LETTERS_PUSHED_OUT).increment(1);
        }
        letters.add(number, &kept, bytes)?;
        letters.writing += 1;
        Some(batch)
    }

    /// Notes that a letter is on disk.
    pub(crate) fn written(&self) {
        self.lock().writing -= 1;
    }

    /// Returns the letters, the oldest first.
    pub(crate) fn list(&self) -> Vec<DeadLetter> {
        self.lock().known.values().map(|(_, letter)| letter.clone()).collect()
    }

    /// Returns the number of the letter that `frame` is; cheap while there are none.
    pub(crate) fn number_of(&self, frame: &Frame) -> Option<u64> {
        let letters = self.lock();
        if letters.numbers.is_empty() { None } else { letters.numbers.get(&identity(frame)?).copied() }
    }

    /// Returns the letters for an instance.
    pub(crate) fn of(&self, id: InstanceId) -> Vec<u64> {
        let letters = self.lock();
        let first = (id, RoleIndex(0), Fingerprint(0));
        letters.numbers.range(first..).take_while(|((of, ..), _)| *of == id).map(|(_, number)| *number).collect()
    }

    /// Removes letters that were handled or discarded; returns what is to be written.
    pub(crate) fn remove(&self, numbers: impl IntoIterator<Item = u64>) -> Batch {
        let mut letters = self.lock();
        numbers.into_iter().filter_map(|number| letters.remove(number)).collect()
    }

    /// Reads a letter's message from the store. It asks for no acknowledgement, because its sender still resends it.
    pub(crate) fn read(store: &dyn Store, number: u64) -> Result<Option<Delivery>, StoreError> {
        let value = store.get(Space::Dead, &key(number))?;
        let kept: Option<Kept> = value.map(|value| read_value(Space::Dead, &value)).transpose()?;
        Ok(kept.map(|Kept { from, frame, .. }| Delivery { from, frame, receipt: None }))
    }
}

/// Returns whether the frame carries a message that may be missed, or starts a session, rather than only the progress
/// of its sender.
pub(crate) fn is_letter(frame: &Frame) -> bool {
    match frame.body {
        Body::Deliver { .. } | Body::Abort(_) => true,
        Body::Nudge(_) => frame.header.is_some(),
        Body::Done(_)
        | Body::Close(_)
        | Body::Turns { .. }
        | Body::Compensating(_)
        | Body::Closed(_)
        | Body::Gone(_)
        | Body::Trouble(_)
        | Body::TroubleAsked => false,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use accompanist_core::Abort;
    use accompanist_core::contract::Entry;

    use super::*;
    use crate::store::{MemoryDisk, MemoryStore};

    fn frame(session: u64, reason: &str) -> Frame {
        let body = Body::Abort(Abort::new("code", reason));
        Frame { session: SessionId::fresh(session, 0), from: RoleIndex(1), to: RoleIndex(0), header: None, body }
    }

    fn of(frame: Frame) -> Delivery {
        Delivery { from: NodeId::new("shop").unwrap(), frame, receipt: None }
    }

    fn keep(letters: &DeadLetters, store: &mut MemoryStore, frame: &Frame) -> bool {
        let batch = letters.note(&of(frame.clone()), "for a test", 1);
        batch.map(|batch| store.apply(batch).map(|()| letters.written()).unwrap()).is_some()
    }

    fn sessions(letters: &DeadLetters) -> Vec<SessionId> {
        letters.list().iter().map(|letter| letter.session).collect()
    }

    #[test]
    fn the_oldest_goes_first_and_a_restart_finds_the_same() {
        let mut store = MemoryDisk::default().open().unwrap();
        let letters = DeadLetters::restore(&store, 3, 10_000).unwrap();
        for session in 0..5 {
            assert!(keep(&letters, &mut store, &frame(session, "short")));
        }
        assert!(!keep(&letters, &mut store, &frame(4, "short")), "it is known");
        assert_eq!(letters.list().last().unwrap().times, 2);
        assert_eq!(sessions(&letters), [2, 3, 4].map(|session| SessionId::fresh(session, 0)));
        let again = DeadLetters::restore(&store, 3, 10_000).unwrap();
        assert_eq!(sessions(&again), sessions(&letters));
        assert_eq!(again.list().first().unwrap().number, 3);
        assert!(keep(&again, &mut store, &frame(9, "another")));
        assert_eq!(again.list().iter().map(|letter| letter.number).collect::<Vec<_>>(), [4, 5, 6]);
        store.apply(again.remove([4, 5, 6])).unwrap();
        assert!(store.scan(Space::Dead, &[], None, 9).unwrap().is_empty());
    }

    #[test]
    fn so_many_bytes_are_kept() {
        let mut store = MemoryDisk::default().open().unwrap();
        let letters = DeadLetters::restore(&store, 1_000, 1_000).unwrap();
        let long = "x".repeat(300);
        for session in 0..10 {
            assert!(keep(&letters, &mut store, &frame(session, &long)));
        }
        assert!(sessions(&letters).len() >= 2, "{:?}", letters.list());
        let bytes: usize = store.scan(Space::Dead, &[], None, 99).unwrap().iter().map(size).sum();
        let listed: usize = letters.list().iter().map(|letter| letter.bytes).sum();
        assert!(bytes <= 1_000 && bytes == listed);
        let small = DeadLetters::restore(&MemoryDisk::default().open().unwrap(), 9, 100).unwrap();
        assert!(small.note(&of(frame(1, &long)), "too large alone", 1).is_none() && small.list().is_empty());
    }

    fn size((key, value): &Entry) -> usize {
        key.len() + value.len()
    }

    #[test]
    fn few_are_written_at_a_time() {
        let letters = DeadLetters::restore(&MemoryDisk::default().open().unwrap(), 1_000, 1_000_000).unwrap();
        let noted = |session| letters.note(&of(frame(session, "")), "", 1).is_some();
        assert_eq!((0..50).filter(|session| noted(*session)).count(), WRITES_MAX);
        letters.written();
        assert!(noted(49) && !noted(48));
    }

    #[test]
    fn those_of_an_instance_are_found() {
        let letters = DeadLetters::restore(&MemoryDisk::default().open().unwrap(), 9, 10_000).unwrap();
        for (session, reason) in [(1, "one"), (2, "two"), (2, "three"), (3, "four")] {
            assert!(letters.note(&of(frame(session, reason)), "", 1).is_some());
        }
        let mut of = letters.of(frame(2, "").receiver());
        of.sort_unstable();
        assert_eq!(of, [2, 3]);
        assert_eq!(letters.number_of(&frame(2, "three")), Some(3));
        assert_eq!(letters.number_of(&frame(2, "five")), None);
    }
}

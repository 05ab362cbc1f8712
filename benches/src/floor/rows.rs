//! The rows of one order, each with the bytes that the nodes' rows have: a part of the session's key, and a filler.

use accompanist::contract::Space;

use super::message::{ORDER_NAMES_BYTES, Session};
use super::store::Row;

/// What is kept of a session's beginning: its header; at the warehouse the order comes besides.
const OPENED_BYTES: usize = 61;
/// A message, with its operation.
const RECEIVED_BYTES: usize = 29 + ORDER_NAMES_BYTES;
/// A step's name, input's fingerprint and place; its sum comes besides.
const COMMITTED_BYTES: usize = 21;
/// What is kept of a session for good.
const CLOSED_BYTES: usize = 63;
/// How it ended.
const ENDED_BYTES: usize = 4;
const CLOSING_BYTES: usize = 2;
/// What stands before each number in the nodes' form of values.
const NUMBER_KIND: u8 = 0xa5;
/// The bytes that are kept.
const INDEX_BYTES: usize = 2;

/// Which row of a session's journal.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Received,
    Committed,
    CommittedLast,
    Ended,
    Closing,
}

impl Place {
    /// Part, path and tag.
    fn key(self) -> &'static [u8] {
        match self {
            Self::Received => b"\x01\0\0\0\x01m\0",
            Self::Committed => b"\x01\0\0\0\x02c",
            Self::CommittedLast => b"\x01\0\0\0\x06c",
            Self::Ended => b"\x01e",
            Self::Closing => b"\x01z",
        }
    }
}

/// The session, and a byte for the role.
fn session_key(session: &Session) -> Vec<u8> {
    [&session[..], &[0]].concat()
}

fn journal_key(session: &Session, place: Place) -> Vec<u8> {
    [&session[..], &[0], place.key()].concat()
}

fn put(space: Space, key: Vec<u8>, bytes: usize) -> Row {
    Row { space, key, value: Some(vec![0x5a; bytes]) }
}

/// A session begins; `input` has so many bytes.
pub(super) fn opened(session: &Session, input: usize) -> Row {
    put(Space::Open, session_key(session), OPENED_BYTES + input)
}

pub(super) fn received(session: &Session) -> Row {
    put(Space::Journal, journal_key(session, Place::Received), RECEIVED_BYTES)
}

pub(super) fn committed(session: &Session, sum: i64) -> Row {
    committed_at(session, Place::Committed, sum)
}

pub(super) fn committed_last(session: &Session, sum: i64) -> Row {
    committed_at(session, Place::CommittedLast, sum)
}

fn committed_at(session: &Session, place: Place, sum: i64) -> Row {
    let mut value = vec![0x5a; COMMITTED_BYTES];
    value.extend(number(sum));
    Row { space: Space::Journal, key: journal_key(session, place), value: Some(value) }
}

pub(super) fn ended(session: &Session) -> Row {
    put(Space::Journal, journal_key(session, Place::Ended), ENDED_BYTES)
}

pub(super) fn closing(session: &Session) -> Row {
    put(Space::Journal, journal_key(session, Place::Closing), CLOSING_BYTES)
}

/// A session is over: what is kept of it, with its place in the order of closing, and the end of `journal`.
pub(super) fn closed(session: &Session, journal: &[Place]) -> Vec<Row> {
    let remove = |space, key| Row { space, key, value: None };
    let mut rows = vec![
        put(Space::Closed, session_key(session), CLOSED_BYTES),
        put(Space::Ended, [&[0; 8], &session_key(session)[..]].concat(), INDEX_BYTES),
        remove(Space::Open, session_key(session)),
    ];
    rows.extend(journal.iter().map(|place| remove(Space::Journal, journal_key(session, *place))));
    rows
}

/// A number in the built-in state.
pub(super) fn state(key: Vec<u8>, sum: i64) -> Row {
    Row { space: Space::State, key, value: Some(number(sum)) }
}

/// Its key.
pub(super) fn state_key(table: &str, key: &str) -> Vec<u8> {
    format!("warehouse/ {table}/ {key}").into_bytes()
}

/// The bytes of a number: its kind, and few for a small one.
fn number(number: i64) -> Vec<u8> {
    postcard::to_stdvec(&(NUMBER_KIND, number)).unwrap_or_default() // Numbers have bytes.
}

/// The number that [`number`] has written.
pub(super) fn read_number(bytes: &[u8]) -> postcard::Result<i64> {
    postcard::from_bytes(bytes).map(|(_, number): (u8, i64)| number)
}

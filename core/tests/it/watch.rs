//! Each predicate of the watch: a sequence that breaks it, beside one that does not.

use std::sync::Arc;

use accompanist_core::contract::{Batch, Change, Direction, Entry, KeyRange, Space, Store, StoreError};
use accompanist_core::frame::{Body, Epoch, Frame, Header, Lacks, Operation, Outcome, Packet, Receipt};
use accompanist_core::id::{InstanceId, RoleIndex};
use accompanist_core::message::Fingerprint;
use accompanist_core::record::{self, Closed, Opened, Record, StepFailure, Task, value_bytes};
use accompanist_core::testing::{InvariantMonitor, Violation};
use accompanist_core::{Abort, IdempotencyKey, NodeId};

use crate::rig::{Disk, id, path, payload, session};

const EPOCH: Epoch = Epoch(5);

fn node(role: u8) -> NodeId {
    NodeId::new(["shop", "bank"][usize::from(role)]).unwrap()
}

fn header() -> Arc<Header> {
    Arc::new(Header {
        choreography: "deal".into(),
        version: 1,
        initiator: RoleIndex(0),
        cast: vec![node(0), node(1)],
        started_unix_ms: 1,
        deadline_unix_ms: None,
        patches: Vec::new(),
        traceparent: None,
    })
}

fn opened(role: u8) -> Opened {
    Opened { header: header(), input: (role == 0).then(|| payload(&7)) }
}

fn open(role: u8) -> Batch {
    vec![record::open(id(role), &opened(role)).unwrap()]
}

fn abort() -> Abort {
    Abort::new("late", "too late")
}

fn received(counter: u32, value: u32) -> Record {
    Record::Received {
        path: path(&[counter]),
        from: RoleIndex(0),
        operation: Operation::Comm,
        payload: payload(&value),
    }
}

fn intended(counter: u32) -> Record {
    Record::Intended { path: path(&[counter]), name: "pay".into(), input: Fingerprint::default() }
}

fn committed(counter: u32, order: u32) -> Record {
    let (path, name, input) = (path(&[counter]), "pay".into(), Fingerprint::default());
    Record::Committed { path, name, input, order, result: Ok(payload(&counter)) }
}

fn compensated(counter: u32) -> Record {
    Record::Compensated { path: path(&[counter]) }
}

fn ended(outcome: Outcome) -> Record {
    Record::Ended { outcome, output: None }
}

fn aborted(own: bool) -> Record {
    Record::Aborted { abort: abort(), own }
}

fn records(role: u8, records: &[Record]) -> Batch {
    records.iter().map(|record| record.change(id(role)).unwrap()).collect()
}

fn place(instance: InstanceId) -> Change {
    let key = [&9_u64.to_be_bytes()[..], &instance.to_bytes()].concat();
    Change { space: Space::Ended, key, value: Some(value_bytes(&1_u64).unwrap()) }
}

/// The tombstone of a role that had these records.
fn close(role: u8, outcome: Outcome, had: &[Record]) -> Batch {
    let closed = Closed { header: header(), outcome, output: None };
    let keys = had.iter().map(|record| record.key(id(role))).collect();
    let mut batch = record::close(id(role), &closed, keys).unwrap();
    batch.push(place(id(role)));
    batch
}

fn frame(from: u8, body: Body) -> Frame {
    let (from, to) = (RoleIndex(from), RoleIndex(1 - from));
    Frame { session: session(), from, to, header: Some(header()), body }
}

fn message(counter: u32, value: u32) -> Body {
    Body::Deliver { path: path(&[counter]), operation: Operation::Comm, payload: payload(&value) }
}

fn key(counter: u32) -> IdempotencyKey {
    IdempotencyKey { session: session(), path: path(&[counter]) }
}

/// A store, as far as a watch reads it.
struct Opening(Disk);

impl Store for Opening {
    fn get(&self, _: Space, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }
    fn range(&self, space: Space, _: &KeyRange, _: Direction, _: usize) -> Result<Vec<Entry>, StoreError> {
        Ok(self.0.entries(space))
    }
    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.0.apply(batch);
        Ok(())
    }
    fn sync(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Two nodes, each with a role, and what the watch said first against them.
#[derive(Default)]
struct Play {
    watch: InvariantMonitor,
    violation: Option<Violation>,
    next_number: u64,
}

impl Play {
    /// Both roles are open, and that is durable.
    fn open() -> Self {
        Self::default().write(0, open(0)).write(1, open(1))
    }

    fn note(mut self, verdict: Result<(), Violation>) -> Self {
        self.violation = self.violation.or(verdict.err());
        self
    }

    #[expect(clippy::needless_pass_by_value, reason = "batches are made where they are applied")]
    fn apply(mut self, role: u8, batch: Batch) -> Self {
        let verdict = self.watch.applied(&node(role), &batch);
        self.note(verdict)
    }

    fn write(self, role: u8, batch: Batch) -> Self {
        let mut play = self.apply(role, batch);
        play.watch.synced(&node(role));
        play
    }

    fn crash(mut self, role: u8, kept: usize) -> Self {
        self.watch.crashed(&node(role), kept);
        self
    }

    /// The last one gets the number that [`Play::hear`] acknowledges.
    fn send(mut self, role: u8, body: Body) -> Self {
        self.next_number += 1;
        let mut packet = Packet::new(EPOCH);
        packet.frames.push((self.next_number, frame(role, body)));
        let verdict = self.watch.sent(&node(role), &node(1 - role), &packet);
        self.note(verdict)
    }

    fn hear(mut self, role: u8) -> Self {
        let mut packet = Packet::new(Epoch(EPOCH.0 + 1));
        packet.acks.push((EPOCH, vec![self.next_number]));
        let verdict = self.watch.sent(&node(role), &node(1 - role), &packet);
        self.note(verdict)
    }

    fn commit(mut self, counter: u32) -> Self {
        let verdict = self.watch.committed(&key(counter));
        self.note(verdict)
    }

    fn compensate(mut self, counter: u32) -> Self {
        let verdict = self.watch.compensated(&key(counter));
        self.note(verdict)
    }

    fn end(self) -> Self {
        let verdict = self.watch.ended();
        self.note(verdict)
    }

    /// Both roles end so, and close.
    fn close_all(self, outcome: &Outcome, had: [&[Record]; 2]) -> Self {
        let end = |role| records(role, &[ended(outcome.clone())]);
        let closing = records(0, &[Record::Closing]);
        let all = |had: &[Record]| [had, &[ended(outcome.clone()), Record::Closing, aborted(false)]].concat();
        let play = self.write(0, end(0)).write(1, end(1)).send(1, Body::Done(outcome.clone())).hear(0);
        let play = play.write(0, closing).send(0, Body::Close(outcome.clone()));
        let play = play.write(1, close(1, outcome.clone(), &all(had[1]))).hear(1);
        play.write(0, close(0, outcome.clone(), &all(had[0])))
    }
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "a play is over then")]
fn good(play: Play) {
    assert_eq!(play.violation, None);
}

#[track_caller]
fn breaks(invariant: u32, play: Play) {
    let found = play.violation.expect("the watch has seen nothing wrong");
    assert_eq!(found.invariant, invariant, "{found}");
    assert!(found.to_string().starts_with(&format!("invariant {invariant} ({}) is violated: ", found.name)));
    assert_ne!(found.name, "an invariant");
}

fn finished() -> Outcome {
    Outcome::Finished
}

fn taken_back() -> Outcome {
    Outcome::Compensated(abort())
}

#[test]
fn a_whole_session_is_fine() {
    let paid = [received(0, 3), intended(1), committed(1, 0)];
    let play = Play::open().send(0, message(0, 3)).write(1, records(1, &paid[..2])).hear(1);
    let play = play.commit(1).write(1, records(1, &paid[2..]));
    good(play.close_all(&finished(), [&[], &paid]).end());
}

#[test]
fn an_aborted_session_is_fine() {
    let paid = [intended(1), committed(1, 0), intended(2), committed(2, 1), compensated(2), compensated(1)];
    let play = Play::open().write(1, records(1, &[intended(1)])).commit(1).write(1, records(1, &paid[1..3]));
    let play = play.commit(2).write(1, records(1, &paid[3..4])).write(1, records(1, &[aborted(true)]));
    let play = play.send(1, Body::Abort(abort())).write(0, records(0, &[aborted(false)])).hear(0);
    let play = play.compensate(2).write(1, records(1, &[compensated(2)])).compensate(1);
    let play = play.write(1, records(1, &[compensated(1)]));
    good(play.close_all(&taken_back(), [&[], &paid]).end());
}

#[test]
fn unsynced_records_may_be_lost_and_written_again() {
    let play = Play::open().apply(1, records(1, &[committed(1, 0)])).crash(1, 0);
    good(play.apply(1, records(1, &[committed(1, 0)])));
    let kept = Play::open().apply(1, records(1, &[committed(1, 0)])).crash(1, 1);
    breaks(2, kept.apply(1, records(1, &[committed(1, 0)])));
}

#[test]
fn no_1_durable_records_stay() {
    let play = || Play::open().write(1, records(1, &[received(0, 3), intended(1)]));
    good(play().write(1, vec![record::remove(id(1), &intended(1))]));
    breaks(1, play().write(1, vec![record::remove(id(1), &received(0, 3))]));
    breaks(1, play().write(1, records(1, &[received(0, 4)])));
    breaks(1, play().write(1, vec![Change { space: Space::Open, key: id(1).to_bytes().to_vec(), value: None }]));
}

#[test]
fn no_1_a_loop_drops_the_turns_that_are_over() {
    let at = |turn| Record::Observed { path: path(&[2, turn, 0]), name: "seen".into(), result: payload(&turn) };
    let checkpoint = Record::Checkpoint { path: path(&[2]), turn: 1, state: payload(&0) };
    let drops = |turn| [records(1, std::slice::from_ref(&checkpoint)), vec![record::remove(id(1), &at(turn))]].concat();
    let play = || Play::open().write(1, records(1, &[at(0), at(1)]));
    good(play().write(1, drops(0)));
    breaks(1, play().write(1, drops(1)));
}

#[test]
fn no_1_a_recovered_store_has_all_durable_records() {
    let batch = [open(1), records(1, &[received(0, 3)])].concat();
    let mut disk = Opening(Disk::default());
    let mut watch = Play::default().write(1, batch.clone()).watch;
    disk.apply(batch).unwrap();
    assert_eq!(watch.restarted(&node(1), &disk), Ok(()));
    disk.apply(vec![record::remove(id(1), &received(0, 3))]).unwrap();
    assert_eq!(watch.restarted(&node(1), &disk).unwrap_err().invariant, 1);
}

#[test]
fn no_2_a_commit_takes_effect_once() {
    let play = || Play::open().write(1, records(1, &[intended(1)])).commit(1);
    good(play());
    breaks(2, play().commit(1));
    let play = || Play::open().write(1, records(1, &[committed(1, 0)]));
    breaks(2, play().write(1, records(1, &[committed(1, 0)])));
    breaks(2, play().write(0, records(0, &[committed(1, 0)])));
}

#[test]
fn no_3_all_or_compensated() {
    let paid = [committed(1, 0)];
    let play = || Play::open().write(1, records(1, &paid));
    good(play().close_all(&finished(), [&[], &paid]));
    breaks(3, play().write(1, records(1, &[aborted(false)])).close_all(&taken_back(), [&[], &paid]));
    let all = [committed(1, 0), compensated(1)];
    breaks(3, play().write(1, records(1, &[compensated(1)])).close_all(&finished(), [&[], &all]));
    breaks(3, play().end());
    let mut excused = play();
    excused.watch.excuse(session());
    good(excused.end());
}

#[test]
fn no_3_recorded_steps_took_effect_at_the_service() {
    let had = [intended(1)];
    let unknown = Play::open().write(1, records(1, &had)).commit(1).close_all(&finished(), [&[], &had]);
    breaks(3, unknown.end());
}

#[test]
fn no_3_turns_that_are_over_stay() {
    let paid = Record::Committed {
        path: path(&[2, 0, 0]),
        name: "pay".into(),
        input: Fingerprint::default(),
        order: 0,
        result: Ok(payload(&1)),
    };
    let checkpoint = Record::Checkpoint { path: path(&[2]), turn: 1, state: payload(&0) };
    let play = || Play::open().write(1, records(1, std::slice::from_ref(&paid)));
    let end = |play: Play, at_shop: &[Record]| {
        play.write(1, records(1, &[aborted(false)])).close_all(&taken_back(), [at_shop, std::slice::from_ref(&paid)])
    };
    good(end(play().write(0, records(0, std::slice::from_ref(&checkpoint))), &[checkpoint]));
    breaks(3, end(play(), &[]));
}

#[test]
fn no_4_received_values_equal_sent_values() {
    let play = || Play::open().send(0, message(0, 3));
    good(play().write(1, records(1, &[received(0, 3)])));
    breaks(4, play().write(1, records(1, &[received(0, 4)])));
}

#[test]
fn no_8_sent_results_are_durable() {
    good(Play::default().write(0, open(0)).send(0, Body::Nudge(Lacks::default())));
    breaks(8, Play::default().apply(0, open(0)).send(0, Body::Nudge(Lacks::default())));
    breaks(8, Play::default().apply(0, open(0)).send(0, message(0, 1)));
    good(Play::open().write(1, records(1, &[aborted(true)])).send(1, Body::Abort(abort())));
    breaks(8, Play::open().apply(1, records(1, &[aborted(true)])).send(1, Body::Abort(abort())));
    breaks(8, Play::open().apply(1, records(1, &[aborted(true)])).crash(1, 0).send(1, Body::Abort(abort())));
}

#[test]
fn no_8_a_verdict_is_durable() {
    let verdict: Result<(), Abort> = Ok(());
    let decided = Record::Observed { path: path(&[2]), name: "saga".into(), result: payload(&verdict) };
    let told = Body::Deliver { path: path(&[2, 2]), operation: Operation::Verdict, payload: payload(&verdict) };
    good(Play::open().write(0, records(0, std::slice::from_ref(&decided))).send(0, told.clone()));
    breaks(8, Play::open().apply(0, records(0, &[decided])).send(0, told));
}

#[test]
fn no_9_acknowledged_is_durable() {
    let play = || Play::open().send(0, message(0, 3));
    good(play().write(1, records(1, &[received(0, 3)])).hear(1));
    breaks(9, play().apply(1, records(1, &[received(0, 3)])).hear(1));
    breaks(9, play().apply(1, records(1, &[received(0, 3)])).crash(1, 0).hear(1));
    let play = || Play::open().write(0, records(0, &[aborted(true)])).send(0, Body::Abort(abort()));
    good(play().write(1, records(1, &[aborted(false)])).hear(1));
    breaks(9, play().apply(1, records(1, &[aborted(false)])).hear(1));
}

#[test]
fn no_10_the_intent_is_durable_first() {
    good(Play::open().write(1, records(1, &[intended(1)])).commit(1));
    breaks(10, Play::open().apply(1, records(1, &[intended(1)])).commit(1));
}

#[test]
fn no_11_a_step_outside_has_its_intent() {
    let play = || Play::open().write(1, records(1, &[intended(1)])).commit(1);
    good(play().write(1, records(1, &[committed(1, 0)])));
    let removed = || play().write(1, vec![record::remove(id(1), &intended(1))]);
    breaks(11, removed().write(1, records(1, &[committed(1, 0)])));
}

#[test]
fn no_12_the_state_changes_with_a_step() {
    let state = || vec![Change { space: Space::State, key: vec![1], value: None }];
    good(Play::open().write(1, [state(), records(1, &[committed(1, 0)])].concat()));
    breaks(12, Play::open().write(1, state()));
}

#[test]
fn no_15_an_ended_instance_has_no_unacknowledged_frame() {
    let play = || Play::open().send(0, message(0, 3)).write(1, records(1, &[received(0, 3)]));
    good(play().hear(1).write(0, records(0, &[ended(finished())])));
    breaks(15, play().write(0, records(0, &[ended(finished())])));
    let aborts = || play().write(0, records(0, &[aborted(true)])).send(0, Body::Abort(abort()));
    let knows = || aborts().write(1, records(1, &[aborted(false)]));
    good(knows().hear(1).write(0, records(0, &[ended(taken_back())])));
    breaks(15, knows().write(0, records(0, &[ended(taken_back())])));
}

#[test]
fn no_17_a_compensated_step_has_an_output() {
    let play = || Play::open().write(1, records(1, &[intended(1)])).commit(1);
    good(play().write(1, records(1, &[committed(1, 0)])).compensate(1));
    breaks(17, play().compensate(1));
    breaks(2, play().write(1, records(1, &[committed(1, 0)])).compensate(1).compensate(1));
}

#[test]
fn no_18_steps_are_compensated_latest_first() {
    let play = || Play::open().write(1, records(1, &[committed(1, 0), committed(2, 1), aborted(true)]));
    good(play().write(1, records(1, &[compensated(2)])).write(1, records(1, &[compensated(1)])));
    let forwards = |play: Play| play.write(1, records(1, &[compensated(1)])).write(1, records(1, &[compensated(2)]));
    breaks(18, forwards(play()));
    let mut backwards = play();
    backwards.watch.note_backwards("deal");
    good(forwards(backwards));
    let trouble =
        StepFailure { step: "pay".into(), task: Task::Compensate, reason: "no".into(), tries: 1, in_doubt: false };
    let troubled = Record::Troubled { path: path(&[2]), input: Fingerprint::default(), trouble };
    good(forwards(play().write(1, records(1, &[troubled]))));
}

#[test]
fn no_20_the_initiator_closes_last() {
    let play = || Play::open().write(0, records(0, &[ended(finished())])).write(0, records(0, &[Record::Closing]));
    let both = || play().write(1, records(1, &[ended(finished())]));
    good(both().send(1, Body::Done(finished())).send(0, Body::Close(finished())));
    breaks(20, Play::open().apply(1, records(1, &[ended(finished())])).send(1, Body::Done(finished())));
    breaks(20, play().apply(1, records(1, &[ended(finished())])).send(0, Body::Close(finished())));
    breaks(20, play().send(0, Body::Close(finished())));
    breaks(20, play().write(0, close(0, finished(), &[ended(finished()), Record::Closing])));
}

#[test]
fn no_21_closed_stays_closed() {
    let play = || Play::open().close_all(&finished(), [&[], &[]]);
    good(play().end());
    breaks(21, play().write(1, open(1)));
    breaks(21, play().write(1, records(1, &[received(0, 3)])));
    breaks(21, Play::open().write(1, records(1, &[received(0, 3)])).close_all(&finished(), [&[], &[]]));
}

#[test]
fn no_22_the_same_id_has_the_same_bytes() {
    good(Play::open().send(0, message(0, 3)).crash(0, 0).send(0, message(0, 3)));
    breaks(22, Play::open().send(0, message(0, 3)).crash(0, 0).send(0, message(0, 4)));
}

#[test]
fn no_27_stored_values_are_readable() {
    let garbled = Change { space: Space::Open, key: id(0).to_bytes().to_vec(), value: Some(vec![200]) };
    breaks(27, Play::default().apply(0, vec![garbled]));
}

#[test]
fn no_32_the_cast_is_fixed() {
    let other =
        Opened { header: Arc::new(Header { cast: vec![node(0), node(0)], ..(*header()).clone() }), input: None };
    let other = vec![record::open(id(1), &other).unwrap()];
    good(Play::default().write(0, open(0)).write(1, open(1)));
    breaks(32, Play::default().write(0, open(0)).write(1, other));
}

#[test]
fn no_33_a_key_is_one_session() {
    let claim =
        |role| vec![Change { space: Space::Keys, key: b"kone".to_vec(), value: Some(id(role).to_bytes().to_vec()) }];
    let release = vec![Change { space: Space::Keys, key: b"kone".to_vec(), value: None }];
    good(Play::default().write(0, claim(0)).write(0, release).write(0, claim(1)));
    good(Play::default().apply(0, claim(0)).crash(0, 0).write(0, claim(1)));
    breaks(33, Play::default().write(0, claim(0)).write(0, claim(1)));
}

#[test]
fn no_34_closed_instances_are_not_invited() {
    let closed = || Play::open().close_all(&finished(), [&[], &[]]);
    good(closed().send(0, Body::Close(finished())));
    breaks(34, closed().send(0, Body::Nudge(Lacks::default())));
    breaks(34, closed().send(1, message(0, 3)));
}

#[test]
fn no_35_a_tombstone_has_its_place() {
    let end = || Play::open().write(0, records(0, &[ended(finished()), Record::Closing]));
    let play = || end().write(1, records(1, &[ended(finished())]));
    let closed = || close(1, finished(), &[ended(finished())]);
    good(play().write(1, closed()));
    let mut without = closed();
    without.pop();
    breaks(35, play().write(1, without));
    let gone = Change { value: None, ..place(id(1)) };
    breaks(35, play().write(1, closed()).write(1, vec![gone]));
}

#[test]
fn no_42_an_aborted_saga_is_compensated() {
    let verdict: Result<(), Abort> = Err(abort());
    let paid = Record::Committed {
        path: path(&[2, 0, 0]),
        name: "pay".into(),
        input: Fingerprint::default(),
        order: 0,
        result: Ok(payload(&1)),
    };
    let decided = Record::Observed { path: path(&[2]), name: "saga".into(), result: payload(&verdict) };
    let undone = Record::Compensated { path: path(&[2, 0, 0]) };
    let had = [paid, decided, undone];
    let play = |had: &[Record]| Play::open().write(1, records(1, had)).close_all(&finished(), [&[], had]);
    good(play(&had));
    breaks(42, play(&had[..2]));
}

#[test]
fn harnesses_without_packets_agree() {
    let mut play = Play::open();
    let receipt = Receipt { to: node(0), epoch: EPOCH, number: 1 };
    play.watch.said(&node(0), &frame(0, message(0, 3)), Some(&receipt)).unwrap();
    assert_eq!(play.watch.acked(&node(1), &receipt).unwrap_err().invariant, 9);
}

//! What recovery makes of a journal: the same in whatever order it is read, and nothing of one that no run can have
//! written.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;

use accompanist_core::contract::Space;
use accompanist_core::frame::{Body, Operation, Outcome};
use accompanist_core::id::RoleIndex;
use accompanist_core::machine::{Effects, Limits, Machine, Status, Stop};
use accompanist_core::message::Fingerprint;
use accompanist_core::record::{Opened, Record, StepFailure, Task, read_value};
use accompanist_core::{Abort, Service};

use crate::rig::{Bank, Rig, id, path, payload};
use crate::trade::{BUYER, SELLER, Seller, Trade};

fn opened() -> Opened {
    let mut rig = Rig::begin(Trade, BUYER, Some(payload(&7u32)), Service::none());
    rig.turn_synced();
    rig.disk.opened().unwrap()
}

fn restored(role: u8, records: &[Record]) -> Machine {
    let name = if role == BUYER { "buyer" } else { "seller" };
    Machine::restore(id(role), name, &opened(), records.to_vec(), Limits::default())
}

fn abort(message: &str) -> Abort {
    Abort::new("changed-my-mind", message)
}

fn aborted(own: bool) -> Record {
    Record::Aborted { abort: abort("once"), own }
}

fn finished() -> Record {
    Record::Ended { outcome: Outcome::Finished, output: None }
}

fn compensated(message: &str) -> Record {
    Record::Ended { outcome: Outcome::Compensated(abort(message)), output: None }
}

fn sold() -> Record {
    Record::Ended { outcome: Outcome::Finished, output: Some(payload(&8u32)) }
}

fn received(operation: Operation, value: u32) -> Record {
    Record::Received { path: path(&[0]), from: RoleIndex(1 - SELLER), operation, payload: payload(&value) }
}

fn observed(name: &str, value: u32) -> Record {
    Record::Observed { path: path(&[3]), name: name.into(), result: payload(&value) }
}

fn intended(name: &str, input: u64) -> Record {
    Record::Intended { path: path(&[1]), name: name.into(), input: Fingerprint(input) }
}

fn committed(name: &str, order: u32, result: Result<u32, Abort>) -> Record {
    let result = result.map(|output| payload(&output));
    Record::Committed { path: path(&[1]), name: name.into(), input: Fingerprint(5), order, result }
}

fn troubled(name: &str) -> Record {
    let (step, reason) = (name.into(), "busy".into());
    let trouble = StepFailure { step, task: Task::Compensate, reason, tries: 3, in_doubt: false };
    Record::Troubled { path: path(&[1]), input: Fingerprint(5), trouble }
}

fn counted() -> Record {
    Record::Compensated { path: path(&[1]) }
}

fn checkpoint(turn: u32, state: u32) -> Record {
    Record::Checkpoint { path: path(&[4]), turn, state: payload(&state) }
}

fn signalled(key: &str, value: Option<u32>) -> Record {
    let payload = value.map(|value| payload(&value));
    Record::Signalled { number: 1, name: "hurry".into(), key: key.into(), fingerprint: Fingerprint(9), payload }
}

/// What cannot be in one journal, by role, and a part of the reason.
fn illegal() -> Vec<(u8, Vec<Record>, &'static str)> {
    use Operation::{Comm, Gather};
    vec![
        (BUYER, vec![Record::Closing], "has not ended"),
        (SELLER, vec![finished(), Record::Closing], "only the initiator"),
        // The initiator has not ended again since the abort.
        (BUYER, vec![aborted(false), sold(), Record::Closing], "has not ended"),
        (BUYER, vec![sold(), Record::Closing, aborted(false)], "all roles have finished"),
        (SELLER, vec![compensated("once")], "is not aborted"),
        (SELLER, vec![aborted(false), compensated("twice")], "another reason"),
        (SELLER, vec![aborted(false), Record::Aborted { abort: abort("twice"), own: false }], "another reason"),
        (SELLER, vec![aborted(true), finished()], "only the initiator may decide"),
        (SELLER, vec![finished(), aborted(true)], "only the initiator may decide"),
        (SELLER, vec![finished(), compensated("once")], "another outcome"),
        (SELLER, vec![aborted(true), compensated("once"), finished()], "another outcome"),
        (SELLER, vec![sold()], "has an output"),
        (
            BUYER,
            vec![
                aborted(true),
                Record::Ended { outcome: Outcome::Compensated(abort("once")), output: Some(payload(&8u32)) },
            ],
            "has an output",
        ),
        (SELLER, vec![received(Comm, 7), received(Comm, 8)], "another message"),
        (SELLER, vec![received(Comm, 7), received(Gather, 7)], "another message"),
        (SELLER, vec![observed("price", 1), observed("weight", 1)], "something else"),
        (SELLER, vec![intended("charge", 5), intended("charge", 6)], "another step"),
        (SELLER, vec![committed("charge", 0, Ok(8)), intended("ship", 5)], "another step"),
        (SELLER, vec![committed("charge", 0, Ok(8)), troubled("ship")], "another step"),
        (SELLER, vec![committed("charge", 0, Ok(8)), committed("charge", 0, Ok(9))], "another result"),
        (SELLER, vec![committed("charge", 0, Ok(8)), committed("charge", 1, Ok(8))], "another result"),
        (SELLER, vec![committed("charge", 0, Ok(8)), committed("charge", 0, Err(abort("no")))], "another result"),
        (SELLER, vec![checkpoint(2, 0), checkpoint(1, 0)], "a later turn"),
        (SELLER, vec![checkpoint(2, 0), checkpoint(2, 1)], "another state"),
        (SELLER, vec![signalled("a", Some(1)), signalled("b", Some(1))], "another signal"),
        (SELLER, vec![signalled("a", None), signalled("a", Some(1))], "was taken"),
    ]
}

fn stop_of(effects: &Effects) -> String {
    let stop = effects.stopped.as_ref().expect("stopped");
    assert!(matches!(stop, Stop::IllegalRecord { .. }), "{stop}");
    stop.to_string()
}

#[test]
fn an_impossible_journal_stops_the_instance_and_nothing_is_lost() {
    for (role, records, reason) in illegal() {
        let effects = restored(role, &records).take_effects();
        let stop = stop_of(&effects);
        assert!(stop.contains(reason) && stop.contains("`terminate`"), "{records:?}: {stop}");
        assert!(effects.writes.is_empty() && effects.frames.is_empty(), "{records:?}");
        // Without its last record, it is a journal.
        let (_, before) = records.split_last().unwrap();
        assert_eq!(restored(role, before).take_effects().stopped, None, "{before:?}");
        // A record that comes twice says nothing new.
        let twice: Vec<Record> = before.iter().flat_map(|record| [record.clone(), record.clone()]).collect();
        assert_eq!(restored(role, &twice).take_effects().stopped, None, "{twice:?}");
    }
}

#[test]
fn an_instance_with_an_impossible_journal_can_be_terminated() {
    for (role, records, _) in illegal() {
        let last = records.last().unwrap().key(id(role));
        let effects = restored(role, &[records, vec![Record::Terminated]].concat()).take_effects();
        assert_eq!(effects.stopped, None);
        let removed = effects.writes.iter().flat_map(|write| &write.changes).filter(|change| change.value.is_none());
        assert_eq!(removed.map(|change| &change.key).collect::<Vec<_>>(), [&last]);
    }
}

#[test]
fn every_possible_journal_is_accepted() {
    let legal = [
        // It had finished when the abort came, whatever comes first.
        (SELLER, vec![finished(), aborted(false)], Status::Compensating),
        (SELLER, vec![aborted(false), finished()], Status::Compensating),
        // The caller cancels what the initiator had finished.
        (BUYER, vec![sold(), aborted(true)], Status::Compensating),
        (BUYER, vec![aborted(true), sold()], Status::Compensating),
        (BUYER, vec![aborted(true), compensated("once"), Record::Closing], Status::Compensated),
        (BUYER, vec![sold(), Record::Closing], Status::Finished),
        // An operator counts everything as compensated: what was refused, and what cannot be read any more.
        (SELLER, vec![aborted(true), committed("charge", 0, Err(abort("no"))), counted()], Status::Compensating),
        (SELLER, vec![aborted(true), counted(), committed("charge", 0, Ok(8))], Status::Compensating),
        (SELLER, vec![intended("charge", 5), committed("charge", 0, Ok(8)), troubled("charge")], Status::NeedsOperator),
        (
            SELLER,
            vec![checkpoint(1, 0), checkpoint(2, 0), signalled("a", Some(1)), signalled("a", None)],
            Status::Running,
        ),
    ];
    for (role, records, status) in legal {
        let mut machine = restored(role, &records);
        assert_eq!((machine.take_effects().stopped, machine.status()), (None, status), "{records:?}");
    }
}

fn digest(machine: &Machine) -> u64 {
    let mut hasher = DefaultHasher::new();
    machine.digest(&mut hasher);
    hasher.finish()
}

/// An instance whose journal is kept in the order in which it was written, too.
struct Written {
    rig: Rig,
    log: Vec<(Vec<u8>, Record)>,
}

impl Written {
    /// Turns until nothing is left to be written, and compares after each write.
    fn settle(&mut self) -> Effects {
        loop {
            let mut effects = self.rig.turn();
            if effects.writes.is_empty() {
                self.compare();
                let lives = Status::of(&self.rig.disk.records());
                assert_eq!(self.rig.part.status(), lives, "the machine that wrote it");
                return effects;
            }
            self.rig.ack(&effects);
            for write in std::mem::take(&mut effects.writes) {
                for change in write.changes.iter().filter(|change| change.space == Space::Journal) {
                    self.log.retain(|(key, _)| *key != change.key);
                    let record = change.value.as_ref().map(|value| read_value(Space::Journal, value).unwrap());
                    self.log.extend(record.map(|record| (change.key.clone(), record)));
                }
                self.rig.sync(vec![write]);
                self.compare();
            }
        }
    }

    /// Recovery comes to the same, whether it reads the journal in the order of the keys or as it was written.
    fn compare(&self) {
        let by_key = self.rig.disk.records();
        let written: Vec<Record> = self.log.iter().map(|(_, record)| record.clone()).collect();
        let sorted: BTreeMap<_, _> = self.log.iter().cloned().collect();
        assert_eq!(sorted.into_values().collect::<Vec<_>>(), by_key, "all was logged");
        let [mut one, mut other] = [by_key, written.clone()].map(|records| restored(self.rig.role, &records));
        assert_eq!((one.take_effects().stopped, other.take_effects().stopped), (None, None), "{written:?}");
        assert_eq!(digest(&one), digest(&other), "{written:?}");
        assert_eq!(one.status(), Status::of(&written), "{written:?}");
    }
}

fn written(role: u8) -> (Written, std::sync::Arc<Bank>) {
    let bank = Bank::new();
    let (input, service) = match role {
        BUYER => (Some(payload(&7u32)), Service::none()),
        _ => (None, Service::of::<Seller>(bank.clone())),
    };
    (Written { rig: Rig::begin(Trade, role, input, service), log: Vec::new() }, bank)
}

#[test]
fn wherever_the_journal_of_a_role_is_cut_recovery_comes_to_the_state_that_wrote_it() {
    let (mut seller, bank) = written(SELLER);
    seller.rig.hear_message(BUYER, &[0], &7u32, 1);
    let effects = seller.settle();
    seller.rig.ack(&effects);
    seller.settle();
    assert_eq!(seller.rig.part.status(), Status::Finished);
    seller.rig.hear(BUYER, Body::Abort(abort("once")), 2);
    seller.settle();
    assert_eq!((seller.rig.part.status(), bank.balance()), (Status::Compensated, 0));
}

#[test]
fn wherever_the_journal_of_the_initiator_is_cut_recovery_comes_to_the_state_that_wrote_it() {
    for cancels in [false, true] {
        let (mut buyer, _) = written(BUYER);
        let effects = buyer.settle();
        buyer.rig.ack(&effects);
        buyer.rig.hear_message(SELLER, &[2], &8u32, 1);
        buyer.settle();
        assert_eq!(buyer.rig.part.status(), Status::Finished);
        let outcome = if cancels { Outcome::Compensated(abort("once")) } else { Outcome::Finished };
        if cancels {
            buyer.rig.part.cancel(&abort("once")).expect("in time");
            let effects = buyer.settle();
            buyer.rig.ack(&effects);
            buyer.settle();
        }
        // The close waits to be acknowledged.
        buyer.rig.hear(SELLER, Body::Done(outcome), 2);
        buyer.settle();
        assert!(buyer.rig.disk.records().contains(&Record::Closing));
    }
}

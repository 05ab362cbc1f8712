//! Bytes, frames and records that nobody in their senses sends, at what decodes them and at what they mean.
//!
//! It begins with a value of each kind, and with what was found before, which is kept in `tests/corpus`.
//! `ACCOMPANIST_FUZZ_RUNS=1000000 PROPTEST_CASES=10000` runs more than usual.

use std::fs;
use std::path::PathBuf;

use accompanist_core::contract::Space;
use accompanist_core::frame::Packet;
use accompanist_core::machine::Status;
use accompanist_core::record::{Closed, Opened, Record, read_value, value_bytes};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::codec::{body, golden_packets, golden_records, read, record, to_bytes};
use crate::harness::Chance;
use crate::rig::{Bank, Rig};
use crate::trade::{SELLER, Trade, service};

fn corpus(kind: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(kind)
}

/// What was found before, by name.
fn found(kind: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = fs::read_dir(corpus(kind)).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A few changes of the kinds that faults, or a stranger, make.
fn mangle(bytes: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    for _ in 0..=chance.draw(3) {
        let at = chance.draw(bytes.len() + 1);
        let length = chance.draw(bytes.len() - at + 1).min(16);
        match chance.draw(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.draw(8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][chance.draw(5)],
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let twice = bytes[at..at + length].to_vec();
                bytes.splice(at..at, twice);
            }
            4 => bytes.truncate(at),
            _ => {
                let from = chance.draw(other.len() + 1);
                bytes.splice(at.., other[from..].iter().copied());
            }
        }
    }
}

/// Lets `decode` see the corpus, and mangled forms of it; what makes it panic is kept in the corpus.
fn fuzz(kind: &str, mut seeds: Vec<Vec<u8>>, decode: impl Fn(&[u8])) {
    let runs = std::env::var("ACCOMPANIST_FUZZ_RUNS").map_or(50_000, |runs| runs.parse().unwrap());
    seeds.extend(found(kind));
    for bytes in &seeds {
        decode(bytes);
    }
    let mut chance = Chance(7);
    for run in 0..runs {
        let [mut bytes, other] = [0, 1].map(|_| seeds[chance.draw(seeds.len())].clone());
        mangle(&mut bytes, &other, &mut chance);
        let decoded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| decode(&bytes)));
        if decoded.is_err() {
            let file = corpus(kind).join(format!("found-{run}"));
            fs::write(&file, &bytes).unwrap();
            panic!("run {run} panicked; its bytes are in {}: add them to the commit of the fix", file.display());
        }
    }
}

#[test]
fn no_packet_is_a_danger() {
    let seeds = golden_packets().into_iter().map(|(_, packet)| to_bytes(&packet));
    fuzz("packets", seeds.collect(), |bytes| {
        let _ = read(bytes);
        // As if its sender had computed the checksum over such bytes.
        if let Ok(packet) = Packet::peek(bytes) {
            assert_eq!(read(&to_bytes(&packet)).unwrap(), packet);
        }
    });
}

#[test]
fn no_record_is_a_danger() {
    let seeds = golden_records().into_iter().map(|record| value_bytes(&record).unwrap());
    fuzz("records", seeds.collect(), |bytes| {
        let _ = read_value::<Opened>(Space::Open, bytes);
        let _ = read_value::<Closed>(Space::Closed, bytes);
        if let Ok(record) = read_value::<Record>(Space::Journal, bytes) {
            let bytes = value_bytes(&record).unwrap();
            assert_eq!(read_value::<Record>(Space::Journal, &bytes).unwrap(), record);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/corpus/found-by-proptest.txt"))),
        ..ProptestConfig::default()
    })]

    /// Whatever roles say, in whatever order: no panic, and no step twice.
    #[test]
    fn no_frame_is_a_danger(said in vec((0u8..2, body(), any::<bool>()), 0..12)) {
        let bank = Bank::new();
        let mut rig = Rig::begin(Trade, SELLER, None, service(&bank));
        rig.hear_message(0, &[0], &7u32, 1);
        for (number, (from, body, turn)) in said.into_iter().enumerate() {
            rig.hear(from, body, u64::try_from(number).unwrap());
            if turn {
                rig.turn_synced();
            }
        }
        rig.turn_synced();
        prop_assert!(bank.calls().iter().filter(|call| call.starts_with("charge")).count() <= 1, "{:?}", bank.calls());
    }

    /// Whatever a store holds: it is loaded, or is stopped; it does not panic.
    #[test]
    fn no_journal_is_a_danger(records in vec(record(), 0..12)) {
        let bank = Bank::new();
        let begun = { let mut rig = Rig::begin(Trade, SELLER, None, service(&bank)); rig.turn_synced(); rig.disk };
        let mut disk = begun.clone();
        for record in &records {
            disk.apply(vec![record.change(crate::rig::id(SELLER)).unwrap()]);
        }
        let _ = Status::of(&disk.records());
        let mut rig = Rig::restore(Trade, SELLER, disk, service(&bank));
        rig.hear_message(0, &[0], &7u32, 1);
        rig.turn_synced();
    }
}

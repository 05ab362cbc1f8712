//! How long it takes to open a store, with its tables verified and without.
//!
//! What is verified beside the tables (journals, lists of tables) is in both.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use accompanist::Durability;
use accompanist::contract::{Batch, Change, Space, Store};
use accompanist::store::{FjallSizes, FjallStore};
use anyhow::Result;
use fleet::Times;

use crate::machine;
use crate::report::Report;

/// Bytes of a row's value, and rows of a batch.
const VALUE_BYTES: usize = 4 << 10;
const BATCH_ROWS: u64 = 256;

/// Options.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// MiB of rows in the store, of bytes that no compression makes small.
    #[arg(long, default_value_t = 1_024)]
    mib: u64,
    /// Openings of each kind.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where the store goes, in a folder that is removed at the end [default: the folder for temporary files].
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn fill(folder: &Path, mib: u64) -> Result<()> {
    let mut store = FjallStore::open(folder)?.durability(Durability::Process);
    let mut random = fastrand::Rng::with_seed(1);
    for number in 0..mib {
        let row = |row: u64| Change {
            space: Space::State,
            key: [number.to_be_bytes(), row.to_be_bytes()].concat(),
            value: Some((0..VALUE_BYTES).map(|_| random.u8(..)).collect()),
        };
        let batch: Batch = (0..BATCH_ROWS).map(row).collect();
        store.apply(batch)?;
    }
    store.durability(Durability::Power).sync()?;
    Ok(())
}

/// The bytes of all tables.
fn table_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let bytes = |path: PathBuf| {
        if path.is_dir() {
            table_bytes(&path)
        } else if path.parent().is_some_and(|parent| parent.ends_with("tables")) {
            fs::metadata(path).map_or(0, |file| file.len())
        } else {
            0
        }
    };
    entries.map(bytes).sum()
}

/// Runs the bench.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("accompanist-bench-").tempdir_in(machine::base(arguments.folder))?;
    let mut report = Report::default();
    machine::describe(&mut report, folder.path());
    let store = folder.path().join("store");
    fill(&store, arguments.mib)?;
    drop(FjallStore::open(&store)?); // It ends what it has to compact.
    report.fact("MiB of tables", table_bytes(&store) >> 20);
    let (mut without, mut with) = (Times::new()?, Times::new()?);
    for _ in 0..arguments.rounds {
        for (times, verify_bytes_max) in [(&mut without, 0), (&mut with, u64::MAX)] {
            let sizes = FjallSizes { verify_bytes_max, ..FjallSizes::default() };
            let begun = Instant::now();
            let opened = FjallStore::open_with(&store, &sizes)?;
            times.add(begun.elapsed());
            drop(opened);
        }
    }
    report.times("opened, no table verified", &without);
    report.times("opened, all tables verified", &with);
    report.print(arguments.json)
}

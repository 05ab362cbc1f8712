//! What one sync costs on files that were made in different ways, as the journal of a database can be.
//!
//! fjall makes a journal as a sparse file of 64 MiB, and appends to one that it has opened again. A file that was
//! written before has all its blocks, so that a sync has none to allot.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use fleet::Times;

use crate::machine;
use crate::report::Report;

/// Bytes of a journal, as fjall makes it.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Bytes of a write: a saga alone, some, many.
const SIZES: [usize; 3] = [512, 4_096, 32_768];
/// Syncs of one file before it is the next one's turn.
const ROUND: u64 = 20;

/// Options.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Syncs of each kind and size.
    #[arg(long, default_value_t = 400)]
    syncs: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where the files go, in a folder that is removed at the end [default: the folder for temporary files].
    #[arg(long)]
    folder: Option<PathBuf>,
}

struct Journal {
    name: String,
    file: File,
    at: u64,
    times: Times,
}

impl Journal {
    fn new(folder: &Path, kind: &str, size: usize) -> Result<Self> {
        let path = folder.join(format!("{kind}-{size}"));
        let mut file = File::create_new(path)?;
        match kind {
            "sparse" => file.set_len(JOURNAL_BYTES)?,
            "written before" => {
                let zeros = vec![0; 1 << 20];
                for _ in 0..JOURNAL_BYTES >> 20 {
                    file.write_all(&zeros)?;
                }
            }
            _ => {}
        }
        file.sync_all()?;
        Ok(Self { name: format!("{kind}, {size} bytes"), file, at: 0, times: Times::new()? })
    }

    fn round(&mut self, size: usize) -> Result<()> {
        let bytes = vec![0x5a; size];
        for _ in 0..ROUND {
            let begun = Instant::now();
            self.file.write_all_at(&bytes, self.at)?;
            self.file.sync_data()?;
            self.times.add(begun.elapsed());
            self.at += size as u64;
        }
        Ok(())
    }
}

/// Runs the bench.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("accompanist-bench-").tempdir_in(machine::base(arguments.folder))?;
    let mut report = Report::default();
    machine::describe(&mut report, folder.path());
    for size in SIZES {
        let kinds = ["growing", "sparse", "written before"];
        let journals: Result<Vec<_>> = kinds.iter().map(|kind| Journal::new(folder.path(), kind, size)).collect();
        let mut journals = journals?;
        for _ in 0..(arguments.syncs / ROUND).max(1) {
            journals.iter_mut().try_for_each(|journal| journal.round(size))?;
        }
        for Journal { name, times, .. } in &journals {
            report.times(name.clone(), times);
        }
    }
    report.print(arguments.json)
}

//! Reads a whole store whose node has ended: every row of every space, and the ledger.
//!
//! Run as a process of its own on stores that are damaged on purpose, so that whatever happens is seen from outside.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::path::{Path, PathBuf};

use accompanist::State;
use accompanist::contract::{Space, Store};
use accompanist::store::FjallStore;
use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::audit::book_alone;
use crate::ledger::{Book, Entry};
use crate::model::RoleName;

/// Rows that are read at once.
const PAGE_ROWS: usize = 1_024;

#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// The role whose store it is
    role: RoleName,
    /// The folder of the store
    #[arg(long)]
    store: PathBuf,
}

/// What a store holds, in numbers that tell two contents apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Contents {
    /// How many batches were written in all.
    pub(crate) commits: u64,
    /// How many rows there are.
    pub(crate) rows: u64,
    /// Of all keys and values.
    pub(crate) digest: u64,
    /// How many entries the ledger's log has.
    pub(crate) log_length: u64,
    /// Of the log.
    pub(crate) log_digest: u64,
    /// What does not hold of the ledger by itself.
    pub(crate) violations: Vec<String>,
}

/// A number that tells logs apart.
pub(crate) fn log_digest(log: &[Entry]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for entry in log {
        hasher.write(format!("{entry:?}").as_bytes());
    }
    hasher.finish()
}

/// Reads all there is.
pub(crate) fn read(role: RoleName, folder: &Path) -> anyhow::Result<(Contents, Book)> {
    let store = FjallStore::open(folder)?;
    let (mut rows, mut hasher) = (0, DefaultHasher::new());
    for space in Space::ALL {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = store.scan(space, &[], after.as_deref(), PAGE_ROWS)?;
            for (key, value) in &page {
                rows += 1;
                for part in [space.name().as_bytes(), key, value] {
                    hasher.write_usize(part.len());
                    hasher.write(part);
                }
            }
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
        }
    }
    let book = Book::read(&State::new(&store, role.name())).context("the ledger cannot be read")?;
    let (log_length, log_digest) = (book.log.len() as u64, log_digest(&book.log));
    let commits = store.commits();
    let contents =
        Contents { commits, rows, digest: hasher.finish(), log_length, log_digest, violations: book_alone(&book) };
    Ok((contents, book))
}

/// Prints what a store holds.
pub(crate) fn inspect(arguments: &InspectArguments) -> anyhow::Result<()> {
    let (contents, _) = read(arguments.role, &arguments.store)?;
    println!("{}", serde_json::to_string(&contents)?);
    Ok(())
}

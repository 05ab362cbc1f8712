//! Reading the ledgers of stopped roles, and the check by hand.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use accompanist::State;
use accompanist::store::FjallStore;
use anyhow::{Context, ensure};
use clap::Args;
use warehouse::sqlite::SqliteService;
use warehouse::{Book, Check, built_in, check};

use crate::{Ledger, RoleName};

/// Where a role's data folder has the runtime's store.
pub(crate) fn journal_folder(data: &Path) -> PathBuf {
    data.join("journal")
}

/// Where a role's data folder has the service's own database.
pub(crate) fn service_file(data: &Path) -> PathBuf {
    data.join("service.sqlite")
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// The data folder of the warehouse
    #[arg(long, value_name = "DIR")]
    data_warehouse: PathBuf,
    /// The data folder of payment
    #[arg(long, value_name = "DIR")]
    data_payment: PathBuf,
    /// The data folder of loyalty
    #[arg(long, value_name = "DIR")]
    data_loyalty: PathBuf,
    /// Where the services keep their ledgers
    #[arg(long, value_enum, default_value = "built-in")]
    ledger: Ledger,
}

pub(crate) async fn check_by_hand(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let mut book = Book::default();
    let folders = [&arguments.data_warehouse, &arguments.data_payment, &arguments.data_loyalty];
    for (role, data) in RoleName::ALL.into_iter().zip(folders) {
        book.absorb(read_book(arguments.ledger, role, data).await?);
    }
    println!("{} entries, {} balances", book.entries.len(), book.balances.len());
    let checks = check(&book, None);
    checks.iter().for_each(print_check);
    Ok(if checks.iter().all(Check::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads the ledger of a role whose process has ended.
pub(crate) async fn read_book(ledger: Ledger, role: RoleName, data: &Path) -> anyhow::Result<Book> {
    let path = if ledger == Ledger::BuiltIn { journal_folder(data) } else { service_file(data) };
    ensure!(path.exists(), "{} has no {} ledger of {}", data.display(), ledger.name(), role.name());
    let context = || format!("the ledger of {} cannot be read; has its process ended?", role.name());
    match ledger {
        Ledger::BuiltIn => {
            let store = FjallStore::open(&path).with_context(context)?;
            built_in::read_book(&State::new(&store, role.name())).with_context(context)
        }
        Ledger::Sqlite => {
            let service = SqliteService::open(&path).await.with_context(context)?;
            let book = service.read_book().await.with_context(context);
            service.close().await;
            book
        }
    }
}

/// Violations that are printed of one check.
const VIOLATIONS_PRINTED_MAX: usize = 20;

pub(crate) fn print_check(check: &Check) {
    println!("  {:<30} {}", check.name, if check.holds() { "pass" } else { "FAIL" });
    for violation in check.violations.iter().take(VIOLATIONS_PRINTED_MAX) {
        println!("      {violation}");
    }
    if let Some(more) = check.violations.len().checked_sub(VIOLATIONS_PRINTED_MAX).filter(|more| *more > 0) {
        println!("      and {more} more");
    }
}

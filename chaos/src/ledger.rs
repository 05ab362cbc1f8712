//! What each role writes down: a log of all steps in their order, and balances that must agree with it.
//!
//! Nothing here prevents that a step is done twice: if the runtime repeated one, the log would show it. Every entry
//! moves an amount from one account to another, so that the balances of a role add up to nothing at any time.

use std::collections::BTreeMap;

use accompanist::prelude::*;
use serde::{Deserialize, Serialize};

const LOG: Table<u64, Entry> = Table::new("log");
const LENGTH: Table<String, u64> = Table::new("length");
const BALANCES: Table<String, i64> = Table::new("balances");

/// The one row of [`LENGTH`].
const LOG_LENGTH: &str = "log";

/// A step of the saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Step {
    Place,
    Reserve,
    Hold,
    Capture,
    Ship,
    Complete,
}

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) order: String,
    pub(crate) step: Step,
    /// Whether the step was compensated, not done.
    pub(crate) back: bool,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) amount: i64,
}

/// Appends `entry`, and moves its amount.
pub(crate) fn post(state: &mut State<'_>, entry: &Entry) -> Result<(), Abort> {
    let length = LENGTH.get(state, LOG_LENGTH)?.unwrap_or(0);
    LOG.put(state, length, entry)?;
    LENGTH.put(state, LOG_LENGTH, &(length + 1))?;
    BALANCES.update(state, &entry.from, |balance| Ok(balance.unwrap_or(0) - entry.amount))?;
    BALANCES.update(state, &entry.to, |balance| Ok(balance.unwrap_or(0) + entry.amount))?;
    Ok(())
}

/// The ledger of one role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Book {
    pub(crate) log: Vec<Entry>,
    /// How long the log says it is.
    pub(crate) length: u64,
    pub(crate) balances: BTreeMap<String, i64>,
}

impl Book {
    /// Reads the ledger of a role.
    pub(crate) fn read(state: &State<'_>) -> Result<Self, Abort> {
        let log = LOG.range(state, ..).map(|row| Ok(row?.1)).collect::<Result<_, Abort>>()?;
        let length = LENGTH.get(state, LOG_LENGTH)?.unwrap_or(0);
        Ok(Self { log, length, balances: BALANCES.range(state, ..).collect::<Result<_, _>>()? })
    }

    /// The balances that the log gives.
    pub(crate) fn computed(&self) -> BTreeMap<String, i64> {
        let mut balances: BTreeMap<String, i64> = BTreeMap::new();
        for entry in &self.log {
            *balances.entry(entry.from.clone()).or_default() -= entry.amount;
            *balances.entry(entry.to.clone()).or_default() += entry.amount;
        }
        balances
    }
}

//! Encodes a failed run as one printed word, with which the run can be repeated; also determines how to run a single
//! test.
//!
//! The word contains the check it belongs to and a fingerprint of what happened before the last fault, so that a
//! stale word is recognised.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use crate::base::message::{Fingerprint, Payload};
use crate::language::choreography::Choreography;

use super::harness::Event;
use super::plan::{Plan, word};

/// The environment variable with the run to repeat.
pub(super) const AGAIN: &str = "ACCOMPANIST_CRASHES";

/// The separator between the parts of the word, which a shell does not interpret.
const SEPARATOR: char = '/';

/// A failed run, as it was printed.
pub(super) struct Printed {
    choreography: String,
    /// The number of the check among those of this choreography in its test, from 1.
    pub(super) call: usize,
    /// The fingerprint of the run without a fault.
    pub(super) base: u32,
    /// The plan, or the reason why it is invalid here.
    pub(super) plan: Result<Plan, String>,
    written: String,
    /// The fingerprint of what happened before the last fault.
    pub(super) before: u32,
}

impl fmt::Display for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { choreography, call, base, written, before, .. } = self;
        let s = SEPARATOR;
        write!(f, "{choreography}{s}{call}{s}{base:08x}{s}{written}{s}{before:08x}")
    }
}

impl Printed {
    pub(super) fn of<C: Choreography>(call: usize, base: u32, plan: &Plan, events: &[Event], roles: &[String]) -> Self {
        let (choreography, written) = (word(C::NAME), plan.written(roles));
        Self { choreography, call, base, plan: Ok(plan.clone()), written, before: before(plan, events) }
    }

    /// Returns the run that the environment asks for, if it is a run of this choreography.
    ///
    /// # Errors
    /// If the variable contains something that was never printed.
    pub(super) fn wanted(choreography: &str, roles: &[String]) -> Result<Option<Self>, String> {
        let Ok(text) = std::env::var(AGAIN) else { return Ok(None) };
        let unreadable = || {
            format!(
                "{AGAIN}={text} is not what a failure of this release gave: run the test without it, and take what it \
                 prints"
            )
        };
        let printed = Self::read(&text, roles).ok_or_else(unreadable)?;
        Ok(Some(printed).filter(|printed| printed.choreography == word(choreography)))
    }

    fn read(text: &str, roles: &[String]) -> Option<Self> {
        let parts: Vec<&str> = text.split(SEPARATOR).collect();
        let [choreography, call, base, written, before] = parts.as_slice() else { return None };
        let number = |hex: &str| u32::from_str_radix(hex, 16).ok();
        Some(Self {
            choreography: (*choreography).to_owned(),
            call: call.parse().ok()?,
            base: number(base)?,
            plan: Plan::read(written, roles),
            written: (*written).to_owned(),
            before: number(before)?,
        })
    }

    /// Returns the text which says that this run cannot be repeated.
    pub(super) fn unfit(&self, why: &str) -> String {
        format!("{AGAIN}={self} no longer fits `{}`: {why}. Run the test without it", self.choreography)
    }
}

/// The fingerprint of a run's events, and of its surroundings.
pub(super) fn fingerprint(surroundings: &str, events: &[Event]) -> u32 {
    let text = format!("{surroundings} {events:?}");
    let Fingerprint(whole) = Fingerprint::of(&Payload::from(text.into_bytes()));
    u32::try_from(whole & u64::from(u32::MAX)).unwrap_or_default()
}

/// The fingerprint of what happened before the last fault of `plan`.
pub(super) fn before(plan: &Plan, events: &[Event]) -> u32 {
    let last = plan.faults.last().map_or(0, |fault| fault.event);
    fingerprint("", events.get(..last).unwrap_or(events))
}

thread_local! {
    /// The number of checks by choreography in this thread, which the harness creates for one test.
    static CALLS: RefCell<BTreeMap<&'static str, usize>> = const { RefCell::new(BTreeMap::new()) };
}

/// Counts a check of this choreography in this test. Returns its number.
pub(super) fn count_call(choreography: &'static str) -> usize {
    CALLS.with_borrow_mut(|calls| {
        let calls = calls.entry(choreography).or_default();
        *calls += 1;
        *calls
    })
}

/// Returns the command that runs only the test in which it is called. The command contains the crate if cargo runs
/// the test, and the test's name if this is called on the test's own thread, which the harness names after the test.
///
/// ```
/// # use accompanist_core::testing::test_command;
/// assert!(test_command().starts_with("cargo test"));
/// ```
pub fn test_command() -> String {
    let package = std::env::var("CARGO_PKG_NAME").map(|name| format!(" -p {name}")).unwrap_or_default();
    let thread = std::thread::current();
    let is_test = |name: &&str| *name != "main" && !name.starts_with("tokio-");
    let test = thread.name().filter(is_test).map(|name| format!(" {name} -- --exact")).unwrap_or_default();
    format!("cargo test{package}{test}")
}

//! A run that has failed, as one word that is printed and given back to run it again; and how to run a test alone.
//!
//! The word says which check it is for and what happened before its last fault, so that one that is stale is known.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use crate::choreography::Choreography;
use crate::message::{Fingerprint, Payload};
use crate::role::RoleSet;

use super::plan::{Plan, word};
use super::stage::Event;

/// The variable with the run that is to be run again.
pub(super) const AGAIN: &str = "ACCOMPANIST_CRASHES";

/// Between the parts of the word. A shell leaves it alone.
const SEPARATOR: char = '/';

/// A run that has failed, as it was printed.
pub(super) struct Printed {
    choreography: String,
    /// Which check of this choreography it was in its test, from 1.
    pub(super) call: usize,
    /// The fingerprint of the run without a fault.
    pub(super) base: u32,
    /// Or what is wrong with it here.
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
    pub(super) fn of<C: Choreography>(call: usize, base: u32, plan: &Plan, events: &[Event]) -> Self {
        let (choreography, written) = (word(C::NAME), plan.written(C::Roles::NAMES));
        Self { choreography, call, base, plan: Ok(plan.clone()), written, before: before(plan, events) }
    }

    /// What the environment asks for, if that is a run of this choreography.
    ///
    /// # Errors
    /// When it is nothing that was printed.
    pub(super) fn wanted(choreography: &str, roles: &[&str]) -> Result<Option<Self>, String> {
        let Ok(text) = std::env::var(AGAIN) else { return Ok(None) };
        let unreadable = || {
            format!(
                "{AGAIN}={text} is not what a failure of this release gave: run the test without it, and take what it prints"
            )
        };
        let printed = Self::read(&text, roles).ok_or_else(unreadable)?;
        Ok(Some(printed).filter(|printed| printed.choreography == word(choreography)))
    }

    fn read(text: &str, roles: &[&str]) -> Option<Self> {
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

    /// How it is told that this run cannot be run again.
    pub(super) fn unfit(&self, why: &str) -> String {
        format!("{AGAIN}={self} no longer fits `{}`: {why}. Run the test without it", self.choreography)
    }
}

/// Of a run's events, and of what it was run with.
pub(super) fn fingerprint(surroundings: &str, events: &[Event]) -> u32 {
    let text = format!("{surroundings} {events:?}");
    let Fingerprint(whole) = Fingerprint::of(&Payload::from(text.into_bytes()));
    u32::try_from(whole & u64::from(u32::MAX)).unwrap_or_default()
}

/// Of what happened before the last fault of `plan`.
pub(super) fn before(plan: &Plan, events: &[Event]) -> u32 {
    let last = plan.faults.last().map_or(0, |fault| fault.event);
    fingerprint("", events.get(..last).unwrap_or(events))
}

thread_local! {
    /// How many checks there were in this thread, which the harness makes for one test, by choreography.
    static CALLS: RefCell<BTreeMap<&'static str, usize>> = const { RefCell::new(BTreeMap::new()) };
}

/// Counts a check of this choreography, in this test.
pub(super) fn count_call(choreography: &'static str) -> usize {
    CALLS.with_borrow_mut(|calls| {
        let calls = calls.entry(choreography).or_default();
        *calls += 1;
        *calls
    })
}

/// The command that runs the test it is called in, and no other: with its crate if cargo runs it, and its name if it is called
/// on the test's own thread, which the harness names after it.
pub fn test_command() -> String {
    let package = std::env::var("CARGO_PKG_NAME").map(|name| format!(" -p {name}")).unwrap_or_default();
    let thread = std::thread::current();
    let is_test = |name: &&str| *name != "main" && !name.starts_with("tokio-");
    let test = thread.name().filter(is_test).map(|name| format!(" {name} -- --exact")).unwrap_or_default();
    format!("cargo test{package}{test}")
}

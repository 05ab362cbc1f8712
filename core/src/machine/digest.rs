//! A hash of everything in an instance that determines its future. The model checker of the tests uses it to
//! recognise, among thousands of instances, those it has seen before.
//!
//! Write numbers are hashed relative to the synced one, and pauses relative to now, because nothing depends on how
//! long an instance has lived already. Every field of every part is named, so that a new field does not compile until
//! it has its place.

use std::hash::{Hash, Hasher};

use super::Machine;
use super::timers::Pause;

/// What write numbers and times are hashed relative to.
#[derive(Clone, Copy)]
pub(super) struct Since {
    pub(super) synced: u64,
    pub(super) now_ms: u64,
}

impl Since {
    /// It only matters whether a write is durable, and if not, how many writes precede it.
    pub(super) fn ahead(self, write: u64) -> u64 {
        write.saturating_sub(self.synced)
    }

    pub(super) fn left(self, pause: Option<Pause>) -> Option<(u64, u64)> {
        pause.map(|pause| (pause.until_ms.saturating_sub(self.now_ms), pause.length_ms))
    }
}

impl Machine {
    /// Hashes everything that the instance's future depends on, except its program. Call this after its effects were
    /// taken.
    #[doc(hidden)]
    pub fn digest(&self, hasher: &mut impl Hasher) {
        let Self {
            // All compared instances have the same.
            identity: _,
            program,
            phase,
            stopped,
            journal,
            inputs,
            steps,
            loops,
            sagas,
            caller,
            outbox,
            peers,
            waits,
            timers,
            // The effects are empty between turns.
            effects: _,
        } = self;
        let since = journal.since(timers.now_ms);
        (program, stopped.is_some(), inputs, loops, sagas, peers, waits).hash(hasher);
        phase.digest(since, hasher);
        journal.digest(since, hasher);
        steps.digest(since, hasher);
        caller.digest(since, hasher);
        outbox.digest(since, hasher);
        timers.digest(since, hasher);
    }
}

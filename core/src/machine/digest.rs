//! A hash of everything in an instance that determines its future. The model checker of the tests uses it to
//! recognise, among thousands of instances, those it has seen before.
//!
//! Write numbers are hashed relative to the synced one, and pauses relative to now, because nothing depends on how
//! long an instance has lived already. Every field is named, so that a new field does not compile until it has its
//! place here.

use std::hash::{Hash, Hasher};

use super::phase::{End, Phase};
use super::steps::StepEntry;
use super::{Job, JobTask, Machine, Pause};

impl Machine {
    /// Hashes everything that the instance's future depends on, except its program. Call this after its effects were
    /// taken.
    #[doc(hidden)]
    #[expect(clippy::too_many_lines, reason = "a line for each field, so that none is forgotten")]
    pub fn digest(&self, hasher: &mut impl Hasher) {
        let Self {
            // The id is the same in all compared instances.
            id: _,
            role: _,
            roles: _,
            header: _,
            limits: _,
            compensation: _,
            stops_on_oversize: _,
            rehearsing: _,
            program,
            mailbox,
            observed,
            steps,
            next_order,
            running,
            retrying,
            loops,
            heard,
            sagas,
            signals,
            compensating,
            announced_compensating,
            pending,
            number,
            synced,
            barrier,
            acks_after,
            // `pending` and `acks_after` contain these receipts.
            acks_due: _,
            warned,
            sent,
            announced,
            acks_once_announced,
            lacking,
            resends,
            // Only the record written at passivation depends on this.
            passivated: _,
            held,
            unacked,
            acquainted,
            invited,
            waiting,
            // This concerns the operation that is being polled.
            waits_at: _,
            jobs,
            output,
            output_after,
            view,
            view_after,
            phase,
            done,
            opening,
            now_ms,
            // The waits contain what is compared with it.
            unix_ms: _,
            nudge,
            // Only the runtime uses this, when an instance is reactivated to nudge, or passivated.
            nudges_due: _,
            stopped,
            // The effects are empty between turns.
            effects: _,
        } = self;
        // It only matters whether a write is durable, and if not, how many writes precede it.
        let ahead = |write: &u64| write.saturating_sub(*synced);
        (program, mailbox, observed, next_order, running, retrying).hash(hasher);
        (loops, heard, sagas, signals, compensating, announced_compensating).hash(hasher);
        (lacking, resends).hash(hasher);
        (pending, ahead(number), ahead(barrier), warned, unacked, acquainted, invited, waiting).hash(hasher);
        (sent, announced, acks_once_announced, output, view, done, opening).hash(hasher);
        let pause =
            |pause: &Option<Pause>| pause.map(|pause| (pause.until_ms.saturating_sub(*now_ms), pause.length_ms));
        for (path, entry) in steps {
            let StepEntry {
                name,
                input,
                result,
                order,
                compensated,
                step,
                running,
                tries,
                pause: next,
                in_doubt,
                trouble,
            } = entry;
            (path, name, input, result, order, compensated, step.is_some()).hash(hasher);
            (running, tries, pause(next), in_doubt, trouble).hash(hasher);
        }
        for (after, receipt) in acks_after {
            (ahead(after), receipt).hash(hasher);
        }
        for (after, outgoing) in held {
            (ahead(after), outgoing).hash(hasher);
        }
        for (after, Job { role: _, name: _, path, step: _, task }) in jobs {
            let task = match task {
                JobTask::Commit => None,
                JobTask::Compensate(output) => Some(Some(output)),
                JobTask::FindOut => Some(None),
            };
            // A job that waits for no write was started in an earlier life.
            (*after > 0, ahead(after), path, task).hash(hasher);
        }
        output_after.as_ref().map(|(after, output)| (ahead(after), output)).hash(hasher);
        view_after.as_ref().map(|(after, view)| (ahead(after), view)).hash(hasher);
        std::mem::discriminant(phase).hash(hasher);
        let end = |End { outcome, after }: &End, hasher: &mut _| (outcome, ahead(after)).hash(hasher);
        match phase {
            Phase::Running => {}
            // Whose abort it is only matters to recovery, which knows it from the record.
            Phase::Compensating { abort, own: _ } => abort.hash(hasher),
            Phase::Ended(ended) | Phase::Closing(ended) | Phase::CloseDue(ended) => end(ended, hasher),
            Phase::Closed { end: ended, written, tombstone } => {
                end(ended, hasher);
                (ahead(written), tombstone).hash(hasher);
            }
        }
        (pause(nudge), stopped.is_some()).hash(hasher);
        // Without their lengths, adjacent lists could be confused.
        (steps.len(), acks_after.len(), held.len(), jobs.len()).hash(hasher);
    }
}

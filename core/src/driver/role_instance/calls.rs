//! Measures the calls of a part's steps, by the clock of its driver, for statistics.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::base::id::Path;
use crate::contract::BoxFuture;
use crate::machine::{CallOutcome, EndedCall, JobResult, Write};

/// A call of a service that runs.
pub(super) struct RunningCall {
    pub(super) call: BoxFuture<'static, (Path, JobResult)>,
    pub(super) step: String,
    pub(super) since_ms: u64,
}

/// A call of a service that has ended.
pub(super) struct FinishedCall {
    pub(super) path: Path,
    pub(super) result: JobResult,
    pub(super) step: String,
    pub(super) since_ms: u64,
}

impl Future for RunningCall {
    type Output = FinishedCall;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<FinishedCall> {
        let polled = self.call.as_mut().poll(cx);
        polled.map(|(path, result)| {
            let step = std::mem::take(&mut self.step);
            FinishedCall { path, result, step, since_ms: self.since_ms }
        })
    }
}

/// A local transaction that the writer has, or has run since the last turn.
struct LocalCall {
    write: u64,
    step: String,
    since_ms: u64,
    ended: Option<(Path, CallOutcome)>,
}

/// The calls of a part; see the module's documentation. As many as the program makes at once.
#[derive(Default)]
pub(super) struct Calls {
    local: Vec<LocalCall>,
    ended: Vec<EndedCall>,
}

impl Calls {
    /// Notes that a call of a service has ended.
    pub(super) fn ended(&mut self, path: Path, step: String, outcome: CallOutcome, took_ms: u64) {
        self.ended.push(EndedCall { path, step, outcome, took_ms });
    }

    /// Notes how the local transaction of a write has ended. How long it took is known in the next turn.
    pub(super) fn local_ended(&mut self, write: u64, path: Path, outcome: CallOutcome) {
        if let Some(call) = self.local.iter_mut().find(|call| call.write == write) {
            call.ended = Some((path, outcome));
        }
    }

    /// Notes the local transactions that a turn hands to the writer, and returns the calls that have ended.
    pub(super) fn take(&mut self, now_ms: u64, writes: &[Write]) -> Vec<EndedCall> {
        for LocalCall { step, since_ms, ended, .. } in self.local.extract_if(.., |call| call.ended.is_some()) {
            let took_ms = now_ms.saturating_sub(since_ms);
            self.ended.extend(ended.map(|(path, outcome)| EndedCall { path, step, outcome, took_ms }));
        }
        self.local.extend(writes.iter().filter_map(|write| {
            let step = write.local.as_ref()?.step().to_owned();
            Some(LocalCall { write: write.number, step, since_ms: now_ms, ended: None })
        }));
        std::mem::take(&mut self.ended)
    }
}

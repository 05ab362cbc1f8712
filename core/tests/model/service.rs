//! The services of all roles: a call waits until the model lets it be answered.
//!
//! What took effect is not kept here but in the state, since this lives no longer than a role's life.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Mutex;
use std::task::{Poll, Waker};

use accompanist_core::{Abort, IdempotencyKey, Path, Retry};

/// What a service is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Task {
    Commit,
    Compensate,
}

/// A call of a service: one step's, with what may come of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    pub task: Task,
    pub path: Path,
    /// Whether the service may also say no.
    pub may_refuse: bool,
}

#[derive(Default)]
struct Calls {
    open: BTreeMap<Call, Waker>,
    /// Whether it was accepted.
    answers: BTreeMap<Call, bool>,
}

/// One life's end of its service.
#[derive(Default)]
pub struct Desk(Mutex<Calls>);

impl Desk {
    /// The calls that wait for an answer.
    pub fn open(&self) -> Vec<Call> {
        self.0.lock().unwrap().open.keys().cloned().collect()
    }

    pub fn answer(&self, call: &Call, accepted: bool) {
        let mut calls = self.0.lock().unwrap();
        let waker = calls.open.remove(call).expect("nobody has asked");
        calls.answers.insert(call.clone(), accepted);
        waker.wake();
    }

    async fn ask(&self, call: Call) -> bool {
        poll_fn(|cx| {
            let mut calls = self.0.lock().unwrap();
            if let Some(accepted) = calls.answers.remove(&call) {
                return Poll::Ready(accepted);
            }
            calls.open.insert(call.clone(), cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    pub async fn commit(&self, key: &IdempotencyKey, may_refuse: bool) -> Result<u32, Abort> {
        let call = Call { task: Task::Commit, path: key.path.clone(), may_refuse };
        if self.ask(call).await { Ok(7) } else { Err(Abort::new("refused", "not this one")) }
    }

    pub async fn compensate(&self, key: &IdempotencyKey) -> Result<(), Retry> {
        let call = Call { task: Task::Compensate, path: key.path.clone(), may_refuse: false };
        if self.ask(call).await { Ok(()) } else { Err(Retry::new("busy")) }
    }
}

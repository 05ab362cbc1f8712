//! The delivery of step calls to their services in a test: at once, after the death of the caller, or twice.
//!
//! A call of a step's method stands for the requests that the method makes. This module knows jobs, not the code that
//! decides about them.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::base::id::{InstanceId, Path};
use crate::base::panics;
use crate::contract::BoxFuture;
use crate::machine::{Job, JobResult};

/// A call that is carried out separately from its caller. The error is the text of a panic.
pub type Call = BoxFuture<'static, Result<(), String>>;

/// A call of a step's method, on its way to a service.
#[derive(Clone)]
pub struct Request {
    /// The calling instance.
    pub instance: InstanceId,
    /// The role of the caller.
    pub role: &'static str,
    /// The name of the step.
    pub step: String,
    /// The path of the step.
    pub path: Path,
    /// The called method: `commit`, `compensate` or `outcome`.
    pub call: &'static str,
    again: Arc<dyn Fn() -> Call + Send + Sync>,
}

impl Request {
    /// Delivers the request once more. The result is discarded.
    pub fn again(&self) -> Call {
        (self.again)()
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, step, path, call, .. } = self;
        write!(f, "`{call}` of step `{step}` at {path} by role `{role}`")
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The way in which a request travels.
pub enum Carriage {
    /// The request arrives at once, and ends when its caller is dropped.
    AsUsual,
    /// The call is handed to this function, which lets it arrive at any time. The caller gets the result if it still
    /// exists.
    Apart(Box<dyn FnOnce(Call) + Send>),
}

impl fmt::Debug for Carriage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::AsUsual) { "AsUsual" } else { "Apart" })
    }
}

/// Decides how requests travel.
pub trait Courier: Send + Sync {
    /// Decides about a request that is made now.
    fn carry(&self, request: &Request) -> Carriage;
}

/// Lets `courier` carry out `job`.
pub(crate) fn carried(courier: &dyn Courier, instance: InstanceId, job: Job) -> BoxFuture<'static, (Path, JobResult)> {
    let (role, step, path, call) = (job.role, job.name.clone(), job.path.clone(), job.task.call());
    let again = {
        let job = job.clone();
        move || -> Call {
            let run = job.clone().run();
            Box::pin(async move { panics::catch_async(run).await.map(drop) })
        }
    };
    match courier.carry(&Request { instance, role, step, path, call, again: Arc::new(again) }) {
        Carriage::AsUsual => job.run(),
        Carriage::Apart(take) => {
            let reply = Arc::new(Reply::default());
            take({
                let reply = reply.clone();
                Box::pin(async move {
                    let result = panics::catch_async(job.run()).await;
                    let panicked = result.as_ref().map(drop).map_err(String::clone);
                    reply.give(result);
                    panicked
                })
            });
            Box::pin(async move {
                let result = poll_fn(|cx| reply.poll(cx)).await;
                result.unwrap_or_else(|panic| panics::go_on(panic))
            })
        }
    }
}

/// The result of a request, on its way back to the caller.
#[derive(Default)]
struct Reply(Mutex<(Option<Answer>, Option<Waker>)>);

/// The result of a request, or the text of its panic.
type Answer = Result<(Path, JobResult), String>;

impl Reply {
    fn give(&self, result: Answer) {
        let mut reply = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reply.0 = Some(result);
        let waker = reply.1.take();
        drop(reply);
        waker.inspect(Waker::wake_by_ref);
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Answer> {
        let mut reply = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match reply.0.take() {
            Some(result) => Poll::Ready(result),
            None => {
                reply.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

//! How calls of steps travel to their services in a test: at once, later than their caller lives, or twice.
//!
//! A call of a step's method stands for the requests that it makes. Knows a job, not who decides about it.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::contract::BoxFuture;
use crate::id::{InstanceId, Path};
use crate::instance::{Job, JobResult};
use crate::panics;

/// A call that is carried out apart from its caller. The error is the text of a panic.
pub type Call = BoxFuture<'static, Result<(), String>>;

/// One call of a step's method, which is on its way to a service.
#[derive(Clone)]
pub struct Request {
    /// Who calls.
    pub instance: InstanceId,
    /// The caller's role.
    pub role: &'static str,
    /// The step's name.
    pub step: String,
    /// The step's place in the choreography.
    pub path: Path,
    /// Which of its methods: `commit`, `compensate` or `outcome`.
    pub call: &'static str,
    again: Arc<dyn Fn() -> Call + Send + Sync>,
}

impl Request {
    /// The request arrives once more; nobody hears what comes of it.
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

/// How a request travels.
pub enum Carriage {
    /// It arrives at once, and dies with its caller.
    AsUsual,
    /// It is given to this, which lets it arrive when it likes. Its caller hears what comes of it, if it lives still.
    Apart(Box<dyn FnOnce(Call) + Send>),
}

impl fmt::Debug for Carriage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::AsUsual) { "AsUsual" } else { "Apart" })
    }
}

/// Decides how requests travel.
pub trait Courier: Send + Sync {
    /// This request is made now.
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

/// What came of a request, on its way back.
#[derive(Default)]
struct Reply(Mutex<(Option<Answer>, Option<Waker>)>);

/// What a request has given, or the text of its panic.
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

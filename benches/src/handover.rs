//! What the scheduler alone takes: a job to an idle thread that waits on a channel, and its answer to a task.
//!
//! A node does this once per write (its writer is such a thread) and once to load an instance it has not in memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::{mpsc, oneshot};

type Job = oneshot::Sender<()>;

/// A thread that answers; ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Handover(mpsc::UnboundedSender<Job>);

impl Handover {
    /// Starts the thread.
    pub(crate) fn new() -> Result<Self> {
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        // As a node's writer waits: a runtime of its own, with this one thread.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let answer = async move {
            while let Some(job) = queue.recv().await {
                let _ = job.send(()); // Nobody may be waiting any more.
            }
        };
        std::thread::Builder::new().name("handover".into()).spawn(move || runtime.block_on(answer))?;
        Ok(Self(jobs))
    }

    /// The time of one job, there and back.
    pub(crate) async fn round_trip(&self) -> Result<Duration> {
        let jobs = self.0.clone();
        let task = tokio::spawn(async move {
            let begun = Instant::now();
            let (reply, answer) = oneshot::channel();
            jobs.send(reply).ok().context("the thread has ended")?;
            answer.await?;
            anyhow::Ok(begun.elapsed())
        });
        task.await?
    }
}

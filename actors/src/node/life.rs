//! The life of a node and its end: the first reason for the end is final, and all waiting callers are released.
//!
//! Knows no actors except the root.

use std::sync::{Arc, Weak};

use accompanist_core::contract::BoxFuture;
use accompanist_core::panics;
use ractor::ActorRef;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Node;
use super::root::RootMessage;
use crate::error::NodeError;
use crate::runtime::context::{End, Lifecycle, NodeContext};
use crate::runtime::names::log_part;

impl NodeContext {
    /// Ends the node, which cannot go on: nothing is sent, started or answered any more, and all waiting callers are
    /// released. Returns whether this is the first reason for the end.
    pub(super) fn fail(&self, error: NodeError) -> bool {
        let text = error.to_string();
        let is_first = self.lifecycle.end.set(End::Failed(error));
        if is_first {
            tracing::error!(node = %self.node, error = text, "the node stops");
        }
        self.routes.set_link(None);
        self.routes.set_supervisor(None);
        self.routes.set_wire(None);
        self.directory.close();
        is_first
    }
}

/// A guard that fails the node when the runtime goes away under it: no task is left to do it.
struct RuntimeGone<F: Fn()> {
    context: Weak<NodeContext>,
    end_writer: F,
    is_over: bool,
}

impl<F: Fn()> RuntimeGone<F> {
    fn disarm(mut self) {
        self.is_over = true;
    }
}

impl<F: Fn()> Drop for RuntimeGone<F> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        if let Some(context) = self.context.upgrade() {
            let reason = "it was shut down before the node: call `Node::shutdown` first".to_owned();
            context.fail(NodeError::Ended { part: "runtime", reason });
        }
        (self.end_writer)();
    }
}

/// Watches what the node cannot run without and what no supervisor watches: the writer, the root, and the runtime
/// that this task runs on.
pub(super) fn watch(context: &Arc<NodeContext>, root: ActorRef<RootMessage>, task: JoinHandle<()>) {
    let (failed, ended) = (context.writer.failed(), context.writer.ended());
    let end_writer = context.writer.ender();
    let gone = RuntimeGone { context: Arc::downgrade(context), end_writer, is_over: false };
    let context = context.clone();
    tokio::spawn(async move {
        let error = tokio::select! {
            biased;
            failure = failed => Some(NodeError::from(failure)),
            _ = task => None, // The root itself has reported a panic as a failure.
        };
        // Has no effect if the node was told to stop, or has given its reason already.
        context.fail(error.unwrap_or_else(|| NodeError::Ended { part: "root", reason: "its task is gone".into() }));
        root.kill();
        drop(context);
        // Callers with a handle keep the store open until they drop it, or until the runtime ends.
        ended.await;
        gone.disarm();
    });
}

impl Node {
    /// Waits until the node cannot go on, and returns the reason. Never returns while the node runs, or after it was
    /// shut down or killed, which is no failure.
    ///
    /// The end of every part of the node is reported here, within a second: the store or the writer's thread; link,
    /// roles and groups, if they fail more often than their [policy](crate::Settings::supervision) allows; the root
    /// of its tree; the tokio runtime that it runs on. All who wait for the node are then released, with an error.
    pub fn failed(&self) -> BoxFuture<'static, NodeError> {
        let end = self.context.lifecycle.end.wait();
        Box::pin(async move {
            match end.await {
                End::Failed(error) => error,
                End::Stopped => std::future::pending().await,
            }
        })
    }

    /// Stops the node and closes its store. Open sessions continue when the node starts again.
    ///
    /// Nothing new is started and no step on a service begins. Running steps get
    /// [`shutdown_grace`](crate::Settings::shutdown_grace) to end; a step that still runs then is cut off, with a
    /// warning, and runs again after the next start. After that the groups of
    /// [`NodeBuilder::supervise`](crate::NodeBuilder::supervise) are stopped, which may still do their final work,
    /// and then the node's own actors.
    ///
    /// A shutdown runs to completion once it has been polled, even if its future is dropped, and however often it is
    /// called. Called from a step, a program or an actor of the node itself, it stops its own caller at the await (a
    /// step only after the grace period, because the step counts as running). A step that is cut off like that runs
    /// again after the next start, and would stop the node again. Let a separate task call it instead. On the
    /// writer's thread (within a step on the built-in state) this returns before the node has stopped.
    pub async fn shutdown(&self) {
        self.apart(|node| async move {
            node.let_steps_end().await;
            let (done, stopped) = oneshot::channel();
            if node.root.cast(RootMessage::StopGroups(done)).is_ok() {
                // A root that is being killed may never handle the message, and may not drop it either.
                let root = node.root.get_cell();
                tokio::select! {
                    biased;
                    _ = stopped => {}
                    _ = root.wait(None) => {}
                }
            }
            let is_first = node.stop_actors().await;
            node.context.writer.end().await;
            if is_first {
                tracing::info!(node = %node.context.node, "the node has stopped: it was shut down");
            }
        })
        .await;
    }

    async fn let_steps_end(&self) {
        let Lifecycle { under_way, end, .. } = &self.context.lifecycle;
        let grace = self.context.settings.shutdown_grace;
        tokio::select! {
            biased;
            () = under_way.end() => {}
            _ = end.wait() => {} // The node has failed, and its steps with it.
            () = tokio::time::sleep(grace) => {
                for id in under_way.instances() {
                    let (name, node) = (self.context.directory.name(id), &self.context.node);
                    log_part!(warn, name, node, ?grace, "a step is cut off by the shutdown, and runs again in the next life");
                }
            }
        }
    }

    /// Stops all actors at once, as a crash would. The writer keeps the store open as long as there is a handle on
    /// the node; use [`Node::shutdown`] to open the store again in this process. Runs to completion as
    /// [`Node::shutdown`] does.
    pub async fn kill(&self) {
        // Silence the node at once, whenever the task gets to run.
        let is_first = self.silence();
        self.apart(|node| async move {
            node.stop_actors().await;
            if is_first {
                tracing::info!(node = %node.context.node, "the node has stopped: it was killed");
            }
        })
        .await;
    }

    /// Makes one of the node's own actors panic when it handles the message: for tests.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn panic_in(&self, actor: crate::base::faults::NodeActor) {
        match actor {
            crate::base::faults::NodeActor::Root => drop(self.root.cast(RootMessage::Panic)),
            crate::base::faults::NodeActor::Link => {
                self.context.routes.to_link(crate::runtime::messages::LinkMessage::Panic);
            }
            crate::base::faults::NodeActor::Roles => {
                // A supervisor that is gone has gone with its node.
                let _ = self.context.routes.to_supervisor(crate::runtime::messages::SupervisorMessage::Panic);
            }
        }
    }

    /// Returns whether the node ran until now.
    fn silence(&self) -> bool {
        let is_first = self.context.lifecycle.end.set(End::Stopped);
        self.context.routes.set_link(None);
        self.context.routes.set_supervisor(None);
        is_first
    }

    /// Returns whether the node ran until now.
    async fn stop_actors(&self) -> bool {
        // One call after the other, so that each has an end to wait for.
        let _turn = self.context.lifecycle.stopping.lock().await;
        let is_first = self.silence();
        // An error means that the root has already stopped.
        let _ = self.root.get_cell().kill_and_wait(None).await;
        self.context.routes.link_left().await;
        self.context.directory.close();
        is_first
    }

    /// Runs `work` in a separate task, which survives its caller: the caller may be what the task stops.
    async fn apart<F: Future<Output = ()> + Send + 'static>(&self, work: impl Fn(Self) -> F) {
        let task = self.context.lifecycle.runtime.spawn(work(self.clone()));
        if self.context.writer.is_own_thread() {
            return;
        }
        if let Err(error) = task.await {
            if let Ok(panic) = error.try_into_panic() {
                tracing::error!(error = panics::text(panic), "stopping the node panicked");
            }
            // The runtime is gone, and with it everything that has to be stopped on it.
            work(self.clone()).await;
        }
    }
}

//! A node: the value that owns store, transport, clock and actors, and the callers' way in. Nothing is global.
//!
//! The tree is `Root -> Link, Roles -> instances`, rest for one: when the link fails, the roles go down with it,
//! since what was unheard was in its memory, and both start again; the instances replay and say it again.

mod builder;
mod root;
mod versions;

use std::sync::Arc;

use accompanist_core::contract::{BoxFuture, StoreError};
use accompanist_core::id::InstanceId;
use accompanist_core::message::encode;
use accompanist_core::record::Opened;
use accompanist_core::{Choreography, Located, NodeId, Payload, Role, SessionId, State};
use metrics::counter;
use ractor::ActorRef;
use tokio::sync::{oneshot, watch};

pub use self::builder::NodeBuilder;
use self::root::RootMessage;
use crate::error::{NodeError, StartError};
use crate::metric;
use crate::roles::RolesMessage;
use crate::session::Session;
use crate::shared::{Shared, StoppedSession};
use crate::writer::Job;

/// A running node. Clones are handles on the same one; it runs until [`Node::shutdown`] or [`Node::kill`].
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
    root: ActorRef<RootMessage>,
    failed: watch::Receiver<Option<NodeError>>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({})", self.shared.node)
    }
}

impl Node {
    /// What a node is made of; see [`NodeBuilder`].
    pub fn builder(name: NodeId) -> NodeBuilder {
        NodeBuilder::new(name)
    }

    /// Its name.
    pub fn name(&self) -> &NodeId {
        &self.shared.node
    }

    /// Starts a session of `choreography`, which this node's builder was given (that one runs; the value here
    /// says only which). Durable when it returns.
    ///
    /// The session runs the highest version of it that the builder was given and a cast can play: each role on a node
    /// that says it has that version. So `C` may be the latest one while the other nodes are still being upgraded. A
    /// version is passed over if it is started by another role than `C`, or if the values it is started with or gives
    /// are of other types; its other roles may differ. The session runs with those of the version's
    /// [patches](Choreography::PATCHES) that all nodes of the cast know, and stays as it is, whatever is offered later.
    ///
    /// # Errors
    /// [`StartError`]; nothing has happened then. Cancel-safe: a start that is dropped may still take place.
    pub async fn start<C: Choreography>(
        &self,
        choreography: C,
        input: <C::Input as Located>::Value,
    ) -> Result<Session<C>, StartError> {
        let environment = &self.shared.environment;
        let random = (u128::from(environment.random()) << 64) | u128::from(environment.random());
        let session = SessionId::fresh(environment.unix_ms(), random);
        self.begin(choreography, session, input, true).await
    }

    /// As [`Node::start`], but under an idempotency key: the same key is the same session, for ever. A repeated start
    /// changes nothing, whatever its input, and follows the one session there is.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_keyed<C: Choreography>(
        &self,
        choreography: C,
        key: &str,
        input: <C::Input as Located>::Value,
    ) -> Result<Session<C>, StartError> {
        self.begin(choreography, SessionId::keyed(C::NAME, key), input, false).await
    }

    async fn begin<C: Choreography>(
        &self,
        _choreography: C,
        session: SessionId,
        input: <C::Input as Located>::Value,
        fresh: bool,
    ) -> Result<Session<C>, StartError> {
        let shared = &self.shared;
        let versions = self.versions::<C>()?;
        let (open, limit) = (shared.directory.len(), shared.settings.instances_max / 2);
        if open >= limit {
            return Err(StartError::Overloaded(limit));
        }
        let input: Payload = encode(&input)?.into();
        let (found, limit) = (input.len(), shared.settings.limits.payload_bytes_max);
        if found > limit {
            return Err(StartError::InputTooLarge { found, limit });
        }
        let header = self.cast(session, &versions).await?;
        let id = InstanceId { session, role: header.initiator };
        let opened = Opened { header: Arc::new(header), input: Some(input) };
        let mut progress = shared.directory.watch(id);
        if !shared.to_roles(RolesMessage::Start { id, opened, fresh }) {
            return Err(StartError::NodeStopped);
        }
        let handle = Session::new(session, progress.clone());
        let opened = progress.wait_for(|progress| progress.opened || progress.stopped.is_some()).await;
        let version = opened.map_err(|_| StartError::NodeStopped)?.version;
        self.check_version::<C>(session, version)?;
        counter!(metric::SESSIONS_STARTED).increment(1);
        Ok(handle)
    }

    /// Reads the built-in state of `role`, as of the last group commit.
    ///
    /// # Errors
    /// [`StoreError`] when the store is closed.
    pub async fn read_state<R: Role, T: Send + 'static>(
        &self,
        _role: R,
        read: impl FnOnce(&State<'_>) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.shared.writer.submit(Job::Read(Box::new(move |store| {
            let result = store.map(|store| read(&State::new(&store, R::NAME)));
            let _ = reply.send(result); // The caller may have gone.
        })));
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// How many role instances are in memory.
    pub fn instances(&self) -> usize {
        self.shared.directory.len()
    }

    /// The sessions that stand still here until someone looks at them, with the reason of each.
    pub fn stopped_sessions(&self) -> Vec<StoppedSession> {
        let stopped = self.shared.stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let list = stopped.iter().map(|(id, reason)| StoppedSession {
            session: id.session,
            role: id.role,
            reason: reason.clone(),
        });
        list.collect()
    }

    /// Waits until the node cannot go on, and says why. Never returns while all is well.
    pub fn failed(&self) -> BoxFuture<'static, NodeError> {
        let mut failed = self.failed.clone();
        Box::pin(async move {
            match failed.wait_for(Option::is_some).await.map(|error| error.clone()) {
                Ok(Some(error)) => error,
                // Shut down on purpose: that is no failure.
                _ => std::future::pending().await,
            }
        })
    }

    /// Stops the node and closes its store. Sessions that are open go on when it starts again.
    pub async fn shutdown(&self) {
        self.kill().await;
        self.shared.writer.end().await;
    }

    /// Stops all actors where they stand, as a crash would. The writer keeps the store open; use
    /// [`Node::shutdown`] to open it again in this process.
    pub async fn kill(&self) {
        self.shared.set_link(None);
        self.shared.set_roles(None);
        // An error says that it is gone already.
        let _ = self.root.get_cell().kill_and_wait(None).await;
        self.shared.link_left().await;
        self.shared.directory.close();
    }
}

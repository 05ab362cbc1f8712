//! A node: owns the store, the transport, the clock and the actors, and is the entry point for callers. Nothing is
//! global.
//!
//! The supervision tree is `Root -> Link, Roles -> instances`, with the strategy rest for one. When the link fails,
//! the roles are stopped too, because unacknowledged frames were in the link's memory. Both are restarted; the
//! instances replay and send those frames again.

mod builder;
mod extension;
mod given;
pub(crate) mod handle;
mod letters;
mod life;
mod lookup;
mod membership;
mod root;
pub(crate) mod session;
mod versions;
mod weak;

use std::sync::Arc;
use std::time::Duration;

use accompanist_core::contract::StoreError;
use accompanist_core::id::{InstanceId, RoleIndex};
use accompanist_core::message::{encode, encode_repeatable};
use accompanist_core::record::Opened;
use accompanist_core::{Choreography, Has, Located, Message, NodeId, Payload, Role, RoleSet, SessionId, State};
use metrics::counter;
use ractor::ActorRef;

pub use self::builder::NodeBuilder;
pub(crate) use self::extension::Extension;
pub use self::membership::CastSession;
use self::root::RootMessage;
pub(crate) use self::weak::WeakNode;
use crate::base::metric;
use crate::error::StartError;
use crate::node::handle::InstanceHandle;
use crate::node::session::Session;
use crate::runtime::attach::DatabaseState;
use crate::runtime::context::{NodeContext, Recovery, Starting, StoppedSession, TroubledSession};
use crate::runtime::messages::SupervisorMessage;
use crate::writer::{Claimed, Open, Tombstones};

/// Options for the start of a session, besides its input; see [`Node::start_with`].
#[derive(Debug, Clone, Default)]
pub struct StartOptions {
    key: Option<String>,
    deadline: Option<Duration>,
    /// The first option that was given twice, with both values.
    twice: Option<[String; 3]>,
}

impl StartOptions {
    /// Sets an idempotency key, as for [`Node::start_keyed`].
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        let key = key.into();
        if let Some(first) = self.key.replace(key.clone()).filter(|first| *first != key) {
            self.twice.get_or_insert(["key".into(), first, key]);
        }
        self
    }

    /// Aborts the session with the code [`Abort::DEADLINE`](crate::Abort::DEADLINE) unless it is settled (at all
    /// roles) by then. The deadline is measured by this node's wall clock and survives restarts.
    #[must_use]
    pub fn deadline(mut self, after: Duration) -> Self {
        if let Some(first) = self.deadline.replace(after).filter(|first| *first != after) {
            let [first, second] = [first, after].map(|after| humantime::format_duration(after).to_string());
            self.twice.get_or_insert(["deadline".into(), first, second]);
        }
        self
    }
}

/// A running node. Clones are handles on the same node. A node runs until [`Node::shutdown`] or [`Node::kill`], or
/// until the tokio runtime that it was started on ends.
#[derive(Clone)]
pub struct Node {
    context: Arc<NodeContext>,
    root: ActorRef<RootMessage>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({})", self.context.node)
    }
}

impl Node {
    /// Returns a builder for a node of this name; see [`NodeBuilder`].
    pub fn builder(name: NodeId) -> NodeBuilder {
        NodeBuilder::new(name)
    }

    /// Returns the node's name.
    pub fn name(&self) -> &NodeId {
        &self.context.node
    }

    /// Starts a session of `choreography`. The node runs the instance that its builder was given; the value passed
    /// here only selects it. The start is durable when this returns.
    ///
    /// The session runs the highest version that the builder was given and that a cast can play: each role on a node
    /// that advertises that version. `C` may therefore be the latest version while other nodes are still being
    /// upgraded. A version is skipped if another role than in `C` starts it, or if its input or output has another
    /// type; its other roles may differ. The session uses those of the version's [patches](Choreography::PATCHES)
    /// that all nodes of the cast know. Version and patches stay fixed for the session, whatever nodes advertise
    /// later.
    ///
    /// # Errors
    /// Returns [`StartError`]; no session was started then. Cancel-safe: a start whose future is dropped may still
    /// take place.
    pub async fn start<C: Choreography>(
        &self,
        choreography: C,
        input: <C::Input as Located>::Value,
    ) -> Result<Session<C>, StartError> {
        self.start_with(choreography, input, StartOptions::default()).await
    }

    /// Starts a session as [`Node::start`] does, under an idempotency key: the same key stands for the same session
    /// until the retention of its result ends ([`Retention`](crate::Retention)). A repeated start changes nothing: it
    /// follows the existing session, or returns its result. After that the key is free and starts a new session with
    /// another id.
    ///
    /// The same key must come with the same input. Inputs are compared by their encoding, so a release that adds a
    /// field to the input's type has another input.
    ///
    /// # Errors
    /// Fails as [`Node::start`] does; with [`StartError::OtherInput`] under a key that was used with another input;
    /// and with [`StartError::Codec`] for an input with a `HashMap` or `HashSet`, whose bytes differ each time.
    pub async fn start_keyed<C: Choreography>(
        &self,
        choreography: C,
        key: &str,
        input: <C::Input as Located>::Value,
    ) -> Result<Session<C>, StartError> {
        self.start_with(choreography, input, StartOptions::default().key(key)).await
    }

    /// Starts a session as [`Node::start`] does, with options.
    ///
    /// # Errors
    /// Fails as [`Node::start`] does.
    pub async fn start_with<C: Choreography>(
        &self,
        _choreography: C,
        input: <C::Input as Located>::Value,
        options: StartOptions,
    ) -> Result<Session<C>, StartError> {
        self.start_as(input, options).await
    }

    /// Starts a session as [`Node::start_with`] does, for callers that have no value of `C`.
    pub(crate) async fn start_as<C: Choreography>(
        &self,
        input: <C::Input as Located>::Value,
        options: StartOptions,
    ) -> Result<Session<C>, StartError> {
        if let Some([option, first, second]) = options.twice {
            return Err(StartError::OptionTwice { option, first, second });
        }
        let environment = &self.context.environment;
        let random = environment.random_u128();
        let session = match &options.key {
            Some(key) => SessionId::keyed(C::NAME, key).under_key(random),
            None => SessionId::fresh(environment.unix_ms(), random),
        };
        self.begin(session, input, &options).await
    }

    async fn begin<C: Choreography>(
        &self,
        session: SessionId,
        input: <C::Input as Located>::Value,
        options: &StartOptions,
    ) -> Result<Session<C>, StartError> {
        let context = &self.context;
        let versions = self.versions::<C>()?;
        let admission = context.admit()?;
        let input = self.encoded(&input, options.key.is_some())?;
        let (mut header, mut placed, turn) = match self.cast_in_turn(session, &versions).await {
            Err(reason @ (StartError::Draining | StartError::HasLeft | StartError::QueueTooLong { .. })) => {
                return self.known_under(options.key.as_deref(), &input, reason).await;
            }
            cast => cast?,
        };
        let mut id = InstanceId { session, role: header.initiator };
        if let Some(key) = &options.key {
            let Claimed { id: known, closed, .. } = self.claim::<C>(key, id, &input).await?;
            if let Some(closed) = closed {
                self.check_version::<C>(known.session, Some(closed.header.version))?;
                return Ok(self.closed_session(known, &closed));
            }
            id = known;
            if id.role != header.initiator {
                (header, placed) = self.cast_at(id, &versions).await?.unwrap_or((header, placed));
            }
        }
        let deadline = options.deadline.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        header.deadline_unix_ms = deadline.map(|after_ms| header.started_unix_ms.saturating_add(after_ms));
        let opened = Opened { header: Arc::new(header), input: Some(input) };
        let mut progress = context.directory.watch(id);
        let (fresh, placed_too) = (options.key.is_none(), placed.clone());
        let start = SupervisorMessage::Start { id, opened, fresh, placed: placed_too, admission: Some(admission) };
        let _starting = Starting::new(context, id, turn);
        if !context.routes.to_supervisor(start) {
            return Err(StartError::NodeStopped);
        }
        let handle = Session::new(InstanceHandle::new(id, context.clone()), progress.clone());
        let opened = progress.wait_for(|progress| progress.opened || progress.stopped.is_some()).await;
        let version = opened.map_err(|_| StartError::NodeStopped)?.version;
        // The store has and counts the instance now. If the caller no longer waits here, the supervisor of roles
        // releases it.
        placed.inspect(|placed| placed.release());
        self.check_version::<C>(id.session, version)?;
        counter!(metric::SESSIONS_STARTED).increment(1);
        Ok(handle)
    }

    /// Encodes an input within the size limit. With `repeated`, the same value must have the same bytes each time.
    fn encoded(&self, input: &impl Message, repeated: bool) -> Result<Payload, StartError> {
        let input: Payload = if repeated { encode_repeatable(input)? } else { encode(input)? }.into();
        let (found, limit) = (input.len(), self.context.settings.limits.payload_bytes_max);
        if found > limit { Err(StartError::InputTooLarge { found, limit }) } else { Ok(input) }
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
        self.context.writer.read(move |store| Ok(read(&State::new(&store, R::NAME)))).await
    }

    /// Returns how many role instances are in memory.
    pub fn instances(&self) -> usize {
        self.context.directory.len()
    }

    /// Returns how many role instances are open in the store, in memory or not; `None` while they are being counted
    /// after a start.
    pub fn open_instances(&self) -> Option<u64> {
        let Open { count, complete } = self.context.writer.open();
        complete.then_some(count)
    }

    /// Returns how far the node has recovered what was open when it started. New sessions do not wait for recovery.
    pub fn recovery(&self) -> Recovery {
        self.context.operator.recovery()
    }

    /// Returns the databases of [`NodeBuilder::sql`], and whether steps on them run. A node starts even while one of
    /// them is unreachable or full; steps on that database wait. A database that turns out to have other markers than
    /// this node's is not used; its reason says what to do.
    pub fn databases(&self) -> Vec<DatabaseState> {
        self.context.catalog.databases.iter().map(|attached| attached.state()).collect()
    }

    /// Returns what is retained of closed instances; `None` while it is being counted after a start.
    pub fn tombstones(&self) -> Option<Tombstones> {
        self.context.writer.tombstones()
    }

    /// Returns the sessions that are stopped here until an operator acts, with the reason of each.
    pub fn stopped_sessions(&self) -> Vec<StoppedSession> {
        self.context.operator.stopped_sessions()
    }

    /// Returns the sessions that continue here only with an operator's help, with their troubled steps; see
    /// [`InstanceHandle::resolve`].
    pub fn troubled_sessions(&self) -> Vec<TroubledSession> {
        self.context.operator.troubled_sessions()
    }

    /// Returns a handle on the part of `role` in a session of `choreography` on this node. The session's version must
    /// have the roles of this one.
    pub fn instance<C: Choreography, R: Role, I>(
        &self,
        _choreography: C,
        session: SessionId,
        _role: R,
    ) -> InstanceHandle
    where
        C::Roles: Has<R, I>,
    {
        let index = C::Roles::NAMES.iter().position(|name| *name == R::NAME).and_then(|index| u8::try_from(index).ok());
        self.instance_at(session, RoleIndex(index.unwrap_or(u8::MAX)))
    }

    /// Returns a handle as [`Node::instance`] does, by the role's index in the choreography's roles: for tools.
    pub fn instance_at(&self, session: SessionId, role: RoleIndex) -> InstanceHandle {
        InstanceHandle::new(InstanceId { session, role }, self.context.clone())
    }
}

//! A node: the value that owns store, transport, clock and actors, and the callers' way in. Nothing is global.
//!
//! The tree is `Root -> Link, Roles -> instances`, rest for one: when the link fails, the roles go down with it,
//! since what was unheard was in its memory, and both start again; the instances replay and say it again.

mod builder;
mod given;
mod letters;
mod life;
mod lookup;
mod root;
mod standing;
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

pub(crate) use self::builder::Attach;
pub use self::builder::{DatabaseState, NodeBuilder};
pub(crate) use self::life::End;
use self::root::RootMessage;
pub use self::standing::CastSession;
pub(crate) use self::weak::WeakNode;
use crate::actor::{Address, DurableActor};
use crate::error::StartError;
use crate::handle::InstanceHandle;
use crate::metric;
use crate::roles::RolesMessage;
use crate::session::Session;
use crate::shared::{Recovery, Shared, Starting, StoppedSession, TroubledSession};
use crate::writer::{Claimed, Open, Tombstones};

/// How a session is started, besides its input; see [`Node::start_with`].
#[derive(Debug, Clone, Default)]
pub struct StartOptions {
    key: Option<String>,
    deadline: Option<Duration>,
    /// The first that was given twice, with both values.
    twice: Option<[String; 3]>,
}

impl StartOptions {
    /// An idempotency key, as for [`Node::start_keyed`].
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        let key = key.into();
        if let Some(first) = self.key.replace(key.clone()).filter(|first| *first != key) {
            self.twice.get_or_insert(["key".into(), first, key]);
        }
        self
    }

    /// Unless the session is over (at all roles) by then, it is aborted, with the code
    /// [`Abort::DEADLINE`](crate::Abort::DEADLINE). By the wall clock of this node; kept over restarts.
    #[must_use]
    pub fn deadline(mut self, after: Duration) -> Self {
        if let Some(first) = self.deadline.replace(after).filter(|first| *first != after) {
            let [first, second] = [first, after].map(|after| humantime::format_duration(after).to_string());
            self.twice.get_or_insert(["deadline".into(), first, second]);
        }
        self
    }
}

/// A running node. Clones are handles on the same one; it runs until [`Node::shutdown`] or [`Node::kill`], or until the
/// tokio runtime that it was started on is gone.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
    root: ActorRef<RootMessage>,
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
        self.start_with(choreography, input, StartOptions::default()).await
    }

    /// As [`Node::start`], but under an idempotency key: the same key is the same session, until retention of its result
    /// ends ([`Retention`](crate::Retention)). A repeated start changes nothing, and follows the one
    /// session there is, or gives what it gave. After that the key is free, and starts a new session with an id of its
    /// own.
    ///
    /// The same key is for the same input. What is compared is its encoding: a release that gives its type another field
    /// has another input.
    ///
    /// # Errors
    /// As [`Node::start`]; and [`StartError::OtherInput`] under a key that was used with another input, and
    /// [`StartError::Codec`] for an input with a `HashMap` or `HashSet`, which has other bytes each time.
    pub async fn start_keyed<C: Choreography>(
        &self,
        choreography: C,
        key: &str,
        input: <C::Input as Located>::Value,
    ) -> Result<Session<C>, StartError> {
        self.start_with(choreography, input, StartOptions::default().key(key)).await
    }

    /// As [`Node::start`], with options.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_with<C: Choreography>(
        &self,
        _choreography: C,
        input: <C::Input as Located>::Value,
        options: StartOptions,
    ) -> Result<Session<C>, StartError> {
        self.start_as(input, options).await
    }

    /// As [`Node::start_with`], for those who have no value of `C`.
    pub(crate) async fn start_as<C: Choreography>(
        &self,
        input: <C::Input as Located>::Value,
        options: StartOptions,
    ) -> Result<Session<C>, StartError> {
        if let Some([option, first, second]) = options.twice {
            return Err(StartError::OptionTwice { option, first, second });
        }
        let environment = &self.shared.environment;
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
        let shared = &self.shared;
        let versions = self.versions::<C>()?;
        let admission = shared.admit()?;
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
        let mut progress = shared.directory.watch(id);
        let (fresh, placed_too) = (options.key.is_none(), placed.clone());
        let start = RolesMessage::Start { id, opened, fresh, placed: placed_too, admission: Some(admission) };
        let _starting = Starting::new(shared, id, turn);
        if !shared.to_roles(start) {
            return Err(StartError::NodeStopped);
        }
        let handle = Session::new(InstanceHandle::new(id, shared.clone()), progress.clone());
        let opened = progress.wait_for(|progress| progress.opened || progress.stopped.is_some()).await;
        let version = opened.map_err(|_| StartError::NodeStopped)?.version;
        // It is in the store now, and counted there. Who no longer waits here leaves that to the supervisor.
        placed.inspect(|placed| placed.release());
        self.check_version::<C>(id.session, version)?;
        counter!(metric::SESSIONS_STARTED).increment(1);
        Ok(handle)
    }

    /// With `repeated` the same value has to have the same bytes each time.
    fn encoded(&self, input: &impl Message, repeated: bool) -> Result<Payload, StartError> {
        let input: Payload = if repeated { encode_repeatable(input)? } else { encode(input)? }.into();
        let (found, limit) = (input.len(), self.shared.settings.limits.payload_bytes_max);
        if found > limit { Err(StartError::InputTooLarge { found, limit }) } else { Ok(input) }
    }

    /// The durable actor `A` as it is reached from this node: to tell it something, or to ask. The node's builder was given
    /// it, or [`NodeBuilder::talks_to`].
    pub fn actor<A: DurableActor>(&self) -> Address<A> {
        Address::new(self.clone())
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
        self.shared.writer.read(move |store| Ok(read(&State::new(&store, R::NAME)))).await
    }

    /// How many role instances are in memory.
    pub fn instances(&self) -> usize {
        self.shared.directory.len()
    }

    /// How many role instances are open in the store, in memory or not; `None` while they are counted after a start.
    pub fn open_instances(&self) -> Option<u64> {
        let Open { count, complete } = self.shared.writer.open();
        complete.then_some(count)
    }

    /// How far it is with taking up again what was open when it started. New sessions do not wait for that.
    pub fn recovery(&self) -> Recovery {
        self.shared.recovery()
    }

    /// The databases of [`NodeBuilder::sql`], and whether steps on them run. A node starts while one of them is away or full, and
    /// its steps wait for it. One that turns out to have other markers than this node's is not used: its reason says what to do.
    pub fn databases(&self) -> Vec<DatabaseState> {
        self.shared.attached().iter().map(|attached| attached.state()).collect()
    }

    /// What is kept of closed instances; `None` while it is being counted after a start.
    pub fn tombstones(&self) -> Option<Tombstones> {
        self.shared.writer.tombstones()
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

    /// The sessions that go on here only with an operator's help, with the steps that are in trouble: see
    /// [`InstanceHandle::remedy`].
    pub fn troubled_sessions(&self) -> Vec<TroubledSession> {
        let troubled = self.shared.troubled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let list = troubled.iter().map(|(id, steps)| TroubledSession {
            session: id.session,
            role: id.role,
            steps: steps.clone(),
        });
        list.collect()
    }

    /// The part of `role` in a session of `choreography` (in a version that has the roles of this one), on this node.
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

    /// As [`Node::instance`], by the role's place in the choreography's roles: for tools.
    pub fn instance_at(&self, session: SessionId, role: RoleIndex) -> InstanceHandle {
        InstanceHandle::new(InstanceId { session, role }, self.shared.clone())
    }
}

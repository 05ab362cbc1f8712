//! The start of a session: its options, and how it becomes durable.
//!
//! Knows no operator. `versions` chooses the version and the cast, `lookup` finds the session behind a key, and the
//! supervisor of roles takes over from there.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use accompanist_core::contract::BoxFuture;
use accompanist_core::frame::Traceparent;
use accompanist_core::id::InstanceId;
use accompanist_core::message::{Fingerprint, encode, encode_repeatable};
use accompanist_core::record::Opened;
use accompanist_core::{Choreography, Has, Located, Many, Message, Payload, Role, RoleNames, RoleSet, SessionId};
use metrics::counter;
use tracing::field::{Empty, display};
use tracing::{Instrument, Span};

use super::Node;
use crate::base::metric;
use crate::error::StartError;
use crate::node::session::Session;
use crate::operator::handle::InstanceHandle;
use crate::runtime::context::Starting;
use crate::runtime::messages::SupervisorMessage;
use crate::telemetry::{SPANS, context};
use crate::writer::Claimed;

type Input<C> = <<C as Choreography>::Input as Located>::Value;

/// The start of a session, with its options; see [`Node::start`]. Await it to start the session.
#[must_use = "a session is started only when this is awaited"]
pub struct Start<'a, C: Choreography> {
    node: &'a Node,
    input: Input<C>,
    options: Options,
}

#[derive(Debug, Default)]
struct Options {
    key: Option<String>,
    deadline: Option<Duration>,
    /// The number of members of the role family.
    members: Option<usize>,
    /// The place of the caller in a trace.
    traceparent: Option<Traceparent>,
    /// The first option that was given twice, with both values.
    twice: Option<[String; 3]>,
}

impl<C: Choreography> fmt::Debug for Start<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Start<{}>({:?})", C::NAME, self.options)
    }
}

impl<C: Choreography> Start<'_, C> {
    /// Sets an idempotency key: the same key stands for the same session until the retention of its result ends
    /// ([`Retention`](crate::Retention)). A repeated start changes nothing: it follows the existing session, or
    /// returns its result. After that the key is free and starts a new session with another id.
    ///
    /// The same key must come with the same input, or the start fails with [`StartError::OtherInput`]. Inputs are
    /// compared by their encoding, so a release that adds a field to the input's type has another input. An input
    /// with a `HashMap` or `HashSet`, whose bytes differ each time, is refused with [`StartError::Codec`].
    pub fn key(mut self, key: impl Into<String>) -> Self {
        let key = key.into();
        if let Some(first) = self.options.key.replace(key.clone()).filter(|first| *first != key) {
            self.options.twice.get_or_insert(["key".into(), first, key]);
        }
        self
    }

    /// Sets the number of members of the role family of `C`: at most [`MEMBERS_MAX`](crate::MEMBERS_MAX). A start of a
    /// choreography with a family ([`Many`]) needs it. The members are spread over the nodes that play the role; a node
    /// plays several if there are more members than nodes, and then they share its built-in state and its service.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use accompanist::prelude::*;
    /// # use accompanist::store::MemoryDisk;
    /// # use accompanist::transport::LocalNetwork;
    /// # #[derive(Clone, Copy)] struct Client;
    /// # impl Role for Client { const NAME: &'static str = "client"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Worker;
    /// # impl Role for Worker { const NAME: &'static str = "worker"; type Service = (); }
    /// # struct Squares;
    /// # impl Choreography for Squares {
    /// #     const NAME: &'static str = "squares"; type Roles = (Client, Many<Worker>);
    /// #     type Input = At<Client, Vec<u32>>; type Output = At<Client, Vec<u32>>;
    /// #     async fn run(
    /// #         &self, ctx: &Context<Self::Roles>, numbers: At<Client, Vec<u32>>,
    /// #     ) -> Result<Self::Output, Abort> {
    /// #         let each = ctx.scatter(Client, Worker, &numbers).await?;
    /// #         let each = ctx.each(Worker, |worker, member| worker.get(each.at(member)).pow(2));
    /// #         ctx.gather_each(Worker, Client, &each).await
    /// #     }
    /// # }
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let node = Node::builder(NodeId::new("office-1")?)
    /// #     .store(MemoryDisk::default().open()?).transport(LocalNetwork::new())
    /// #     .role(Client, Arc::new(())).role(Worker, Arc::new(())).choreography(Squares)
    /// #     .start().await?;
    /// let squares = node.start(Squares, vec![1, 2, 3]).members(Worker, 3).await?;
    /// assert_eq!(squares.settled().await?, [1, 4, 9]);
    /// # node.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn members<R: Role, I>(mut self, _role: R, count: usize) -> Self
    where
        C::Roles: Has<Many<R>, I>,
    {
        if let Some(first) = self.options.members.replace(count).filter(|first| *first != count) {
            self.options.twice.get_or_insert(["members".into(), first.to_string(), count.to_string()]);
        }
        self
    }

    /// Sets the place of the caller in a trace, as an HTTP request brings it in its header `traceparent`. The session's
    /// spans at all nodes lie under it. Without it, they lie under the span that is current where the start is awaited,
    /// if it is exported ([`telemetry`](crate::telemetry)).
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use accompanist::prelude::*;
    /// # use accompanist::store::MemoryDisk;
    /// # use accompanist::telemetry::Traceparent;
    /// # use accompanist::transport::LocalNetwork;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer,);
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
    /// #     async fn run(&self, _: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
    /// #         Ok(books)
    /// #     }
    /// # }
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let node = Node::builder(NodeId::new("shop-1")?)
    /// #     .store(MemoryDisk::default().open()?).transport(LocalNetwork::new())
    /// #     .role(Buyer, Arc::new(())).choreography(Sale)
    /// #     .start().await?;
    /// # let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    /// // A header that is none is no reason to refuse the request.
    /// let sale = node.start(Sale, 3).traceparent(header.parse::<Traceparent>().ok()).await?;
    /// # assert_eq!(sale.settled().await?, 3);
    /// # node.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn traceparent(mut self, traceparent: impl Into<Option<Traceparent>>) -> Self {
        self.options.traceparent = traceparent.into().or(self.options.traceparent);
        self
    }

    /// Aborts the session with the code [`Abort::DEADLINE`](crate::Abort::DEADLINE) unless it is settled (at all
    /// roles) by then. The deadline is measured by this node's wall clock and survives restarts.
    pub fn deadline(mut self, after: Duration) -> Self {
        if let Some(first) = self.options.deadline.replace(after).filter(|first| *first != after) {
            let [first, second] = [first, after].map(|after| humantime::format_duration(after).to_string());
            self.options.twice.get_or_insert(["deadline".into(), first, second]);
        }
        self
    }
}

impl<'a, C: Choreography> IntoFuture for Start<'a, C> {
    type Output = Result<Session<C>, StartError>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { node, input, options } = self;
        Box::pin(node.start_now(input, options))
    }
}

impl Node {
    /// Starts a session of `choreography` once the returned value is awaited, perhaps with options:
    /// `node.start(choreography, input).key("order 7").deadline(day).await`. The node runs the choreography that its
    /// builder was given; the value passed here only selects it. The start is durable when the await returns.
    ///
    /// The session runs the highest version that the builder was given and that a cast can play: each role on a node
    /// that advertises that version. `C` may therefore be the latest version while other nodes are still being
    /// upgraded. A version is skipped if another role than in `C` starts it, or if its input or output has another
    /// type; its other roles may differ. The session uses those of the version's [patches](Choreography::PATCHES)
    /// that all nodes of the cast know. Version and patches stay fixed for the session, whatever nodes advertise
    /// later.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use std::time::Duration;
    /// # use accompanist::prelude::*;
    /// # use accompanist::store::MemoryDisk;
    /// # use accompanist::transport::LocalNetwork;
    ///
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer,);
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
    /// #     async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
    /// #         let _paid: At<Buyer, ()> = ctx.signal(Buyer, "paid").await?;
    /// #         Ok(books)
    /// #     }
    /// # }
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let node = Node::builder(NodeId::new("shop-1")?)
    /// #     .store(MemoryDisk::default().open()?).transport(LocalNetwork::new())
    /// #     .role(Buyer, Arc::new(())).choreography(Sale)
    /// #     .start().await?;
    /// // Each sale waits until it is paid.
    /// let first = node.start(Sale, 3).key("order 17").await?;
    /// let again = node.start(Sale, 3).key("order 17").await?; // By a caller who missed the answer.
    /// assert_eq!(again.id(), first.id());
    /// let error = node.start(Sale, 4).key("order 17").await.unwrap_err();
    /// assert!(matches!(error, StartError::OtherInput { .. }));
    ///
    /// let unpaid = node.start(Sale, 5).deadline(Duration::from_millis(20)).await?;
    /// let Err(SessionError::Aborted(abort)) = unpaid.settled().await else { panic!("nobody has paid") };
    /// assert_eq!(abort.code(), Abort::DEADLINE);
    /// # node.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Awaiting it returns [`StartError`]; no session was started then. Cancel-safe: a start whose future is dropped
    /// may still take place.
    pub fn start<C: Choreography>(&self, _choreography: C, input: Input<C>) -> Start<'_, C> {
        self.start_as(input)
    }

    /// Starts a session as [`Node::start`] does, for callers that have no value of `C`.
    pub(crate) fn start_as<C: Choreography>(&self, input: Input<C>) -> Start<'_, C> {
        Start { node: self, input, options: Options::default() }
    }

    async fn start_now<C: Choreography>(&self, input: Input<C>, options: Options) -> Result<Session<C>, StartError> {
        if let Some([option, first, second]) = options.twice {
            return Err(StartError::OptionTwice { option, first, second });
        }
        let environment = &self.context.environment;
        let random = environment.random_u128();
        let session = match &options.key {
            Some(key) => SessionId::keyed(C::NAME, key).under_key(random),
            None => SessionId::fresh(environment.unix_ms(), random),
        };
        let span = tracing::debug_span!(
            target: SPANS, "start",
            otel.name = %format_args!("start {}", C::NAME), otel.kind = "producer",
            session = %session, choreography = C::NAME, node = %self.context.node, error = Empty,
        );
        let traceparent = place_of(&span, options.traceparent);
        let started = self.begin(session, input, &options, traceparent).instrument(span.clone()).await;
        match &started {
            // Under a key it may be an earlier one.
            Ok(started) => span.record("session", display(started.id())),
            Err(error) => span.record("error", display(error)),
        };
        started
    }

    async fn begin<C: Choreography>(
        &self,
        session: SessionId,
        input: Input<C>,
        options: &Options,
        traceparent: Option<Traceparent>,
    ) -> Result<Session<C>, StartError> {
        let context = &self.context;
        let versions = self.versions::<C>()?;
        let names = RoleNames::new(C::Roles::NAMES, C::Roles::FAMILY);
        let members = names.members_in(names.cast_len(options.members)?).unwrap_or_default();
        let admission = context.admit()?;
        let input = self.encoded(&input, options.key.is_some())?;
        let fingerprint = fingerprint_of(&input, options.members);
        let (mut header, mut placed, turn) = match self.cast_in_turn(session, &versions, members).await {
            Err(reason @ (StartError::Draining | StartError::HasLeft | StartError::QueueTooLong { .. })) => {
                return self.known_under(options.key.as_deref(), fingerprint, reason).await;
            }
            cast => cast?,
        };
        let mut id = InstanceId { session, role: header.initiator };
        if let Some(key) = &options.key {
            let Claimed { id: known, closed, .. } = self.claim::<C>(key, id, fingerprint).await?;
            if let Some(closed) = closed {
                self.check_version::<C>(known.session, Some(closed.header.version))?;
                return Ok(self.closed_session(known, &closed));
            }
            id = known;
            if id.role != header.initiator {
                (header, placed) = self.cast_at(id, &versions, members).await?.unwrap_or((header, placed));
            }
        }
        let deadline = options.deadline.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        header.deadline_unix_ms = deadline.map(|after_ms| header.started_unix_ms.saturating_add(after_ms));
        header.traceparent = traceparent;
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
}

/// Returns the place in a trace that the parts of a session lie under: the `span` of the start, itself under the place
/// that the caller gives, if there is one. If nobody exports that span, it is the caller's.
fn place_of(span: &Span, given: Option<Traceparent>) -> Option<Traceparent> {
    if span.is_disabled() {
        return given.or_else(|| context::traceparent_of(&Span::current()));
    }
    if let Some(given) = &given {
        context::set_parent(span, given);
    }
    context::traceparent_of(span).or(given)
}

/// The fingerprint of what a start under a key must repeat: the input, and the number of members of a role family.
fn fingerprint_of(input: &Payload, members: Option<usize>) -> Fingerprint {
    match members {
        None => Fingerprint::of(input),
        Some(members) => {
            let both = [input.as_slice(), &members.to_le_bytes()].concat();
            Fingerprint::of(&Payload::from(both))
        }
    }
}

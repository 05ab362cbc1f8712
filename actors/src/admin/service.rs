//! The administrative interface of one node.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use accompanist_core::NodeId;
use accompanist_core::contract::{AdminAccess, Store};
use serde::Serialize;

use super::error::{AdminError, AdminErrorCode};
use super::message::{AdminMessage, AdminResponse};
use super::reply::{
    AuditReply, DatabaseReply, DeadLetterReply, NodeReply, PeerReply, ReadReply, TroubleReply, WriteReply,
};
use super::request::{NodeAction, ReadRequest, WriteRequest};
use super::{actions, audit, records, sessions};
use crate::error::{CordonError, ForgetError};
use crate::operator::Operator;
use crate::peers::{Contact, KnownNode, MemberStatus, PeerStore};
use crate::runtime::context::NodeContext;
use crate::runtime::dead_letters::DeadLetter;

/// The most parts that need help in one reply.
const TROUBLES_MAX: usize = 100;

/// The administrative interface of one node; see [`Node::admin`](crate::Node::admin).
///
/// ```
/// use accompanist::admin::{NodeAction, ReadReply, ReadRequest, WriteRequest};
/// # use std::sync::Arc;
/// # use accompanist::prelude::*;
/// # use accompanist::store::MemoryDisk;
/// # use accompanist::transport::LocalNetwork;
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Seller,);
/// #     type Input = At<Seller, u32>; type Output = At<Seller, u32>;
/// #     async fn run(&self, ctx: &Context<Self::Roles>, _: At<Seller, u32>) -> Result<Self::Output, Abort> {
/// #         ctx.signal(Seller, "paid").await
/// #     }
/// # }
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let node = Node::builder(NodeId::new("shop-1")?)
/// #     .store(MemoryDisk::default().open()?).transport(LocalNetwork::new())
/// #     .role(Seller, Arc::new(())).choreography(Sale)
/// #     .start().await?;
/// # let _session = node.start(Sale, 3).await?;
/// let admin = node.admin();
/// let ReadReply::Sessions(open) = admin.read(ReadRequest::Sessions(Default::default())).await? else { panic!() };
/// assert_eq!((open.parts[0].choreography.as_str(), open.parts[0].role.as_str()), ("sale", "seller"));
///
/// admin.write("shutdown hook", WriteRequest::Node(NodeAction::Drain)).await?; // And it is in the audit trail.
/// # node.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Admin {
    context: Arc<NodeContext>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Admin({})", self.context.node)
    }
}

impl Admin {
    pub(crate) fn new(context: Arc<NodeContext>) -> Self {
        Self { context }
    }

    pub(super) fn context(&self) -> &NodeContext {
        &self.context
    }

    /// Answers a request that changes nothing.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn read(&self, request: ReadRequest) -> Result<ReadReply, AdminError> {
        let operator = Operator::new(&self.context);
        Ok(match request {
            ReadRequest::Node => ReadReply::Node(Box::new(node(&self.context))),
            ReadRequest::Sessions(request) => ReadReply::Sessions(sessions::page(&self.context, &request).await?),
            ReadRequest::Session { session } => {
                ReadReply::Session(sessions::of_session(&self.context, sessions::session_id(&session)?).await?)
            }
            ReadRequest::Records { session } => {
                ReadReply::Records(records::of_session(&self.context, sessions::session_id(&session)?).await?)
            }
            ReadRequest::DeadLetters => {
                ReadReply::DeadLetters(operator.dead_letters().iter().map(dead_letter).collect())
            }
            ReadRequest::Audit(request) => {
                let page = move |store: &dyn Store| audit::page(store, request.before, request.limit);
                ReadReply::Audit(AuditReply { entries: self.context.writer.read(page).await? })
            }
        })
    }

    /// Answers a message that came through one of the doors, in the name of `caller`, unless it is not `allowed`.
    /// Returns the kind of error, if it is one, and the response as it travels.
    pub(super) async fn respond(
        &self,
        caller: &str,
        access: AdminAccess,
        allowed: Result<(), AdminError>,
        request: &[u8],
    ) -> (Option<AdminErrorCode>, Vec<u8>) {
        let node = self.context.node.as_str();
        match access {
            AdminAccess::Read => {
                let reply = async {
                    allowed?;
                    self.read(AdminMessage::from_json(request)?.request).await
                };
                response(node, reply.await)
            }
            AdminAccess::Write => {
                let reply = async {
                    allowed?;
                    let message = AdminMessage::from_json(request)?;
                    self.write_as(caller, message.by.as_deref(), message.request).await
                };
                response(node, reply.await)
            }
        }
    }

    /// Carries out a request of `caller` in this process, and records it in the audit trail.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn write(&self, caller: &str, request: WriteRequest) -> Result<WriteReply, AdminError> {
        self.write_as(caller, None, request).await
    }

    /// Carries out a request that came in the name of `caller`; the tool says that `by` has asked.
    async fn write_as(&self, caller: &str, by: Option<&str>, request: WriteRequest) -> Result<WriteReply, AdminError> {
        if let WriteRequest::Parts(action) = &request
            && action.dry_run
        {
            return actions::act(&self.context, action).await.map(WriteReply::Parts);
        }
        let asked = serde_json::to_string(&request).unwrap_or_default();
        tracing::info!(caller, by, request = asked, "an operator's request");
        let entry = audit::begin(&self.context, caller, by, asked).await?;
        let result = self.carry_out(&request).await;
        let summary = match &result {
            Ok(WriteReply::Parts(reply)) => actions::summary(reply),
            Ok(WriteReply::Node) => "done".to_owned(),
            Err(error) => format!("refused: {error}"),
        };
        audit::complete(&self.context, entry, summary).await;
        result
    }

    async fn carry_out(&self, request: &WriteRequest) -> Result<WriteReply, AdminError> {
        match request {
            WriteRequest::Parts(action) => actions::act(&self.context, action).await.map(WriteReply::Parts),
            WriteRequest::Node(action) => self.on_node(action).await.map(|()| WriteReply::Node),
        }
    }

    async fn on_node(&self, action: &NodeAction) -> Result<(), AdminError> {
        let operator = Operator::new(&self.context);
        let no_letter = |number: &u64| {
            AdminError::new(AdminErrorCode::NotFound, format!("there is no dead letter {number} at this node"))
        };
        match action {
            NodeAction::Drain => Ok(operator.drain().await?),
            NodeAction::Undrain => Ok(operator.undrain().await?),
            // Not until all others know: that may take as long as one of them is down.
            NodeAction::Leave => operator
                .begin_leaving()
                .await
                .map_err(|error| AdminError::new(AdminErrorCode::DoesNotFit, error.to_string())),
            NodeAction::Cordon { node } => operator.cordon(&node_id(node)?).await.map_err(|error| cordoned(&error)),
            NodeAction::Uncordon { node } => operator.uncordon(&node_id(node)?).await.map_err(|error| cordoned(&error)),
            NodeAction::Forget { node } => operator.forget(&node_id(node)?).await.map_err(|error| forgotten(&error)),
            NodeAction::ReplayDeadLetter { number } => {
                operator.replay_dead_letter(*number).await?.then_some(()).ok_or_else(|| no_letter(number))
            }
            NodeAction::DiscardDeadLetter { number } => {
                operator.discard_dead_letter(*number).await?.then_some(()).ok_or_else(|| no_letter(number))
            }
        }
    }
}

fn response<T: Serialize>(node: &str, result: Result<T, AdminError>) -> (Option<AdminErrorCode>, Vec<u8>) {
    let code = result.as_ref().err().map(|error| error.code);
    (code, AdminResponse::new(node, result).to_json())
}

fn node_id(name: &str) -> Result<NodeId, AdminError> {
    NodeId::new(name).map_err(|error| AdminError::new(AdminErrorCode::Malformed, error.to_string()))
}

fn cordoned(error: &CordonError) -> AdminError {
    let code = match error {
        CordonError::Unknown(_) => AdminErrorCode::NotFound,
        CordonError::Own => AdminErrorCode::DoesNotFit,
        CordonError::Store(_) => AdminErrorCode::Failed,
    };
    AdminError::new(code, error.to_string())
}

fn forgotten(error: &ForgetError) -> AdminError {
    let code = match error {
        ForgetError::Unknown(_) => AdminErrorCode::NotFound,
        ForgetError::Own => AdminErrorCode::DoesNotFit,
        ForgetError::Store(_) => AdminErrorCode::Failed,
    };
    AdminError::new(code, error.to_string())
}

/// The node, as it sees itself.
fn node(context: &Arc<NodeContext>) -> NodeReply {
    let operator = Operator::new(context);
    let mut choreographies: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (name, version) in context.catalog.choreographies.keys() {
        choreographies.entry(name.clone()).or_default().push(*version);
    }
    let stopped = operator.stopped_sessions().into_iter().map(|stopped| TroubleReply {
        session: stopped.session.to_string(),
        role_index: stopped.role.0,
        stopped: true,
        reason: stopped.reason,
    });
    let in_trouble = operator.troubled_sessions().into_iter().map(|troubled| TroubleReply {
        session: troubled.session.to_string(),
        role_index: troubled.role.0,
        stopped: false,
        reason: troubled.steps.first().map(|(_, failure)| failure.to_string()).unwrap_or_default(),
    });
    let mut troubles: Vec<_> = stopped.chain(in_trouble).collect();
    let troubles_left_out = troubles.len().saturating_sub(TROUBLES_MAX) as u64;
    troubles.truncate(TROUBLES_MAX);
    let databases = operator.databases().into_iter();
    NodeReply {
        node: context.node.to_string(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
        unix_ms: context.environment.unix_ms(),
        status: status_name(operator.status()).to_owned(),
        roles: context.catalog.roles.iter().map(ToString::to_string).collect(),
        choreographies: choreographies.into_iter().collect(),
        open: operator.open_instances(),
        in_memory: operator.instances() as u64,
        recovered: operator.recovery().finished,
        troubles,
        troubles_left_out,
        dead_letters: operator.dead_letters().len() as u64,
        peers: operator.peers().into_iter().map(peer).collect(),
        databases: databases
            .map(|state| DatabaseReply { name: state.name, ready: state.is_ready, reason: state.reason })
            .collect(),
    }
}

fn status_name(status: MemberStatus) -> &'static str {
    match status {
        MemberStatus::Serving => "serving",
        MemberStatus::Draining => "draining",
        MemberStatus::Left => "left",
    }
}

fn peer(peer: KnownNode) -> PeerReply {
    let (contact, lasting) = match peer.contact {
        Contact::Unknown => ("unknown", None),
        Contact::Good => ("good", None),
        Contact::Silent(lasting) => ("silent", Some(lasting)),
        Contact::Deaf(lasting) => ("deaf", Some(lasting)),
    };
    let store = match peer.store {
        PeerStore::Known => "known",
        PeerStore::GoneBack { .. } => "older than the one that is known, or another one",
        PeerStore::TwoOwners { .. } => "at work in two places",
    };
    PeerReply {
        node: peer.node.to_string(),
        status: status_name(peer.status).to_owned(),
        roles: peer.roles,
        contact: contact.to_owned(),
        contact_for_ms: lasting.map(|lasting| u64::try_from(lasting.as_millis()).unwrap_or(u64::MAX)),
        store: store.to_owned(),
        cordoned: peer.cordoned,
    }
}

fn dead_letter(letter: &DeadLetter) -> DeadLetterReply {
    let unix_ms = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    };
    DeadLetterReply {
        number: letter.number,
        session: letter.session.to_string(),
        choreography: letter.choreography.as_ref().map(|(name, _)| name.clone()),
        version: letter.choreography.as_ref().map(|(_, version)| *version),
        role_index: letter.role.0,
        from: letter.from.to_string(),
        reason: letter.reason.clone(),
        first_unix_ms: unix_ms(letter.first),
        last_unix_ms: unix_ms(letter.last),
        times: letter.times,
    }
}

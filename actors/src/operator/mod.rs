//! What an operator sees and does at a node: what is open, stopped or in trouble, and the ways out.
//!
//! A service needs none of this for its daily work. `docs/operators.md` says when to use it. The submodules add the
//! operator's actions: `membership` those on nodes, `letters` those on dead letters; `handle::operator` has those on
//! one role's part of a session. Knows the context of a node, and not the node that holds it.

pub(crate) mod handle;
mod health;
mod letters;
mod membership;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use accompanist_core::contract::{Entry, Space, StoreError};
use accompanist_core::id::{InstanceId, RoleIndex};
use accompanist_core::record::{Opened, read_value};
use accompanist_core::{NodeId, SessionId};

use self::handle::InstanceOperator;
pub use self::health::Readiness;
pub use self::membership::CastSession;
use crate::runtime::attach::DatabaseState;
use crate::runtime::context::{NodeContext, Recovery, SessionInTrouble, StoppedSession, TroubledSession};
use crate::runtime::messages::SupervisorMessage;
use crate::writer::{Open, Tombstones};

/// The number of open instances that one read of the store counts; the writer writes between two reads.
pub(super) const COUNT_PAGE: usize = 256;

/// What an operator of a node can see and do; from [`Node::operator`](crate::Node::operator).
///
/// Watch [`stopped_sessions`](Operator::stopped_sessions), [`troubled_sessions`](Operator::troubled_sessions) and
/// [`dead_letters`](Operator::dead_letters); [`instance`](Operator::instance) has the ways out. Nodes come and go by
/// [`drain`](Operator::drain), [`leave`](Operator::leave), [`forget`](Operator::forget) and
/// [`cordon`](Operator::cordon).
///
/// ```
/// use accompanist::MemberStatus;
/// # use std::sync::Arc;
/// # use accompanist::prelude::*;
/// # use accompanist::store::MemoryDisk;
/// # use accompanist::transport::LocalNetwork;
/// # #[derive(Clone, Copy)] struct Buyer;
/// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
/// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
/// #     async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
/// #         let books = ctx.comm(Buyer, Seller, &books).await?;
/// #         ctx.comm(Seller, Buyer, &ctx.locally(Seller, |seller| seller.get(&books) * 25)).await
/// #     }
/// # }
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let node = Node::builder(NodeId::new("shop-1")?)
/// #     .store(MemoryDisk::default().open()?).transport(LocalNetwork::new())
/// #     .role(Buyer, Arc::new(())).role(Seller, Arc::new(())).choreography(Sale)
/// #     .start().await?;
/// let operator = node.operator();
/// let session = node.start(Sale, 3).await?;
/// assert!(operator.stopped_sessions().is_empty());
/// assert!(operator.troubled_sessions().is_empty());
///
/// operator.drain().await?; // Nothing new, while what is open goes on.
/// assert_eq!(operator.status(), MemberStatus::Draining);
/// assert!(matches!(node.start(Sale, 4).await, Err(StartError::Draining)));
/// assert_eq!(session.settled().await?, 75);
/// operator.drained().await?; // No node needs this one any more: it may `leave`.
/// assert!(operator.drain_progress().await?.open.values().all(|open| *open == Some(0)));
///
/// operator.undrain().await?; // Or stay.
/// assert_eq!(node.start(Sale, 4).await?.settled().await?, 100);
/// # node.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct Operator<'a> {
    pub(super) context: &'a Arc<NodeContext>,
}

impl fmt::Debug for Operator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Operator({})", self.context.node)
    }
}

impl<'a> Operator<'a> {
    pub(crate) fn new(context: &'a Arc<NodeContext>) -> Self {
        Self { context }
    }

    /// Returns the operator's actions on one role's part of a session here: `role` is its index in the choreography's
    /// roles. The lists of stopped and troubled sessions have both.
    pub fn instance(self, session: SessionId, role: RoleIndex) -> InstanceOperator {
        InstanceOperator::new(InstanceId { session, role }, self.context.clone())
    }

    /// Returns how many role instances are in memory.
    pub fn instances(self) -> usize {
        self.context.directory.len()
    }

    /// Returns how many role instances are open in the store, in memory or not; `None` while they are being counted
    /// after a start.
    pub fn open_instances(self) -> Option<u64> {
        let Open { count, complete } = self.context.writer.open();
        complete.then_some(count)
    }

    /// Returns how far the node has recovered what was open when it started. New sessions do not wait for recovery.
    pub fn recovery(self) -> Recovery {
        self.context.operator.recovery()
    }

    /// Returns the databases of [`NodeBuilder::sql`](crate::NodeBuilder), and whether steps on them run. A node starts
    /// even while one of them is unreachable or full; steps on that database wait. A database that turns out to have
    /// other markers than this node's is not used; its reason says what to do.
    pub fn databases(self) -> Vec<DatabaseState> {
        self.context.catalog.databases.iter().map(|attached| attached.state()).collect()
    }

    /// Returns what is retained of closed instances; `None` while it is being counted after a start.
    pub fn tombstones(self) -> Option<Tombstones> {
        self.context.writer.tombstones()
    }

    /// Returns the sessions that are stopped here until an operator acts, with the reason of each.
    pub fn stopped_sessions(self) -> Vec<StoppedSession> {
        self.context.operator.stopped_sessions()
    }

    /// Returns the sessions that continue here only with an operator's help, with their troubled steps; see
    /// [`InstanceOperator::resolve`].
    pub fn troubled_sessions(self) -> Vec<TroubledSession> {
        self.context.operator.troubled_sessions()
    }

    /// Returns the sessions that were started here and in which other roles need an operator, with the node and the
    /// problem of each such role, as these have reported. At most 10 000 sessions are listed.
    pub fn sessions_in_trouble_elsewhere(self) -> Vec<SessionInTrouble> {
        self.context.operator.sessions_in_trouble_elsewhere()
    }

    /// Returns how many role instances are open here, by name and version of their choreography.
    ///
    /// A version can be left out of the next release once it is missing here on every node and every node advertises
    /// a later one, so that no new session runs it.
    ///
    /// # Errors
    /// Returns [`StoreError`] when the store is closed.
    pub async fn open_versions(self) -> Result<BTreeMap<(String, u32), usize>, StoreError> {
        let mut counts = BTreeMap::new();
        let mut after = None;
        loop {
            let mut page = self.open_page(after.take()).await?;
            let more = page.len() == COUNT_PAGE;
            after = page.last_mut().map(|(key, _)| std::mem::take(key));
            for (_, value) in page {
                // An entry that cannot be read is listed among the stopped sessions.
                let Ok(Opened { header, .. }) = read_value(Space::Open, &value) else { continue };
                *counts.entry((header.choreography.clone(), header.version)).or_default() += 1;
            }
            if !more {
                return Ok(counts);
            }
        }
    }

    /// Lets all sessions here that cast `node` nudge: each of their roles here that waits asks the others for what it
    /// lacks, whatever was acknowledged. Call this when what `node` has acknowledged may be lost, for instance after
    /// its store was restored from an older copy. Passivated instances are reactivated for it, `reactivations_max` at a
    /// time.
    pub fn nudge_sessions_of(self, node: &NodeId) {
        // Between two trees of actors all instances are reactivated anyway.
        let _ = self.context.routes.to_supervisor(SupervisorMessage::NudgeAllOf(node.clone()));
    }

    /// Returns a page of what is open in the store, after the key `after`.
    pub(super) async fn open_page(self, after: Option<Vec<u8>>) -> Result<Vec<Entry>, StoreError> {
        self.context.writer.read(move |store| store.scan(Space::Open, &[], after.as_deref(), COUNT_PAGE)).await
    }
}

//! Whether a node is alive, and whether it is ready for its callers: for probes. Knows no protocol of probes.

use std::collections::BTreeMap;
use std::fmt;

use super::Node;
use crate::error::NodeError;
use crate::peers::{MemberStatus, MissingRole};
use crate::runtime::channel::CHANNEL;
use crate::runtime::context::End;
use crate::writer::Open;

/// Whether a node is ready for its callers, and if not, what it lacks; see [`Node::readiness`]. Its text names all that
/// is lacking.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
#[non_exhaustive]
pub struct Readiness {
    /// Whether the node has not ended, and its link and its supervisor of roles run.
    pub running: bool,
    /// Whether the store takes writes. It does until it fails, which ends the node.
    pub store_writable: bool,
    /// Whether the number of open role instances is below [`Settings::open_max`](crate::Settings::open_max), so that
    /// the store has room for new sessions.
    pub has_room: bool,
    /// Whether all sessions that were open at the node's start have been recovered.
    pub recovered: bool,
    /// The node's membership: one that drains or has left takes no new sessions.
    pub status: MemberStatus,
    /// The choreographies that this node may start and cannot start now, since a role of theirs is played by no known
    /// node, with that role. A known node may be away: sessions that are cast to it wait.
    pub missing_roles: BTreeMap<&'static str, MissingRole>,
}

impl Readiness {
    /// Returns whether the node is ready: callers should be sent to it.
    pub fn is_ready(&self) -> bool {
        let Self { running, store_writable, has_room, recovered, status, missing_roles } = self;
        let serves = *status == MemberStatus::Serving && missing_roles.is_empty();
        *running && *store_writable && *has_room && *recovered && serves
    }

    /// What is lacking, a line each.
    fn lacks(&self) -> Vec<String> {
        let membership = match self.status {
            MemberStatus::Serving => None,
            MemberStatus::Draining => Some("it drains and takes no new sessions (`undrain` ends that)"),
            MemberStatus::Left => Some("it has left and takes no new sessions (`undrain` lets it join anew)"),
        };
        let facts = [
            (self.running, "its link and its supervisor of roles do not run (`Node::failure` has the reason)"),
            (self.store_writable, "its store takes no writes: start the node again"),
            (self.has_room, "as many role instances are open as `open_max` allows"),
            (self.recovered, "it has not recovered yet all that was open at its start"),
        ];
        let facts = facts.iter().filter(|(holds, _)| !holds).map(|(_, lack)| *lack).chain(membership);
        let missing = self.missing_roles.iter().map(|(name, role)| format!("it cannot start `{name}`, {role}"));
        facts.map(ToOwned::to_owned).chain(missing).collect()
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ready() { f.write_str("ready") } else { write!(f, "not ready: {}", self.lacks().join("; ")) }
    }
}

impl Node {
    /// Returns whether the node runs and can go on: it has not failed, and was not shut down. If not, only a new start
    /// helps. A node that waits, for another node, a service or an operator, is alive.
    ///
    /// For a liveness probe. It asks for a restart when nothing else helps, and never because of a peer or a service:
    /// a restart would not bring those back.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use accompanist::prelude::*;
    /// # use accompanist::store::MemoryDisk;
    /// # use accompanist::transport::LocalNetwork;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let node = Node::builder(NodeId::new("shop-1")?)
    /// #     .store(MemoryDisk::default().open()?).transport(LocalNetwork::new()).role(Buyer, Arc::new(()))
    /// #     .start().await?;
    /// assert!(node.is_alive());
    /// node.shutdown().await;
    /// assert!(!node.is_alive() && node.failure().is_none()); // It was told to stop.
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_alive(&self) -> bool {
        self.context.lifecycle.end.get().is_none()
    }

    /// Returns why the node could not go on, if it has failed. [`Node::failed`] waits for that.
    pub fn failure(&self) -> Option<NodeError> {
        match self.context.lifecycle.end.get() {
            Some(End::Failed(error)) => Some(error),
            Some(End::Stopped) | None => None,
        }
    }

    /// Returns whether the node is ready for its callers: it runs, has recovered, its store takes writes and has room,
    /// it does not drain, and for each choreography that it starts it knows a node for each role. Costs no I/O.
    ///
    /// For a readiness probe, and for load balancers. A node that is not ready keeps its sessions, which go on.
    /// Databases and services outside do not count, because sessions wait for them, and usually all nodes share them.
    ///
    /// ```
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
    /// #         ctx.comm(Seller, Buyer, &books).await
    /// #     }
    /// # }
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let network = LocalNetwork::new();
    /// # let buyer = Node::builder(NodeId::new("buyer-1")?)
    /// #     .store(MemoryDisk::default().open()?).transport(network.clone())
    /// #     .role(Buyer, Arc::new(())).choreography(Sale)
    /// #     .start().await?;
    /// // The buyer's node is alone.
    /// let readiness = buyer.readiness();
    /// assert!(!readiness.is_ready());
    /// assert_eq!(readiness.missing_roles["sale"].role, "seller");
    /// println!("{readiness}"); // not ready: it cannot start `sale`, version 1: no node is known that plays ..
    ///
    /// # let seller = Node::builder(NodeId::new("seller-1")?)
    /// #     .store(MemoryDisk::default().open()?).transport(network)
    /// #     .role(Seller, Arc::new(())).choreography(Sale)
    /// #     .start().await?;
    /// // Once the seller's node is there:
    /// while !buyer.readiness().is_ready() {
    ///     tokio::task::yield_now().await;
    /// }
    /// # buyer.shutdown().await;
    /// # seller.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn readiness(&self) -> Readiness {
        let context = &self.context;
        let Open { count, .. } = context.writer.open();
        let status = context.peers.status();
        let serves = status == MemberStatus::Serving;
        Readiness {
            running: self.is_alive() && context.routes.are_open(),
            store_writable: context.writer.takes_writes(),
            has_room: count < context.settings.open_max,
            recovered: context.operator.recovery().finished,
            status,
            missing_roles: if serves { self.missing_roles() } else { BTreeMap::new() },
        }
    }

    /// Returns the choreographies that this node may start and of which no version can be cast, with the role that the
    /// highest version lacks.
    fn missing_roles(&self) -> BTreeMap<&'static str, MissingRole> {
        let context = &self.context;
        let (mut missing, mut able) = (BTreeMap::new(), Vec::new());
        // In the order of their versions.
        for choreography in context.catalog.choreographies.values() {
            let name = choreography.name();
            let is_started_here = context.catalog.roles.contains(&choreography.interface().initiator)
                && context.access.may_start(&context.node, name);
            if name.starts_with(CHANNEL) || !is_started_here {
                continue;
            }
            let may_play = |node: &_, role: &_| context.access.may_play(node, role);
            match context.peers.missing_role(choreography.as_ref(), may_play) {
                Some(role) => drop(missing.insert(name, role)),
                None => able.push(name),
            }
        }
        missing.retain(|name, _| !able.contains(name));
        missing
    }
}

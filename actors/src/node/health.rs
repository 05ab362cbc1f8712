//! Whether a node is alive and ready, for its own probes. Next: `operator/health.rs`.

use super::Node;
use crate::error::NodeError;
use crate::operator::Readiness;
use crate::runtime::context::End;

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
        self.context.is_alive()
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
        self.context.readiness()
    }
}

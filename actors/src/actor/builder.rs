//! Durable actors in a node's builder, and their addresses from a running node. Knows no messages.

use std::sync::Arc;

use accompanist_core::{Service, Services};

use super::channel::{Channel, Played, SENDER, SenderRole};
use super::{Address, DurableActor, Outbound};
use crate::node::{Node, NodeBuilder};

impl NodeBuilder {
    /// Adds a durable actor that the node plays. All nodes that declare it with [`NodeBuilder::talks_to`] may tell
    /// and ask it, and so may this one.
    #[must_use]
    pub fn actor<A: DurableActor>(mut self, actor: A) -> Self {
        let outbound = self.outbound();
        let channel = Channel::new(Some(Arc::new(actor)), outbound.clone());
        if self.actors.insert(A::NAME) {
            self = self.role(Played::<A>::new(), outbound.clone());
        }
        self.reaches::<A>(outbound).choreography(channel)
    }

    /// Declares a durable actor that this node tells or asks, or that its own actors tell.
    #[must_use]
    pub fn talks_to<A: DurableActor>(self) -> Self {
        let outbound = self.outbound();
        self.reaches::<A>(outbound)
    }

    fn reaches<A: DurableActor>(mut self, outbound: Arc<Outbound>) -> Self {
        outbound.learn::<A>();
        self.channels.push(Arc::new(Channel::<A>::new(None, outbound.clone())));
        if known_outbound(&self.services).is_some() {
            return self;
        }
        self.extensions.push(outbound.clone());
        self.role(SenderRole, outbound)
    }

    fn outbound(&self) -> Arc<Outbound> {
        outbound_of(&self.services)
    }
}

impl Node {
    /// Returns an address of the durable actor `A`, to tell or ask it from this node. The node's builder must have
    /// been given the actor or [`NodeBuilder::talks_to`].
    pub fn actor<A: DurableActor>(&self) -> Address<A> {
        Address::new(self.clone())
    }
}

/// Returns the outbound side among a node's services; a new one if the node talks to no actors so far.
pub(super) fn outbound_of(services: &Services) -> Arc<Outbound> {
    known_outbound(services).unwrap_or_default()
}

/// `None` also if a role of the user's own has the name: it is given twice then, which the start refuses.
fn known_outbound(services: &Services) -> Option<Arc<Outbound>> {
    services.get(SENDER).and_then(Service::get::<SenderRole>)
}

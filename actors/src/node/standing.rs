//! How a node comes and goes: draining, leaving, forgetting or cordoning another one; and what is known of the others.
//!
//! Each change is on disk before it is told, and told until all have heard of it. Knows standings, no frames; see
//! `docs/decisions/0014`.

use std::collections::BTreeMap;

use accompanist_core::NodeId;
use accompanist_core::contract::{Batch, Space, StoreError};
use accompanist_core::frame::{Header, Membership};
use accompanist_core::id::InstanceId;
use accompanist_core::record::{Opened, read_value};
use tokio::sync::oneshot;

use super::Node;
use super::versions::COUNT_PAGE;
use crate::error::{CordonError, DrainError, ForgetError, LeaveError};
use crate::link::LinkMessage;
use crate::peers::{DrainProgress, KnownNode, Standing};
use crate::writer::{Job, Question};

/// An open session that a node is cast in, as the part of it that is played here knows; see [`Node::sessions_cast_to`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CastSession {
    /// The part that is open here. To cancel the session, take the one of its initiator.
    pub id: InstanceId,
    /// The name of the choreography.
    pub choreography: String,
    /// Its version.
    pub version: u32,
    /// The node that started the session, and can cancel it.
    pub initiator: NodeId,
    /// Whether that is this one, and this its initiating part: [`Node::instance_at`] and
    /// [`InstanceHandle::cancel`](crate::InstanceHandle::cancel) abort it.
    pub is_initiator: bool,
}

impl Node {
    /// How it stands with the others.
    pub fn standing(&self) -> Standing {
        self.shared.peers.standing()
    }

    /// From now on it takes no new sessions: nobody casts it any more, in any role, and a start here is refused with
    /// [`StartError::Draining`](crate::StartError::Draining), unless its key stands for a session that is there. Sessions
    /// that it is cast in go on, also those whose first frame is still to come. Durable when it returns: a restart changes
    /// nothing, until [`Node::undrain`]. The others hear of it by and by; [`Node::drained`] waits for them, too.
    ///
    /// # Errors
    /// [`StoreError`] when the store is closed or has failed. Cancel-safe: it may drain all the same.
    pub async fn drain(&self) -> Result<(), StoreError> {
        self.stand(true).await
    }

    /// It takes new sessions again. One that has [left](Node::leave), or was [forgotten](Node::forget) by mistake, joins
    /// anew, with the sessions and the data that it has. Durable when it returns.
    ///
    /// # Errors
    /// As [`Node::drain`].
    pub async fn undrain(&self) -> Result<(), StoreError> {
        self.stand(false).await
    }

    async fn stand(&self, draining: bool) -> Result<(), StoreError> {
        let written = {
            let _order = self.shared.writer.in_order();
            let own = self.shared.peers.next_standing(draining, Membership(self.shared.environment.random()));
            let shared = self.shared.clone();
            self.change(own.stored(), move || {
                shared.peers.stand(own);
                shared.to_link(LinkMessage::Announce);
            })
        };
        written.await
    }

    /// Submits this at once, and then tells of it, also if nobody waits for the future that it gives.
    fn change<F>(&self, changes: Batch, told: F) -> impl Future<Output = Result<(), StoreError>> + use<F>
    where
        F: FnOnce() + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let done = Box::new(move |written: Result<(), StoreError>| {
            if written.is_ok() {
                told();
            }
            let _ = reply.send(written); // The caller may have gone.
        });
        self.shared.writer.submit(Job::Change { changes, done });
        async { answer.await.map_err(|_| StoreError::Closed)? }
    }

    /// Waits until nobody needs this node any more, which drains: no node has an open instance of a session that it is
    /// cast in. So much is on the disks of all; from then on [`Node::leave`] loses no session.
    ///
    /// It waits for every node known, those that are down included: they may have begun sessions that are still to come
    /// here. [`Node::drain_progress`] says for whom; [`Node::forget`] is for those that will not come back. Of a node that
    /// has left, or was forgotten, it waits for the sessions that are open on it.
    ///
    /// # Errors
    /// [`DrainError`]. Cancel-safe: waiting changes nothing.
    pub async fn drained(&self) -> Result<(), DrainError> {
        loop {
            // Before it is looked, so that no answer can be missed.
            let change = self.shared.peers.change();
            if self.shared.peers.drain_progress().ok_or(DrainError::NotDraining)?.is_over() {
                return Ok(());
            }
            self.unless_stopped(change).await?;
        }
    }

    pub(super) async fn unless_stopped(&self, change: impl Future<Output = ()>) -> Result<(), StoreError> {
        tokio::select! {
            biased;
            // Also when it has been shut down: nobody is left to say why.
            _ = self.shared.end.wait() => Err(StoreError::Closed),
            () = change => Ok(()),
        }
    }

    /// How far the draining is: how many instances are open at each node, this one included, for which it is needed. Its
    /// own are counted now, in the store; the others' are what those said last.
    ///
    /// # Errors
    /// [`DrainError`].
    pub async fn drain_progress(&self) -> Result<DrainProgress, DrainError> {
        let of = self.shared.peers.draining();
        let own = of.iter().filter(|(node, _)| **node == self.shared.node);
        let own: BTreeMap<_, _> = own.map(|(node, offer)| (node.clone(), *offer)).collect();
        let (reply, answer) = oneshot::channel();
        let done = Box::new(move |counts| drop(reply.send(counts))); // The caller may have gone.
        let (nodes, name) = (of.into_keys().collect(), self.shared.node.clone());
        self.shared.writer.submit(Job::Count(Question { nodes, own: name, done, emptied: None }));
        let counts = answer.await.map_err(|_| StoreError::Closed)??;
        let mut progress = self.shared.peers.drain_progress().ok_or(DrainError::NotDraining)?;
        for node in own.into_keys() {
            progress.open.insert(node.clone(), counts.get(&node).copied());
        }
        Ok(progress)
    }

    /// Leaves for good: all others forget this node. To be called after [`Node::drained`]; then shut it down. Durable when it
    /// has been asked for; returns when every node known has it on its disk, but for those that have left themselves, as others
    /// say, and are not received. Only this node is believed about its leaving (decision 0031): whoever does not wait for a node
    /// that is down calls [`Node::forget`] there, when it is back.
    ///
    /// The built-in state stays in this node's store. A node of the same name over a fresh store is taken as a new one.
    ///
    /// # Errors
    /// [`LeaveError`]. Cancel-safe: it may have left all the same.
    pub async fn leave(&self) -> Result<(), LeaveError> {
        if self.standing() != Standing::Left {
            let progress = self.drain_progress().await?;
            if !progress.is_over() {
                return Err(LeaveError::Needed(progress));
            }
            self.note_left(&self.shared.node).await?;
        }
        loop {
            let change = self.shared.peers.change();
            if self.standing() != Standing::Left {
                return Err(LeaveError::JoinedAnew);
            }
            if self.shared.peers.unaware(self.shared.now_ms()).is_empty() {
                return Ok(());
            }
            self.unless_stopped(change).await?;
        }
    }

    /// Takes another node for gone for good: one that burnt down, or whose data is lost. From now on this node does not cast
    /// it, nor wait for its answer when it drains. Durable when it returns. Other nodes have to be told themselves, unless
    /// the members file calls this node an operator's: no other one is believed about another node.
    ///
    /// Nothing is done about the open sessions that it is cast in: they wait for it. [`Node::sessions_cast_to`] lists them.
    /// If the node is alive, it hears of this, says so at `error`, and starts nothing with this one any more;
    /// [`Node::undrain`] on it joins anew.
    ///
    /// # Errors
    /// [`ForgetError`].
    pub async fn forget(&self, node: &NodeId) -> Result<(), ForgetError> {
        if *node == self.shared.node {
            return Err(ForgetError::Own);
        }
        if self.note_left(node).await? { Ok(()) } else { Err(ForgetError::Unknown(node.clone())) }
    }

    /// From now on this node casts another one in no new session, until [`Node::uncordon`]. Sessions that it is cast in go on,
    /// and it is not told: other nodes cast it as ever, unless they are told the same. To take a node out for all of them,
    /// [`Node::drain`] it. Durable when it returns, by name, until the other one leaves or is forgotten.
    ///
    /// # Errors
    /// [`CordonError`]. Cancel-safe: it may be cordoned all the same.
    pub async fn cordon(&self, node: &NodeId) -> Result<(), CordonError> {
        self.set_cordon(node, true).await
    }

    /// The other node may be cast again. Durable when it returns. Nothing happens to one that is not cordoned.
    ///
    /// # Errors
    /// As [`Node::cordon`].
    pub async fn uncordon(&self, node: &NodeId) -> Result<(), CordonError> {
        self.set_cordon(node, false).await
    }

    async fn set_cordon(&self, node: &NodeId, cordoned: bool) -> Result<(), CordonError> {
        if *node == self.shared.node {
            return Err(CordonError::Own);
        }
        let written = {
            let _order = self.shared.writer.in_order();
            let unknown = || CordonError::Unknown(node.clone());
            let changes = self.shared.peers.cordon(node, cordoned).ok_or_else(unknown)?;
            let (shared, node) = (self.shared.clone(), node.clone());
            self.change(changes, move || shared.peers.note_cordon(&node, cordoned))
        };
        Ok(written.await?)
    }

    /// Whether the node is known.
    async fn note_left(&self, node: &NodeId) -> Result<bool, StoreError> {
        let written = {
            let _order = self.shared.writer.in_order();
            let Some((changes, left)) = self.shared.peers.forget(node, self.shared.environment.unix_ms()) else {
                return Ok(false);
            };
            let shared = self.shared.clone();
            self.change(changes, move || {
                shared.peers.left_stored(&[left]);
                shared.to_link(LinkMessage::Announce);
            })
        };
        written.await.map(|()| true)
    }

    /// The nodes that are known besides this one: their roles, how they stand, whether packets go to and fro, and whether
    /// they are cordoned.
    pub fn peers(&self) -> Vec<KnownNode> {
        self.shared.peers.list(self.shared.now_ms())
    }

    /// The sessions open here that `node` is cast in: a page of them after `after`, in the order of their ids, and where
    /// the next page goes on; `None` at the end. A page may be empty. Read from the store, so those that are not in memory
    /// are in it, too; one whose opening cannot be read is among the [stopped](Node::stopped_sessions).
    ///
    /// # Errors
    /// [`StoreError`] when the store is closed.
    pub async fn sessions_cast_to(
        &self,
        node: &NodeId,
        after: Option<InstanceId>,
    ) -> Result<(Vec<CastSession>, Option<InstanceId>), StoreError> {
        let page = self.open_page(after.map(|id| id.to_bytes().to_vec())).await?;
        let last = page.last().filter(|_| page.len() == COUNT_PAGE);
        let next = last.and_then(|(key, _)| InstanceId::from_bytes(key));
        let sessions = page.iter().filter_map(|(key, value)| {
            let Opened { header, .. } = read_value(Space::Open, value).ok()?;
            let id = InstanceId::from_bytes(key)?;
            header.cast.contains(node).then(|| self.cast_session(id, &header)).flatten()
        });
        Ok((sessions.collect(), next))
    }

    fn cast_session(&self, id: InstanceId, header: &Header) -> Option<CastSession> {
        let initiator = header.node_of(header.initiator)?.clone();
        let is_initiator = id.role == header.initiator && initiator == self.shared.node;
        let (choreography, version) = (header.choreography.clone(), header.version);
        Some(CastSession { id, choreography, version, initiator, is_initiator })
    }
}

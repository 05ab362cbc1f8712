//! The membership of a node: draining and leaving, forgetting or cordoning another node, and what is known of the
//! others.
//!
//! Each change is on disk before it is sent, and is sent until all nodes have acknowledged it. Knows membership, not
//! frames; see `docs/decisions/0014`.

use std::collections::BTreeMap;

use accompanist_core::NodeId;
use accompanist_core::contract::{Batch, Space, StoreError};
use accompanist_core::frame::{Header, Membership};
use accompanist_core::id::InstanceId;
use accompanist_core::record::{Opened, read_value};
use tokio::sync::oneshot;

use super::{COUNT_PAGE, Operator};
use crate::error::{CordonError, DrainError, ForgetError, LeaveError};
use crate::peers::{DrainProgress, KnownNode, MemberStatus};
use crate::runtime::messages::LinkMessage;
use crate::writer::{CensusQuery, Job};

/// An open session that casts a given node, as known to the part that is played here; see
/// [`Operator::sessions_cast_to`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CastSession {
    /// The part that is open here. To cancel the session, use the initiator's part.
    pub id: InstanceId,
    /// The name of the choreography.
    pub choreography: String,
    /// The choreography's version.
    pub version: u32,
    /// The node that started the session, and can cancel it.
    pub initiator: NodeId,
    /// Whether this node started the session and `id` is its initiating part, so that [`Operator::instance`] and
    /// [`InstanceOperator::cancel`](crate::InstanceOperator::cancel) abort it.
    pub is_initiator: bool,
}

impl Operator<'_> {
    /// Returns this node's membership.
    pub fn status(self) -> MemberStatus {
        self.context.peers.status()
    }

    /// Stops taking new sessions: no node casts this one any more, in any role, and a start here is refused with
    /// [`StartError::Draining`](crate::StartError::Draining), unless its key stands for an existing session. Sessions
    /// that cast this node continue, including those whose first frame is still to arrive. Draining is durable when
    /// this returns and survives restarts, until [`Operator::undrain`]. The other nodes learn of it gradually;
    /// [`Operator::drained`] waits for them, too.
    ///
    /// # Errors
    /// Returns [`StoreError`] when the store is closed or has failed. Cancel-safe: the node may drain all the same.
    pub async fn drain(self) -> Result<(), StoreError> {
        self.stand(true).await
    }

    /// Takes new sessions again. A node that has [left](Operator::leave), or was [forgotten](Operator::forget) by
    /// mistake, joins anew, with the sessions and the data that it has. Durable when it returns.
    ///
    /// # Errors
    /// Fails as [`Operator::drain`] does.
    pub async fn undrain(self) -> Result<(), StoreError> {
        self.stand(false).await
    }

    async fn stand(self, draining: bool) -> Result<(), StoreError> {
        let written = {
            let _order = self.context.writer.in_order();
            let own = self.context.peers.next_status(draining, Membership(self.context.environment.random()));
            let context = self.context.clone();
            self.change(own.stored(), move || {
                context.peers.stand(own);
                let node = &context.node;
                if draining {
                    tracing::info!(%node, "the node drains: it takes no new sessions");
                } else {
                    tracing::info!(%node, "the node takes new sessions again");
                }
                context.routes.to_link(LinkMessage::Announce);
            })
        };
        written.await
    }

    /// Submits `changes` at once and calls `then` once they are written, even if the returned future is dropped.
    fn change<F>(self, changes: Batch, then: F) -> impl Future<Output = Result<(), StoreError>> + use<F>
    where
        F: FnOnce() + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let done = Box::new(move |written: Result<(), StoreError>| {
            if written.is_ok() {
                then();
            }
            let _ = reply.send(written); // The caller may have gone.
        });
        self.context.writer.submit(Job::Change { changes, done });
        async { answer.await.map_err(|_| StoreError::Closed)? }
    }

    /// Waits until a draining node is needed no more: no node has an open instance of a session that casts it. This
    /// is on the disks of all nodes; from then on [`Operator::leave`] loses no session.
    ///
    /// This waits for every known node, including those that are down: they may have started sessions whose first frame
    /// is still to arrive here. [`Operator::drain_progress`] says which nodes are waited for; [`Operator::forget`] is
    /// for those that will not return. For a node that has left or was forgotten, this waits for the sessions that are
    /// open on it.
    ///
    /// # Errors
    /// Returns [`DrainError`]. Cancel-safe: waiting changes nothing.
    pub async fn drained(self) -> Result<(), DrainError> {
        loop {
            // Subscribed before the check, so that no answer can be missed.
            let change = self.context.peers.change();
            if self.context.peers.drain_progress().ok_or(DrainError::NotDraining)?.is_over() {
                return Ok(());
            }
            self.context.lifecycle.unless_stopped(change).await?;
        }
    }

    /// Returns how far draining is: how many instances that need this node are open at each node, this one included.
    /// Its own instances are counted now, in the store; the counts of other nodes are the last that they sent.
    ///
    /// # Errors
    /// Returns [`DrainError`].
    pub async fn drain_progress(self) -> Result<DrainProgress, DrainError> {
        let of = self.context.peers.draining();
        let own = of.iter().filter(|(node, _)| **node == self.context.node);
        let own: BTreeMap<_, _> = own.map(|(node, advertisement)| (node.clone(), *advertisement)).collect();
        let (reply, answer) = oneshot::channel();
        let done = Box::new(move |counts| drop(reply.send(counts))); // The caller may have gone.
        let (nodes, name) = (of.into_keys().collect(), self.context.node.clone());
        self.context.writer.submit(Job::Count(CensusQuery { nodes, own: name, done, emptied: None }));
        let counts = answer.await.map_err(|_| StoreError::Closed)??;
        let mut progress = self.context.peers.drain_progress().ok_or(DrainError::NotDraining)?;
        for node in own.into_keys() {
            progress.open.insert(node.clone(), counts.get(&node).copied());
        }
        Ok(progress)
    }

    /// Leaves for good: all other nodes forget this one. Call it after [`Operator::drained`], then shut the node down.
    /// Leaving is durable once it has been requested. This returns when every known node has it on its disk, except
    /// those that have left themselves, as others report, and are not received. Only this node is believed about its
    /// leaving (decision 0031): an operator who does not wait for a node that is down calls [`Operator::forget`] there
    /// when it is back.
    ///
    /// The built-in state stays in this node's store. A node of the same name over a fresh store counts as a new
    /// node.
    ///
    /// # Errors
    /// Returns [`LeaveError`]. Cancel-safe: the node may have left all the same.
    pub async fn leave(self) -> Result<(), LeaveError> {
        self.begin_leaving().await?;
        loop {
            let change = self.context.peers.change();
            if self.status() != MemberStatus::Left {
                return Err(LeaveError::JoinedAnew);
            }
            if self.context.peers.unaware(self.context.now_ms()).is_empty() {
                return Ok(());
            }
            self.context.lifecycle.unless_stopped(change).await?;
        }
    }

    /// Leaves as [`Operator::leave`] does, without waiting until others know. Durable when it returns.
    pub(crate) async fn begin_leaving(self) -> Result<(), LeaveError> {
        if self.status() != MemberStatus::Left {
            let progress = self.drain_progress().await?;
            if !progress.is_over() {
                return Err(LeaveError::Needed(progress));
            }
            self.note_left(&self.context.node).await?;
        }
        Ok(())
    }

    /// Forgets another node that is lost for good, or whose data is lost. From now on this node does not cast it and
    /// does not wait for its answer when draining. Durable when it returns. Call it on each node, unless the members
    /// file lists this one as an operator's: otherwise no node is believed about another.
    ///
    /// Open sessions that cast the forgotten node are not touched; they wait for it. [`Operator::sessions_cast_to`]
    /// lists them. If the forgotten node is alive, it learns of this, logs it at `error`, and starts no more sessions
    /// with this one; [`Operator::undrain`] on it lets it join anew.
    ///
    /// # Errors
    /// Returns [`ForgetError`].
    pub async fn forget(self, node: &NodeId) -> Result<(), ForgetError> {
        if *node == self.context.node {
            return Err(ForgetError::Own);
        }
        if self.note_left(node).await? { Ok(()) } else { Err(ForgetError::Unknown(node.clone())) }
    }

    /// Stops casting another node in new sessions of this one, until [`Operator::uncordon`]. Sessions that cast it
    /// continue. The other node is not informed, and other nodes still cast it unless they cordon it, too; to take a
    /// node out for all of them, [`Operator::drain`] it. A cordon is durable when this returns, and holds for the
    /// node's name until that node leaves or is forgotten.
    ///
    /// # Errors
    /// Returns [`CordonError`]. Cancel-safe: the node may be cordoned all the same.
    pub async fn cordon(self, node: &NodeId) -> Result<(), CordonError> {
        self.set_cordon(node, true).await
    }

    /// Lets the other node be cast again. Durable when it returns. Has no effect on a node that is not cordoned.
    ///
    /// # Errors
    /// Fails as [`Operator::cordon`] does.
    pub async fn uncordon(self, node: &NodeId) -> Result<(), CordonError> {
        self.set_cordon(node, false).await
    }

    async fn set_cordon(self, node: &NodeId, cordoned: bool) -> Result<(), CordonError> {
        if *node == self.context.node {
            return Err(CordonError::Own);
        }
        let written = {
            let _order = self.context.writer.in_order();
            let unknown = || CordonError::Unknown(node.clone());
            let changes = self.context.peers.cordon(node, cordoned).ok_or_else(unknown)?;
            let (context, node) = (self.context.clone(), node.clone());
            self.change(changes, move || context.peers.note_cordon(&node, cordoned))
        };
        Ok(written.await?)
    }

    /// Notes that the node has left; returns whether the node is known.
    async fn note_left(self, node: &NodeId) -> Result<bool, StoreError> {
        let written = {
            let _order = self.context.writer.in_order();
            let Some((changes, left)) = self.context.peers.forget(node, self.context.environment.unix_ms()) else {
                return Ok(false);
            };
            let context = self.context.clone();
            self.change(changes, move || {
                if left.node == context.node {
                    tracing::info!(node = %left.node, "the node has left for good");
                } else {
                    tracing::info!(node = %context.node, peer = %left.node, "an operator has a peer forgotten");
                }
                context.peers.left_stored(&[left]);
                context.routes.to_link(LinkMessage::Announce);
            })
        };
        written.await.map(|()| true)
    }

    /// Returns the other nodes that are known: their roles, their membership, whether packets pass in both
    /// directions, and whether they are cordoned.
    pub fn peers(self) -> Vec<KnownNode> {
        self.context.peers.list(self.context.now_ms())
    }

    /// Returns a page of the sessions open here that cast `node`, after `after` and in the order of their ids, and
    /// where the next page starts; `None` at the end. A page may be empty. The page is read from the store, so it
    /// includes passivated instances. An instance whose opening cannot be read is listed among the
    /// [stopped](Operator::stopped_sessions).
    ///
    /// # Errors
    /// Returns [`StoreError`] when the store is closed.
    pub async fn sessions_cast_to(
        self,
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

    fn cast_session(self, id: InstanceId, header: &Header) -> Option<CastSession> {
        let initiator = header.node_of(header.initiator)?.clone();
        let is_initiator = id.role == header.initiator && initiator == self.context.node;
        let (choreography, version) = (header.choreography.clone(), header.version);
        Some(CastSession { id, choreography, version, initiator, is_initiator })
    }
}

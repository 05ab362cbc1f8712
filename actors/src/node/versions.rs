//! The version of a choreography that a new session runs, and its cast.
//!
//! A session stays on the version it was started with. Knows advertisements, not frames; see `docs/decisions/0008`.

use std::sync::Arc;
use std::time::Duration;

use accompanist_core::frame::Header;
use accompanist_core::id::{InstanceId, RoleIndex};
use accompanist_core::role_instance::{AnyChoreography, Interface};
use accompanist_core::{Choreography, SessionId};
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use super::Node;
use crate::error::StartError;
use crate::peers::{Cast, CastPlan, CastReservation};

/// How many messages of a session usually follow one another, each of which waits in a queue.
const MESSAGES_IN_TURN: u32 = 4;

/// The header that a session starts with, and its place among the starts under way.
type Chosen = (Header, Option<Arc<CastReservation>>);

impl Node {
    /// Returns the versions of `C` that a start may choose from, the highest first.
    pub(super) fn versions<C: Choreography>(&self) -> Result<Vec<Arc<dyn AnyChoreography>>, StartError> {
        let of_name =
            self.context.catalog.choreographies.range((C::NAME.to_owned(), 0)..=(C::NAME.to_owned(), u32::MAX));
        let interface = Interface::of::<C>();
        let alike = of_name.map(|(_, known)| known).filter(|known| known.interface() == interface);
        let versions: Vec<_> = alike.rev().cloned().collect();
        let Some(own) = versions.iter().find(|known| known.version() == C::VERSION) else {
            return Err(StartError::UnknownChoreography { name: C::NAME, version: C::VERSION });
        };
        let node = &self.context.node;
        if !self.context.access.may_start(node, C::NAME) {
            return Err(StartError::NotAllowed { node: node.clone(), name: C::NAME });
        }
        let role = interface.initiator;
        if own.roles().index_of(role).is_none() || !self.context.catalog.roles.contains(&role) {
            return Err(StartError::NotPlayedHere { role });
        }
        Ok(versions)
    }

    /// Checks that the output of a session has the type that the caller expects: a key may name a session that was
    /// started with another version.
    pub(super) fn check_version<C: Choreography>(
        &self,
        session: SessionId,
        version: Option<u32>,
    ) -> Result<(), StartError> {
        match version.filter(|version| self.is_other::<C>(*version)) {
            None => Ok(()),
            Some(found) => Err(StartError::OtherVersion { session, name: C::NAME, version: C::VERSION, found }),
        }
    }

    /// Returns whether sessions of this version have another interface than those of `C`. For a version that is no
    /// longer known here the answer is false: its sessions have ended, or are stopped and report it.
    pub(super) fn is_other<C: Choreography>(&self, version: u32) -> bool {
        let known = self.context.catalog.choreographies.get(&(C::NAME.to_owned(), version));
        known.is_some_and(|known| known.interface() != Interface::of::<C>())
    }

    /// Casts as [`Node::cast`] does, for a session that was claimed as `id` with a version whose initiator has
    /// another index among the roles. Unless the session is open, it starts with such a version; returns `None` if
    /// there is none any more.
    pub(super) async fn cast_at(
        &self,
        id: InstanceId,
        versions: &[Arc<dyn AnyChoreography>],
        members: u8,
    ) -> Result<Option<Chosen>, StartError> {
        let fits = |known: &&Arc<dyn AnyChoreography>| initiator_of(known.as_ref()) == id.role;
        let versions: Vec<_> = versions.iter().filter(fits).cloned().collect();
        if versions.is_empty() { Ok(None) } else { self.cast(id.session, &versions, members).await.map(Some) }
    }

    /// Chooses the highest version that a cast can play, and the cast, in which the role family has `members`; waits a
    /// while for nodes that have not been received yet. What nodes advertised before this node's last start is no
    /// reason to choose a lower version, which they may have given up since.
    pub(super) async fn cast(
        &self,
        session: SessionId,
        versions: &[Arc<dyn AnyChoreography>],
        members: u8,
    ) -> Result<Chosen, StartError> {
        let name = versions.first().map(|choreography| choreography.name()).unwrap_or_default();
        let deadline = Instant::now() + self.context.settings.cast_wait_max;
        loop {
            let change = self.context.peers.change();
            let CastPlan { cast, missing, hear_until } = self.choose(session, versions, members)?;
            let chosen = cast.and_then(|(index, mut cast)| {
                let placed = cast.placed.take();
                Some((self.header(versions.get(index)?.as_ref(), cast), placed))
            });
            let late = Instant::now() >= deadline;
            let until = match (chosen, hear_until) {
                (Some(chosen), None) => return self.unless_queues_are_long(chosen),
                (Some(chosen), Some(_)) if late => return self.unless_queues_are_long(chosen),
                (Some(_), Some(until)) => until.min(deadline),
                (None, _) if late => return Err(StartError::nobody_plays(name, missing)),
                (None, _) => deadline,
            };
            // Choose again on a change or at `until`, whichever comes first, unless the node stops.
            if let Ok(Err(_)) = tokio::time::timeout_at(until, self.context.lifecycle.unless_stopped(change)).await {
                return Err(StartError::NodeStopped);
            }
        }
    }

    /// Casts as [`Node::cast`] does, then waits for its turn among the starts of this node. Waiting begins only after
    /// casting, so that a start that waits for nodes not received yet does not delay others.
    pub(super) async fn cast_in_turn(
        &self,
        session: SessionId,
        versions: &[Arc<dyn AnyChoreography>],
        members: u8,
    ) -> Result<(Header, Option<Arc<CastReservation>>, SemaphorePermit<'_>), StartError> {
        let (header, placed) = self.cast(session, versions, members).await?;
        let delay = self.queue_delay_max();
        let turn = tokio::time::timeout(delay, self.context.admissions.starts.acquire()).await;
        let turn = turn.map_err(|_| StartError::QueueTooLong { node: self.context.node.clone(), delay })?;
        Ok((header, placed, turn.map_err(|_| StartError::NodeStopped)?))
    }

    /// The longest delay that a message may have in the queue of a node.
    fn queue_delay_max(&self) -> Duration {
        self.context.settings.queue_delay_max / MESSAGES_IN_TURN
    }

    /// Refuses a session that would wait long at a node of its cast.
    fn unless_queues_are_long(&self, chosen: Chosen) -> Result<Chosen, StartError> {
        let (context, now_ms) = (&self.context, self.context.now_ms());
        let own = (&context.node, Duration::from_millis(context.admissions.queue_delay().ms(now_ms)));
        let (node, delay) = context
            .peers
            .longest_queue(&chosen.0.cast, now_ms)
            .into_iter()
            .chain([own])
            .max_by_key(|(_, delay)| *delay)
            .unwrap_or(own);
        if delay > self.queue_delay_max() {
            Err(StartError::QueueTooLong { node: node.clone(), delay })
        } else {
            Ok(chosen)
        }
    }

    /// Chooses a cast. A node that is not allowed to play a role is not cast in it, whatever the node has advertised.
    fn choose(
        &self,
        session: SessionId,
        versions: &[Arc<dyn AnyChoreography>],
        members: u8,
    ) -> Result<CastPlan, StartError> {
        let (peers, now_ms) = (&self.context.peers, self.context.now_ms());
        let chosen =
            peers.choose(session, versions, members, now_ms, |node, role| self.context.access.may_play(node, role));
        chosen.map_err(StartError::not_serving)
    }

    fn header(&self, choreography: &dyn AnyChoreography, cast: Cast) -> Header {
        Header {
            choreography: choreography.name().into(),
            version: choreography.version(),
            initiator: initiator_of(choreography),
            cast: cast.nodes,
            started_unix_ms: self.context.environment.unix_ms(),
            deadline_unix_ms: None,
            patches: cast.patches,
            traceparent: None,
        }
    }
}

fn initiator_of(choreography: &dyn AnyChoreography) -> RoleIndex {
    choreography.roles().index_of(choreography.interface().initiator).unwrap_or(RoleIndex(u8::MAX))
}

//! Looks up sessions that were started before, by their id or their key. Open sessions are followed; closed ones have
//! left their result.

use accompanist_core::contract::{Space, Store, StoreError};
use accompanist_core::frame::Header;
use accompanist_core::id::InstanceId;
use accompanist_core::message::Fingerprint;
use accompanist_core::record::{Closed, Opened, read_value};
use accompanist_core::{Choreography, SessionId};
use tokio::sync::oneshot;

use super::Node;
use crate::error::{SessionLookupError, StartError};
use crate::node::session::Session;
use crate::operator::handle::InstanceHandle;
use crate::runtime::messages::SupervisorMessage;
use crate::writer::{Claimed, Job};

/// The record that the store has of a session's initiator.
enum Found {
    Open(InstanceId, Opened),
    Closed(InstanceId, Closed),
}

impl Found {
    fn header(&self) -> &Header {
        let (Self::Open(_, Opened { header, .. }) | Self::Closed(_, Closed { header, .. })) = self;
        header
    }
}

impl Node {
    /// Returns the session `id` that was started on this node, before or after its last start. An open session is
    /// followed as by its starter. For a closed session the handle returns the stored output, or the abort, until
    /// retention ([`Retention`](crate::Retention)) ends.
    ///
    /// # Errors
    /// Returns [`SessionLookupError`], which says what to do. Cancel-safe: a lookup changes nothing.
    pub async fn session<C: Choreography>(&self, id: SessionId) -> Result<Session<C>, SessionLookupError> {
        let found = self.context.writer.read(move |store| find(store, id)).await?;
        let found = found.ok_or(SessionLookupError::Unknown { session: id })?;
        let Header { choreography: name, version, .. } = found.header();
        if name != C::NAME {
            return Err(SessionLookupError::OtherChoreography { session: id, found: name.clone(), asked: C::NAME });
        }
        if self.is_other::<C>(*version) {
            return Err(SessionLookupError::OtherVersion { session: id, found: *version, asked: C::VERSION });
        }
        match found {
            Found::Closed(instance, closed) => Ok(self.closed_session(instance, &closed)),
            Found::Open(instance, opened) => {
                // Watch before asking, so that the session's end cannot be missed.
                let progress = self.context.directory.watch(instance);
                if !self.context.routes.to_supervisor(SupervisorMessage::Start {
                    id: instance,
                    opened,
                    fresh: false,
                    placed: None,
                    admission: None,
                }) {
                    return Err(SessionLookupError::NodeStopped);
                }
                Ok(Session::new(InstanceHandle::new(instance, self.context.clone()), progress))
            }
        }
    }

    pub(super) fn closed_session<C: Choreography>(&self, id: InstanceId, closed: &Closed) -> Session<C> {
        Session::closed(InstanceHandle::new(id, self.context.clone()), closed)
    }

    /// Returns the session of `C` that `key` stands for: the known one, or else `new`. Another input is an error.
    pub(super) async fn claim<C: Choreography>(
        &self,
        key: &str,
        new: InstanceId,
        input: Fingerprint,
    ) -> Result<Claimed, StartError> {
        self.claimed::<C>(key, Some(new), input).await?.ok_or(StartError::NodeStopped)
    }

    async fn claimed<C: Choreography>(
        &self,
        key: &str,
        new: Option<InstanceId>,
        input: Fingerprint,
    ) -> Result<Option<Claimed>, StartError> {
        let (reply, answer) = oneshot::channel();
        let done = Box::new(move |claimed| drop(reply.send(claimed))); // The caller may have gone.
        let new = new.map(|new| (new, input));
        self.context.writer.submit(Job::Claim { key: SessionId::keyed(C::NAME, key), new, done });
        // The store does not fail alone: the node stops with it.
        let claimed = answer.await.ok().and_then(Result::ok).ok_or(StartError::NodeStopped)?;
        match claimed {
            Some(Claimed { id, input: first, .. }) if first != input => {
                Err(StartError::OtherInput { name: C::NAME, session: id.session, first, input })
            }
            claimed => Ok(claimed),
        }
    }

    /// Returns the session that was started under `key` before this node stopped taking new ones; otherwise returns
    /// `reason`.
    pub(super) async fn known_under<C: Choreography>(
        &self,
        key: Option<&str>,
        input: Fingerprint,
        reason: StartError,
    ) -> Result<Session<C>, StartError> {
        let Some(key) = key else { return Err(reason) };
        let Some(Claimed { id, closed, .. }) = self.claimed::<C>(key, None, input).await? else {
            return Err(reason);
        };
        if let Some(closed) = closed {
            self.check_version::<C>(id.session, Some(closed.header.version))?;
            return Ok(self.closed_session(id, &closed));
        }
        self.session::<C>(id.session).await.map_err(|error| match error {
            SessionLookupError::OtherVersion { session, found, asked } => {
                StartError::OtherVersion { session, name: C::NAME, version: asked, found }
            }
            SessionLookupError::NodeStopped | SessionLookupError::Store(_) => StartError::NodeStopped,
            // The key was claimed, and the node crashed before the session was started.
            SessionLookupError::Unknown { .. } | SessionLookupError::OtherChoreography { .. } => reason,
        })
    }
}

/// Finds the initiating instance among the session's instances here.
fn find(store: &dyn Store, session: SessionId) -> Result<Option<Found>, StoreError> {
    for (key, value) in store.scan(Space::Open, session.as_bytes(), None, usize::MAX)? {
        let opened: Opened = read_value(Space::Open, &value)?;
        if let Some(id) = InstanceId::from_bytes(&key).filter(|id| id.role == opened.header.initiator) {
            return Ok(Some(Found::Open(id, opened)));
        }
    }
    for (key, value) in store.scan(Space::Closed, session.as_bytes(), None, usize::MAX)? {
        let closed: Closed = read_value(Space::Closed, &value)?;
        if let Some(id) = InstanceId::from_bytes(&key).filter(|id| id.role == closed.header.initiator) {
            return Ok(Some(Found::Closed(id, closed)));
        }
    }
    Ok(None)
}

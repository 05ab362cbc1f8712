//! The way to one role's part of one session on this node: to signal, to look, and for an operator to mend.

use std::sync::Arc;

use accompanist_core::contract::{Change, StoreError};
use accompanist_core::frame::Outcome;
use accompanist_core::id::InstanceId;
use accompanist_core::instance::{Remedy, SignalError, Status};
use accompanist_core::message::{CodecError, decode, encode_repeatable};
use accompanist_core::record::Record;
use accompanist_core::testing::History;
use accompanist_core::{Abort, Message, Path, Payload, SessionId};
use tokio::sync::oneshot;

use crate::instance_actor::InstanceMessage;
use crate::question::Question;
use crate::roles::RolesMessage;
use crate::shared::Shared;
use crate::writer::{Job, Loaded};

/// An instance that cannot be asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AskError {
    /// There is none here.
    #[error(
        "role {} of session {} is not open on this node: it has not begun here, is over, or is played by another node",
        .0.role.0, .0.session
    )]
    NotOpen(InstanceId),
    /// It stands still.
    #[error("session {session} stands still: {reason}")]
    Stopped {
        /// The session.
        session: SessionId,
        /// Why.
        reason: String,
    },
    /// It has told that it finished, and leaves it to the others whether the session is aborted.
    #[error(
        "role {} of session {} has finished its part, and cannot abort any more: let it try again (`resume`), or cancel the session",
        .0.role.0, .0.session
    )]
    HasFinished(InstanceId),
    /// The signal was not taken in.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// A value has no bytes, or is of another type.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node has stopped.
    #[error("the node has stopped")]
    NodeStopped,
}

/// One role's part of one session; see [`Node::instance`](crate::Node::instance).
#[derive(Clone)]
pub struct InstanceHandle {
    id: InstanceId,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for InstanceHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InstanceHandle({})", self.id)
    }
}

impl InstanceHandle {
    pub(crate) fn new(id: InstanceId, shared: Arc<Shared>) -> Self {
        Self { id, shared }
    }

    /// Which one it is.
    pub fn id(&self) -> InstanceId {
        self.id
    }

    async fn ask<T>(&self, question: impl Fn(oneshot::Sender<T>) -> Question) -> Result<T, AskError> {
        let _permit = self.shared.askers.acquire().await.map_err(|_| AskError::NodeStopped)?;
        let (reply, answer) = oneshot::channel();
        if self.shared.directory.tell(self.id, InstanceMessage::Ask(question(reply))).is_ok()
            && let Ok(answer) = answer.await
        {
            return Ok(answer);
        }
        // It is not in memory, or has just failed and left the question unanswered: its supervisor knows.
        let (reply, answer) = oneshot::channel();
        if !self.shared.to_roles(RolesMessage::Ask(self.id, question(reply))) {
            return Err(AskError::NodeStopped);
        }
        answer.await.map_err(|_| match self.shared.stopped_because(self.id) {
            Some(reason) => AskError::Stopped { session: self.id.session, reason },
            None => AskError::NotOpen(self.id),
        })
    }

    /// Says something to the program, which waits for it with [`Context::signal`](crate::Context::signal) or will.
    /// Durable when it returns. Repeat it under the same `key` until it succeeds: the program takes it once (as long
    /// as it is among the last 1 024 that were taken, or the session is open, whichever is shorter).
    ///
    /// # Errors
    /// [`AskError`]; after [`AskError::NotOpen`] or [`AskError::NodeStopped`] it may have been taken in all the same.
    pub async fn signal<T: Message>(&self, name: &str, key: &str, value: &T) -> Result<(), AskError> {
        let payload: Payload = encode_repeatable(value)?.into();
        let question = |reply| {
            let (name, key, payload) = (name.to_owned(), key.to_owned(), payload.clone());
            Question::Signal { name, key, payload, reply }
        };
        Ok(self.ask(question).await??)
    }

    /// What the program has shown of its progress last, with [`Context::publish`](crate::Context::publish).
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn query<V: Message>(&self) -> Result<Option<V>, AskError> {
        let view = self.ask(Question::View).await?;
        Ok(view.map(|view| decode(view.as_slice())).transpose()?)
    }

    /// Where it stands. One that is over is no longer open.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn status(&self) -> Result<Status, AskError> {
        self.ask(Question::Status).await
    }

    /// What the program waits for, by the path of the operation; for people.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn waits_for(&self) -> Result<Vec<(Path, String)>, AskError> {
        self.ask(Question::Waits).await
    }

    /// Lets the steps that are in trouble go on, and says how many those are. Durable when it returns.
    ///
    /// # Errors
    /// [`AskError`]; after [`AskError::NotOpen`] or [`AskError::NodeStopped`] it may have been done all the same.
    pub async fn remedy(&self, remedy: Remedy) -> Result<usize, AskError> {
        self.ask(|reply| Question::Remedy(remedy, reply)).await
    }

    /// Lets an instance that stands still (quarantined, or stopped since its program differs) try again: what was in
    /// the way is mended. Says whether it stood still.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn resume(&self) -> Result<bool, AskError> {
        self.try_again(None).await
    }

    /// As [`InstanceHandle::resume`], but to abort: what this role has committed is taken back, and so is what the others
    /// have. Its program runs only as far as what is on disk, so this helps when it fails after that; not if it does
    /// something else than is on disk. Says whether it stood still. An operator's abort has the code [`Abort::CANCELLED`].
    ///
    /// A commit in doubt (its intent is on disk, its result is not) is run once more under its key, so that its output can be
    /// compensated; each is logged as a warning. A pivot is not, and a step in trouble waits for a [`Remedy`].
    ///
    /// # Errors
    /// [`AskError`]; [`AskError::HasFinished`] for a role that has nothing to say about that any more.
    pub async fn abort(&self, reason: &str) -> Result<bool, AskError> {
        if self.shared.stopped_because(self.id).is_none() {
            return Ok(false);
        }
        let records = self.history().await?.records;
        if records.iter().any(|record| matches!(record, Record::Ended { outcome: Outcome::Finished, .. })) {
            return Err(AskError::HasFinished(self.id));
        }
        let aborted = records.iter().any(|record| matches!(record, Record::Aborted { .. }));
        self.warn_of_doubts(&records);
        let abort = Record::Aborted { abort: Abort::new(Abort::CANCELLED, reason), own: true };
        self.try_again((!aborted).then(|| abort.change(self.id)).transpose()?).await
    }

    fn warn_of_doubts(&self, records: &[Record]) {
        let is_known = |step: &Path| {
            records.iter().any(|record| match record {
                Record::Committed { path, .. } | Record::Troubled { path, .. } => path == step,
                _ => false,
            })
        };
        for record in records {
            if let Record::Intended { path, name, .. } = record
                && !is_known(path)
            {
                tracing::warn!(session = %self.id.session, step = name, %path,
                    "an abort runs a commit in doubt once more under its key, to compensate it, unless it is a pivot");
            }
        }
    }

    /// Makes `change`, and lets it load again.
    async fn try_again(&self, change: Option<Change>) -> Result<bool, AskError> {
        let record = Record::Quarantined { reason: String::new(), failures: 0 };
        let removal = accompanist_core::record::remove(self.id, &record);
        let (reply, answer) = oneshot::channel();
        let done = Box::new(move |written| drop(reply.send(written)));
        let changes = change.into_iter().chain([removal]).collect();
        self.shared.writer.submit(Job::Change { changes, done });
        answer.await.map_err(|_| AskError::NodeStopped)??;
        let stood_still = self.shared.forget_stopped(self.id);
        if stood_still && !self.shared.to_roles(RolesMessage::Resume(self.id)) {
            return Err(AskError::NodeStopped);
        }
        Ok(stood_still)
    }

    /// What this role has on disk of the session, for [`testing::replay`](crate::testing::replay) and for people.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn history(&self) -> Result<History, AskError> {
        let id = self.id;
        match self.shared.writer.read(move |store| crate::writer::load(store, id)).await? {
            Loaded::Open(opened, records) => Ok(History { instance: id, opened, records }),
            Loaded::Nothing | Loaded::Closed(_) => Err(AskError::NotOpen(id)),
        }
    }

    /// Aborts the session, as [`Session::cancel`](crate::Session::cancel) does: for tools, which do not know the type of
    /// its choreography. Only the initiating role's part can; at any other this is `false` and changes nothing.
    ///
    /// # Errors
    /// [`AskError`]; after [`AskError::NotOpen`] and [`AskError::NodeStopped`] it may have been aborted all the same.
    pub async fn cancel(&self, reason: &str) -> Result<bool, AskError> {
        let abort = Abort::new(Abort::CANCELLED, reason);
        self.ask(|reply| Question::Cancel(abort.clone(), reply)).await
    }
}

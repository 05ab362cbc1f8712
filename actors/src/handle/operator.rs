//! What an operator does about one role's part of a session: for each state that it can stand in, one way out.
//!
//! What does not fit is refused, and the error names what does. The table of states and ways is in docs/operators.md;
//! a test goes through its cells. Knows the journal's records, no program.

use accompanist_core::Abort;
use accompanist_core::contract::{Batch, Change, Space};
use accompanist_core::frame::{Header, Outcome};
use accompanist_core::instance::{Remedy, Status};
use accompanist_core::record::{Record, Task, remove};
use accompanist_core::{NodeId, Path, SessionId};
use tokio::sync::oneshot;

use super::{AskError, InstanceHandle};
use crate::actor::{self, SkippedMessage};
use crate::question::{NotCancelled, Question};
use crate::roles::RolesMessage;
use crate::writer::{Job, Loaded, Readable, load_readable};

/// A step that was not taken back when its part was terminated; see [`InstanceHandle::terminate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftStep {
    /// Where in the program it is.
    pub path: Path,
    /// Its name.
    pub step: String,
    /// Whether its result is on disk. Otherwise nobody here knows whether it took effect.
    pub committed: bool,
}

/// Where a part that stands still has come to.
#[expect(clippy::struct_excessive_bools, reason = "independent facts out of its records")]
struct Still {
    readable: Readable,
    initiates: bool,
    aborted: bool,
    finished: bool,
    closing: bool,
    /// Why this release cannot play it.
    unplayable: Option<String>,
}

impl Still {
    fn header(&self) -> &Header {
        &self.readable.opened.header
    }

    /// The last of its steps that are committed or in doubt, and not taken back, first.
    fn left_steps(&self) -> Vec<LeftStep> {
        let records = &self.readable.records;
        let is_taken_back = |path: &Path| {
            let taken_back = |record: &Record| matches!(record, Record::Compensated { path: at } if at == path);
            records.iter().any(taken_back)
        };
        let has_result = |path: &Path| {
            let result = |record: &Record| matches!(record, Record::Committed { path: at, .. } if at == path);
            records.iter().any(result)
        };
        let left = records.iter().filter_map(|record| match record {
            Record::Committed { path, name, result: Ok(_), .. } => Some((path, name, true)),
            Record::Intended { path, name, .. } if !has_result(path) => Some((path, name, false)),
            _ => None,
        });
        let left = left.filter(|(path, ..)| !is_taken_back(path));
        let left = left.map(|(path, name, committed)| LeftStep { path: path.clone(), step: name.clone(), committed });
        let mut left: Vec<_> = left.collect();
        left.sort_by(|one, other| other.path.cmp(&one.path));
        left
    }

    fn warn_of_doubts(&self, session: SessionId) {
        let is_troubled = |path: &Path| {
            let troubled = |record: &Record| matches!(record, Record::Troubled { path: at, .. } if at == path);
            self.readable.records.iter().any(troubled)
        };
        for LeftStep { path, step, .. } in
            self.left_steps().iter().filter(|left| !left.committed && !is_troubled(&left.path))
        {
            tracing::warn!(%session, step, %path,
                "an abort runs a commit in doubt once more under its key, to compensate it, unless it is a pivot");
        }
    }

    /// The paths of all that is recorded as a step, whatever became of it.
    fn step_paths(&self) -> impl Iterator<Item = &Path> {
        self.readable.records.iter().filter_map(|record| match record {
            Record::Committed { path, .. } | Record::Intended { path, .. } | Record::Troubled { path, .. } => {
                Some(path)
            }
            _ => None,
        })
    }
}

impl InstanceHandle {
    /// Lets the steps that are in trouble go on, and says how many those are. Durable when it returns.
    ///
    /// # Errors
    /// [`AskError`]; [`AskError::DoesNotFit`] if no step of this role is in such trouble. After [`AskError::NotOpen`] or
    /// [`AskError::NodeStopped`] it may have been done all the same.
    pub async fn remedy(&self, remedy: Remedy) -> Result<usize, AskError> {
        let way = match remedy {
            Remedy::Retry => "remedy(Retry)",
            Remedy::Resolve => "remedy(Resolve)",
        };
        let concerned = self.ask(|reply| Question::Remedy(remedy, reply)).await?;
        match concerned {
            0 => Err(self.moves(way).await?),
            concerned => Ok(concerned),
        }
    }

    /// Lets an instance that stands still (quarantined, or stopped since its program differs) try again: what was in
    /// the way is mended. Durable when it returns.
    ///
    /// # Errors
    /// [`AskError`]; [`AskError::DoesNotFit`] if it does not stand still, or this release cannot play it.
    pub async fn resume(&self) -> Result<(), AskError> {
        let still = match self.still("resume").await {
            // It failed before any of it was written, so there is nothing to look at.
            Err(AskError::NotOpen(_)) if self.shared.stopped_because(self.id).is_some() => {
                return self.try_again(Batch::new()).await;
            }
            still => still?,
        };
        if let Some(reason) = &still.unplayable {
            return Err(self.unplayable("resume", reason));
        }
        if !still.readable.damaged.is_empty() {
            return Err(self.damaged("resume"));
        }
        self.try_again(Batch::new()).await
    }

    /// As [`InstanceHandle::resume`], but to abort: what this role has committed is taken back, and so is what the others
    /// have. Its program runs only as far as what is on disk, so this helps when it fails after that; not if it does
    /// something else than is on disk. An operator's abort has the code [`Abort::CANCELLED`]. Durable when it returns.
    ///
    /// A commit in doubt (its intent is on disk, its result is not) is run once more under its key, so that its output can be
    /// compensated; each is logged as a warning. A pivot is not, and a step in trouble waits for a [`Remedy`].
    ///
    /// # Errors
    /// [`AskError`]; [`AskError::DoesNotFit`] if it does not stand still, is aborted already, has finished its part and
    /// leaves it to the initiating role whether the session is aborted, or is a channel to a durable actor.
    pub async fn abort(&self, reason: &str) -> Result<(), AskError> {
        const WAY: &str = "abort";
        let still = self.still(WAY).await?;
        if actor::is_channel(still.header()) {
            return Err(self.channel(WAY));
        }
        if let Some(reason) = &still.unplayable {
            return Err(self.unplayable(WAY, reason));
        }
        if !still.readable.damaged.is_empty() {
            return Err(self.damaged(WAY));
        }
        if still.aborted {
            let instead = "`resume` it, or, if its program will not run any more, `terminate` it";
            return Err(self.does_not_fit(WAY, "stands still and is aborted already", instead));
        }
        if still.closing {
            let instead = "all roles have ended, so `resume` it, or `terminate` it";
            return Err(self.does_not_fit(WAY, "stands still while it closes", instead));
        }
        if still.finished && !still.initiates {
            let instead = format!("first `cancel` it at {}, then `resume` it here", initiator_of(still.header()));
            return Err(self.does_not_fit(WAY, "stands still and has finished its part", instead));
        }
        still.warn_of_doubts(self.id.session);
        self.try_again(vec![self.aborted(reason)?]).await
    }

    /// The last way out of a part that stands still: ends it without its program, which may be lost, or do something else
    /// than is on disk, or fail again and again. The session is aborted (unless this role has finished: then it is left
    /// to the others, and to be terminated once more if they abort), the other roles take back what they have committed,
    /// and what this role has committed counts as taken back. Gives those steps, the last one first: they are the
    /// operator's to take back by hand. Durable when it returns.
    ///
    /// # Errors
    /// [`AskError`]; [`AskError::DoesNotFit`] if it does not stand still, or is a channel to a durable actor.
    pub async fn terminate(&self, reason: &str) -> Result<Vec<LeftStep>, AskError> {
        const WAY: &str = "terminate";
        let still = self.still(WAY).await?;
        if actor::is_channel(still.header()) {
            return Err(self.channel(WAY));
        }
        let damaged = still.readable.damaged.iter().cloned();
        let removal = |key| Change { space: Space::Journal, key, value: None };
        let mut changes: Batch = damaged.map(removal).collect();
        changes.push(Record::Terminated.change(self.id)?);
        let left_to_others = still.closing || (still.finished && !still.initiates && !still.aborted);
        let left = if left_to_others { Vec::new() } else { still.left_steps() };
        if !left_to_others {
            if !still.aborted {
                changes.push(self.aborted(reason)?);
            }
            for path in still.step_paths() {
                changes.push(Record::Compensated { path: path.clone() }.change(self.id)?);
            }
            let troubled = still.readable.records.iter().filter(|record| matches!(record, Record::Troubled { .. }));
            changes.extend(troubled.map(|record| remove(self.id, record)));
        }
        tracing::warn!(id = %self.id, reason, ?left, "an operator ends a part of a session without its program");
        self.try_again(changes).await?;
        Ok(left)
    }

    /// Lets a channel to a durable actor that stands still at the actor's node (see
    /// [`Node::stopped_sessions`](crate::Node::stopped_sessions)) go on without the message that is in its way: that one is
    /// kept among those that the actor has [refused](crate::actor::Address::refused), to be handled again or thrown away
    /// later; whoever has asked hears of a refusal. Those behind it are handled, in their order. Durable when it returns.
    ///
    /// # Errors
    /// [`AskError`]; [`AskError::DoesNotFit`] if it does not stand still, is no channel, or no message is in its way.
    pub async fn skip_message(&self) -> Result<SkippedMessage, AskError> {
        const WAY: &str = "skip_message";
        let still = self.still(WAY).await?;
        if !actor::is_channel(still.header()) {
            let instead = "`resume`, `abort` or `terminate` it";
            return Err(self.does_not_fit(WAY, "is no channel to a durable actor", instead));
        }
        if let Some(reason) = &still.unplayable {
            return Err(self.unplayable(WAY, reason));
        }
        let in_the_way = actor::message_in_the_way(self.id, &still.readable.records);
        let Some((message, skip)) = in_the_way.filter(|_| !still.initiates).transpose()? else {
            let instead = "`resume` it when what was in its way is gone";
            return Err(self.does_not_fit(WAY, "stands still with no message in its way", instead));
        };
        tracing::warn!(id = %self.id, ?message, "an operator has a message skipped");
        self.try_again(vec![skip]).await?;
        Ok(message)
    }

    /// Aborts the session, as [`Session::cancel`](crate::Session::cancel) does: for tools, which do not know the type of
    /// its choreography. Only the initiating role's part can. Durable when it returns; may be repeated.
    ///
    /// # Errors
    /// [`AskError`]; [`AskError::DoesNotFit`] if another role initiates, it is closing or aborted for another reason, or
    /// it is a channel to a durable actor. After [`AskError::NotOpen`] and [`AskError::NodeStopped`] it may have been
    /// aborted all the same.
    pub async fn cancel(&self, reason: &str) -> Result<(), AskError> {
        const WAY: &str = "cancel";
        let abort = Abort::new(Abort::CANCELLED, reason);
        let cancelled = self.ask(|reply| Question::Cancel(abort.clone(), reply)).await?;
        cancelled.map_err(|why| match why {
            NotCancelled::Channel => self.channel(WAY),
            NotCancelled::Elsewhere(role, node) => {
                let node = node.as_ref().map_or("?", NodeId::as_str);
                let instead = format!("`cancel` it at role {} on node `{node}`", role.0);
                self.does_not_fit(WAY, "is not the initiating role's part", instead)
            }
            NotCancelled::TooLate(status) => {
                let (stands, instead) = way_out_of(status);
                self.does_not_fit(WAY, stands, instead)
            }
        })
    }

    /// Makes `changes`, ends its quarantine, and lets it load again.
    async fn try_again(&self, mut changes: Batch) -> Result<(), AskError> {
        let quarantine = Record::Quarantined { reason: String::new(), failures: 0 };
        changes.push(remove(self.id, &quarantine));
        let (reply, answer) = oneshot::channel();
        let done = Box::new(move |written| drop(reply.send(written)));
        self.shared.writer.submit(Job::Change { changes, done });
        answer.await.map_err(|_| AskError::NodeStopped)??;
        self.shared.forget_stopped(self.id);
        let resumed = self.shared.to_roles(RolesMessage::Resume(self.id));
        resumed.then_some(()).ok_or(AskError::NodeStopped)
    }

    fn aborted(&self, reason: &str) -> Result<Change, AskError> {
        let abort = Record::Aborted { abort: Abort::new(Abort::CANCELLED, reason), own: true };
        Ok(abort.change(self.id)?)
    }

    /// What is on disk of the instance, which has to stand still.
    async fn still(&self, way: &'static str) -> Result<Still, AskError> {
        if self.shared.stopped_because(self.id).is_none() {
            return Err(self.moves(way).await?);
        }
        let id = self.id;
        // Loaded, so that what it has written last is there, and nothing of it comes after; a damaged journal is no matter.
        let (reply, answer) = oneshot::channel();
        let done = Box::new(move |loaded: Result<Loaded, _>| {
            let _ = reply.send(loaded.is_ok());
        });
        self.shared.writer.submit(Job::Load { id, incarnation: self.shared.next_incarnation(), done });
        answer.await.map_err(|_| AskError::NodeStopped)?;
        let readable = self.shared.writer.read(move |store| load_readable(store, id)).await?;
        let readable = readable.ok_or(AskError::NotOpen(id))?;
        let header = &readable.opened.header;
        let has = |is: fn(&Record) -> bool| readable.records.iter().any(is);
        Ok(Still {
            initiates: header.initiator == id.role,
            aborted: has(|record| matches!(record, Record::Aborted { .. })),
            finished: has(|record| matches!(record, Record::Ended { outcome: Outcome::Finished, .. })),
            closing: has(|record| matches!(record, Record::Closing)),
            unplayable: self.shared.choreography_of(header, id.role).err(),
            readable,
        })
    }

    /// Why `way` does not fit an instance that does not stand still.
    async fn moves(&self, way: &'static str) -> Result<AskError, AskError> {
        let status = self.status().await?;
        let (stands, instead) = way_out_of(status);
        let trouble = self.shared.troubled_at(self.id);
        let has = |task: Task| trouble.iter().any(|(_, trouble)| trouble.task == task);
        let instead = if has(Task::Record) {
            "`remedy(Retry)`; or `cancel` the session at its initiating role, and then `remedy(Resolve)`"
        } else if !trouble.is_empty() && trouble.iter().all(|(_, trouble)| trouble.task == Task::Commit) {
            "its program waits for a step's output: `remedy(Retry)`, or `cancel` the session at its initiating role"
        } else {
            instead
        };
        Ok(self.does_not_fit(way, stands, instead))
    }

    fn does_not_fit(&self, way: &'static str, stands: &'static str, instead: impl Into<String>) -> AskError {
        AskError::DoesNotFit { id: self.id, way, stands, instead: instead.into() }
    }

    fn unplayable(&self, way: &'static str, reason: &str) -> AskError {
        let instead =
            format!("start the node with a release that can ({reason}), or, if there is none any more, `terminate` it");
        self.does_not_fit(way, "cannot be played by this release", instead)
    }

    fn damaged(&self, way: &'static str) -> AskError {
        self.does_not_fit(way, "cannot be read from the store", "`terminate` it")
    }

    fn channel(&self, way: &'static str) -> AskError {
        let instead = "its end would throw away what waits in it: where it stands still, `resume` it when what was in its \
                       way is gone, or `skip_message`";
        self.does_not_fit(way, "is a channel to a durable actor", instead)
    }
}

fn initiator_of(header: &Header) -> String {
    let node = header.node_of(header.initiator).map_or("?", NodeId::as_str);
    format!("role {} on node `{node}`", header.initiator.0)
}

/// How an instance that does not stand still is said to stand, and what is to be done about it.
fn way_out_of(status: Status) -> (&'static str, &'static str) {
    match status {
        Status::Running => ("runs", "nothing is to be done; to end it, `cancel` it at its initiating role"),
        Status::Finished => {
            ("has finished its part", "it waits for the others; to end it, `cancel` it at its initiating role")
        }
        Status::Compensating => ("is being compensated", "nothing is to be done until a step needs an operator"),
        Status::Compensated => ("is compensated", "it waits for the others: look for what holds those up"),
        Status::Closed => ("is over", "nothing is to be done"),
        Status::NeedsOperator => ("has a step in trouble", "`remedy` it"),
        Status::Quarantined => ("stands still", "`resume`, `abort` or `terminate` it"),
    }
}

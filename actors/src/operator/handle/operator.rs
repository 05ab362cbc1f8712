//! An operator's actions on one role's part of a session: for each state of the part there is one way out.
//!
//! An action that does not fit is refused, and the error names the one that does. The table of states and actions is
//! in docs/operators.md; a test covers each of its cells. Knows the journal's records, no program.

use std::fmt;
use std::sync::Arc;

use accompanist_core::Abort;
use accompanist_core::contract::{Batch, Change, Space};
use accompanist_core::frame::{Header, Outcome};
use accompanist_core::id::InstanceId;
use accompanist_core::machine::{Resolution, Status};
use accompanist_core::record::{Record, Task, remove};
use accompanist_core::testing::History;
use accompanist_core::{NodeId, Path, SessionId};
use tokio::sync::oneshot;

use super::{AskError, InstanceHandle};
use crate::runtime::channel::is_channel;
use crate::runtime::context::NodeContext;
use crate::runtime::messages::{InstanceRequest, NotCancelled, SupervisorMessage};
use crate::runtime::names::{PartName, log_part};
use crate::writer::{Job, Loaded, Readable, load, load_readable};

/// A step that was not compensated when its part was terminated; see [`InstanceOperator::terminate`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UncompensatedStep {
    /// The step's position in the program.
    pub path: Path,
    /// The step's name.
    pub step: String,
    /// Whether the step's result is on disk. If not, it is unknown here whether the step took effect.
    pub committed: bool,
}

/// The state of a part that is stopped.
#[expect(clippy::struct_excessive_bools, reason = "independent facts out of its records")]
pub(crate) struct StoppedInstance {
    pub(crate) readable: Readable,
    pub(crate) initiates: bool,
    aborted: bool,
    finished: bool,
    closing: bool,
    /// Why this release cannot play the part.
    pub(crate) unplayable: Option<String>,
}

impl StoppedInstance {
    pub(crate) fn header(&self) -> &Header {
        &self.readable.opened.header
    }

    /// Returns the steps that are committed or in doubt and not compensated, the last one first.
    fn left_steps(&self) -> Vec<UncompensatedStep> {
        let records = &self.readable.records;
        let is_compensated = |path: &Path| {
            let compensated = |record: &Record| matches!(record, Record::Compensated { path: at } if at == path);
            records.iter().any(compensated)
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
        let left = left.filter(|(path, ..)| !is_compensated(path));
        let left =
            left.map(|(path, name, committed)| UncompensatedStep { path: path.clone(), step: name.clone(), committed });
        let mut left: Vec<_> = left.collect();
        left.sort_by(|one, other| other.path.cmp(&one.path));
        left
    }

    fn warn_of_doubts(&self, session: SessionId) {
        let is_troubled = |path: &Path| {
            let troubled = |record: &Record| matches!(record, Record::Troubled { path: at, .. } if at == path);
            self.readable.records.iter().any(troubled)
        };
        for UncompensatedStep { path, step, .. } in
            self.left_steps().iter().filter(|left| !left.committed && !is_troubled(&left.path))
        {
            tracing::warn!(
                %session, choreography = self.header().choreography, step, %path,
                "an abort runs a commit in doubt once more under its key, to compensate it, unless it is a pivot"
            );
        }
    }

    /// Returns the paths of everything that is recorded as a step, whatever its outcome.
    fn step_paths(&self) -> impl Iterator<Item = &Path> {
        self.readable.records.iter().filter_map(|record| match record {
            Record::Committed { path, .. } | Record::Intended { path, .. } | Record::Troubled { path, .. } => {
                Some(path)
            }
            _ => None,
        })
    }
}

/// The operator's actions on one role's part of one session; see [`Operator::instance`](crate::Operator::instance).
///
/// A step that only a person can compensate:
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
/// struct Ship;
/// impl LocalTransaction for Ship {
///     // ..
/// #     const NAME: &'static str = "ship"; type Role = Seller; type Input = (); type Output = ();
/// #     fn commit(&self, _: &mut State<'_>, (): &()) -> Result<(), Abort> { Ok(()) }
///     fn compensate(&self, _: &mut State<'_>, (): &(), (): &()) -> Result<(), Retry> {
///         Err(Retry::needs_operator("the parcel is on its way"))
///     }
/// }
///
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
/// #     type Input = At<Buyer, ()>; type Output = At<Buyer, ()>;
/// async fn run(&self, ctx: &Context<Self::Roles>, order: At<Buyer, ()>) -> Result<At<Buyer, ()>, Abort> {
///     let order = ctx.comm(Buyer, Seller, &order).await?;
///     let shipped = ctx.transact(Ship, &order).await?;
///     ctx.comm(Seller, Buyer, &shipped).await?;
///     ctx.abort(Abort::new("recalled", "the book must not be sold")).await
/// }
/// # }
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let node = Node::builder(NodeId::new("shop-1")?)
/// #     .store(MemoryDisk::default().open()?).transport(LocalNetwork::new())
/// #     .role(Buyer, Arc::new(())).role(Seller, Arc::new(())).choreography(Sale)
/// #     .start().await?;
/// let session = node.start(Sale, ()).await?;
/// while node.operator().troubled_sessions().is_empty() {
///     tokio::task::yield_now().await;
/// }
/// let troubled = node.operator().troubled_sessions().remove(0);
/// assert_eq!(troubled.steps[0].1.reason, "the parcel is on its way");
///
/// // Somebody fetches the parcel. Then:
/// let seller = node.operator().instance(troubled.session, troubled.role);
/// assert_eq!(seller.resolve(Resolution::Compensated).await?, 1);
/// let Err(SessionError::Aborted(abort)) = session.settled().await else { panic!("it was recalled") };
/// assert_eq!(abort.code(), "recalled");
/// # node.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct InstanceOperator {
    id: InstanceId,
    context: Arc<NodeContext>,
}

impl fmt::Debug for InstanceOperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceOperator({})", self.id)
    }
}

impl InstanceOperator {
    pub(crate) fn new(id: InstanceId, context: Arc<NodeContext>) -> Self {
        Self { id, context }
    }

    /// Returns the identity of the part.
    pub(crate) fn id(&self) -> InstanceId {
        self.id
    }

    /// Returns a handle on the same part, to see its status and what it waits for.
    pub fn handle(&self) -> InstanceHandle {
        InstanceHandle::new(self.id, self.context.clone())
    }

    /// Returns the session's records that this role has on disk, for [`testing::replay`](crate::testing::replay) and
    /// for human readers.
    ///
    /// # Errors
    /// Returns [`AskError`].
    pub async fn history(&self) -> Result<History, AskError> {
        let id = self.id;
        match self.context.writer.read(move |store| load(store, id)).await? {
            Loaded::Open(opened, records) => Ok(History { instance: id, opened, records }),
            Loaded::Nothing | Loaded::Closed(_) => Err(AskError::NotOpen(id)),
        }
    }

    /// Applies `resolution` to the steps that are in trouble, and returns how many there are. Durable when it returns.
    ///
    /// # Errors
    /// Returns [`AskError`]; [`AskError::DoesNotFit`] if no step of this role is in such trouble. After
    /// [`AskError::NotOpen`] or [`AskError::NodeStopped`] the resolution may have been applied all the same.
    pub async fn resolve(&self, resolution: Resolution) -> Result<usize, AskError> {
        let way = match resolution {
            Resolution::Retry => "resolve(Retry)",
            Resolution::Compensated => "resolve(Compensated)",
        };
        let concerned = self.handle().ask(|reply| InstanceRequest::Resolution(resolution, reply)).await?;
        match concerned {
            0 => Err(self.moves(way).await?),
            steps => {
                let (name, node) = (self.context.directory.name(self.id), &self.context.node);
                log_part!(info, name, node, way, steps, "an operator has resolved steps in trouble");
                Ok(steps)
            }
        }
    }

    /// Lets a stopped instance (quarantined, or stopped because its program differs) try again, once the cause is
    /// fixed. Durable when it returns.
    ///
    /// # Errors
    /// Returns [`AskError`]; [`AskError::DoesNotFit`] if the instance is not stopped, or this release cannot play it.
    pub async fn resume(&self) -> Result<(), AskError> {
        let still = match self.still("resume").await {
            // The instance failed before anything of it was written, so there is nothing to inspect.
            Err(AskError::NotOpen(_)) if self.context.operator.stopped_because(self.id).is_some() => {
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

    /// Resumes a stopped instance as [`InstanceOperator::resume`] does, but to abort: what this role and the other
    /// roles have committed is compensated. The program runs only as far as its journal goes. This therefore helps if
    /// the program fails after that point, but not if it differs from the journal. An operator's abort has the code
    /// [`Abort::CANCELLED`]. Durable when it returns.
    ///
    /// A commit in doubt (its intent is on disk, its result is not) runs once more under its key, so that its output
    /// can be compensated; each is logged as a warning. A pivot in doubt does not run again, and a step in trouble
    /// waits for a [`Resolution`].
    ///
    /// # Errors
    /// Returns [`AskError`]; [`AskError::DoesNotFit`] if the instance is not stopped, is aborted already, has
    /// finished its part and leaves it to the initiating role whether the session is aborted, or is a channel to a
    /// durable actor.
    pub async fn abort(&self, reason: &str) -> Result<(), AskError> {
        const WAY: &str = "abort";
        let still = self.still(WAY).await?;
        if is_channel(still.header()) {
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
            return Err(self.does_not_fit(WAY, "is stopped and is aborted already", instead));
        }
        if still.closing {
            let instead = "all roles have ended, so `resume` it, or `terminate` it";
            return Err(self.does_not_fit(WAY, "is stopped while it closes", instead));
        }
        if still.finished && !still.initiates {
            let instead = format!("first `cancel` it at {}, then `resume` it here", initiator_of(still.header()));
            return Err(self.does_not_fit(WAY, "is stopped and has finished its part", instead));
        }
        still.warn_of_doubts(self.id.session);
        self.try_again(vec![self.aborted(reason)?]).await
    }

    /// Ends a stopped part without its program, which may be lost, may differ from the journal, or may fail again and
    /// again. This is the last resort. The session is aborted, the other roles compensate what they have committed,
    /// and what this role has committed counts as compensated. (If this role has finished, the outcome is left to the
    /// other roles; if they abort, terminate the part once more.) Returns the steps that count as compensated, the
    /// last one first: the operator has to compensate them by hand. Durable when it returns.
    ///
    /// # Errors
    /// Returns [`AskError`]; [`AskError::DoesNotFit`] if the instance is not stopped, or is a channel to a durable
    /// actor.
    pub async fn terminate(&self, reason: &str) -> Result<Vec<UncompensatedStep>, AskError> {
        const WAY: &str = "terminate";
        let still = self.still(WAY).await?;
        if is_channel(still.header()) {
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
        let (name, node) = (self.context.directory.name(self.id), &self.context.node);
        log_part!(warn, name, node, reason, ?left, "an operator ends a part of a session without its program");
        self.try_again(changes).await?;
        Ok(left)
    }

    /// Aborts the session as [`Session::cancel`](crate::Session::cancel) does: for tools, which do not know the type
    /// of its choreography. Only the initiating role's part can cancel. Durable when it returns; may be repeated.
    ///
    /// # Errors
    /// Returns [`AskError`]; [`AskError::DoesNotFit`] if another role initiates, if the session is closing or aborted
    /// for another reason, or if the instance is a channel to a durable actor. After [`AskError::NotOpen`] and
    /// [`AskError::NodeStopped`] the session may have been aborted all the same.
    pub async fn cancel(&self, reason: &str) -> Result<(), AskError> {
        const WAY: &str = "cancel";
        let abort = Abort::new(Abort::CANCELLED, reason);
        let cancelled = self.handle().ask(|reply| InstanceRequest::Cancel(abort.clone(), reply)).await?;
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

    /// Writes `changes`, ends the instance's quarantine, and lets it load again.
    pub(crate) async fn try_again(&self, mut changes: Batch) -> Result<(), AskError> {
        let quarantine = Record::Quarantined { reason: String::new(), failures: 0 };
        changes.push(remove(self.id, &quarantine));
        let (reply, answer) = oneshot::channel();
        let done = Box::new(move |written| drop(reply.send(written)));
        self.context.writer.submit(Job::Change { changes, done });
        answer.await.map_err(|_| AskError::NodeStopped)??;
        self.context.forget_stopped(self.id);
        let (name, node) = (PartName::new(self.id, None), &self.context.node);
        log_part!(info, name, node, "an operator lets a stopped part try again");
        let resumed = self.context.routes.to_supervisor(SupervisorMessage::Resume(self.id));
        resumed.then_some(()).ok_or(AskError::NodeStopped)
    }

    fn aborted(&self, reason: &str) -> Result<Change, AskError> {
        let abort = Record::Aborted { abort: Abort::new(Abort::CANCELLED, reason), own: true };
        Ok(abort.change(self.id)?)
    }

    /// Returns what is on disk of the instance, which must be stopped.
    pub(crate) async fn still(&self, way: &'static str) -> Result<StoppedInstance, AskError> {
        if self.context.operator.stopped_because(self.id).is_none() {
            return Err(self.moves(way).await?);
        }
        let id = self.id;
        // Loading first ensures that the instance's last writes are on disk and none follow; a damaged journal does
        // not matter.
        let (reply, answer) = oneshot::channel();
        let done = Box::new(move |loaded: Result<Loaded, _>| {
            let _ = reply.send(loaded.is_ok());
        });
        self.context.writer.submit(Job::Load { id, incarnation: self.context.writer.next_incarnation(), done });
        answer.await.map_err(|_| AskError::NodeStopped)?;
        let readable = self.context.writer.read(move |store| load_readable(store, id)).await?;
        let readable = readable.ok_or(AskError::NotOpen(id))?;
        let header = &readable.opened.header;
        let has = |is: fn(&Record) -> bool| readable.records.iter().any(is);
        Ok(StoppedInstance {
            initiates: header.initiator == id.role,
            aborted: has(|record| matches!(record, Record::Aborted { .. })),
            finished: has(|record| matches!(record, Record::Ended { outcome: Outcome::Finished, .. })),
            closing: has(|record| matches!(record, Record::Closing)),
            unplayable: self.context.catalog.choreography_of(header, id.role).err(),
            readable,
        })
    }

    /// Returns why `way` does not fit an instance that is not stopped.
    async fn moves(&self, way: &'static str) -> Result<AskError, AskError> {
        let status = self.handle().status().await?;
        let (stands, instead) = way_out_of(status);
        let trouble = self.context.operator.troubled_at(self.id);
        let has = |task: Task| trouble.iter().any(|(_, trouble)| trouble.task == task);
        let instead = if has(Task::Record) {
            "`resolve(Retry)`; or `cancel` the session at its initiating role, and then `resolve(Compensated)`"
        } else if !trouble.is_empty() && trouble.iter().all(|(_, trouble)| trouble.task == Task::Commit) {
            "its program waits for a step's output: `resolve(Retry)`, or `cancel` the session at its initiating role"
        } else {
            instead
        };
        Ok(self.does_not_fit(way, stands, instead))
    }

    pub(crate) fn does_not_fit(&self, way: &'static str, stands: &'static str, instead: impl Into<String>) -> AskError {
        AskError::DoesNotFit { id: self.id, way, stands, instead: instead.into() }
    }

    pub(crate) fn unplayable(&self, way: &'static str, reason: &str) -> AskError {
        let instead =
            format!("start the node with a release that can ({reason}), or, if there is none any more, `terminate` it");
        self.does_not_fit(way, "cannot be played by this release", instead)
    }

    fn damaged(&self, way: &'static str) -> AskError {
        self.does_not_fit(way, "cannot be read from the store", "`terminate` it")
    }

    fn channel(&self, way: &'static str) -> AskError {
        let instead = "its end would throw away what waits in it: where it is stopped, `resume` it when what was in \
            its way is gone, or `skip_message`";
        self.does_not_fit(way, "is a channel to a durable actor", instead)
    }
}

fn initiator_of(header: &Header) -> String {
    let node = header.node_of(header.initiator).map_or("?", NodeId::as_str);
    format!("role {} on node `{node}`", header.initiator.0)
}

/// Describes the state of an instance that is not stopped, and what to do about it.
fn way_out_of(status: Status) -> (&'static str, &'static str) {
    match status {
        Status::Running => ("runs", "nothing is to be done; to end it, `cancel` it at its initiating role"),
        Status::Finished => {
            ("has finished its part", "it waits for the others; to end it, `cancel` it at its initiating role")
        }
        Status::Compensating => ("is being compensated", "nothing is to be done until a step needs an operator"),
        Status::Compensated => ("is compensated", "it waits for the others: look for what holds those up"),
        Status::Closed => ("is over", "nothing is to be done"),
        Status::NeedsOperator => ("has a step in trouble", "`resolve` it"),
        Status::Quarantined => ("is stopped", "`resume`, `abort` or `terminate` it"),
        // For users' sake `Status` is one that may grow: who adds a state to it adds a row to docs/operators.md.
        _ => ("is in a state that has no way out yet", "look at its `status`"),
    }
}

//! Sagas within the session: scopes with an outcome of their own, on which all their roles agree.
//!
//! Every role votes when its part has ended; the first of the saga's roles decides and sends the verdict to all. An
//! abort compensates only the steps of the scope. For the operation `p`, the scope is `p.0`, the votes are `p.1` and
//! the verdict is `p.2`. Next: `compensation`.

use std::collections::BTreeMap;
use std::task::{Context, Poll};

use super::Machine;
use super::inputs::Inputs;
use super::journal::Urgency;
use super::waiting::Waiting;
use crate::base::abort::Abort;
use crate::base::id::{Path, RoleIndex};
use crate::base::message::{Payload, decode, encode};
use crate::frame::Operation;
use crate::record::Record;

/// The outcome of a saga, or of a role's part of it.
pub(crate) type Verdict = Result<(), Abort>;

const BODY: u32 = 0;
const VOTE: u32 = 1;
const VERDICT: u32 = 2;

/// The paths of a saga.
#[derive(Hash)]
pub(crate) struct SagaPaths {
    pub(crate) saga: Path,
    pub(crate) body: Path,
    pub(crate) vote: Path,
    pub(crate) verdict: Path,
}

impl SagaPaths {
    pub(crate) fn of(saga: Path) -> Self {
        let [body, vote, verdict] = [BODY, VOTE, VERDICT].map(|counter| saga.child(counter));
        Self { saga, body, vote, verdict }
    }
}

/// A saga that this role takes part in.
#[derive(Hash)]
struct Saga {
    paths: SagaPaths,
    decider: RoleIndex,
    decides: bool,
    abort: Option<Abort>,
    /// Whether nothing that the body waits for comes any more.
    spent: bool,
    /// Whether all steps of an aborted saga are compensated.
    compensated: bool,
}

/// The sagas that this role takes part in, by the paths of their bodies.
#[derive(Default, Hash)]
pub(super) struct Sagas(BTreeMap<Path, Saga>);

impl Sagas {
    /// Whether the program has reached no saga within the session.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The body of the innermost saga around `path`.
    fn around(&self, path: &Path) -> Option<Path> {
        if self.is_empty() {
            return None;
        }
        path.scopes().find(|scope| self.0.contains_key(scope))
    }

    /// The body of the innermost aborted saga around `path`. A replay runs through such a saga as long as there are
    /// steps to compensate.
    pub(super) fn aborted_around(&self, path: &Path) -> Option<Path> {
        if self.is_empty() {
            return None;
        }
        path.scopes().find(|scope| self.0.get(scope).is_some_and(|saga| saga.abort.is_some()))
    }

    /// The verdicts that other roles still owe on the sagas around `path`. If one of them is an abort, it ends the
    /// waits there.
    pub(super) fn open_verdicts(&self, path: &Path, inputs: &Inputs) -> impl Iterator<Item = (Path, RoleIndex)> {
        let around = path.scopes().filter_map(|scope| self.0.get(&scope));
        let open = around.filter(|saga| !saga.decides && saga.abort.is_none());
        let verdicts = open.map(|saga| (saga.paths.verdict.clone(), saga.decider));
        verdicts.filter(|(path, from)| inputs.message(path, *from).is_none())
    }

    /// The path of the vote of `role` that this role lacks in order to give the verdict at `path`.
    pub(super) fn missing_vote(&self, path: &Path, role: RoleIndex, inputs: &Inputs) -> Option<Path> {
        let saga = self.0.values().find(|saga| saga.decides && saga.paths.verdict == *path)?;
        let decided = inputs.observation(&saga.paths.saga).is_some();
        (!decided && inputs.message(&saga.paths.vote, role).is_none()).then(|| saga.paths.vote.clone())
    }

    /// Ends the bodies of aborted sagas. Returns whether there were any.
    fn spend(&mut self) -> bool {
        let mut spent = false;
        for saga in self.0.values_mut().filter(|saga| saga.abort.is_some() && !saga.spent) {
            (saga.spent, spent) = (true, true);
        }
        spent
    }

    /// The bodies of the aborted sagas with steps to compensate.
    fn to_compensate(&self) -> Vec<Path> {
        let open = self.0.iter().filter(|(_, saga)| saga.abort.is_some() && saga.spent && !saga.compensated);
        open.map(|(body, _)| body.clone()).collect()
    }

    /// Whether the program waits for steps of an aborted saga to be compensated.
    pub(super) fn is_compensating(&self) -> bool {
        self.0.values().any(|saga| saga.abort.is_some() && !saga.compensated)
    }

    /// Forgets the sagas in `scope`.
    pub(super) fn forget(&mut self, scope: &Path) {
        self.0.retain(|path, _| !path.is_in(scope));
    }
}

fn bytes(verdict: &Verdict) -> Payload {
    // A result of unit and two strings can always be encoded.
    encode(verdict).unwrap_or_default().into()
}

fn verdict_of(payload: &Payload) -> Option<Verdict> {
    decode(payload.as_slice()).ok()
}

impl Machine {
    /// Registers a saga that the program has reached.
    pub(crate) fn enter_saga(&mut self, saga: &Path, decider: RoleIndex, members: &[RoleIndex]) {
        let paths = SagaPaths::of(saga.clone());
        let own_decision = decider == self.identity.id.role;
        let (body, own) = (paths.body.clone(), if own_decision { paths.saga.clone() } else { paths.vote.clone() });
        let (vote, verdict) = (paths.vote.clone(), paths.verdict.clone());
        let saga = Saga { paths, decider, decides: own_decision, abort: None, spent: false, compensated: false };
        self.sagas.0.insert(body.clone(), saga);
        if let Some(observation) = self.inputs.visit(&own) {
            let verdict = verdict_of(&observation.result);
            return self.note_verdict(&body, verdict.and_then(Result::err));
        }
        if !own_decision && let Some((_, payload)) = self.inputs.message(&verdict, decider) {
            let verdict = verdict_of(payload);
            return self.note_verdict(&body, verdict.and_then(Result::err));
        }
        let refused = members.iter().find_map(|role| verdict_of(&self.inputs.message(&vote, *role)?.1)?.err());
        if let (true, Some(abort)) = (own_decision, refused) {
            self.abort_saga(&body, abort);
        }
    }

    /// Notes the verdict. After an abort the body cannot continue, and a replay need not reach steps that are already
    /// compensated.
    fn note_verdict(&mut self, body: &Path, abort: Option<Abort>) {
        let Some(abort) = abort else { return };
        let done = self.steps.of(body).all(|(_, entry)| entry.compensated || matches!(entry.result, Some(Err(_))));
        if let Some(saga) = self.sagas.0.get_mut(body) {
            saga.abort.get_or_insert(abort);
            (saga.spent, saga.compensated) = (done, done);
        }
        self.give_up_retries(body);
        self.wake();
    }

    /// Whether an operation at `path` cannot complete any more, because the session or a saga around it is aborted.
    pub(super) fn is_aborted(&self, path: &Path) -> bool {
        self.phase.is_aborted() || self.sagas.aborted_around(path).is_some()
    }

    /// The aborted scope around `path`.
    pub(super) fn aborted_scope(&self, path: &Path) -> Path {
        if self.phase.is_aborted() { Path::root() } else { self.sagas.aborted_around(path).unwrap_or_default() }
    }

    /// Aborts at `path`: the innermost saga around it, or else the session.
    pub(crate) fn abort_at(&mut self, path: &Path, abort: &Abort) {
        match self.sagas.around(path) {
            Some(body) => self.abort_saga(&body, abort.clone()),
            None => self.decide_abort(abort),
        }
    }

    /// Aborts this role's part of a saga. The recorded vote, or the verdict if this role decides, stays the same
    /// after a crash.
    pub(crate) fn abort_saga(&mut self, body: &Path, abort: Abort) {
        let Some(saga) = self.sagas.0.get_mut(body).filter(|saga| saga.abort.is_none()) else { return };
        if self.phase.is_aborted() {
            return;
        }
        let (path, name) = if saga.decides { (&saga.paths.saga, "saga") } else { (&saga.paths.vote, "vote") };
        let path = path.clone();
        saga.abort = Some(abort.clone());
        self.give_up_retries(body);
        self.observe(&path, name, bytes(&Err(abort)));
        self.wake();
    }

    /// Handles votes and verdicts of other roles that arrive while the body still runs.
    pub(super) fn note_vote_or_verdict(&mut self, path: &Path, operation: Operation, payload: &Payload) {
        let Some(body) = path.scopes().next().map(|saga| saga.child(BODY)) else { return };
        let Some(saga) = self.sagas.0.get(&body) else { return };
        let Some(Err(abort)) = verdict_of(payload) else { return };
        match operation {
            Operation::Vote if saga.decides => self.abort_saga(&body, abort),
            Operation::Verdict => self.note_verdict(&body, Some(abort)),
            _ => {}
        }
    }

    /// Waits until the body of an aborted saga cannot continue.
    pub(crate) fn poll_spent(&mut self, cx: &Context<'_>, body: &Path) -> Poll<()> {
        if self.sagas.0.get(body).is_some_and(|saga| saga.spent) {
            return Poll::Ready(());
        }
        self.waits.insert_for_any(cx.waker().clone());
        Poll::Pending
    }

    /// Called when the program waits for nothing that its own tasks can complete: ends the bodies of aborted sagas.
    pub(crate) fn spend_sagas(&mut self) -> bool {
        let spent = self.sagas.spend();
        if spent {
            self.wake();
        }
        spent
    }

    /// Returns this role's vote, once its part has ended; `None` if the verdict has already arrived.
    pub(crate) fn vote(&self, paths: &SagaPaths, decider: RoleIndex) -> Option<Payload> {
        if self.inputs.message(&paths.verdict, decider).is_some() {
            return None;
        }
        let abort = self.sagas.0.get(&paths.body).and_then(|saga| saga.abort.clone());
        Some(bytes(&abort.map_or(Ok(()), Err)))
    }

    /// Waits for the verdict at the role that decides it: given once all have voted, or one has voted against.
    pub(crate) fn poll_verdict(&mut self, cx: &Context<'_>, body: &Path, members: &[RoleIndex]) -> Poll<Verdict> {
        if self.is_stopped() {
            return Poll::Pending;
        }
        let Some(saga) = self.sagas.0.get(body) else { return Poll::Pending };
        let (path, vote) = (saga.paths.saga.clone(), saga.paths.vote.clone());
        if let Some(observation) = self.inputs.observation(&path) {
            return verdict_of(&observation.result).map_or(Poll::Pending, Poll::Ready);
        }
        if self.is_aborted(&path) {
            return Poll::Pending;
        }
        let own = self.identity.id.role;
        let lacks_vote = |role: &&RoleIndex| **role != own && self.inputs.message(&vote, **role).is_none();
        if let Some(role) = members.iter().find(lacks_vote) {
            return self.wait(cx, &vote, Waiting::for_message(Operation::Vote, *role));
        }
        self.observe(&path, "saga", bytes(&Ok(())));
        Poll::Ready(Ok(()))
    }

    /// Handles the verdict at the other roles.
    pub(crate) fn take_verdict(&mut self, body: &Path, verdict: &Verdict) {
        self.note_verdict(body, verdict.as_ref().err().cloned());
    }

    /// Whether `path` is in a saga within the session.
    pub(crate) fn is_in_saga(&self, path: &Path) -> bool {
        self.sagas.around(path).is_some()
    }

    /// Waits until all steps of an aborted saga are compensated at this role.
    pub(crate) fn poll_compensated(&mut self, cx: &Context<'_>, body: &Path) -> Poll<()> {
        if self.sagas.0.get(body).is_none_or(|saga| saga.compensated) && !self.is_stopped() {
            return Poll::Ready(());
        }
        self.waits.insert_for_any(cx.waker().clone());
        Poll::Pending
    }

    /// Compensates the steps of aborted sagas.
    pub(super) fn compensate_nested_sagas(&mut self) {
        if self.phase.is_aborted() {
            return;
        }
        for body in self.sagas.to_compensate() {
            if self.compensate(&body) {
                if let Some(saga) = self.sagas.0.get_mut(&body) {
                    saga.compensated = true;
                }
                self.wake();
            }
        }
    }

    /// Records the result of `path` under `name`. Everything sent from now on waits for that write.
    pub(crate) fn observe(&mut self, path: &Path, name: &str, result: Payload) {
        self.note_observation(path, name, result, Urgency::Result);
    }

    /// Like [`Machine::observe`], for a result on which nothing depends yet.
    pub(crate) fn observe_at_leisure(&mut self, path: &Path, name: &str, result: Payload) {
        self.note_observation(path, name, result, Urgency::Lazy);
    }

    fn note_observation(&mut self, path: &Path, name: &str, result: Payload, urgency: Urgency) {
        self.commit(&Record::Observed { path: path.clone(), name: name.into(), result }, urgency);
        self.inputs.visit(path);
    }
}

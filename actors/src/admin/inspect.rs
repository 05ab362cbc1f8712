//! What a part in memory says of itself.

use std::sync::Arc;
use std::time::Duration;

use accompanist_core::id::InstanceId;
use accompanist_core::machine::{Inspection, SessionTrouble, StepState};

use super::reply::{PartReply, ReportReply, StepReply, WaitReply};
use super::sessions::state_of;
use crate::operator::handle::{AskError, InstanceHandle};
use crate::runtime::context::NodeContext;

/// How long a part in memory may take to describe itself. One that takes longer has a program that blocks its thread.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What a part in memory says of itself.
pub(super) enum Inspected {
    As(Box<Inspection>),
    /// It has not answered in time.
    Late,
    /// It is not in memory (any more).
    Absent,
}

pub(super) async fn ask(context: &Arc<NodeContext>, id: InstanceId) -> Inspected {
    let handle = InstanceHandle::new(id, context.clone());
    match tokio::time::timeout(WAIT_MAX, handle.inspect()).await {
        Ok(Ok(inspection)) => Inspected::As(Box::new(inspection)),
        Ok(Err(AskError::NotOpen(_) | AskError::Stopped { .. })) => Inspected::Absent,
        Ok(Err(_)) | Err(_) => Inspected::Late,
    }
}

/// What is said of a part that has not answered in time.
pub(super) fn late() -> String {
    format!("it does not answer within {WAIT_MAX:?}: its program blocks a thread, or the node is overloaded")
}

/// Adds to `part` what its instance says.
pub(super) fn describe(inspection: &Inspection, part: &mut PartReply) {
    part.state = state_of(inspection.status);
    part.abort = inspection.abort.as_ref().map(ToString::to_string);
    part.waits = inspection
        .waits
        .iter()
        .map(|wait| WaitReply {
            path: wait.path.to_string(),
            what: wait.text.clone(),
            role: wait.on.as_ref().map(|on| on.name.clone()),
            node: wait.on.as_ref().and_then(|on| on.node.as_ref()).map(ToString::to_string),
            since_unix_ms: Some(wait.since_unix_ms),
            until_unix_ms: wait.until_unix_ms,
        })
        .collect();
    let ends = inspection.awaited_ends.iter().map(|role| WaitReply {
        path: String::new(),
        what: format!("the end of `{}`", role.name),
        role: Some(role.name.clone()),
        node: role.node.as_ref().map(ToString::to_string),
        since_unix_ms: None,
        until_unix_ms: None,
    });
    let unacknowledged = inspection.unacknowledged.iter().map(|frames| WaitReply {
        path: String::new(),
        what: format!("`{}` to acknowledge {} of its messages", frames.role.name, frames.frames),
        role: Some(frames.role.name.clone()),
        node: frames.role.node.as_ref().map(ToString::to_string),
        since_unix_ms: None,
        until_unix_ms: None,
    });
    part.waits.extend(ends);
    part.waits.extend(unacknowledged);
    part.steps = inspection
        .steps
        .iter()
        .map(|step| StepReply {
            path: step.path.to_string(),
            step: step.step.clone(),
            task: step.task.to_string(),
            needs_operator: step.state == StepState::NeedsOperator,
            tries: u64::from(step.tries),
            last_error: step.last_error.clone(),
            since_unix_ms: Some(step.since_unix_ms),
            next_try_unix_ms: step.next_try_unix_ms,
        })
        .collect();
    part.reported = inspection.troubles.iter().map(report).collect();
}

fn report(SessionTrouble { role, trouble, .. }: &SessionTrouble) -> ReportReply {
    ReportReply {
        role: role.name.clone(),
        node: role.node.as_ref().map(ToString::to_string).unwrap_or_default(),
        reason: trouble.to_string(),
    }
}

//! Acts on parts of sessions: one, or a page of those that a filter fits.

use std::sync::Arc;

use accompanist_core::id::InstanceId;
use accompanist_core::machine::Resolution;

use super::error::{AdminError, AdminErrorCode};
use super::reply::{ActedOn, ActionReply, PartReply};
use super::request::{ACTIONS_MAX, PartAction, PartsAction, Target};
use super::sessions::{self, FoundParts};
use crate::operator::Operator;
use crate::operator::handle::{AskError, InstanceOperator};
use crate::runtime::context::NodeContext;

/// The most sessions that a summary names.
const NAMED_MAX: usize = 8;

/// Carries out an action, or says in a dry run what it would concern.
pub(super) async fn act(context: &Arc<NodeContext>, request: &PartsAction) -> Result<ActionReply, AdminError> {
    let FoundParts { parts, next } = match &request.target {
        Target::Session { session, role } => {
            let mut parts = of_session(context, session, role.as_deref()).await?;
            if role.is_none() && parts.len() > 1 {
                parts.retain(|(_, part)| fits(&request.action, part));
            }
            if role.is_none() && parts.len() > 1 {
                let roles: Vec<_> = parts.iter().map(|(_, part)| part.role.as_str()).collect();
                let text = format!("several parts of the session are here: say which role ({})", roles.join(", "));
                return Err(AdminError::new(AdminErrorCode::DoesNotFit, text));
            }
            FoundParts { parts, next: None }
        }
        Target::Filter { filter, after, limit } => {
            let limit = limit.unwrap_or(ACTIONS_MAX).clamp(1, ACTIONS_MAX);
            let mut found = sessions::find(context, filter, after.as_deref(), limit).await?;
            found.parts.retain(|(_, part)| fits(&request.action, part));
            found
        }
    };
    let mut acted = Vec::new();
    for (found, part) in parts {
        let result =
            if request.dry_run { Ok(String::new()) } else { on_part(context, found.id, &request.action).await };
        let (done, refused) = match result {
            Ok(done) => (Some(done).filter(|done| !done.is_empty()), None),
            Err(error) => (None, Some(error.to_string())),
        };
        acted.push(ActedOn { session: part.session, role: part.role, state: part.state, done, refused });
    }
    Ok(ActionReply { parts: acted, next })
}

/// Returns the parts of one session here, of one role or of all.
async fn of_session(
    context: &Arc<NodeContext>,
    session: &str,
    role: Option<&str>,
) -> Result<Vec<(sessions::Found, PartReply)>, AdminError> {
    let mut parts = Vec::new();
    for found in sessions::found_of(context, sessions::session_id(session)?).await? {
        let part = sessions::part(context, &found, false).await?;
        if role.is_none_or(|role| part.role == role) {
            parts.push((found, part));
        }
    }
    if parts.is_empty() {
        let of = role.map_or_else(String::new, |role| format!("role `{role}` of "));
        let text = format!("{of}session {session} is not open at node `{}`", context.node);
        return Err(AdminError::new(AdminErrorCode::NotFound, text));
    }
    Ok(parts)
}

/// Whether an action is meant for parts in this state. A bulk action concerns these alone; the part itself decides in
/// the end.
fn fits(action: &PartAction, part: &PartReply) -> bool {
    use super::reply::PartState as S;
    match action {
        PartAction::Cancel { .. } => {
            part.role == part.initiator
                && part.node == part.initiator_node
                && matches!(part.state, S::Running | S::Finished | S::NeedsOperator)
        }
        PartAction::Retry | PartAction::Resolve => part.state == S::NeedsOperator,
        PartAction::Abort { .. } | PartAction::Terminate { .. } | PartAction::Resume | PartAction::SkipMessage => {
            matches!(part.state, S::Stopped | S::Quarantined | S::Unreadable)
        }
    }
}

async fn on_part(context: &Arc<NodeContext>, id: InstanceId, action: &PartAction) -> Result<String, AskError> {
    let part: InstanceOperator = Operator::new(context).instance(id.session, id.role);
    let steps = |count: usize| if count == 1 { "1 step".to_owned() } else { format!("{count} steps") };
    Ok(match action {
        PartAction::Cancel { reason } => {
            part.cancel(reason).await?;
            "cancelled: everything that is committed is compensated".to_owned()
        }
        PartAction::Abort { reason } => {
            part.abort(reason).await?;
            "aborted: it replays, then it compensates".to_owned()
        }
        PartAction::Terminate { reason } => {
            let left = part.terminate(reason).await?;
            let named: Vec<_> = left.iter().map(|left| format!("`{}` at {}", left.step, left.path)).collect();
            match named.as_slice() {
                [] => "ended".to_owned(),
                _ => format!("ended; compensate by hand: {}", named.join(", ")),
            }
        }
        PartAction::Resume => {
            part.resume().await?;
            "resumed".to_owned()
        }
        PartAction::Retry => format!("{} tried again", steps(part.resolve(Resolution::Retry).await?)),
        PartAction::Resolve => {
            format!("{} counted as compensated", steps(part.resolve(Resolution::Compensated).await?))
        }
        PartAction::SkipMessage => {
            part.skip_message().await?;
            "the message is skipped, and kept among the refused ones".to_owned()
        }
    })
}

/// Returns what came of an action, for the audit trail.
pub(super) fn summary(reply: &ActionReply) -> String {
    let refused: Vec<_> = reply.parts.iter().filter(|part| part.refused.is_some()).collect();
    let done = reply.parts.len() - refused.len();
    let named: Vec<_> =
        reply.parts.iter().take(NAMED_MAX).map(|part| format!("{} {}", part.session, part.role)).collect();
    let more = if reply.parts.len() > NAMED_MAX { ", .." } else { "" };
    let first = refused.first().and_then(|part| part.refused.as_deref());
    let refusal =
        first.map_or_else(String::new, |why| format!("; {} refused, the first because: {why}", refused.len()));
    format!("{done} done ({}{more}){refusal}", named.join(", "))
}

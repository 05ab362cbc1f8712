//! Lists the parts of open sessions: what is on disk, and what those in memory say of themselves.

use std::sync::Arc;

use accompanist_core::contract::{Space, Store};
use accompanist_core::frame::Header;
use accompanist_core::id::{InstanceId, RoleIndex};
use accompanist_core::machine::Status;
use accompanist_core::record::{Opened, Record, StepFailure, read_value};
use accompanist_core::{Path, SessionId};

use super::error::{AdminError, AdminErrorCode};
use super::inspect::{self, Inspected};
use super::reply::{PartReply, PartState, SessionsReply, StepReply, WaitReply};
use super::request::{SESSIONS_MAX, SessionFilter, SessionsRequest};
use super::text::cut;
use crate::operator::Operator;
use crate::runtime::context::NodeContext;
use crate::writer::load_readable;

/// The most parts that one request looks at, so that its answer does not take long; the reply says where to go on.
const EXAMINED_MAX: usize = 4_096;
/// The most lines of a journal in a reply.
const JOURNAL_LINES_MAX: usize = 1_000;
/// The longest line of a journal in a reply, in bytes.
const JOURNAL_LINE_BYTES_MAX: usize = 400;

/// Reads a session's id.
pub(super) fn session_id(text: &str) -> Result<SessionId, AdminError> {
    text.parse().map_err(|_| {
        let text = format!("`{text}` is not the id of a session: give it in full, such as {}", SessionId::fresh(0, 0));
        AdminError::new(AdminErrorCode::Malformed, text)
    })
}

/// Reads a cursor.
fn cursor(text: &str) -> Result<InstanceId, AdminError> {
    let parsed = text.split_once('#').and_then(|(session, role)| {
        Some(InstanceId { session: session.parse().ok()?, role: RoleIndex(role.parse().ok()?) })
    });
    parsed.ok_or_else(|| AdminError::new(AdminErrorCode::Malformed, format!("`{text}` is not the `next` of a reply")))
}

/// An open instance as the store has it.
pub(super) struct Found {
    pub(super) id: InstanceId,
    /// Absent if the opening cannot be read.
    header: Option<Arc<Header>>,
}

/// Parts that fit, and where to go on.
pub(super) struct FoundParts {
    pub(super) parts: Vec<(Found, PartReply)>,
    pub(super) next: Option<String>,
}

/// Lists a page of parts.
pub(super) async fn page(context: &Arc<NodeContext>, request: &SessionsRequest) -> Result<SessionsReply, AdminError> {
    let limit = request.limit.unwrap_or(SESSIONS_MAX).clamp(1, SESSIONS_MAX);
    let found = find(context, &request.filter, request.after.as_deref(), limit).await?;
    let mut parts = Vec::new();
    for (found, part) in found.parts {
        parts.push(awake(context, &found, part).await);
    }
    Ok(SessionsReply { parts, next: found.next })
}

/// Finds up to `limit` parts that `filter` fits, after the cursor.
pub(super) async fn find(
    context: &Arc<NodeContext>,
    filter: &SessionFilter,
    after: Option<&str>,
    limit: usize,
) -> Result<FoundParts, AdminError> {
    let operator = Operator::new(context);
    let mut after = after.map(cursor).transpose()?;
    let (mut parts, mut examined) = (Vec::new(), 0);
    loop {
        let entries = operator.open_page(after.map(|id| id.to_bytes().to_vec())).await?;
        if entries.is_empty() {
            return Ok(FoundParts { parts, next: None });
        }
        for (key, value) in entries {
            let Some(id) = InstanceId::from_bytes(&key) else { continue };
            (after, examined) = (Some(id), examined + 1);
            let opened: Option<Opened> = read_value(Space::Open, &value).ok();
            let found = Found { id, header: opened.map(|opened| opened.header) };
            if let Some(part) = examine(context, filter, &found).await? {
                parts.push((found, part));
            }
            if parts.len() == limit || examined == EXAMINED_MAX {
                return Ok(FoundParts { parts, next: Some(id.to_string()) });
            }
        }
    }
}

/// Returns the part if the filter fits it.
async fn examine(
    context: &Arc<NodeContext>,
    filter: &SessionFilter,
    found: &Found,
) -> Result<Option<PartReply>, AdminError> {
    let unix_ms = context.environment.unix_ms();
    let may_fit = match &found.header {
        None => filter.fits_unreadable(found.id),
        Some(header) => filter.fits_header(found.id, header, &role_name(context, header, found.id.role), unix_ms),
    };
    if !may_fit {
        return Ok(None);
    }
    let part = part(context, found, false).await?;
    Ok(Some(part).filter(|part| filter.fits_state(part, unix_ms)))
}

/// Returns the parts of one session here, each with its journal.
pub(super) async fn of_session(context: &Arc<NodeContext>, session: SessionId) -> Result<SessionsReply, AdminError> {
    let mut parts = Vec::new();
    for found in found_of(context, session).await? {
        let part = part(context, &found, true).await?;
        parts.push(awake(context, &found, part).await);
    }
    Ok(SessionsReply { parts, next: None })
}

/// Returns the open instances of one session.
pub(super) async fn found_of(context: &NodeContext, session: SessionId) -> Result<Vec<Found>, AdminError> {
    let scan = move |store: &dyn Store| store.scan(Space::Open, session.as_bytes(), None, usize::MAX);
    let entries = context.writer.read(scan).await?;
    let found = entries.into_iter().filter_map(|(key, value)| {
        let opened: Option<Opened> = read_value(Space::Open, &value).ok();
        Some(Found { id: InstanceId::from_bytes(&key)?, header: opened.map(|opened| opened.header) })
    });
    Ok(found.collect())
}

/// The name of a role, or its index if its choreography is not known here.
pub(super) fn role_name(context: &NodeContext, header: &Header, role: RoleIndex) -> String {
    context.catalog.roles_of(header).name_of(role).unwrap_or_else(|| format!("role {}", role.0))
}

/// Adds to a passivated part what it waits for. That is known only to its program, so the part is reactivated; it is
/// passivated again soon. Only the parts of a reply are, not all that a filter looks at.
async fn awake(context: &Arc<NodeContext>, found: &Found, mut part: PartReply) -> PartReply {
    if !part.in_memory && found.header.is_some() && !part.state.needs_help() {
        match inspect::ask(context, found.id).await {
            Inspected::As(inspection) => inspect::describe(&inspection, &mut part),
            Inspected::Late => part.reason = Some(inspect::late()),
            Inspected::Absent => {}
        }
    }
    part
}

/// Describes a part without reactivating it.
pub(super) async fn part(
    context: &Arc<NodeContext>,
    found: &Found,
    with_journal: bool,
) -> Result<PartReply, AdminError> {
    let id = found.id;
    let mut part = outline(context, found);
    let stopped = context.operator.stopped_because(id);
    let is_in_memory = context.directory.has(id);
    let inspection =
        if stopped.is_none() && is_in_memory { inspect::ask(context, id).await } else { Inspected::Absent };
    part.in_memory = is_in_memory;
    let needs_records = with_journal || matches!(inspection, Inspected::Absent);
    let records = if needs_records { records(context, id).await? } else { Vec::new() };
    match inspection {
        Inspected::As(inspection) => inspect::describe(&inspection, &mut part),
        Inspected::Late => part.reason = Some(inspect::late()),
        Inspected::Absent if found.header.is_some() => {
            part.state = state_of(Status::of(&records));
            part.waits = passivated_since(&records);
        }
        Inspected::Absent => {}
    }
    let troubled = context.operator.troubled_at(id);
    if let (PartState::NeedsOperator, None, Some((_, failure))) = (part.state, &part.reason, troubled.first()) {
        part.reason = Some(failure.to_string());
    }
    if part.steps.is_empty() {
        part.steps = troubled.iter().map(step_in_trouble).collect();
    }
    if let Some(reason) = stopped {
        part.state = match part.state {
            state @ (PartState::Unreadable | PartState::Quarantined) => state,
            _ => PartState::Stopped,
        };
        part.reason = Some(reason);
    }
    if with_journal {
        let lines = records.iter().take(JOURNAL_LINES_MAX);
        part.journal = lines.map(|record| cut(format!("{record:?}"), JOURNAL_LINE_BYTES_MAX)).collect();
    }
    Ok(part)
}

/// What is known of a part from its opening alone.
fn outline(context: &NodeContext, found: &Found) -> PartReply {
    let mut part = PartReply {
        session: found.id.session.to_string(),
        choreography: String::new(),
        version: 0,
        role: format!("role {}", found.id.role.0),
        role_index: found.id.role.0,
        node: context.node.to_string(),
        initiator: String::new(),
        initiator_node: String::new(),
        cast: Vec::new(),
        started_unix_ms: 0,
        deadline_unix_ms: None,
        state: PartState::Unreadable,
        reason: None,
        in_memory: false,
        waits: Vec::new(),
        steps: Vec::new(),
        journal: Vec::new(),
        abort: None,
        reported: Vec::new(),
    };
    if let Some(header) = &found.header {
        let name = |role| role_name(context, header, role);
        part.choreography.clone_from(&header.choreography);
        part.version = header.version;
        part.role = name(found.id.role);
        part.initiator = name(header.initiator);
        part.initiator_node = header.node_of(header.initiator).map(ToString::to_string).unwrap_or_default();
        part.cast = header.roles().map(name).zip(header.cast.iter().map(ToString::to_string)).collect();
        part.started_unix_ms = header.started_unix_ms;
        part.deadline_unix_ms = header.deadline_unix_ms;
        part.state = PartState::Running;
    }
    part
}

/// Since when a passivated part waits, as its record says: what for is known only to its program.
fn passivated_since(records: &[Record]) -> Vec<WaitReply> {
    let since = records.iter().find_map(|record| match record {
        Record::Passivated(state) => state.since.iter().min_by_key(|(_, since_unix_ms)| *since_unix_ms),
        _ => None,
    });
    let wait = since.map(|(path, since_unix_ms)| WaitReply {
        path: path.to_string(),
        what: "something, and is passivated".to_owned(),
        role: None,
        node: None,
        since_unix_ms: Some(*since_unix_ms),
        until_unix_ms: None,
    });
    wait.into_iter().collect()
}

async fn records(context: &NodeContext, id: InstanceId) -> Result<Vec<Record>, AdminError> {
    // An opening that cannot be read has no readable journal either.
    let readable = context.writer.read(move |store| Ok(load_readable(store, id).unwrap_or_default())).await?;
    Ok(readable.map(|readable| readable.records).unwrap_or_default())
}

pub(super) fn state_of(status: Status) -> PartState {
    match status {
        Status::Running => PartState::Running,
        Status::Finished => PartState::Finished,
        Status::Compensating => PartState::Compensating,
        Status::Compensated => PartState::Compensated,
        Status::Closed => PartState::Closed,
        Status::NeedsOperator => PartState::NeedsOperator,
        Status::Quarantined => PartState::Quarantined,
        // Statuses that this release does not know.
        _ => PartState::Stopped,
    }
}

fn step_in_trouble((path, failure): &(Path, StepFailure)) -> StepReply {
    StepReply {
        path: path.to_string(),
        step: failure.step.clone(),
        task: failure.task.to_string(),
        needs_operator: true,
        tries: u64::from(failure.tries),
        last_error: Some(failure.reason.clone()),
        since_unix_ms: None,
        next_try_unix_ms: None,
    }
}

//! `sessions` and `show`: open sessions, put together from the parts at all nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use accompanist::NodeId;
use accompanist::admin::{PartReply, PartState, ReadReply, ReadRequest, SessionFilter, SessionsRequest};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use super::connect::Client;
use super::text::{lasting, line, now_ms, row, short, table};

/// The states of a part, as the command line names them.
#[derive(Clone, Copy, ValueEnum)]
enum State {
    Running,
    Finished,
    Compensating,
    Compensated,
    NeedsOperator,
    Quarantined,
    Stopped,
    Unreadable,
}

impl From<State> for PartState {
    fn from(state: State) -> Self {
        match state {
            State::Running => Self::Running,
            State::Finished => Self::Finished,
            State::Compensating => Self::Compensating,
            State::Compensated => Self::Compensated,
            State::NeedsOperator => Self::NeedsOperator,
            State::Quarantined => Self::Quarantined,
            State::Stopped => Self::Stopped,
            State::Unreadable => Self::Unreadable,
        }
    }
}

/// Which sessions are meant: those of which a part fits every option.
#[derive(Args, Default)]
#[command(next_help_heading = "Which sessions")]
pub(crate) struct Filter {
    /// The choreography.
    #[arg(long)]
    choreography: Option<String>,
    /// The choreography's version.
    #[arg(long = "of-version", value_name = "VERSION")]
    version: Option<u32>,
    /// The role whose part is looked at.
    #[arg(long)]
    role: Option<String>,
    /// A node of the session's cast.
    #[arg(long)]
    cast: Option<String>,
    /// The part's state; may be repeated.
    #[arg(long, value_enum)]
    state: Vec<State>,
    /// Only what needs an operator.
    #[arg(long)]
    in_trouble: bool,
    /// Only sessions that were started at least so long ago, such as `10m`.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "AGE")]
    older_than: Option<Duration>,
    /// Only parts that have waited for the same thing for at least so long.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    waits_longer_than: Option<Duration>,
    /// Only parts with a step of this name that is retried or in trouble.
    #[arg(long)]
    step: Option<String>,
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Filter {
    pub(crate) fn to_request(&self) -> SessionFilter {
        SessionFilter {
            session: None,
            choreography: self.choreography.clone(),
            version: self.version,
            role: self.role.clone(),
            cast: self.cast.clone(),
            states: self.state.iter().map(|state| PartState::from(*state)).collect(),
            in_trouble: self.in_trouble,
            initiator: false,
            older_than_ms: self.older_than.map(ms),
            waits_longer_than_ms: self.waits_longer_than.map(ms),
            step: self.step.clone(),
        }
    }

    /// Whether no option is given.
    pub(crate) fn is_empty(&self) -> bool {
        self.to_request() == SessionFilter::default()
    }
}

/// Asks all nodes for the parts that a filter fits, up to `limit` of each; also returns what was refused.
pub(crate) fn find(client: &Client, filter: &SessionFilter, limit: usize) -> Result<(Vec<PartReply>, Vec<String>)> {
    let first = SessionsRequest { filter: filter.clone(), after: None, limit: Some(limit) };
    let (mut parts, mut warnings) = (Vec::new(), Vec::new());
    for answer in client.read(None, &ReadRequest::Sessions(first.clone()))? {
        let node = NodeId::new(&answer.node)?;
        let (mut result, mut found) = (answer.result, 0);
        loop {
            let page = match result {
                Ok(ReadReply::Sessions(page)) => page,
                Ok(_) => bail!("node `{node}` answers something else"),
                Err(error) => {
                    warnings.push(error.to_string());
                    break;
                }
            };
            found += page.parts.len();
            parts.extend(page.parts);
            if page.next.is_none() {
                break;
            }
            if found >= limit {
                warnings.push(format!("node `{node}` has more: narrow it down, or give `--limit`"));
                break;
            }
            let request = SessionsRequest { after: page.next, limit: Some(limit - found), ..first.clone() };
            let next = client.read(Some(&node), &ReadRequest::Sessions(request))?.into_iter().next();
            result = next.with_context(|| format!("node `{node}` has stopped answering"))?.result;
        }
    }
    Ok((parts, warnings))
}

/// Returns the table of sessions: one line for each, with the state of the part that most needs help.
pub(crate) fn text(parts: &[PartReply]) -> String {
    let mut sessions: BTreeMap<&String, Vec<&PartReply>> = BTreeMap::new();
    for part in parts {
        sessions.entry(&part.session).or_default().push(part);
    }
    let short = short(parts.iter().map(|part| &part.session));
    let mut rows = vec![row(["SESSION", "CHOREOGRAPHY", "AGE", "STATE", "AT", "WHY"])];
    for (session, mut parts) in sessions {
        parts.sort_by_key(|part| (urgency(part.state), part.role_index));
        let Some(worst) = parts.first() else { continue };
        rows.push(vec![
            short(session),
            line(&format!("{} v{}", worst.choreography, worst.version), 40),
            age(worst),
            worst.state.name().replace('_', " "),
            line(&format!("{}@{}", worst.role, worst.node), 40),
            line(&why(worst), 120),
        ]);
    }
    table(&rows)
}

/// The most urgent state comes first.
fn urgency(state: PartState) -> u8 {
    match state {
        PartState::Unreadable => 0,
        PartState::Stopped => 1,
        PartState::Quarantined => 2,
        PartState::NeedsOperator => 3,
        PartState::Compensating => 4,
        PartState::Running => 5,
        PartState::Finished => 6,
        _ => 7,
    }
}

fn age(part: &PartReply) -> String {
    if part.started_unix_ms == 0 { String::new() } else { lasting(now_ms().saturating_sub(part.started_unix_ms)) }
}

/// Says in a few words what a part needs or waits for.
fn why(part: &PartReply) -> String {
    if let Some(reason) = &part.reason {
        return reason.clone();
    }
    if let Some(step) = part.steps.iter().find(|step| step.last_error.is_some()) {
        let error = step.last_error.as_deref().unwrap_or_default();
        return format!("tries to {} step `{}` again ({} tries): {error}", step.task, step.step, step.tries);
    }
    if let Some(reported) = part.reported.first() {
        return format!("`{}` at `{}`: {}", reported.role, reported.node, reported.reason);
    }
    let waits: Vec<_> = part.waits.iter().map(wait).collect();
    if waits.is_empty() && !part.in_memory { "waits, and is passivated".to_owned() } else { waits.join("; ") }
}

fn wait(wait: &accompanist::admin::WaitReply) -> String {
    let node = wait.node.as_ref().map(|node| format!(" at `{node}`")).unwrap_or_default();
    let since = wait.since_unix_ms.map(|since| format!(" for {}", lasting(now_ms().saturating_sub(since))));
    format!("waits for {}{node}{}", wait.what, since.unwrap_or_default())
}

/// Finds the open session whose id begins with `beginning`; returns its id in full.
pub(crate) fn resolve(client: &Client, beginning: &str) -> Result<String> {
    if beginning.parse::<accompanist::SessionId>().is_ok() {
        return Ok(beginning.to_owned());
    }
    let filter = SessionFilter { session: Some(beginning.to_owned()), ..SessionFilter::default() };
    let (parts, _) = find(client, &filter, 20)?;
    let ids: BTreeSet<_> = parts.into_iter().map(|part| part.session).collect();
    match ids.len() {
        0 => bail!("no open session begins with `{beginning}`: closed ones are no longer listed"),
        1 => Ok(ids.into_iter().next().unwrap_or_default()),
        count => bail!(
            "{count} open sessions begin with `{beginning}`: {}",
            ids.into_iter().take(5).collect::<Vec<_>>().join(", ")
        ),
    }
}

/// Returns the parts of one session at all nodes, in the order of roles, and what was refused.
pub(crate) fn parts_of(client: &Client, session: &str) -> Result<(Vec<PartReply>, Vec<String>)> {
    let request = ReadRequest::Session { session: session.to_owned() };
    let (found, warnings) = client.read_all(&request, |reply| match reply {
        ReadReply::Session(found) => Some(found.parts),
        _ => None,
    })?;
    let mut parts: Vec<_> = found.into_iter().flat_map(|(_, parts)| parts).collect();
    parts.sort_by_key(|part| part.role_index);
    Ok((parts, warnings))
}

/// Returns a session with all its parts; roles whose node does not answer, or whose part is over, are named as such.
pub(crate) fn show(parts: &[PartReply], with_journal: bool) -> String {
    let Some(first) = parts.first() else { return String::new() };
    let started = format!("started {} ago by {}@{}", age(first), first.initiator, first.initiator_node);
    let mut lines =
        vec![format!("session {}", first.session), format!("{} v{}, {started}", first.choreography, first.version)];
    if let Some(deadline) = first.deadline_unix_ms {
        let left = deadline.saturating_sub(now_ms());
        lines.push(if left == 0 { "its deadline has passed".to_owned() } else { format!("{} left", lasting(left)) });
    }
    let played = parts.iter().map(|part| (part.role.clone(), part.node.clone()));
    let mut shown = BTreeSet::new();
    for (role, node) in first.cast.iter().cloned().chain(played) {
        if !shown.insert(role.clone()) {
            continue;
        }
        lines.push(match parts.iter().find(|part| part.role == role) {
            Some(part) => part_text(part, with_journal),
            None => format!("\n{role}@{node}\n  not open there, or its node does not answer"),
        });
    }
    lines.join("\n") + "\n"
}

fn part_text(part: &PartReply, with_journal: bool) -> String {
    let passivated = if part.in_memory { "" } else { ", passivated" };
    let mut lines = vec![format!("\n{}@{}", part.role, part.node)];
    lines.push(format!("  {}{passivated}", part.state.name().replace('_', " ")));
    lines.extend(part.abort.iter().map(|abort| format!("  aborted: {}", line(abort, 400))));
    lines.extend(part.reason.iter().map(|reason| format!("  {}", line(reason, 400))));
    for waiting in &part.waits {
        let path = Some(&waiting.path).filter(|path| !path.is_empty());
        let at = path.map(|path| format!(" (operation {path})")).unwrap_or_default();
        lines.push(format!("  {}{at}", line(&wait(waiting), 200)));
    }
    for step in &part.steps {
        let error = step.last_error.as_ref().map(|error| format!(": {}", line(error, 200))).unwrap_or_default();
        let next = step.next_try_unix_ms.map(|next| format!(", next in {}", lasting(next.saturating_sub(now_ms()))));
        let (task, name, path) = (&step.task, &step.step, &step.path);
        let tries = if step.tries == 1 { "1 try".to_owned() } else { format!("{} tries", step.tries) };
        lines.push(format!("  step `{name}` at {path}: {task}, {tries}{}{error}", next.unwrap_or_default()));
    }
    for reported in &part.reported {
        lines.push(format!("  {}@{} reports: {}", reported.role, reported.node, line(&reported.reason, 200)));
    }
    if with_journal {
        lines.extend(part.journal.iter().map(|record| format!("    {}", line(record, 400))));
    } else if !part.journal.is_empty() {
        let records = if part.journal.len() == 1 { "record" } else { "records" };
        lines.push(format!("  {} {records} on disk (`--journal` lists them)", part.journal.len()));
    }
    lines.join("\n")
}

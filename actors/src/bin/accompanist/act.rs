//! What changes something: actions on sessions, one or all that a filter fits, and on nodes.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use accompanist::NodeId;
use accompanist::admin::{
    ActedOn, NodeAction, PartAction, PartReply, PartsAction, ReadRequest, SessionFilter, Target, WriteReply,
    WriteRequest,
};
use anyhow::{Result, bail};
use clap::Args;

use super::connect::Client;
use super::sessions::{self, Filter};
use super::text::{line, row, table};

/// One session, or all that a filter fits.
#[derive(Args)]
pub(crate) struct Which {
    /// The session, by its id or the beginning of it.
    session: Option<String>,
    /// Act on every session that the options below fit, at all nodes.
    #[arg(long, conflicts_with = "session")]
    all: bool,
    #[command(flatten)]
    filter: Filter,
    /// Change nothing; list what would be concerned.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before acting on several.
    #[arg(long, short)]
    yes: bool,
    /// The most parts of sessions per second.
    #[arg(long, default_value_t = 100)]
    per_second: u32,
}

impl Which {
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

/// What came of an action.
#[derive(Default)]
pub(crate) struct Acted {
    pub(crate) parts: Vec<(String, ActedOn)>,
    /// Nodes that have refused.
    pub(crate) warnings: Vec<String>,
}

impl Acted {
    pub(crate) fn failed(&self) -> bool {
        self.parts.iter().any(|(_, part)| part.refused.is_some()) || !self.warnings.is_empty()
    }

    pub(crate) fn text(&self, dry_run: bool) -> String {
        let mut rows = vec![row(["SESSION", "ROLE", "NODE", "STATE BEFORE", "RESULT"])];
        for (node, part) in &self.parts {
            let result = match (&part.done, &part.refused) {
                (_, Some(refused)) => format!("refused: {refused}"),
                (Some(done), None) => done.clone(),
                (None, None) => "would be acted on".to_owned(),
            };
            let state = part.state.name().replace('_', " ");
            rows.push(vec![part.session.clone(), part.role.clone(), node.clone(), state, line(&result, 300)]);
        }
        let refused = self.parts.iter().filter(|(_, part)| part.refused.is_some()).count();
        let count = self.parts.len() - refused;
        let done = if dry_run { "would be acted on; nothing was changed" } else { "done" };
        format!("{}{count} {done}, {refused} refused\n", table(&rows))
    }
}

/// Carries out an action on the sessions that are meant.
pub(crate) fn on_sessions(client: &Client, which: &Which, action: &PartAction) -> Result<Acted> {
    match (&which.session, which.all) {
        (Some(session), _) => on_one(client, which, session, action),
        (None, true) if which.filter.is_empty() => bail!(
            "`--all` acts on what options such as `--in-trouble` or `--choreography` fit: give at least one (`--older-than \
             0s` fits everything)"
        ),
        (None, true) => on_all(client, which, action),
        (None, false) => bail!("name a session, or give `--all` with options such as `--in-trouble`"),
    }
}

fn on_one(client: &Client, which: &Which, session: &str, action: &PartAction) -> Result<Acted> {
    let session = sessions::resolve(client, session)?;
    let (parts, warnings) = sessions::parts_of(client, &session)?;
    let filter = which.filter.to_request();
    let mut meant: Vec<&PartReply> =
        parts.iter().filter(|part| filter.role.as_ref().is_none_or(|role| part.role == *role)).collect();
    if filter.role.is_none() {
        match action {
            PartAction::Cancel { .. } => meant.retain(|part| part.role == part.initiator),
            _ => meant.retain(|part| part.state.needs_help()),
        }
    }
    let mut acted = Acted { parts: Vec::new(), warnings };
    if meant.is_empty() {
        let states: Vec<_> =
            parts.iter().map(|part| format!("{}@{} is {}", part.role, part.node, part.state.name())).collect();
        bail!(
            "no part of session {session} at a node that answers fits ({}): see `accompanist show`",
            states.join(", ")
        );
    }
    for part in meant {
        let target = Target::Session { session: session.clone(), role: Some(part.role.clone()) };
        acted.ask(client, &part.node, PartsAction { action: action.clone(), target, dry_run: which.dry_run });
    }
    Ok(acted)
}

fn on_all(client: &Client, which: &Which, action: &PartAction) -> Result<Acted> {
    let filter = which.filter.to_request();
    let planned = page_through(client, &filter, action, true, u32::MAX)?;
    if which.dry_run || planned.parts.is_empty() {
        return Ok(planned);
    }
    if !which.yes && !confirmed(planned.parts.len())? {
        bail!("nothing was changed");
    }
    page_through(client, &filter, action, false, which.per_second.max(1))
}

/// Goes through the parts at all nodes, page by page.
fn page_through(
    client: &Client,
    filter: &SessionFilter,
    action: &PartAction,
    dry_run: bool,
    per_second: u32,
) -> Result<Acted> {
    let mut acted = Acted::default();
    for answer in client.read(None, &ReadRequest::Node)? {
        if let Err(error) = answer.result {
            acted.warnings.push(error.to_string());
            continue;
        }
        let mut after = None;
        loop {
            let limit = usize::try_from(per_second).ok().filter(|limit| *limit < 100);
            let target = Target::Filter { filter: Box::new(filter.clone()), after, limit };
            let before = acted.parts.len();
            after = acted.ask(client, &answer.node, PartsAction { action: action.clone(), target, dry_run });
            let count = u32::try_from(acted.parts.len() - before).unwrap_or(u32::MAX);
            if after.is_none() {
                break;
            }
            if !dry_run {
                progress(acted.parts.len());
                std::thread::sleep(Duration::from_secs_f64(f64::from(count) / f64::from(per_second)));
            }
        }
    }
    Ok(acted)
}

impl Acted {
    /// Has a node act, notes what came of it, and returns where to go on.
    fn ask(&mut self, client: &Client, node: &str, action: PartsAction) -> Option<String> {
        let asked = NodeId::new(node).map_err(anyhow::Error::from);
        let asked = asked.and_then(|node| client.write(&node, &WriteRequest::Parts(action)));
        match asked {
            Ok(WriteReply::Parts(reply)) => {
                self.parts.extend(reply.parts.into_iter().map(|part| (node.to_owned(), part)));
                reply.next
            }
            Ok(_) => None,
            Err(error) => {
                self.warnings.push(error.to_string());
                None
            }
        }
    }
}

fn progress(count: usize) {
    if std::io::stderr().is_terminal() {
        let _ = write!(std::io::stderr(), "\r{count} ..");
    }
}

fn confirmed(count: usize) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!(
            "this concerns {count} parts of sessions: repeat it with `--dry-run` to see them, and with `--yes` to act"
        );
    }
    write!(std::io::stderr(), "This concerns {count} parts of sessions. Go on? [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Says in a few words what a request of the audit trail asked for; as it is if this release does not know it.
pub(crate) fn in_words(request: &str) -> String {
    let (action, target) = match serde_json::from_str(request) {
        Ok(WriteRequest::Parts(PartsAction { action, target: Target::Session { session, role }, .. })) => {
            (named(&action), format!("{session} {}", role.unwrap_or_default()))
        }
        Ok(WriteRequest::Parts(PartsAction { action, target: Target::Filter { filter, .. }, .. })) => {
            (named(&action), format!("all of {}", named(&filter)))
        }
        Ok(WriteRequest::Node(action)) => (named(&action), String::new()),
        _ => return request.to_owned(),
    };
    format!("{action} {target}").trim_end().to_owned()
}

/// The parts of a request that are given, without JSON's signs.
fn named(value: &impl serde::Serialize) -> String {
    fn words(value: &serde_json::Value) -> Option<String> {
        match value {
            serde_json::Value::Null | serde_json::Value::Bool(false) => None,
            serde_json::Value::Array(all) if all.is_empty() => None,
            serde_json::Value::Object(fields) => {
                let given = fields.iter().filter_map(|(name, value)| Some(format!("{name} {}", words(value)?)));
                Some(given.collect::<Vec<_>>().join(", "))
            }
            serde_json::Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
    serde_json::to_value(value).ok().as_ref().and_then(words).unwrap_or_default()
}

/// Has one node do something.
pub(crate) fn on_node(client: &Client, node: &NodeId, action: NodeAction) -> Result<()> {
    client.write(node, &WriteRequest::Node(action)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_the_audit_trail_are_said_in_words() {
        let target = || Target::Session { session: "01a2".into(), role: Some("bank".into()) };
        let parts = |action, target| WriteRequest::Parts(PartsAction { action, target, dry_run: false });
        let filter = SessionFilter { in_trouble: true, choreography: Some("order".into()), ..SessionFilter::default() };
        let all = Target::Filter { filter: Box::new(filter), after: None, limit: Some(9) };
        for (request, words) in [
            (parts(PartAction::Retry, target()), "retry 01a2 bank"),
            (parts(PartAction::Cancel { reason: "gone".into() }, target()), "cancel reason gone 01a2 bank"),
            (parts(PartAction::Resolve, all), "resolve all of choreography order, in_trouble true"),
            (WriteRequest::Node(NodeAction::Drain), "drain"),
            (WriteRequest::Node(NodeAction::Forget { node: "bank-1".into() }), "forget node bank-1"),
        ] {
            assert_eq!(in_words(&serde_json::to_string(&request).unwrap_or_default()), words);
        }
        assert_eq!(in_words("{\"cut off"), "{\"cut off");
    }
}

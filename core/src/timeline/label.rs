//! The rows of a drawn timeline: for each event what is written about it, and what kind of thing it is.
//!
//! All texts are in one line and without control characters, whatever users named things. Next: `text` and `picture`,
//! which draw the rows.

use super::event::{Arrival, Event, EventKind, Lane, ShownValue};
use super::{Timeline, unnamed};
use crate::base::id::{Path, RoleIndex};
use crate::drawing::plain;
use crate::frame::{Operation, Outcome};
use crate::machine::Status;

/// The maximum number of counters of a path in a row.
const COUNTERS_MAX: usize = 8;

/// What a row is about. Drawings tell these apart by a sign or a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Message,
    /// A message of which nothing says whether it was received.
    Unknown,
    /// The start or an end.
    Edge,
    /// Something of one role alone: an effect, a signal, a turn.
    Own,
    Step,
    Refusal,
    Abort,
    Compensation,
    Trouble,
    Waiting,
    Missing,
}

/// What a row draws.
pub(super) enum Shape {
    /// Something at one lane.
    Note(usize),
    /// A message from one lane to another one.
    Arrow(usize, usize),
    /// Rows that are left out.
    Gap,
}

/// A row of a drawn timeline.
pub(super) struct Row {
    pub(super) shape: Shape,
    pub(super) tone: Tone,
    /// The path of the operation; empty if there is none.
    pub(super) path: String,
    /// What happened.
    pub(super) what: String,
    /// What follows that, and the roles of an arrow.
    pub(super) more: String,
}

/// Returns the rows of a timeline. Of more than `rows_max`, those in the middle are left out.
pub(super) fn rows(timeline: &Timeline, rows_max: usize) -> Vec<Row> {
    let next = timeline.events.iter().skip(1).map(Some).chain([None]);
    let shown = timeline.events.iter().zip(next).filter(|(event, next)| !is_told_by(event, *next));
    let mut rows: Vec<Row> = shown.filter_map(|(event, _)| row(event, timeline)).collect();
    let surplus = rows.len().saturating_sub(rows_max);
    if surplus > 0 {
        let first = rows_max / 4;
        let what = format!("{surplus} rows are left out");
        let gap = Row { shape: Shape::Gap, tone: Tone::Missing, path: String::new(), what, more: String::new() };
        rows.splice(first..first + surplus, [gap]);
    }
    rows
}

/// Whether the next event tells all that this one does: a step whose result follows at once, a message that is
/// received.
fn is_told_by(event: &Event, next: Option<&Event>) -> bool {
    let is_same = next.is_some_and(|next| (next.role, &next.path) == (event.role, &event.path));
    match &event.kind {
        EventKind::Sent { arrival: Arrival::Received, .. } => true,
        EventKind::Intended { .. } => {
            is_same && next.is_some_and(|next| matches!(next.kind, EventKind::Committed { .. }))
        }
        _ => false,
    }
}

fn row(event: &Event, timeline: &Timeline) -> Option<Row> {
    let (lane, _) = timeline.lane_of(event.role)?;
    let position = |role: RoleIndex| timeline.lane_of(role).map(|(position, _)| position);
    let shape = match &event.kind {
        EventKind::Sent { to, .. } => position(*to).filter(|to| *to != lane).map(|to| Shape::Arrow(lane, to)),
        EventKind::Received { from, .. } => {
            position(*from).filter(|from| *from != lane).map(|from| Shape::Arrow(from, lane))
        }
        _ => None,
    };
    let (tone, what, more) = written(event);
    Some(Row {
        shape: shape.unwrap_or(Shape::Note(lane)),
        tone,
        path: event.path.as_ref().map(short).unwrap_or_default(),
        what: plain(&what),
        more: plain(&more),
    })
}

/// A path as it is written in a row. Of a deep one, the innermost counters.
fn short(path: &Path) -> String {
    let counters = path.counters();
    let deep = counters.len().saturating_sub(COUNTERS_MAX);
    let inner = counters.iter().skip(deep).map(ToString::to_string);
    let begin = if deep > 0 { ".." } else { "" };
    format!("{begin}{}", inner.collect::<Vec<_>>().join("."))
}

/// What is written about an event.
fn written(event: &Event) -> (Tone, String, String) {
    let no_more = |tone: Tone, what: String| (tone, what, String::new());
    let with = |value: &Option<ShownValue>| value.as_ref().map(|value| format!(" with {value}")).unwrap_or_default();
    match &event.kind {
        EventKind::Sent { operation, arrival, .. } => {
            let what = operation.map_or_else(|| "message".to_owned(), |operation| operation.to_string());
            match arrival {
                Arrival::Unknown => (Tone::Unknown, what, ", sent: it is not known whether it arrived".into()),
                _ => (Tone::Message, what, ", received: the receiver's records are not here".into()),
            }
        }
        EventKind::Received { operation, value, .. } => {
            let is_value = !matches!(operation, Operation::Vote | Operation::Verdict);
            (Tone::Message, operation.to_string(), if is_value { format!(": {value}") } else { String::new() })
        }
        EventKind::Started { choreography, version, attributes, input, started_unix_ms } => {
            let attributes: Vec<String> = attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let attributes =
                if attributes.is_empty() { String::new() } else { format!(" [{}]", attributes.join(", ")) };
            let (input, at) = (with(input), utc(*started_unix_ms));
            no_more(Tone::Edge, format!("starts {choreography} version {version}{input}{attributes} at {at}"))
        }
        EventKind::Signalled { name, key, value, .. } => {
            let value = value.as_ref().map(|value| format!(": {value}")).unwrap_or_default();
            no_more(Tone::Own, format!("signal {name} arrives, key {key}{value}"))
        }
        EventKind::Observed { name, value } => no_more(Tone::Own, format!("observes {name}: {value}")),
        EventKind::Checkpoint { turn, bytes } => {
            no_more(Tone::Own, format!("turn {turn} begins, those before it are final ({bytes} bytes of state)"))
        }
        EventKind::Waits { what } => no_more(Tone::Waiting, format!("waits for {what}")),
        EventKind::Missing { reason } => no_more(Tone::Missing, format!("{reason}; what it did is not known")),
        EventKind::Stopped { reason } => no_more(Tone::Trouble, format!("is stopped: {reason}")),
        EventKind::Quarantined { reason, failures } => {
            no_more(Tone::Trouble, format!("is quarantined after {failures} failures: {reason}"))
        }
        kind => {
            let (tone, what) = of_saga(kind, event);
            no_more(tone, what)
        }
    }
}

/// What is written about steps, aborts and ends.
fn of_saga(kind: &EventKind, event: &Event) -> (Tone, String) {
    match kind {
        EventKind::Voted { abort } => (Tone::Refusal, format!("votes to abort the saga: {abort}")),
        EventKind::Decided { abort } => {
            let saga = event.path.clone().unwrap_or_default();
            match abort {
                None => (Tone::Step, format!("decides that saga {saga} is committed")),
                Some(abort) => (Tone::Refusal, format!("decides that saga {saga} is aborted: {abort}")),
            }
        }
        EventKind::Intended { step } => (Tone::Step, format!("intends {step}")),
        EventKind::Committed { step, result: Ok(output), .. } => (Tone::Step, format!("commits {step}: {output}")),
        EventKind::Committed { step, result: Err(refusal), .. } => {
            (Tone::Refusal, format!("{step} refuses: {refusal}"))
        }
        EventKind::Compensated { step } => {
            (Tone::Compensation, format!("compensates {}", step.as_deref().unwrap_or("a step")))
        }
        EventKind::Troubled { failure } => {
            let doubt = if failure.in_doubt { " (in doubt)" } else { "" };
            (Tone::Trouble, format!("needs an operator{doubt}: {failure}"))
        }
        EventKind::Aborted { abort, own: true } => (Tone::Abort, format!("aborts the session: {abort}")),
        EventKind::Aborted { abort, own: false } => (Tone::Abort, format!("learns of the abort: {abort}")),
        EventKind::Terminated => (Tone::Trouble, "is ended by an operator without its program".into()),
        EventKind::Ended { outcome: Outcome::Finished, output } => {
            let output = output.as_ref().map(|output| format!(" with {output}")).unwrap_or_default();
            (Tone::Edge, format!("finishes{output}"))
        }
        EventKind::Ended { outcome: Outcome::Compensated(_), .. } => (Tone::Edge, "has compensated".into()),
        EventKind::Closing => (Tone::Edge, "knows that all have ended alike".into()),
        _ => (Tone::Edge, "closes".into()),
    }
}

/// The name of a lane's role, and its node, for people.
pub(super) fn lane_name(lane: &Lane) -> String {
    let name = if lane.name.is_empty() { unnamed(lane.role) } else { lane.name.clone() };
    plain(&lane.node.as_ref().map_or_else(|| name.clone(), |node| format!("{name} at {node}")))
}

/// How a lane's part stands.
pub(super) fn standing(lane: &Lane) -> String {
    let status = match lane.status {
        Some(Status::Running) => "running",
        Some(Status::Finished) => "finished",
        Some(Status::Compensating) => "compensating",
        Some(Status::Compensated) => "compensated",
        Some(Status::Closed) => "closed",
        Some(Status::NeedsOperator) => "needs an operator",
        Some(Status::Quarantined) => "quarantined",
        None => return plain(lane.missing.as_deref().unwrap_or("not known")),
    };
    status.to_owned()
}

/// A time in milliseconds since the Unix epoch as `2026-12-01T00:30:00Z`. The years of four digits are enough.
fn utc(unix_ms: u64) -> String {
    let (days, seconds) = (unix_ms / 86_400_000, unix_ms / 1_000 % 86_400);
    // Howard Hinnant's `civil_from_days`: years begin in March, so that the leap day is the last.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_827_696_789), "2000-02-29T12:34:56Z");
        assert_eq!(utc(1_796_083_199_999), "2026-11-30T23:59:59Z");
        assert!(utc(u64::MAX).ends_with('Z'));
    }
}

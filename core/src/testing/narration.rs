//! What happens in a run of the [`harness`](super::harness), as text for people.
//!
//! This module changes nothing. Next: `timeline`, which selects the lines to show.

use crate::base::role_names::{RoleNames, role_name};
use crate::frame::{Body, Frame};
use crate::machine::Effects;

use super::timeline::Line;

/// Describes a turn by its effects. A turn that does no more than nudge is routine.
pub(super) fn turn(effects: &Effects, names: RoleNames) -> Line {
    let Effects { writes, acks, frames, closed, lacking, .. } = effects;
    let counted = |what: &str, count: usize| (count > 0).then(|| format!("{what} {count}"));
    let said = frames.iter().map(|outgoing| &outgoing.frame);
    let said = said.map(|frame| format!("sends {} to {}", described(frame), role_name(names, frame.to)));
    let end = if closed.is_some() { Some("is over".into()) } else { counted("sends again", lacking.len()) };
    let counts = counted("writes", writes.len()).into_iter().chain(counted("acknowledges", acks.len()));
    let text = ["takes a turn".into()].into_iter().chain(counts).chain(said).chain(end);
    let text = text.collect::<Vec<_>>().join(", ");
    let nudges = frames.iter().all(|outgoing| !outgoing.key.is_acknowledged());
    if nudges && acks.is_empty() && writes.is_empty() { Line::routine(text) } else { Line::new(text) }
}

pub(super) fn described(frame: &Frame) -> String {
    match &frame.body {
        Body::Deliver { path, operation, .. } => format!("a {operation} at {path}"),
        Body::Abort(abort) => format!("an abort ({abort})"),
        Body::Done(outcome) => format!("done ({outcome:?})"),
        Body::Close(_) => "close".into(),
        Body::Nudge(_) => "a nudge".into(),
        Body::Closed(_) => "that it has closed".into(),
        Body::Gone(path) => format!("that there is nothing at {path}"),
        Body::Turns { .. } => "its turns".into(),
        Body::Compensating(_) => "what it undoes next".into(),
        Body::Trouble(Some(trouble)) => format!("its trouble ({trouble})"),
        Body::Trouble(None) => "that it is in no trouble any more".into(),
        Body::TroubleAsked => "the question whether it is in trouble".into(),
    }
}

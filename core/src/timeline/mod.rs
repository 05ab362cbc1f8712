//! The records of all roles of a session in one causal order: [`Timeline`].
//!
//! Sender and receiver know a message by the same id before it is sent, so the journals alone say what came before what
//! at all sites, without a clock and without a collector. `export` is a session as one value; `draft` and `part` make
//! events of it; `scopes`, `recorded` and `program` say which comes after which, and `order` puts them into one order;
//! `label`, `text` and `picture` show them.
//!
//! This room runs nothing and asks nobody. Decision 0059 has the reasons.

mod draft;
mod event;
mod export;
mod label;
mod order;
mod part;
mod picture;
mod program;
mod recorded;
mod scopes;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::base::id::{RoleIndex, SessionId};

pub use self::event::{Arrival, Event, EventKind, Lane, ShownValue, Values};
pub use self::export::{ExportError, Knowledge, KnownPart, SessionExport, SessionPart};
pub use self::text::{Colors, TextStyle};
// What events and parts are made of.
pub use crate::frame::{Operation, Outcome};
pub use crate::record::Closed;

use self::draft::Draft;
use self::order::Order;
use self::scopes::Scopes;

/// The events of a session in one causal order, drawn as text, in the language of Mermaid, or as an image.
///
/// An event comes after another one only where records say so ([`Event::after`], [`Timeline::precedes`]): a message is
/// sent before it is received, a step is intended before it is committed, and so on. Of one role, an operation comes
/// after those that its program calls before it in the same scope; where a program calls several before it awaits the
/// first, that is the order of the calls, unless what is recorded contradicts it. Operations in an inner scope come
/// before what follows that scope if it is a saga or a loop; any other may be a fork.
///
/// [`Timeline::events`] is one order that obeys all this. Events that may have happened at the same time are in the
/// order of the program there. No clock is used: times are labels.
///
/// ```
/// use accompanist_core::timeline::{KnownPart, SessionExport, SessionPart, TextStyle, Timeline, Values};
/// # use std::sync::Arc;
/// # use accompanist_core::{NodeId, Path, SessionId, frame::{Header, Operation}, id::RoleIndex, machine::Status};
/// # use accompanist_core::message::encode;
/// # use accompanist_core::record::{Opened, Record};
/// # let [shop, bank] = [RoleIndex(0), RoleIndex(1)];
/// # let cast = vec![NodeId::new("shop-1")?, NodeId::new("bank-1")?];
/// # let header = Arc::new(Header {
/// #     choreography: "sale".into(), version: 1, initiator: shop, cast: cast.clone(),
/// #     started_unix_ms: 0, deadline_unix_ms: None, patches: Vec::new(), traceparent: None,
/// # });
/// # let path = Path::root().child(0);
/// # let order = Record::Received { path, from: shop, operation: Operation::Comm, payload: encode(&75_u32)?.into() };
/// # let part = KnownPart::new(Opened { header, input: None }, vec![order], Status::Running);
/// let mut export = SessionExport::new(SessionId::fresh(0, 0));
/// // The bank's node has answered, the shop's has not.
/// export.parts.push(SessionPart::known(bank, "bank", cast[1].clone(), part));
/// export.parts.push(SessionPart::away(shop, "shop", cast[0].clone(), "no answer for 5 s"));
///
/// let timeline = Timeline::of(&export, Values::Shown);
/// let drawn = timeline.text(TextStyle::default());
/// assert!(drawn.contains("comm from shop to bank: 75"));
/// assert!(drawn.contains("shop: the node is away: no answer for 5 s"));
/// assert!(timeline.mermaid().contains("r0->>r1: 0 comm: 75"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Timeline {
    /// The session.
    pub session: SessionId,
    /// The name and the version of the choreography, if any part is known.
    pub choreography: Option<(String, u32)>,
    /// The roles, in the order of their indices.
    pub lanes: Vec<Lane>,
    /// The events, first to last.
    pub events: Vec<Event>,
    /// The number of facts in the records that contradict others. It is 0 unless the parts are not those of one
    /// session, or a store has gone back.
    pub contradictions: usize,
}

impl Timeline {
    /// Orders the events of a session. The same parts make the same timeline, in whatever order they are given.
    ///
    /// Anything is accepted, also records that no node can have written: they make a picture that is wrong and no
    /// panic.
    pub fn of(export: &SessionExport, values: Values) -> Self {
        let completed = completed(export);
        let parts: Vec<&SessionPart> = completed.values().collect();
        let records = parts.iter().flat_map(|part| draft::records(part).map(|record| (part.role, record)));
        let scopes = Scopes::of(records);
        let drafts = draft::drafts(export, &parts, &scopes, values);
        let mut edges = Vec::new();
        recorded::edges(&drafts, parts.iter().all(|part| part.as_known().is_some()), &mut edges);
        for role in drafts.iter().map(|draft| draft.role).collect::<BTreeSet<_>>() {
            program::edges(&drafts, role, &scopes, &mut edges);
        }
        let order = order::order(drafts.len(), edges);
        let header = draft::header(&parts);
        let unlike = parts.iter().filter_map(|part| part.as_known());
        let unlike = unlike.filter(|part| header.is_some_and(|header| *part.opened.header != *header)).count();
        Self {
            session: export.session,
            choreography: header.map(|header| (header.choreography.clone(), header.version)),
            lanes: lanes(&parts, &drafts),
            contradictions: order.contradictions + unlike,
            events: events(drafts, &order),
        }
    }

    /// Whether the event at index `earlier` came before the one at index `later`, at whatever sites, as far as records
    /// tell. If neither comes before the other, they may have happened at the same time.
    pub fn precedes(&self, earlier: usize, later: usize) -> bool {
        let after = |event: usize| self.events.get(event).map(|event| event.after.as_slice()).unwrap_or_default();
        let (mut open, mut seen) = (vec![later], BTreeSet::new());
        while let Some(event) = open.pop() {
            let unseen = after(event).iter().filter(|before| **before >= earlier && seen.insert(**before));
            open.extend(unseen);
        }
        seen.contains(&earlier)
    }

    /// The timeline in the language of [Mermaid](https://mermaid.js.org), for a fenced block of a document.
    pub fn mermaid(&self) -> String {
        picture::mermaid(self)
    }

    /// The timeline as an SVG image, with colours for light and for dark surroundings.
    pub fn svg(&self) -> String {
        picture::svg(self)
    }

    /// The timeline for a terminal: a lane for each role, and a line or more for each event.
    pub fn text(&self, style: TextStyle) -> String {
        text::text(self, style)
    }

    /// The lane of a role, by its position among the lanes.
    fn lane_of(&self, role: RoleIndex) -> Option<(usize, &Lane)> {
        self.lanes.iter().enumerate().find(|(_, lane)| lane.role == role)
    }
}

/// One part for each role of the cast. A role that the export has no part of is as good as away.
fn completed(export: &SessionExport) -> BTreeMap<RoleIndex, SessionPart> {
    let mut parts: BTreeMap<RoleIndex, SessionPart> = BTreeMap::new();
    for part in &export.parts {
        parts.entry(part.role).or_insert_with(|| part.clone());
    }
    let known: Vec<&SessionPart> = parts.values().collect();
    let cast = draft::header(&known).map(|header| header.cast.clone()).unwrap_or_default();
    for (index, node) in cast.into_iter().enumerate() {
        let Ok(role) = u8::try_from(index).map(RoleIndex) else { break };
        parts.entry(role).or_insert_with(|| SessionPart::away(role, "", node, "the export has nothing of it"));
    }
    parts
}

fn lanes(parts: &[&SessionPart], drafts: &[Draft]) -> Vec<Lane> {
    let lane = |part: &&SessionPart| Lane {
        role: part.role,
        name: if part.name.is_empty() { unnamed(part.role) } else { part.name.clone() },
        node: Some(part.node.clone()),
        status: part.as_known().map(|known| known.status),
        missing: draft::missing(part),
    };
    let mut lanes: BTreeMap<RoleIndex, Lane> = parts.iter().map(|part| (part.role, lane(part))).collect();
    // Roles that only records of others name. The session has no such roles, but the records say so.
    let named = drafts.iter().flat_map(|draft| match &draft.kind {
        EventKind::Sent { to, .. } => [draft.role, *to],
        _ => [draft.role; 2],
    });
    for role in named {
        let missing = || Some("the session has no such role".into());
        let lane = || Lane { role, name: unnamed(role), node: None, status: None, missing: missing() };
        lanes.entry(role).or_insert_with(lane);
    }
    lanes.into_values().collect()
}

fn unnamed(role: RoleIndex) -> String {
    format!("role {}", role.0)
}

/// The events in their order, each with those directly before it. What nothing else comes before comes after the start.
fn events(drafts: Vec<Draft>, order: &Order) -> Vec<Event> {
    let mut at: BTreeMap<usize, usize> = BTreeMap::new();
    at.extend(order.nodes.iter().enumerate().map(|(position, node)| (*node, position)));
    let mut after: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for edge in &order.edges {
        if let (Some(from), Some(to)) = (at.get(&edge.from), at.get(&edge.to)) {
            after.entry(*to).or_default().insert(*from);
        }
    }
    let start = order.nodes.first().and_then(|node| drafts.get(*node));
    let is_started = start.is_some_and(|draft| matches!(draft.kind, EventKind::Started { .. }));
    let mut events: BTreeMap<usize, Event> = BTreeMap::new();
    for (node, Draft { role, path, kind, .. }) in drafts.into_iter().enumerate() {
        let Some(position) = at.get(&node) else { continue };
        let first = (is_started && *position > 0).then_some(0);
        let after: Vec<usize> = match after.remove(position) {
            Some(after) => after.into_iter().collect(),
            None => first.into_iter().collect(),
        };
        events.insert(*position, Event { role, path, kind, after });
    }
    events.into_values().collect()
}

//! A timeline as a sequence diagram, in the language of Mermaid and as an SVG image.

use super::Timeline;
use super::label::{Row, Shape, Tone, lane_name, rows};
use crate::drawing::item::{ArrowKind, Item, NoteKind};
use crate::drawing::{mermaid, svg};

/// The maximum number of rows of a picture. What has more is unreadable, and Mermaid refuses long texts.
const ROWS_MAX: usize = 400;
/// The maximum number of characters of a text in a picture, since the longest makes the columns wide.
const CHARACTERS_MAX: usize = 72;

pub(super) fn mermaid(timeline: &Timeline) -> String {
    let names = names(timeline);
    mermaid::text(&names.iter().map(String::as_str).collect::<Vec<_>>(), &items(timeline))
}

pub(super) fn svg(timeline: &Timeline) -> String {
    let names = names(timeline);
    let title = match &timeline.choreography {
        Some((choreography, version)) => format!("{choreography} version {version}, session {}", timeline.session),
        None => format!("session {}", timeline.session),
    };
    svg::image(&title, &names.iter().map(String::as_str).collect::<Vec<_>>(), &items(timeline))
}

fn names(timeline: &Timeline) -> Vec<String> {
    let name = |lane| cut(&lane_name(lane));
    let away = |missing: bool| if missing { " (missing)" } else { "" };
    timeline.lanes.iter().map(|lane| name(lane) + away(lane.missing.is_some())).collect()
}

fn items(timeline: &Timeline) -> Vec<Item> {
    let last = timeline.lanes.len().saturating_sub(1);
    let item = |row: Row| {
        let path = if row.path.is_empty() { String::new() } else { format!("{} ", row.path) };
        let text = cut(&format!("{path}{}{}", row.what, row.more));
        match row.shape {
            Shape::Arrow(from, to) => Item::Arrow { from, to, text, kind: arrow(row.tone) },
            Shape::Note(lane) => Item::note(lane, note(row.tone), text),
            Shape::Gap => Item::Note { from: 0, to: last, text, kind: NoteKind::Missing },
        }
    };
    let rows = rows(timeline, ROWS_MAX).into_iter();
    let wrong = (timeline.contradictions > 0).then(|| Item::Note {
        from: 0,
        to: last,
        text: format!("the records contradict each other in {} places", timeline.contradictions),
        kind: NoteKind::Trouble,
    });
    rows.map(item).chain(wrong).collect()
}

fn arrow(tone: Tone) -> ArrowKind {
    if tone == Tone::Unknown { ArrowKind::Unknown } else { ArrowKind::Message }
}

fn note(tone: Tone) -> NoteKind {
    match tone {
        Tone::Step => NoteKind::Step,
        Tone::Refusal => NoteKind::Refusal,
        Tone::Abort => NoteKind::Abort,
        Tone::Compensation => NoteKind::Compensation,
        Tone::Trouble => NoteKind::Trouble,
        Tone::Missing | Tone::Unknown => NoteKind::Missing,
        Tone::Own | Tone::Waiting | Tone::Message => NoteKind::Own,
        Tone::Edge => NoteKind::Edge,
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}..", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

//! A picture as an SVG image.
//!
//! `layout` says where columns and frames are; this module draws from top to bottom. Lengths are in pixels. Texts are
//! as wide as the font of the reader makes them; `layout` reckons with a wide one.

mod layout;

use std::fmt::Write;

use self::layout::{Layout, PAD, text_width};
use super::item::{ArrowKind, Block, Frame, Item, NoteKind};
use super::plain;

const STYLE: &str = include_str!("style.css");

const HEAD_HEIGHT: i64 = 28;
const NOTE_HEIGHT: i64 = 24;
const TITLE_HEIGHT: i64 = 22;
/// The space between two things, one below the other.
const GAP: i64 = 10;
/// How far the middle of a text is above its baseline.
const BASELINE: i64 = 5;
/// The height of an arrow with its text.
const ARROW_HEIGHT: i64 = 28;

pub(crate) fn image(title: &str, names: &[&str], items: &[Item]) -> String {
    let layout = Layout::of(names, items);
    let top = PAD + HEAD_HEIGHT;
    let mut canvas = Canvas { layout, frames: String::new(), marks: String::new() };
    let bottom = canvas.items(items, top + GAP) + GAP;
    let (width, height) = (canvas.layout.width, bottom + PAD);
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">
<title>{}</title>
<style>{STYLE}</style>
<defs>
<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto"><path class="head" d="M0 0L10 5L0 10z"/></marker>
<marker id="cross" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="10" markerHeight="10" orient="auto"><path class="cross" d="M1 1L9 9M1 9L9 1"/></marker>
</defs>
<rect class="page" width="{width}" height="{height}"/>
"#,
        escaped(title)
    );
    for (x, name) in canvas.layout.columns.iter().zip(names) {
        let _ = writeln!(svg, r#"<line class="life" x1="{x}" y1="{top}" x2="{x}" y2="{bottom}"/>"#);
        boxed(&mut svg, "role", (*x, PAD), text_width(name) + 2 * PAD, HEAD_HEIGHT, name);
    }
    svg + &canvas.frames + &canvas.marks + "</svg>\n"
}

/// Draws a box around the middle `x`, with a text.
fn boxed(svg: &mut String, class: &str, (x, y): (i64, i64), width: i64, height: i64, text: &str) {
    let (left, middle) = (x - width / 2, y + height / 2 + BASELINE);
    let _ = writeln!(svg, r#"<rect class="{class}" x="{left}" y="{y}" width="{width}" height="{height}" rx="4"/>"#);
    let _ = writeln!(svg, r#"<text class="{class}" x="{x}" y="{middle}">{}</text>"#, escaped(text));
}

struct Canvas {
    layout: Layout,
    /// What is behind everything else.
    frames: String,
    marks: String,
}

impl Canvas {
    /// Draws `items` from `y` on. Returns where they end.
    fn items(&mut self, items: &[Item], mut y: i64) -> i64 {
        for item in items {
            y = match item {
                Item::Arrow { from, to, text, kind } => self.arrow((*from, *to), text, *kind, y),
                Item::Note { from, to, text, kind } => {
                    let (left, right) = self.layout.note(*from, *to, text);
                    let class = class_of(*kind);
                    boxed(&mut self.marks, class, (i64::midpoint(left, right), y), right - left, NOTE_HEIGHT, text);
                    y + NOTE_HEIGHT + GAP
                }
                Item::Block(block) => self.block(block, y),
            };
        }
        y
    }

    fn arrow(&mut self, (from, to): (usize, usize), text: &str, kind: ArrowKind, y: i64) -> i64 {
        let (x1, x2) = (self.layout.column(from), self.layout.column(to));
        let (class, marker) = match kind {
            ArrowKind::Message => ("arrow", "head"),
            ArrowKind::Abort => ("abort", "cross"),
            ArrowKind::Unknown => ("unknown", "head"),
        };
        let (middle, line) = (i64::midpoint(x1, x2), y + ARROW_HEIGHT - GAP);
        let _ = writeln!(
            self.marks,
            r#"<text class="{class}" x="{middle}" y="{}">{}</text>"#,
            line - 11 + BASELINE,
            escaped(text)
        );
        let _ = writeln!(
            self.marks,
            r#"<line class="{class}" x1="{x1}" y1="{line}" x2="{x2}" y2="{line}" marker-end="url(#{marker})"/>"#
        );
        y + ARROW_HEIGHT
    }

    fn block(&mut self, block: &Block, top: i64) -> i64 {
        let (left, right) = self.layout.frame(block);
        // An outer frame is behind an inner one, and is known only once the inner one is drawn.
        let behind = std::mem::take(&mut self.frames);
        let mut y = top + self.title(&title_of(&block.frame), left, top) + GAP;
        for (number, part) in block.parts.iter().enumerate() {
            if number > 0 {
                let _ = writeln!(self.marks, r#"<line class="part" x1="{left}" y1="{y}" x2="{right}" y2="{y}"/>"#);
                y += GAP;
            }
            if !part.label.is_empty() {
                let label = escaped(&part.label);
                let _ = writeln!(
                    self.marks,
                    r#"<text class="label" x="{}" y="{}">{label}</text>"#,
                    left + PAD,
                    y + 6 + BASELINE
                );
                y += TITLE_HEIGHT;
            }
            y = self.items(&part.items, y);
        }
        let (width, height) = (right - left, y - top);
        let inner = std::mem::replace(&mut self.frames, behind);
        let _ = writeln!(
            self.frames,
            r#"<rect class="frame" x="{left}" y="{top}" width="{width}" height="{height}" rx="4"/>"#
        );
        self.frames.push_str(&inner);
        y + GAP
    }

    /// Draws the title of a frame. Returns its height.
    fn title(&mut self, title: &str, left: i64, top: i64) -> i64 {
        let (x, y, title) = (left + PAD, top + TITLE_HEIGHT / 2 + 2 + BASELINE, escaped(title));
        let _ = writeln!(self.marks, r#"<text class="title" x="{x}" y="{y}">{title}</text>"#);
        TITLE_HEIGHT
    }
}

fn title_of(frame: &Frame) -> String {
    match frame {
        Frame::Scope(title) => title.clone(),
        Frame::Loop(title) => format!("loop: {title}"),
        Frame::Par => "side by side".into(),
        Frame::Alt => "either".into(),
    }
}

fn class_of(kind: NoteKind) -> &'static str {
    match kind {
        NoteKind::Step => "step",
        NoteKind::Refusal | NoteKind::Abort => "refusal",
        NoteKind::Compensation => "compensation",
        NoteKind::Own => "own",
        NoteKind::Edge => "edge",
        NoteKind::Trouble => "trouble",
        NoteKind::Missing => "missing",
    }
}

fn escaped(text: &str) -> String {
    plain(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

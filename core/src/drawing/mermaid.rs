//! A picture as text in the language of Mermaid.

use std::fmt::Write;

use super::item::{ArrowKind, Block, Frame, Item};
use super::plain;

/// The background of a scope: visible on a light page and on a dark one.
const SCOPE: &str = "rect rgba(128, 128, 128, 0.12)";

pub(crate) fn text(names: &[&str], items: &[Item]) -> String {
    let mut text = "sequenceDiagram\n".to_owned();
    for (index, name) in names.iter().enumerate() {
        push(&mut text, 1, &format!("participant r{index} as {}", escaped(name)));
    }
    write(&mut text, 1, items, names);
    text
}

fn push(text: &mut String, depth: usize, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}{line}", "    ".repeat(depth));
}

fn write(text: &mut String, depth: usize, items: &[Item], names: &[&str]) {
    for item in items {
        match item {
            Item::Arrow { from, to, text: what, kind } => {
                let arrow = match kind {
                    ArrowKind::Message => "->>",
                    ArrowKind::Abort => "--x",
                    ArrowKind::Unknown => "--)",
                };
                push(text, depth, &format!("r{from}{arrow}r{to}: {}", escaped(what)));
            }
            Item::Note { from, to, text: what, .. } => push(text, depth, &note(*from, *to, what)),
            Item::Block(block) => write_block(text, depth, block, names),
        }
    }
}

fn note(from: usize, to: usize, what: &str) -> String {
    let over = if from == to { format!("r{from}") } else { format!("r{from},r{to}") };
    format!("Note over {over}: {}", escaped(what))
}

fn write_block(text: &mut String, depth: usize, block: &Block, names: &[&str]) {
    let (first, next) = match (&block.frame, &block.parts[..]) {
        (Frame::Scope(_), _) => (SCOPE.to_owned(), ""),
        (Frame::Loop(title), _) => (format!("loop {}", escaped(title)), ""),
        (Frame::Par, _) => ("par".into(), "and"),
        (Frame::Alt, [only]) => (format!("opt {}", escaped(&only.label)), ""),
        (Frame::Alt, parts) => {
            (format!("alt {}", parts.first().map(|part| escaped(&part.label)).unwrap_or_default()), "else")
        }
    };
    push(text, depth, &first);
    for (number, part) in block.parts.iter().enumerate() {
        if number > 0 {
            push(text, depth, format!("{next} {}", escaped(&part.label)).trim_end());
        }
        if let (Frame::Scope(title), Some(from), Some(to)) =
            (&block.frame, block.roles.iter().min(), block.roles.iter().max())
        {
            push(text, depth + 1, &note(*from, *to, title));
        }
        write(text, depth + 1, &part.items, names);
    }
    push(text, depth, "end");
}

/// Writes the characters that Mermaid, or the page around it, would interpret as entities. `%%{` would begin a
/// directive, and backquotes could end the fenced block that the text stands in.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in plain(text).chars() {
        match c {
            '#' => escaped.push_str("#35;"),
            ';' => escaped.push_str("#59;"),
            '<' => escaped.push_str("#lt;"),
            '>' => escaped.push_str("#gt;"),
            '%' => escaped.push_str("#37;"),
            '&' => escaped.push_str("#amp;"),
            '`' => escaped.push_str("#96;"),
            c => escaped.push(c),
        }
    }
    escaped
}

//! What is printed for people: tables, times, short ids.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use accompanist::timeline::{Colors, TextStyle};

/// How timelines are printed: with colours and as wide as the terminal, if it is one.
pub(crate) fn style() -> TextStyle {
    let style = TextStyle::default();
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let style = columns.map_or(style, |columns| style.width(columns));
    let is_plain = !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some();
    if is_plain { style } else { style.colors(Colors::Always) }
}

/// This machine's time, in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The columns of a table, left-aligned and two blanks apart; the last one is not padded.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A row of a table.
pub(crate) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

/// A duration in at most two units, such as `3m 12s`.
pub(crate) fn lasting(ms: u64) -> String {
    let shown = match ms {
        0..1_000 => Duration::from_millis(ms),
        1_000..3_600_000 => Duration::from_secs(ms / 1_000),
        3_600_000..86_400_000 => Duration::from_secs(ms / 60_000 * 60),
        _ => Duration::from_secs(ms / 3_600_000 * 3_600),
    };
    humantime::format_duration(shown).to_string()
}

/// The shortest beginnings of at least eight characters by which the ids differ.
pub(crate) fn short<'a>(ids: impl Iterator<Item = &'a String>) -> impl Fn(&str) -> String {
    const LEAST: usize = 8;
    let ids: BTreeSet<&String> = ids.collect();
    let common =
        |(one, other): (&&String, &&String)| one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let longest = ids.iter().zip(ids.iter().skip(1)).map(common).max().unwrap_or_default();
    let length = LEAST.max(longest + 1);
    move |id| id.get(..length).unwrap_or(id).trim_end_matches('-').to_owned()
}

/// A text on one line, cut at `max` characters.
pub(crate) fn line(text: &str, max: usize) -> String {
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(max) {
        words.truncate(end);
        words.push('…');
    }
    // What comes from other nodes must not steer the terminal.
    words.replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ids_differ_and_have_at_least_eight_characters() {
        let ids = ["01a2b3c4-d5e6-7000", "01a2b3c4-d5e6-7001", "11111111-2222-3333"].map(str::to_owned);
        let short = short(ids.iter());
        assert_eq!(short(&ids[0]), "01a2b3c4-d5e6-7000");
        assert_eq!(super::short(ids[1..].iter())(&ids[1]), "01a2b3c4");
    }

    #[test]
    fn text_of_other_nodes_is_one_line_without_control_characters() {
        assert_eq!(line("a\n\u{1b}[2Jb", 80), "a ?[2Jb");
        assert_eq!(line("abcdef", 3), "abc…");
    }

    #[test]
    fn durations_have_two_units_at_most() {
        for (ms, text) in [(0, "0s"), (999, "999ms"), (61_500, "1m 1s"), (3_661_000, "1h 1m"), (90_061_000, "1day 1h")]
        {
            assert_eq!(lasting(ms), text);
        }
    }
}

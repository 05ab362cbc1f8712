//! A timeline for a terminal: a lane for each role, and beside the lanes what happened.

use std::fmt::Write;

use super::Timeline;
use super::event::Lane;
use super::label::{Row, Shape, Tone, lane_name, rows, standing};
use crate::drawing::plain;

/// The maximum number of rows, of which the middle ones are left out.
const ROWS_MAX: usize = 10_000;
/// The maximum number of lines of a row.
const LINES_MAX: usize = 4;
/// The least number of columns.
const WIDTH_MIN: usize = 40;
/// The greatest width of the column of paths. Longer paths move what is beside them.
const PATH_WIDTH_MAX: usize = 12;

/// Whether a text has colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Colors {
    /// It has none, as for a file. Signs tell steps, compensations and troubles apart.
    #[default]
    Never,
    /// It has ANSI escape sequences, for a terminal.
    Always,
}

/// How a text is laid out.
///
/// ```
/// use accompanist_core::timeline::{Colors, TextStyle};
///
/// let style = TextStyle::default().width(120).colors(Colors::Always);
/// assert_ne!(style, TextStyle::default()); // 80 columns, without colours.
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextStyle {
    width: usize,
    colors: Colors,
}

impl Default for TextStyle {
    fn default() -> Self {
        Self { width: 80, colors: Colors::Never }
    }
}

impl TextStyle {
    /// Sets the number of columns of the terminal. With fewer than 40, lines are longer than the terminal is wide.
    #[must_use]
    pub fn width(self, width: usize) -> Self {
        Self { width, ..self }
    }

    /// Sets whether the text has colours.
    #[must_use]
    pub fn colors(self, colors: Colors) -> Self {
        Self { colors, ..self }
    }
}

pub(super) fn text(timeline: &Timeline, style: TextStyle) -> String {
    let rows = rows(timeline, ROWS_MAX);
    let path_width = rows.iter().map(|row| row.path.chars().count()).max().unwrap_or_default().min(PATH_WIDTH_MAX);
    let drawing = Drawing { lanes: &timeline.lanes, pitch: pitch(timeline.lanes.len()), path_width, style };
    let mut text = drawing.head(timeline);
    for row in &rows {
        drawing.row(&mut text, row);
    }
    if timeline.contradictions > 0 {
        let places = timeline.contradictions;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "\nThe records contradict each other in {places} places: they are not those of one session, or a store has \
             gone back."
        );
    }
    text
}

/// The distance between two lanes. With too many roles, there is no room for lanes beside the text.
fn pitch(lanes: usize) -> usize {
    match lanes {
        0..=6 => 4,
        7..=16 => 2,
        _ => 0,
    }
}

struct Drawing<'a> {
    lanes: &'a [Lane],
    pitch: usize,
    path_width: usize,
    style: TextStyle,
}

impl Drawing<'_> {
    /// The session, its roles, and the numbers above the lanes.
    fn head(&self, timeline: &Timeline) -> String {
        let mut head = format!("session {}", timeline.session);
        if let Some((choreography, version)) = &timeline.choreography {
            let _ = write!(head, ": {} version {version}", plain(choreography));
        }
        head.push_str("\n\n");
        for lane in self.lanes {
            let line = format!("{:>3}  {}: {}", lane.role.0, lane_name(lane), standing(lane));
            let tone = if lane.missing.is_some() { Tone::Missing } else { Tone::Message };
            for (number, line) in wrapped(&line, self.width()).into_iter().enumerate() {
                let indent = if number > 0 { "     " } else { "" };
                self.line(&mut head, &format!("{indent}{line}"), tone);
            }
        }
        head.push('\n');
        if self.pitch > 0 {
            let mut numbers = String::new();
            for lane in self.lanes {
                let _ = write!(numbers, "{:<1$}", lane.role.0, self.pitch);
            }
            self.line(&mut head, &numbers, Tone::Message);
        }
        head
    }

    fn width(&self) -> usize {
        self.style.width.max(WIDTH_MIN).saturating_sub(5)
    }

    fn row(&self, text: &mut String, row: &Row) {
        let name = |lane: usize| self.lanes.get(lane).map(|lane| plain(&lane.name)).unwrap_or_default();
        let what = match row.shape {
            Shape::Note(lane) => format!("{}: {}{}", name(lane), row.what, row.more),
            Shape::Arrow(from, to) => format!("{} from {} to {}{}", row.what, name(from), name(to), row.more),
            Shape::Gap => format!(".. {}", row.what),
        };
        let beside = self.lanes.len() * self.pitch + self.path_width + usize::from(self.path_width > 0);
        let width = self.style.width.max(WIDTH_MIN).saturating_sub(beside).max(WIDTH_MIN / 2);
        for (number, line) in wrapped(&what, width).into_iter().enumerate() {
            let (lanes, path) = match number {
                0 => (self.lanes_with(row), row.path.as_str()),
                _ => (self.idle_lanes(), ""),
            };
            let lanes: String = lanes.into_iter().collect();
            let space = if self.path_width > 0 { " " } else { "" };
            let path_width = self.path_width;
            self.line(text, &format!("{lanes}{path:<path_width$}{space}{line}"), row.tone);
        }
    }

    /// Writes a line in the colour of its tone.
    fn line(&self, text: &mut String, line: &str, tone: Tone) {
        let line = line.trim_end();
        let _ = match color(tone).filter(|_| self.style.colors == Colors::Always) {
            Some(color) => writeln!(text, "\u{1b}[{color}m{line}\u{1b}[0m"),
            None => writeln!(text, "{line}"),
        };
    }

    /// The lanes beside which nothing happens. Those of which nothing is known are dotted.
    fn idle_lanes(&self) -> Vec<char> {
        let mut cells = vec![' '; self.lanes.len() * self.pitch];
        for (number, lane) in self.lanes.iter().enumerate() {
            put(&mut cells, number * self.pitch, if lane.missing.is_some() { '\u{250a}' } else { '\u{2502}' });
        }
        cells
    }

    fn lanes_with(&self, row: &Row) -> Vec<char> {
        let mut cells = self.idle_lanes();
        match row.shape {
            Shape::Note(lane) => put(&mut cells, lane * self.pitch, sign(row.tone)),
            Shape::Arrow(from, to) => self.arrow(&mut cells, (from, to), row.tone == Tone::Unknown),
            Shape::Gap => {}
        }
        cells
    }

    /// An arrow ends beside the lane of its receiver.
    fn arrow(&self, cells: &mut [char], (from, to): (usize, usize), is_unknown: bool) {
        let (start, end) = (from * self.pitch, to * self.pitch);
        for at in start.min(end) + 1..start.max(end) {
            let crosses = self.pitch > 0 && at.is_multiple_of(self.pitch);
            let line = if is_unknown { '\u{2504}' } else { '\u{2500}' };
            put(cells, at, if crosses { '\u{253c}' } else { line });
        }
        let (begin, beside, head) =
            if from < to { ('\u{251c}', end.saturating_sub(1), '\u{25b6}') } else { ('\u{2524}', end + 1, '\u{25c0}') };
        put(cells, start, begin);
        put(cells, beside, if is_unknown { '?' } else { head });
    }
}

fn put(cells: &mut [char], at: usize, sign: char) {
    if let Some(cell) = cells.get_mut(at) {
        *cell = sign;
    }
}

fn sign(tone: Tone) -> char {
    match tone {
        Tone::Step => '\u{25cf}',
        Tone::Compensation => '\u{21ba}',
        Tone::Refusal | Tone::Abort => '\u{2717}',
        Tone::Trouble => '!',
        Tone::Edge => '\u{25c6}',
        Tone::Own | Tone::Message => '\u{25cb}',
        Tone::Waiting => '\u{2026}',
        Tone::Missing | Tone::Unknown => '?',
    }
}

/// The number of the ANSI colour of a tone.
fn color(tone: Tone) -> Option<&'static str> {
    match tone {
        Tone::Step => Some("32"),
        Tone::Compensation => Some("33"),
        Tone::Refusal | Tone::Abort => Some("31"),
        Tone::Trouble => Some("1;31"),
        Tone::Own => Some("36"),
        Tone::Waiting | Tone::Missing | Tone::Unknown => Some("2"),
        Tone::Message | Tone::Edge => None,
    }
}

/// Breaks a text into lines of at most `width` characters, between words where that is possible.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    for word in text.split_inclusive(' ') {
        let needed = word.trim_end().chars().count();
        if used > 0 && used + needed > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        for c in word.chars() {
            if used >= width && c != ' ' {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(c);
            used += 1;
        }
    }
    lines.push(line);
    if lines.len() > LINES_MAX {
        lines.truncate(LINES_MAX);
        if let Some(last) = lines.last_mut() {
            *last = last.chars().take(width.saturating_sub(2)).chain("..".chars()).collect();
        }
    }
    lines
}

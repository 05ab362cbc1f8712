//! The events of a run, for people: as many as help, however long the run was.

/// The number of lines shown from the beginning of a run.
const FIRST_LINES: usize = 60;
/// The number of lines shown from its end.
const LAST_LINES: usize = 100;
/// The number of lines about crashes and other faults shown in between.
const TELLING_LINES: usize = 20;
/// Fewer consecutive routine lines than this are shown individually.
const ROUTINE_MIN: usize = 4;

/// A line, and its importance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    text: String,
    worth: Worth,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// Time passes, or a nudge is sent or received. Many such lines say no more than one.
    Routine,
    News,
    /// A fault, which causes what follows it.
    Telling,
}

impl Line {
    pub(super) fn new(text: String) -> Self {
        Self { text, worth: Worth::News }
    }
    pub(super) fn routine(text: String) -> Self {
        Self { text, worth: Worth::Routine }
    }
    pub(super) fn telling(text: String) -> Self {
        Self { text, worth: Worth::Telling }
    }
}

/// All lines of a run.
#[derive(Debug, Default)]
pub(super) struct Timeline(Vec<Line>);

impl Timeline {
    /// Adds the line for event `number`, at `who`.
    pub(super) fn push(&mut self, number: usize, who: &str, line: Line) {
        let Line { text, worth } = line;
        self.0.push(Line { text: format!("{number:>4}  {who:<12} {text}"), worth });
    }

    /// Returns the lines to show. A long stretch of routine becomes one line; of a list that is still too long, the
    /// beginning, the end, and the faults in between are shown.
    pub(super) fn lines(&self) -> Vec<String> {
        let lines = self.without_routine();
        let left_out = lines.len().saturating_sub(FIRST_LINES + LAST_LINES);
        if left_out == 0 {
            return texts(&lines);
        }
        let (first, rest) = lines.split_at(FIRST_LINES);
        let (middle, last) = rest.split_at(left_out);
        let telling = middle.iter().filter(|line| line.worth == Worth::Telling).take(TELLING_LINES);
        let telling: Vec<Line> = telling.cloned().collect();
        let but = if telling.is_empty() { "" } else { " (but for these)" };
        let gap = format!("  ..  {left_out} lines are left out{but}");
        [texts(first), vec![gap], texts(&telling), texts(last)].concat()
    }

    fn without_routine(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for run in self.0.chunk_by(|one, other| one.worth == Worth::Routine && other.worth == Worth::Routine) {
            if run.len() < ROUTINE_MIN {
                lines.extend(run.iter().cloned());
            } else {
                let text = format!("  ..  {} events in which time passes, and roles nudge each other", run.len());
                lines.push(Line::routine(text));
            }
        }
        lines
    }
}

fn texts(lines: &[Line]) -> Vec<String> {
    lines.iter().map(|line| line.text.clone()).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn shown(lines: impl Iterator<Item = Line>) -> Vec<String> {
        let mut timeline = Timeline::default();
        lines.enumerate().for_each(|(number, line)| timeline.push(number, "who", line));
        timeline.lines()
    }

    #[test]
    fn routine_lines_are_merged_and_a_long_timeline_is_cut_in_the_middle_except_for_faults() {
        let routine = |_| Line::routine("a nudge".into());
        let news = |number| Line::new(format!("news {number}"));
        assert_eq!(shown((0..3).map(routine)).len(), 3);
        let lines = shown((0..100_000).map(routine).chain((0..2).map(news)));
        assert_eq!(lines.len(), 3);
        assert!(lines[0].contains("100000 events") && lines[2].ends_with("news 1"), "{lines:?}");

        let crash = |number| if number % 1_000 == 500 { Line::telling("CRASHES".into()) } else { news(number) };
        let lines = shown((0..5_000).map(crash));
        assert_eq!(lines.len(), FIRST_LINES + 1 + 5 + LAST_LINES);
        assert!(lines[FIRST_LINES].contains("4840 lines are left out"), "{}", lines[FIRST_LINES]);
        assert_eq!(lines.iter().filter(|line| line.contains("CRASHES")).count(), 5);
        assert!(lines.last().unwrap().contains("news 4999"));
        let lines = shown((0..100_000).map(|_| Line::telling("CRASHES".into())));
        assert!(lines.len() <= FIRST_LINES + 1 + TELLING_LINES + LAST_LINES);
    }
}

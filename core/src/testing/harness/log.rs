//! The events of a run, for the next runs and for people.

use super::Event;
use crate::testing::timeline::{Line, Timeline};

/// All events so far.
#[derive(Default)]
pub(super) struct EventLog {
    events: Vec<Event>,
    timeline: Timeline,
}

impl EventLog {
    /// Adds an event, which is about to happen. Returns its number.
    pub(super) fn begin(&mut self, event: Event) -> usize {
        self.events.push(event);
        self.events.len() - 1
    }

    /// Adds the line that describes the event of this number, at the role `who`.
    pub(super) fn describe(&mut self, number: usize, who: &str, line: Line) {
        self.timeline.push(number, who, line);
    }

    pub(super) fn events(&self) -> &[Event] {
        &self.events
    }

    /// Returns the lines to show to people.
    pub(super) fn lines(&self) -> Vec<String> {
        self.timeline.lines()
    }

    pub(super) fn into_events(self) -> Vec<Event> {
        self.events
    }
}

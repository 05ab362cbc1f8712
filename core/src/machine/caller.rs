//! What an instance exchanges with the world outside of the choreography: the signals it was sent, the output it gives,
//! and the view that callers can query. Output and view are given once what they depend on is durable.
//!
//! This module knows no caller. Next: `signals`.

use std::hash::{Hash, Hasher};

use super::Machine;
use super::digest::Since;
use super::signals::Signals;
use crate::base::abort::Abort;
use crate::base::message::Payload;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Caller {
    pub(super) signals: Signals,
    /// The output of a part that has not been aborted.
    output: Option<Payload>,
    output_after: Option<(u64, Result<Payload, Abort>)>,
    view: Option<Payload>,
    view_after: Option<(u64, Payload)>,
}

impl Caller {
    pub(super) fn output(&self) -> Option<&Payload> {
        self.output.as_ref()
    }

    /// Notes the output, without giving it.
    pub(super) fn note_output(&mut self, output: Option<Payload>) {
        self.output = output;
    }

    /// Gives the output once write `after` is durable.
    pub(super) fn give_output(&mut self, after: u64) {
        self.output_after = self.output.clone().map(|output| (after, Ok(output)));
    }

    /// Gives the abort instead of the output, once write `after` is durable. Nothing is published any more.
    pub(super) fn give_abort(&mut self, abort: Abort, after: u64) {
        self.output = None;
        self.output_after = Some((after, Err(abort)));
        self.view_after = None;
    }

    /// Publishes a view once write `after` is durable.
    pub(super) fn publish(&mut self, view: Payload, after: u64) {
        self.view_after = Some((after, view));
    }

    pub(super) fn view(&self) -> Option<&Payload> {
        self.view.as_ref()
    }

    /// Shows the view that is due, and returns the output that is.
    pub(super) fn take_due(&mut self, is_synced: impl Fn(u64) -> bool) -> Option<Result<Payload, Abort>> {
        if let Some((_, view)) = self.view_after.take_if(|(after, _)| is_synced(*after)) {
            self.view = Some(view);
        }
        self.output_after.take_if(|(after, _)| is_synced(*after)).map(|(_, output)| output)
    }

    /// Whether neither output nor view waits for a write.
    pub(super) fn is_durable(&self) -> bool {
        self.output_after.is_none() && self.view_after.is_none()
    }

    pub(super) fn digest(&self, since: Since, hasher: &mut impl Hasher) {
        let Self { signals, output, output_after, view, view_after } = self;
        (signals, output, view).hash(hasher);
        output_after.as_ref().map(|(after, output)| (since.ahead(*after), output)).hash(hasher);
        view_after.as_ref().map(|(after, view)| (since.ahead(*after), view)).hash(hasher);
    }
}

impl Machine {
    /// Publishes a view of the program's progress.
    pub(crate) fn publish(&mut self, view: Payload) {
        if !self.phase.is_aborted() {
            self.caller.publish(view, self.journal.barrier());
        }
    }

    /// The view that the program has published last, as far as the results it depends on are durable.
    pub fn view(&self) -> Option<&Payload> {
        self.caller.view()
    }
}

//! One run of a choreography, as a diagram needs it: what was called, sent, committed and compensated.
//!
//! This module draws nothing. Next: `build`, which makes items of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::abort::Abort;
use crate::base::id::Path;
use crate::base::located::Located;
use crate::base::message::encode;
use crate::frame::Body;
use crate::language::call::{self, Calls};
use crate::language::choreography::Choreography;
use crate::testing::crashes::{RunFailure, next_event};
use crate::testing::harness::{DeliveryOrder, SessionHarness};
use crate::testing::setup::TestSetup;

/// A step that has ended.
pub(super) struct StepRun {
    pub(super) name: String,
    pub(super) role: usize,
    /// The code of the refusal, if the step has refused.
    pub(super) refusal: Option<String>,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Run {
    /// The names of the roles for people, by index.
    pub(super) names: Vec<String>,
    pub(super) calls: Calls,
    /// The messages that were sent: path, sender, receiver.
    pub(super) sent: BTreeSet<(Path, usize, usize)>,
    pub(super) steps: BTreeMap<Path, StepRun>,
    /// The compensated steps, in the order of their compensation.
    pub(super) compensated: Vec<Path>,
    /// The first role that told others of the session's abort, and those it told.
    pub(super) told: Option<(usize, BTreeSet<usize>)>,
    pub(super) abort: Option<Abort>,
}

impl Run {
    pub(super) async fn of<C: Choreography>(
        choreography: &Arc<C>,
        input: <C::Input as Located>::Value,
        mut setup: TestSetup<C>,
    ) -> Result<Self, RunFailure> {
        let input =
            encode(&input).map_err(|error| RunFailure::unusable(format!("the input cannot be used: {error}")))?;
        let mut harness = SessionHarness::new(choreography.clone(), input.into(), &mut setup, DeliveryOrder::Disk);
        let mut run = Self { names: harness.names(), ..Self::default() };
        while !harness.is_over() {
            let event = next_event(&mut harness).await.map_err(|what| harness.failed(what, String::new()))?;
            call::listen(&mut run.calls, || harness.happen(event));
            (0..run.names.len()).for_each(|role| run.note(&harness, role));
        }
        // A run without roles, such as one with a role family of no size, is over at once.
        if let Some(what) = harness.take_failure() {
            return Err(harness.failed(what, String::new()));
        }
        run.abort = harness.output.and_then(Result::err);
        Ok(run)
    }

    fn note<C: Choreography>(&mut self, harness: &SessionHarness<C>, role: usize) {
        for (to, body) in harness.sent_to(role) {
            match body {
                Body::Deliver { path, .. } => {
                    self.sent.insert((path.clone(), role, to));
                }
                Body::Abort(_) => {
                    let (by, told) = self.told.get_or_insert_with(|| (role, BTreeSet::new()));
                    told.extend((*by == role).then_some(to));
                }
                _ => {}
            }
        }
        let Some(instance) = harness.instance(role) else { return };
        // Of those that are compensated between two events, the latest was compensated first.
        for step in instance.steps().into_iter().rev().filter(|step| step.is_done) {
            if step.is_compensated && !self.compensated.contains(&step.path) {
                self.compensated.push(step.path.clone());
            }
            let refusal = step.refusal.map(|abort| abort.code().to_owned());
            self.steps.entry(step.path).or_insert(StepRun { name: step.name, role, refusal });
        }
    }

    /// The innermost aborted saga around `path`.
    pub(super) fn aborted_saga(&self, path: &Path) -> Option<Path> {
        path.scopes().find(|scope| self.calls.aborts.contains_key(scope))
    }
}

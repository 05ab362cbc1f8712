//! Faults of a node that only a world or a test of the runtime asks for. Next: `base/faults.rs`, which has them.

use std::sync::Arc;

use super::recorder::EventRecorder;
use crate::base::faults::Forgetting;
use crate::node::NodeBuilder;

impl NodeBuilder {
    /// Counts some frames of the node's instances as acknowledged without ever sending them, up to `frames_max` and
    /// drawn from `seed`; reports each to `recorder`: for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn forgetting(self, seed: u64, frames_max: u32, recorder: Option<EventRecorder>) -> Self {
        let forgot = Arc::new(move |frame: &_| recorder.iter().for_each(|recorder| recorder.forgot(frame)));
        self.forgets(Forgetting::new(seed, frames_max, forgot))
    }
}

//! The faults that a test has injected into a node.

use std::sync::{Arc, Mutex, PoisonError};

use accompanist_core::frame::Frame;
use accompanist_core::testing::Courier;

use crate::base::faults::Forgetting;

/// The injected faults; see the module's documentation.
#[derive(Default)]
pub(crate) struct Faults {
    forgetting: Mutex<Option<Forgetting>>,
    /// Decides how the requests of steps travel.
    pub(crate) courier: Option<Arc<dyn Courier>>,
}

impl Faults {
    pub(crate) fn new(forgetting: Option<Forgetting>, courier: Option<Arc<dyn Courier>>) -> Self {
        Self { forgetting: Mutex::new(forgetting), courier }
    }

    /// Returns whether this frame counts as acknowledged and is never sent.
    pub(crate) fn forgets(&self, frame: &Frame) -> bool {
        let mut forgetting = self.forgetting.lock().unwrap_or_else(PoisonError::into_inner);
        forgetting.as_mut().is_some_and(|forgetting| forgetting.strikes(frame))
    }
}

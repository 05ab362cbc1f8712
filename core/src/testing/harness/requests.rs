//! The requests of a run to its services, if some of them may be late.
//!
//! Next: `carrier`, which holds back the late ones.

use std::sync::Arc;
use std::task::{Context, Poll};

use crate::driver::requests::Courier;
use crate::testing::carrier::RequestCarrier;

/// The requests, and the event at which each was made.
pub(in crate::testing) struct ServiceRequests {
    /// The carrier of the requests, if some are late.
    carrier: Option<RequestCarrier>,
    made_at: Vec<usize>,
}

impl ServiceRequests {
    pub(super) fn new(has_late: bool) -> Self {
        Self { carrier: has_late.then(RequestCarrier::default), made_at: Vec::new() }
    }

    /// Returns the courier of a role's requests; `None` if none is late.
    pub(super) fn courier(&self) -> Option<Arc<dyn Courier>> {
        self.carrier.clone().map(|carrier| Arc::new(carrier) as Arc<dyn Courier>)
    }

    pub(in crate::testing) fn carrier(&self) -> Option<&RequestCarrier> {
        self.carrier.as_ref()
    }

    /// Returns how many requests were made; 0 if none is late.
    pub(in crate::testing) fn count(&self) -> usize {
        self.made_at.len()
    }

    /// Notes that the requests which are new were made at the event of this number.
    pub(super) fn note_made(&mut self, event: usize) {
        let made = self.carrier.as_ref().map_or(0, RequestCarrier::made);
        self.made_at.resize(made.max(self.made_at.len()), event);
    }

    /// Lets a request arrive, belatedly or once more. Returns a description.
    pub(super) fn arrive(&self, number: usize) -> String {
        self.carrier.as_ref().and_then(|carrier| carrier.arrive(number)).unwrap_or_default()
    }

    /// Polls late requests. Ready when all are carried out.
    ///
    /// # Errors
    /// The panic of a request.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        self.carrier.as_ref().map_or(Poll::Ready(Ok(())), |carrier| carrier.poll(cx))
    }

    /// Returns the event at which each request was made.
    pub(super) fn into_made_at(self) -> Vec<usize> {
        self.made_at
    }
}

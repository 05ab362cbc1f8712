//! The requests of a run to its services, in the order in which they are made, with late and repeated arrivals.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use crate::driver::requests::{Call, Carriage, Courier, Request};

/// Carries the requests of one run. Clones share their state.
#[derive(Clone, Default)]
pub(super) struct RequestCarrier(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    made: Vec<MadeRequest>,
    /// Whether requests that are made now are held back until [`RequestCarrier::arrive`].
    lingers: bool,
    /// The late requests that have arrived and are still running.
    under_way: Vec<(Request, Call)>,
}

struct MadeRequest {
    request: Request,
    /// The call, if the request has not arrived yet.
    lingering: Option<Call>,
}

impl RequestCarrier {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of requests made.
    pub(super) fn made(&self) -> usize {
        self.inner().made.len()
    }

    /// Runs `work` so that its requests do not arrive. Returns their numbers.
    pub(super) fn lingering(&self, work: impl FnOnce()) -> Vec<usize> {
        let from = self.made();
        self.inner().lingers = true;
        work();
        self.inner().lingers = false;
        let made = from..self.made();
        made.filter(|number| self.has_not_arrived(*number)).collect()
    }

    fn has_not_arrived(&self, number: usize) -> bool {
        self.inner().made.get(number).is_some_and(|made| made.lingering.is_some())
    }

    /// The first request that has not arrived.
    pub(super) fn next_lingering(&self) -> Option<usize> {
        self.inner().made.iter().position(|made| made.lingering.is_some())
    }

    /// Lets a request arrive, belatedly or once more. Returns a description that says which.
    pub(super) fn arrive(&self, number: usize) -> Option<String> {
        let mut inner = self.inner();
        let made = inner.made.get_mut(number)?;
        let request = made.request.clone();
        let how = if made.lingering.is_some() { "at last" } else { "once more" };
        let call = made.lingering.take().unwrap_or_else(|| request.again());
        let what = format!("{request} arrives {how}");
        inner.under_way.push((request, call));
        Some(what)
    }

    /// Polls the late requests that have arrived. Ready when all of them are carried out.
    ///
    /// # Errors
    /// The panic of a request.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        // A late request cannot make new requests here, but the lock is not held while it runs.
        let mut under_way = std::mem::take(&mut self.inner().under_way);
        let mut panicked = Ok(());
        under_way.retain_mut(|(request, call)| match call.as_mut().poll(cx) {
            Poll::Ready(result) => {
                panicked = std::mem::replace(&mut panicked, Ok(()))
                    .and(result.map_err(|panic| format!("a late request, {request}: {panic}")));
                false
            }
            Poll::Pending => true,
        });
        let done = under_way.is_empty();
        self.inner().under_way.extend(under_way);
        match panicked {
            Err(panic) => Poll::Ready(Err(panic)),
            Ok(()) if done => Poll::Ready(Ok(())),
            Ok(()) => Poll::Pending,
        }
    }
}

impl Courier for RequestCarrier {
    fn carry(&self, request: &Request) -> Carriage {
        if request.call == "outcome" {
            return Carriage::AsUsual; // An `outcome` call changes nothing at its service.
        }
        let mut inner = self.inner();
        let (number, lingers) = (inner.made.len(), inner.lingers);
        inner.made.push(MadeRequest { request: request.clone(), lingering: None });
        if !lingers {
            return Carriage::AsUsual;
        }
        let post = self.clone();
        Carriage::Apart(Box::new(move |call| {
            if let Some(made) = post.inner().made.get_mut(number) {
                made.lingering = Some(call);
            }
        }))
    }
}

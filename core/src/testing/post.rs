//! The requests of a run to its services, in the order in which they are made: what arrives late, and what arrives again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use crate::requests::{Call, Carriage, Courier, Request};

/// Carries the requests of one run. A clone is the same.
#[derive(Clone, Default)]
pub(super) struct Post(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    made: Vec<Made>,
    /// What is made now does not arrive until it is told to.
    lingers: bool,
    /// What has arrived late, and goes on.
    under_way: Vec<(Request, Call)>,
}

struct Made {
    request: Request,
    /// The request itself, if it has not arrived yet.
    lingering: Option<Call>,
}

impl Post {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many requests were made.
    pub(super) fn made(&self) -> usize {
        self.inner().made.len()
    }

    /// What `work` requests does not arrive; gives the numbers of that.
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

    /// The request arrives: now at last, or once more. Says which it is.
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

    /// Lets go on what has arrived late; ready when all of that is carried out.
    ///
    /// # Errors
    /// The panic of one.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        // What goes on may make nothing new here, but the lock is not held while it does.
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

impl Courier for Post {
    fn carry(&self, request: &Request) -> Carriage {
        if request.call == "outcome" {
            return Carriage::AsUsual; // It changes nothing at its service.
        }
        let mut inner = self.inner();
        let (number, lingers) = (inner.made.len(), inner.lingers);
        inner.made.push(Made { request: request.clone(), lingering: None });
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

//! Requests of steps that are late in a simulated world: they are delayed, arrive twice, or arrive after their caller
//! has crashed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use accompanist_core::testing::{Call, Carriage, Courier, Request};
use fastrand::Rng;

use super::fault_profile::up_to;
use super::recorder::EventRecorder;

/// The late requests of one world. Clones belong to the same world.
#[derive(Clone)]
pub(super) struct LateRequests(Arc<Inner>);

struct Inner {
    /// The random generator, and how many more late requests there may be.
    left: Mutex<(Rng, u32)>,
    delay_max: Duration,
    recorder: EventRecorder,
    /// Whether late requests have been ended.
    is_over: AtomicBool,
    under_way: AtomicUsize,
}

impl LateRequests {
    pub(super) fn new(seed: u64, count_max: u32, delay_max: Duration, recorder: EventRecorder) -> Self {
        let mut random = Rng::with_seed(seed);
        // As with other faults, one world in four has none.
        let count_max = if random.u8(0..4) > 0 { count_max } else { 0 };
        let (is_over, under_way) = (AtomicBool::new(false), AtomicUsize::new(0));
        Self(Arc::new(Inner { left: Mutex::new((random, count_max)), delay_max, recorder, is_over, under_way }))
    }

    /// Makes no more requests late from now on.
    pub(super) fn end(&self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether some requests have not arrived yet.
    pub(super) fn are_under_way(&self) -> bool {
        self.0.under_way.load(Ordering::Relaxed) > 0
    }

    /// Draws how late this request is, and whether it arrives twice; `None` if it is not late.
    fn drawn(&self) -> Option<(Duration, bool)> {
        let mut left = self.0.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (random, count) = &mut *left;
        let is_late = *count > 0 && !self.0.is_over.load(Ordering::Relaxed) && random.u8(0..3) == 0;
        is_late.then(|| {
            *count -= 1;
            (up_to(random, self.0.delay_max), random.bool())
        })
    }

    /// Runs `call` after `delay`, whatever happens to its caller.
    fn send(&self, delay: Duration, request: &Request, call: Call) {
        let (late, what) = (self.clone(), request.to_string());
        self.0.under_way.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            late.0.recorder.note(format!("late after {delay:?}: {what}"));
            if let Err(panic) = call.await {
                late.0.recorder.fail(None, &format!("a late request, {what}: {panic}"));
            }
            late.0.under_way.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

impl Courier for LateRequests {
    fn carry(&self, request: &Request) -> Carriage {
        match self.drawn() {
            None => Carriage::AsUsual,
            Some((delay, true)) => {
                self.send(delay, request, request.again());
                Carriage::AsUsual
            }
            Some((delay, false)) => {
                let (late, request) = (self.clone(), request.clone());
                Carriage::Apart(Box::new(move |call| late.send(delay, &request, call)))
            }
        }
    }
}

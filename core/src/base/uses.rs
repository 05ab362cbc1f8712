//! Records which received values a program uses, for [`crate::testing::lint`]. Does nothing without the feature
//! `testing`.
//!
//! A value is identified by its address, and is therefore kept alive while a listener is active.

#[cfg(feature = "testing")]
pub(crate) use listening::{Received, listen, received, used};

#[cfg(not(feature = "testing"))]
pub(crate) fn received<T>(_: &crate::base::id::Path, _: &'static str, _: &std::sync::Arc<T>) {}

#[cfg(not(feature = "testing"))]
pub(crate) fn used<T>(_: &std::sync::Arc<T>) {}

#[cfg(feature = "testing")]
mod listening {
    use std::any::Any;
    use std::cell::RefCell;
    use std::sync::Arc;

    use crate::base::id::Path;

    /// A value that a program has received.
    pub(crate) struct Received {
        pub(crate) path: Path,
        pub(crate) from: &'static str,
        pub(crate) used: bool,
        value: Arc<dyn Any + Send + Sync>,
    }

    thread_local! {
        /// The values received since listening began on this thread.
        static HEARD: RefCell<Option<Vec<Received>>> = const { RefCell::new(None) };
    }

    /// Runs `part` on this thread, and adds to `heard` what programs receive and use meanwhile.
    pub(crate) fn listen<T>(heard: &mut Vec<Received>, part: impl FnOnce() -> T) -> T {
        HEARD.replace(Some(std::mem::take(heard)));
        let result = part();
        *heard = HEARD.take().unwrap_or_default();
        result
    }

    /// Notes that a program has received `value`.
    pub(crate) fn received<T: Any + Send + Sync>(path: &Path, from: &'static str, value: &Arc<T>) {
        HEARD.with_borrow_mut(|heard| {
            let Some(heard) = heard else { return };
            heard.push(Received { path: path.clone(), from, used: false, value: value.clone() });
        });
    }

    /// Notes that a program has read `value`, or passed it on.
    pub(crate) fn used<T>(value: &Arc<T>) {
        HEARD.with_borrow_mut(|heard| {
            let place = Arc::as_ptr(value).cast::<()>();
            let known = heard.iter_mut().flatten().find(|known| Arc::as_ptr(&known.value).cast::<()>() == place);
            if let Some(known) = known {
                known.used = true;
            }
        });
    }
}

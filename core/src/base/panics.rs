//! Catches panics in users' code, so that their payloads do no harm either.
//!
//! A panic's payload is a value of any type, and dropping it may panic as well. Outside of a guard, that would end
//! the thread or the actor that has just been saved. Therefore the payload is turned into a text at once, and no
//! other code ever holds it. This is the only module that calls `catch_unwind` of the standard library and of
//! futures.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use futures_util::FutureExt;

/// The text for a panic whose payload is no text.
const NO_TEXT: &str = "a panic without a text";

/// Returns the result of `work`, or the text of its panic.
///
/// Values captured by `work` are dropped under the guard as well, if `work` drops them itself.
///
/// # Errors
/// The text of the panic.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(text)
}

/// Like [`catch`], for a future.
///
/// # Errors
/// The text of the panic.
pub async fn catch_async<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(text)
}

/// Returns the result of `work`. A panic in it continues, without being reported again, with the text that `name`
/// makes of its text: one that says whose code panicked, and where.
pub(crate) fn named<T>(work: impl FnOnce() -> T, name: impl FnOnce(&str) -> String) -> T {
    catch(work).unwrap_or_else(|panic| go_on(name(&panic)))
}

/// Like [`named`], for a future.
pub(crate) async fn named_async<T>(work: impl Future<Output = T>, name: impl FnOnce(&str) -> String) -> T {
    catch_async(work).await.unwrap_or_else(|panic| go_on(name(&panic)))
}

/// Continues a panic with this text, without reporting it again.
pub(crate) fn go_on(text: String) -> ! {
    resume_unwind(Box::new(text))
}

/// Returns the text of a panic's payload. If dropping the payload panics, the payload of that second panic is leaked,
/// because dropping it could panic again, without end.
pub fn text(payload: Box<dyn Any + Send>) -> String {
    let of_str = payload.downcast_ref::<&str>().map(ToString::to_string);
    let text = of_str.or_else(|| payload.downcast_ref::<String>().cloned());
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    text.unwrap_or_else(|| NO_TEXT.to_owned())
}

#[cfg(test)]
#[expect(clippy::panic, reason = "tests")]
mod tests {
    use std::panic::panic_any;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A value that panics whenever it is dropped, with another `Bomb` as the payload.
    struct Bomb(&'static AtomicU32);

    impl Drop for Bomb {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic_any(Bomb(self.0));
        }
    }

    fn check(panics: impl Fn() + Copy, expected: &str) {
        assert_eq!(catch(panics), Err(expected.to_owned()));
        let awaited = catch_async(async move { panics() });
        let waker = std::task::Waker::noop();
        let polled = Box::pin(awaited).as_mut().poll(&mut std::task::Context::from_waker(waker));
        assert_eq!(polled, std::task::Poll::Ready(Err(expected.to_owned())));
    }

    #[test]
    fn a_panic_becomes_its_text_whatever_its_payload_is() {
        static DROPS: AtomicU32 = AtomicU32::new(0);
        check(|| panic!("a text"), "a text");
        let number = 7;
        check(|| panic!("text number {number}"), "text number 7");
        check(|| panic_any(7_u32), NO_TEXT);
        check(|| panic_any(Bomb(&DROPS)), NO_TEXT);
        assert_eq!(DROPS.load(Ordering::SeqCst), 2, "each payload once, and not the payload of its drop");
    }

    #[test]
    fn a_call_without_a_panic_returns_its_result() {
        assert_eq!(catch(|| 7), Ok(7));
        assert_eq!(catch_async(async { 7 }).now_or_never(), Some(Ok(7)));
    }
}

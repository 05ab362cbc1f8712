//! How errors print where only `Debug` is asked for: as text, with their causes.
//!
//! `main` and `unwrap` print an error with `Debug`, so its `Debug` is what most people read first (decision 0056). This
//! module knows no error of its own.

use std::error::Error;
use std::fmt;

/// Writes an error and its causes as text, one after the other; `{:#?}` writes them as a structure under `name`.
///
/// # Errors
/// As the formatter.
pub fn write(error: &dyn Error, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    if f.alternate() {
        return f.debug_struct(name).field("message", &error.to_string()).field("causes", &causes).finish();
    }
    write!(f, "{error}")?;
    causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
}

/// Implements `Debug` for errors with [`write`]: `fn main() -> Result<(), E>` then prints what to do, and not how `E`
/// is made.
#[macro_export]
#[doc(hidden)]
macro_rules! debug_as_text {
    ($($error:ident),+ $(,)?) => { $(
        impl ::std::fmt::Debug for $error {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                $crate::error_text::write(self, stringify!($error), f)
            }
        }
    )+ };
}
pub(crate) use debug_as_text;

#[cfg(test)]
mod tests {
    #[derive(thiserror::Error)]
    #[error("the order cannot be read: send it anew")]
    struct Unreadable(#[source] Cause);

    #[derive(thiserror::Error)]
    #[error("byte {at} is no letter")]
    struct Cause {
        at: usize,
    }

    debug_as_text!(Unreadable, Cause);

    #[test]
    fn an_error_is_text_with_its_causes() {
        let error = Unreadable(Cause { at: 7 });
        assert_eq!(format!("{error:?}"), "the order cannot be read: send it anew: byte 7 is no letter");
        let structure = format!("{error:#?}");
        assert!(structure.starts_with("Unreadable {") && structure.contains("\"byte 7 is no letter\""), "{structure}");
    }
}

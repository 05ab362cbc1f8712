//! The reason why a saga ends without a result, in a form that can be recorded and sent.
//!
//! An abort has only a code and a message. Anything else (a backtrace, an error's debug text) would differ between a
//! run and its replay.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::error_text::debug_as_text;

/// An abort: ends a session for all its roles and compensates every committed step.
///
/// To refuse a [`Transaction`](crate::Transaction), return an abort from its commit. Codes that begin with
/// `accompanist.` are reserved for the runtime.
///
/// ```
/// use accompanist_core::Abort;
///
/// let refusal = Abort::new("sold-out", "3 books are left, and 5 were asked for");
/// match refusal.code() {
///     "sold-out" => assert!(refusal.message().starts_with("3 books")), // Programs read the code, people the message.
///     Abort::DEADLINE => println!("the session took too long"),
///     _ => println!("{refusal}"),
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Abort {
    code: String,
    message: String,
}

debug_as_text!(Abort);

/// The result of a step that proved not to have taken effect when the session was aborted.
pub(crate) const NOT_COMMITTED: &str = "accompanist.not-committed";

/// The result of a step that was retried until the session was aborted.
pub(crate) const GIVEN_UP: &str = "accompanist.given-up";

/// The code of aborts that the runtime itself creates because it could not run a step.
const FAILURE: &str = "accompanist.failure";

/// The codes of commits that reached no decision, by the fields of [`Undecided`].
const UNDECIDED: [(Undecided, &str); 4] = [
    (Undecided { passes: false, is_known: true }, "accompanist.undecided"),
    (Undecided { passes: false, is_known: false }, "accompanist.undecided-unknown"),
    (Undecided { passes: true, is_known: true }, "accompanist.unavailable"),
    (Undecided { passes: true, is_known: false }, "accompanist.unavailable-unknown"),
];

/// Describes a commit that reached no decision. This try of the commit had no effect.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undecided {
    /// Whether the obstacle is transient. If so, the commit is retried without limit. Otherwise it is retried up to
    /// `tries_max` of [`Limits`](crate::machine::Limits), and then needs an operator.
    pub passes: bool,
    /// Whether earlier tries are known to have had no effect either, including those before a crash.
    pub is_known: bool,
}

/// The maximum number of characters of a failure's message.
const FAILURE_CHARACTERS_MAX: usize = 1_600;

/// Cuts `text` off after so many characters.
pub(crate) fn cut_off(mut text: String, characters_max: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(characters_max) {
        text.truncate(end);
    }
    text
}

impl Abort {
    /// The code of an abort caused by the session's deadline.
    pub const DEADLINE: &'static str = "accompanist.deadline";
    /// The code of an abort requested by the caller.
    pub const CANCELLED: &'static str = "accompanist.cancelled";
    /// The code of an abort caused by a message larger than `payload_bytes_max`.
    pub const PAYLOAD_TOO_LARGE: &'static str = "accompanist.payload-too-large";
    /// The code of an abort caused by a value that cannot be sent or recorded: its type does not read back what it
    /// writes, or the value contains a `HashMap` although its bytes must be the same each time.
    pub const NOT_ENCODABLE: &'static str = "accompanist.not-encodable";
    /// The code of an abort caused by a row whose key or value is larger than any store can hold.
    pub const ROW_TOO_LARGE: &'static str = "accompanist.row-too-large";
    /// The code with which [`run_local`](crate::run_local) ends when no role can go on.
    pub const DEADLOCK: &'static str = "accompanist.deadlock";
    /// The code with which [`run_local`](crate::run_local) ends when a program awaits something that is no operation.
    pub const FOREIGN_AWAIT: &'static str = "accompanist.foreign-await";
    /// The code with which [`run_local`](crate::run_local) ends when a program drops an operation that waits, as
    /// `select!` does.
    pub const DROPPED_OPERATION: &'static str = "accompanist.dropped-operation";
    /// The code of an abort caused by a [`Context::scatter`](crate::Context::scatter) without exactly one value for
    /// each member.
    pub const SCATTER: &'static str = "accompanist.scatter";
    /// The maximum number of characters of a code or a message.
    pub const CHARACTERS_MAX: usize = 400;

    /// Creates an abort with a stable `code` for programs and a `message` for people. Both are stored and sent, and
    /// cut off after [`Abort::CHARACTERS_MAX`] characters.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: cut_off(code.into(), Self::CHARACTERS_MAX),
            message: cut_off(message.into(), Self::CHARACTERS_MAX),
        }
    }

    /// Creates an abort that is neither stored nor sent, with the whole of `message`.
    pub(crate) fn uncut(code: &str, message: String) -> Self {
        Self { code: code.into(), message }
    }

    /// Creates the result of a step that could not be run at all. Such a result stops the instance instead of
    /// aborting the saga.
    ///
    /// Its message may be longer than that of other aborts, because it may have to show the shapes of two types.
    #[doc(hidden)]
    pub fn failure(message: impl Into<String>) -> Self {
        Self { code: FAILURE.into(), message: cut_off(message.into(), FAILURE_CHARACTERS_MAX) }
    }

    /// Whether this abort is a failure to run the step, and not a decision of the program.
    #[doc(hidden)]
    pub fn is_failure(&self) -> bool {
        self.code == FAILURE
    }

    /// Creates the result of a commit that reached no decision. The commit is retried, until the session is aborted
    /// at the latest.
    #[doc(hidden)]
    pub fn undecided(message: impl Into<String>, undecided: Undecided) -> Self {
        let code = UNDECIDED.iter().find(|(known, _)| *known == undecided).map_or(FAILURE, |(_, code)| code);
        Self::new(code, message)
    }

    /// Returns the details, if this abort was created by [`Abort::undecided`].
    #[doc(hidden)]
    pub fn as_undecided(&self) -> Option<Undecided> {
        UNDECIDED.iter().find(|(_, code)| *code == self.code).map(|(undecided, _)| *undecided)
    }

    /// The code, stable over releases; callers branch on it.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The message, for people.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Abort {}

/// The error of a compensation that did not succeed and must be retried, or needs an operator.
///
/// A compensation decides which of the two it needs:
///
/// ```
/// use accompanist_core::Retry;
///
/// fn cancel(answer: u16) -> Result<(), Retry> {
///     match answer {
///         200 => Ok(()),
///         404 => Err(Retry::needs_operator("the carrier does not know this parcel")), // Asking again is no use.
///         status => Err(Retry::new(format!("the carrier answers {status}"))), // It may work in a moment.
///     }
/// }
/// assert!(cancel(404).unwrap_err().is_for_operator());
/// assert!(!cancel(503).unwrap_err().is_for_operator());
/// ```
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Retry {
    reason: String,
    needs_operator: bool,
}

debug_as_text!(Retry);

impl Retry {
    /// Creates an error after which the compensation is retried, up to `tries_max` of
    /// [`Limits`](crate::machine::Limits). The `reason` is logged.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), needs_operator: false }
    }

    /// Creates an error after which no retry helps. The step needs an operator at once, who sees this reason.
    pub fn needs_operator(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), needs_operator: true }
    }

    /// Whether no further try will help.
    pub fn is_for_operator(&self) -> bool {
        self.needs_operator
    }
}

impl From<Abort> for Retry {
    fn from(abort: Abort) -> Self {
        Self::new(abort.to_string())
    }
}

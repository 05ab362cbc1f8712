//! Why a saga ends without its result, in a form that can be recorded and sent.
//!
//! Only a code and a message: anything else (a backtrace, an error's debug text) would differ between a run
//! and its replay.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The end of a session for all its roles: every committed step is compensated.
///
/// Return one from a [`Transaction`](crate::Transaction) to refuse it. Codes of the runtime itself begin with
/// `accompanist.`; leave that beginning to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Abort {
    code: String,
    message: String,
}

/// The result of a step that turned out not to have taken effect when the session was aborted.
pub(crate) const NOT_COMMITTED: &str = "accompanist.not-committed";

/// The result of a step that was tried again and again until the session was aborted.
pub(crate) const GIVEN_UP: &str = "accompanist.given-up";

/// The code of aborts that the runtime itself makes because it could not run a step.
const FAILURE: &str = "accompanist.failure";

/// The codes of commits that came to no decision: by whether that passes, and whether more is known than of this try.
const UNDECIDED: [(Undecided, &str); 4] = [
    (Undecided { passes: false, is_known: true }, "accompanist.undecided"),
    (Undecided { passes: false, is_known: false }, "accompanist.undecided-unknown"),
    (Undecided { passes: true, is_known: true }, "accompanist.unavailable"),
    (Undecided { passes: true, is_known: false }, "accompanist.unavailable-unknown"),
];

/// What is to be thought of a commit that came to no decision. This try of it has taken no effect.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undecided {
    /// It passes by itself: it is tried again as long as it takes. Otherwise it is up to `tries_max` of
    /// [`Limits`](crate::instance::Limits), and then needs an operator.
    pub passes: bool,
    /// Earlier tries have taken no effect either, those before a crash included.
    pub is_known: bool,
}

fn cut_off(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(Abort::CHARACTERS_MAX) {
        text.truncate(end);
    }
    text
}

impl Abort {
    /// The code of an abort because the session's deadline has passed.
    pub const DEADLINE: &'static str = "accompanist.deadline";
    /// The code of an abort by the caller.
    pub const CANCELLED: &'static str = "accompanist.cancelled";
    /// The code of an abort because a message is larger than `payload_bytes_max`.
    pub const PAYLOAD_TOO_LARGE: &'static str = "accompanist.payload-too-large";
    /// The code of an abort because a value cannot be sent or recorded: its type does not read back what it writes, or a
    /// value that has to have the same bytes each time has a `HashMap` in it.
    pub const NOT_ENCODABLE: &'static str = "accompanist.not-encodable";
    /// The code of an abort because a row's key or value is larger than any store can hold.
    pub const ROW_TOO_LARGE: &'static str = "accompanist.row-too-large";
    /// The most characters that a code or a message has.
    pub const CHARACTERS_MAX: usize = 400;

    /// An abort with a stable `code` for programs and a `message` for people. Both are kept and sent, and cut off
    /// after [`Abort::CHARACTERS_MAX`] characters.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: cut_off(code.into()), message: cut_off(message.into()) }
    }

    /// A step that could not be run at all, which must stop the instance instead of aborting the saga.
    #[doc(hidden)]
    pub fn failure(message: impl Into<String>) -> Self {
        Self::new(FAILURE, message)
    }

    /// Whether this is no decision of the program but a failure below it.
    #[doc(hidden)]
    pub fn is_failure(&self) -> bool {
        self.code == FAILURE
    }

    /// No decision of a commit: it is tried again, and an abort of the session ends it.
    #[doc(hidden)]
    pub fn undecided(message: impl Into<String>, undecided: Undecided) -> Self {
        let code = UNDECIDED.iter().find(|(known, _)| *known == undecided).map_or(FAILURE, |(_, code)| code);
        Self::new(code, message)
    }

    /// What is to be thought of it, if it is [`Abort::undecided`].
    #[doc(hidden)]
    pub fn as_undecided(&self) -> Option<Undecided> {
        UNDECIDED.iter().find(|(_, code)| *code == self.code).map(|(undecided, _)| *undecided)
    }

    /// The code, stable over releases: what a caller branches on.
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

/// A compensation that did not succeed and has to be tried again, or needs an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Retry {
    reason: String,
    needs_operator: bool,
}

impl Retry {
    /// It is tried again, up to `tries_max` of [`Limits`](crate::instance::Limits). Says why, for the log.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), needs_operator: false }
    }

    /// No further try will help: the step needs an operator at once, who is told this reason.
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

//! Why a role's part of a session cannot continue without an operator, as the role tells the initiator.
//!
//! The text is for people and is cut off, so that a role that is in trouble costs the initiator little memory. This
//! module does not know when a role is in trouble.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::abort::cut_off;

/// The reason why a role's part of a session cannot continue until an operator acts.
///
/// ```
/// use accompanist_core::frame::RoleTrouble;
///
/// let trouble = RoleTrouble::needs_operator("refund", "the bank does not know the receipt", 1);
/// assert_eq!(trouble.to_string(), "step `refund` needs an operator: the bank does not know the receipt");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RoleTrouble {
    /// Steps of the part need an operator; the rest of the part continues.
    NeedsOperator {
        /// The name of the first of the steps.
        step: String,
        /// The reason, from the last try of that step.
        reason: String,
        /// The number of steps of the part that need an operator.
        steps: u32,
    },
    /// The part is stopped: its program differs from the journal, say, or it has failed too often.
    Stopped {
        /// The reason.
        reason: String,
    },
}

impl RoleTrouble {
    /// The maximum number of characters of a name or a reason.
    pub const CHARACTERS_MAX: usize = 400;

    /// Creates the trouble of a part in which `steps` steps need an operator, `step` with `reason` being the first of
    /// them. Texts are cut off after [`RoleTrouble::CHARACTERS_MAX`] characters.
    pub fn needs_operator(step: impl Into<String>, reason: impl Into<String>, steps: u32) -> Self {
        Self::NeedsOperator { step: step.into(), reason: reason.into(), steps }.cut()
    }

    /// Creates the trouble of a part that is stopped. The text is cut off after [`RoleTrouble::CHARACTERS_MAX`]
    /// characters.
    pub fn stopped(reason: impl Into<String>) -> Self {
        Self::Stopped { reason: reason.into() }.cut()
    }

    /// Cuts off the texts, which another node may have sent longer.
    #[must_use]
    pub(crate) fn cut(self) -> Self {
        let cut = |text| cut_off(text, Self::CHARACTERS_MAX);
        match self {
            Self::NeedsOperator { step, reason, steps } => {
                Self::NeedsOperator { step: cut(step), reason: cut(reason), steps }
            }
            Self::Stopped { reason } => Self::Stopped { reason: cut(reason) },
        }
    }

    /// The number of bytes of the texts.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::NeedsOperator { step, reason, .. } => step.len() + reason.len(),
            Self::Stopped { reason } => reason.len(),
        }
    }
}

impl fmt::Display for RoleTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedsOperator { step, reason, steps } => {
                write!(f, "step `{step}` needs an operator: {reason}")?;
                match steps.saturating_sub(1) {
                    0 => Ok(()),
                    1 => f.write_str(" (and another step does)"),
                    others => write!(f, " (and {others} other steps do)"),
                }
            }
            Self::Stopped { reason } => write!(f, "is stopped: {reason}"),
        }
    }
}

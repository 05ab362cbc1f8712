//! What a value belongs to, for errors that name the operation that cannot read it.

use std::fmt;

use crate::base::id::RoleIndex;
use crate::base::role_names::{RoleNames, role_name};
use crate::frame::Operation;

/// The origin of a value that a program reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ValueOf<'a> {
    /// The input of the session.
    Input,
    /// A message, or a value that the role itself sends.
    Message(Operation, RoleIndex, RoleNames),
    /// The output of a step.
    Step(&'static str),
    /// The recorded result of an effect, or of an operation that is recorded like one.
    Effect(&'a str),
    /// A signal from outside.
    Signal(&'a str),
    /// The state that a loop carries from turn to turn.
    LoopState,
}

impl fmt::Display for ValueOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => f.write_str("the input of the session"),
            Self::Message(operation, from, names) => {
                write!(f, "the message of {operation} from {}", role_name(*names, *from))
            }
            Self::Step(name) => write!(f, "the output of step `{name}`"),
            Self::Effect(name) => write!(f, "the result of effect `{name}`"),
            Self::Signal(name) => write!(f, "signal `{name}`"),
            Self::LoopState => f.write_str("the state of the loop"),
        }
    }
}

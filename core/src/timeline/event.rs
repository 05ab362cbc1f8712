//! What a timeline consists of: the events of a session, and the lanes of its roles.
//!
//! An event is a fact that a record states, or that follows from one at another role: a message that was received was
//! sent. This module orders nothing. Next: `label`, the texts of events.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::abort::Abort;
use crate::base::id::{NodeId, Path, RoleIndex};
use crate::base::message::{Payload, rendered, shape};
use crate::frame::{Operation, Outcome};
use crate::machine::Status;
use crate::record::StepFailure;

/// The maximum number of characters of a value in a timeline.
const VALUE_CHARACTERS_MAX: usize = 160;

/// How much of the users' values a timeline shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Values {
    /// Their content, cut off after 160 characters each.
    #[default]
    Shown,
    /// The names of their types and fields, and no content.
    Shapes,
    /// Their sizes.
    Hidden,
}

/// A value as a timeline shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ShownValue {
    /// The text that [`Values`] asks for.
    pub text: String,
    /// The size of the encoded value in bytes.
    pub bytes: usize,
}

impl ShownValue {
    /// The value of `payload`, which a program sent or recorded.
    pub(super) fn of(payload: &Payload, values: Values) -> Self {
        let text = match values {
            Values::Shown => rendered(payload.as_slice(), VALUE_CHARACTERS_MAX),
            Values::Shapes => Some(shape(payload.as_slice())),
            Values::Hidden => None,
        };
        let bytes = payload.len();
        Self { text: text.unwrap_or_else(|| format!("{bytes} bytes")), bytes }
    }
}

impl fmt::Display for ShownValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A role of the session, and what is known of its part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Lane {
    /// The role.
    pub role: RoleIndex,
    /// The name of the role, or `role 7` if nothing gives it a name.
    pub name: String,
    /// The node that plays the role, if the session has such a role.
    pub node: Option<NodeId>,
    /// The status, if the site has answered and has the session.
    pub status: Option<Status>,
    /// Why nothing is known of the part, if that is so.
    pub missing: Option<String>,
}

/// An event of a session, at one role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// The role at which the event happened.
    pub role: RoleIndex,
    /// The operation of the program that the event belongs to.
    pub path: Option<Path>,
    /// What happened.
    pub kind: EventKind,
    /// The events that this one directly comes after, as indices into [`Timeline::events`](super::Timeline::events),
    /// in ascending order. What is not among them and theirs may have happened at the same time.
    pub after: Vec<usize>,
}

/// What is known of a message after it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Arrival {
    /// The receiver's records have it.
    Received,
    /// The receiver has acknowledged it, and its records are not here.
    Acknowledged,
    /// Nothing says whether it was received.
    Unknown,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum EventKind {
    /// The session was started, at its initiator.
    Started {
        /// The choreography.
        choreography: String,
        /// The version of the choreography.
        version: u32,
        /// The search attributes.
        attributes: BTreeMap<String, String>,
        /// The input, if the initiator's part is known.
        input: Option<ShownValue>,
        /// The time by the initiator's clock, in milliseconds since the Unix epoch. A label: nothing is ordered by it.
        started_unix_ms: u64,
    },
    /// A message was sent. No record says that; it follows from the receiver's records, or from acknowledgements.
    Sent {
        /// The receiver.
        to: RoleIndex,
        /// The kind of operation, if it is known.
        operation: Option<Operation>,
        /// What is known of the message after that.
        arrival: Arrival,
    },
    /// A message arrived, and is on disk. The program may take it later.
    Received {
        /// The sender.
        from: RoleIndex,
        /// The kind of operation.
        operation: Operation,
        /// The value.
        value: ShownValue,
    },
    /// A signal arrived from outside.
    Signalled {
        /// The signal's position in the order of arrival.
        number: u64,
        /// The name that the program waits for.
        name: String,
        /// The key that distinguishes it from other signals of its name.
        key: String,
        /// The value, until the program takes it.
        value: Option<ShownValue>,
    },
    /// An effect, a timer or the taking of a signal returned a result.
    Observed {
        /// The name of the effect.
        name: String,
        /// The result.
        value: ShownValue,
    },
    /// The role has voted to abort a saga within the session.
    Voted {
        /// The reason.
        abort: Abort,
    },
    /// The role has decided how a saga within the session ends.
    Decided {
        /// The reason of the abort; `None` if the saga is committed.
        abort: Option<Abort>,
    },
    /// A loop has reached a turn. The turns before are final, and their records are gone.
    Checkpoint {
        /// The turn, from 0.
        turn: u32,
        /// The size of this role's part of the loop's state in bytes.
        bytes: usize,
    },
    /// The commit of a step may have begun.
    Intended {
        /// The step's name.
        step: String,
    },
    /// The commit of a step has ended.
    Committed {
        /// The step's name.
        step: String,
        /// The position among the commits of this role, which is the order in which they ended.
        order: u32,
        /// The output, or the refusal.
        result: Result<ShownValue, Abort>,
    },
    /// A step was compensated, or an operator counted it as such.
    Compensated {
        /// The step's name, if its commit is known.
        step: Option<String>,
    },
    /// A step needs an operator.
    Troubled {
        /// The trouble.
        failure: StepFailure,
    },
    /// The session is aborted, as this role knows.
    Aborted {
        /// The reason.
        abort: Abort,
        /// Whether this role has decided it.
        own: bool,
    },
    /// An operator has ended the part without its program.
    Terminated,
    /// The part has ended.
    Ended {
        /// How it ended.
        outcome: Outcome,
        /// The output, at the initiator.
        output: Option<ShownValue>,
    },
    /// The initiator knows that all roles have ended in the same way.
    Closing,
    /// The session is closed at this role.
    Closed,
    /// The program waits now.
    Waits {
        /// What it waits for.
        what: String,
    },
    /// The instance is stopped now, and does not run until an operator acts.
    Stopped {
        /// The reason.
        reason: String,
    },
    /// The instance failed too often, and does not run until an operator acts.
    Quarantined {
        /// The last failure.
        reason: String,
        /// The number of failures.
        failures: u32,
    },
    /// What happened at this role is not known.
    Missing {
        /// The reason.
        reason: String,
    },
}

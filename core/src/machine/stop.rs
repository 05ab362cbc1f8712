//! Why an instance stands still until an operator acts. This module has no behaviour.

use crate::base::error_text::debug_as_text;
use crate::base::id::Path;
use crate::base::message::CodecError;

/// The advice in errors about a program that does something else on replay.
pub(crate) const CAUSES_OF_DIVERGENCE: &str = "The usual causes: a clock, a random number, a static or the order of a \
    HashMap in the program (take what they give by `now`, `random` or `effect`), or a program that was changed while \
    the session was open (give it a new version, or a patch)";

/// The reason why an instance is stopped until an operator acts. Nothing is lost or aborted.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stop {
    /// The program did something else than is recorded.
    #[error(
        "the program is not deterministic at {path}: recorded was {recorded}, the program did {replayed}. \
         {CAUSES_OF_DIVERGENCE}"
    )]
    Diverged {
        /// The path of the operation.
        path: Path,
        /// The operation in the journal or mailbox.
        recorded: String,
        /// The operation that the program (or the sender's program) did.
        replayed: String,
    },
    /// A recorded or received value cannot be decoded.
    #[error(
        "{of} cannot be read at role `{role}`{at} ({reason}). Nothing is lost: run the code that wrote it, or give the changed \
         type another version of the choreography; do all nodes run the same version?", at = At(path)
    )]
    Undecodable {
        /// The name of the role that reads the value.
        role: &'static str,
        /// The value: the input of the session, the message or result of an operation, or a signal.
        of: String,
        /// The path of the operation.
        path: Path,
        /// A description of the error.
        reason: String,
    },
    /// The program names a member of a role family that the session does not have.
    #[error(
        "there is no {member} among {members} members, at {path}: the handle is of another session, so take it from \
         `members` of this one"
    )]
    UnknownMember {
        /// The path of the operation.
        path: Path,
        /// The member, for people.
        member: String,
        /// The number of members that the session has.
        members: u8,
    },
    /// The role has no service, or one of another type than [`Role::Service`](crate::Role::Service).
    #[error("role `{role}` has no service of the type it works with: give it one where the role is played")]
    NoService {
        /// The role.
        role: &'static str,
    },
    /// The program asks for a patch that its choreography does not list.
    #[error("patch `{patch}` is not among the PATCHES of the choreography: add it there, or correct its name")]
    UnknownPatch {
        /// The patch.
        patch: String,
    },
    /// The program nests its scopes (sagas, loops, other choreographies) too deeply.
    #[error("the program nests more than {limit} scopes: let a loop take the place of what calls itself")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// An event cannot be recorded.
    #[error("what has happened at this role cannot be recorded ({reason})")]
    Unstorable {
        /// A description of what is too large.
        reason: String,
    },
    /// A message exceeds the size limit, and must not be lost.
    #[error("a message at {path} has {found} bytes, the limit is {limit}: raise `payload_bytes_max` to what it was")]
    TooLarge {
        /// The path of the operation.
        path: Path,
        /// The size of the message in bytes.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Another role has continued without this one, which is only possible if the program branched on a value that
    /// one role alone knows, or if one of the two stores went back.
    #[error(
        "{role} on node `{node}` {what} and this role has not come so far: the program takes two ways, by a value that \
         one role alone knows, or one of the two stores was restored from an older copy, or has lost what it had; \
         compare what both have done, then `abort` or `terminate` this part"
    )]
    LeftBehind {
        /// The name of the other role, for people.
        role: String,
        /// The node of that role.
        node: String,
        /// The state of the session there.
        what: String,
    },
    /// The journal contains a record that no run can have written beside the others.
    #[error(
        "the journal cannot contain {record}: {reason}. The store was damaged, or written by another version: compare \
         what the other roles have done, then `abort` or `terminate` this part"
    )]
    IllegalRecord {
        /// The record.
        record: String,
        /// Why it cannot be there.
        reason: String,
    },
    /// A step could not be run.
    #[error("step `{step}` at {path} cannot be run ({reason})")]
    StepFailed {
        /// The path of the step.
        path: Path,
        /// The name of the step.
        step: String,
        /// The reason.
        reason: String,
    },
}

debug_as_text!(Stop);

/// Where an operation is; nothing for the session as a whole.
struct At<'a>(&'a Path);

impl std::fmt::Display for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self.0 == Path::root() { Ok(()) } else { write!(f, ", operation {}", self.0) }
    }
}

impl Stop {
    /// The reason for an event that has no encoding.
    pub(super) fn unstorable(error: &CodecError) -> Self {
        Self::Unstorable { reason: error.to_string() }
    }
}

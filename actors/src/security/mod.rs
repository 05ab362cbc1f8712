//! Who may take part in a system, and how packets are sealed between its nodes. Knows no packets' contents and no
//! actors. Next: [`members`] for the rights of each node, [`seal`] for its keys.

pub(crate) mod members;
pub(crate) mod seal;

use self::members::MembersError;
use self::seal::SealError;

/// Why members and keys cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum SecurityError {
    #[error(transparent)]
    Members(#[from] MembersError),
    #[error(transparent)]
    Seal(#[from] SealError),
}

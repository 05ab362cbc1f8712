//! Why a request was refused.

use accompanist_core::contract::StoreError;
use serde::{Deserialize, Serialize};

/// A request that was refused, or could not be carried out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct AdminError {
    /// What kind of error, for tools.
    pub code: AdminErrorCode,
    /// What is wrong and what to do, for people.
    pub message: String,
}

accompanist_core::debug_as_text!(AdminError);

/// The kinds of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AdminErrorCode {
    /// The request is of another version of the interface.
    Version,
    /// The request is not understood.
    Malformed,
    /// The caller may not do this.
    Forbidden,
    /// There is no such session, part, node or letter here.
    NotFound,
    /// It does not fit the present state, and nothing has changed.
    DoesNotFit,
    /// The node cannot carry it out: it has stopped, or its store has failed.
    Failed,
}

impl AdminError {
    pub(super) fn new(code: AdminErrorCode, message: String) -> Self {
        Self { code, message }
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        Self::new(AdminErrorCode::Failed, error.to_string())
    }
}

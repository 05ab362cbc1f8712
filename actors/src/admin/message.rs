//! Requests and responses as they travel: JSON with a version.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{AdminError, AdminErrorCode};

/// The version of the administrative interface. It rises when a field or a variant changes its meaning.
pub const ADMIN_VERSION: u32 = 1;

/// A request as it travels.
///
/// ```
/// use accompanist::admin::{AdminMessage, ReadRequest};
///
/// let request = AdminMessage::new(ReadRequest::Node).by("ada@laptop");
/// assert_eq!(request.to_json(), br#"{"version":1,"by":"ada@laptop","request":"node"}"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminMessage<T> {
    /// The version of the interface.
    pub version: u32,
    /// Who asks, as the tool says: for the audit trail. The network knows the tool, not the person.
    #[serde(default)]
    pub by: Option<String>,
    /// What is asked.
    pub request: T,
}

impl<T> AdminMessage<T> {
    /// Creates a request of this version.
    pub fn new(request: T) -> Self {
        Self { version: ADMIN_VERSION, by: None, request }
    }

    /// Names the person who asks.
    #[must_use]
    pub fn by(self, who: impl Into<String>) -> Self {
        Self { by: Some(who.into()), ..self }
    }
}

impl<T: Serialize> AdminMessage<T> {
    /// Returns the bytes that are sent.
    pub fn to_json(&self) -> Vec<u8> {
        json(self)
    }
}

impl<T: DeserializeOwned> AdminMessage<T> {
    /// Reads a request.
    ///
    /// # Errors
    /// [`AdminError`] for another version, and for a request that this release does not know.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, AdminError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let malformed = |error: serde_json::Error| AdminError::new(AdminErrorCode::Malformed, error.to_string());
        let Version { version } = serde_json::from_slice(bytes).map_err(malformed)?;
        if version != ADMIN_VERSION {
            let text = format!(
                "this node speaks version {ADMIN_VERSION} of the administrative interface, and the request has \
                 version {version}: use a tool of the release {}",
                env!("CARGO_PKG_VERSION")
            );
            return Err(AdminError::new(AdminErrorCode::Version, text));
        }
        serde_json::from_slice(bytes).map_err(malformed)
    }
}

/// A response as it travels: a reply, or an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminResponse<T> {
    /// The version of the interface.
    pub version: u32,
    /// The node that responds.
    pub node: String,
    /// The reply.
    pub reply: Option<T>,
    /// The error.
    pub error: Option<AdminError>,
}

impl<T> AdminResponse<T> {
    /// Returns the reply or the error.
    ///
    /// # Errors
    /// That of the response; one with neither is malformed.
    pub fn into_result(self) -> Result<T, AdminError> {
        match (self.reply, self.error) {
            (_, Some(error)) => Err(error),
            (Some(reply), None) => Ok(reply),
            (None, None) => Err(AdminError::new(AdminErrorCode::Malformed, "the response is empty".into())),
        }
    }
}

impl<T: Serialize> AdminResponse<T> {
    pub(super) fn new(node: &str, result: Result<T, AdminError>) -> Self {
        let (reply, error) = match result {
            Ok(reply) => (Some(reply), None),
            Err(error) => (None, Some(error)),
        };
        Self { version: ADMIN_VERSION, node: node.to_owned(), reply, error }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        json(self)
    }
}

impl<T: DeserializeOwned> AdminResponse<T> {
    /// Reads a response.
    ///
    /// # Errors
    /// [`AdminError`] for bytes that are no response of this version.
    pub fn from_json(bytes: &[u8]) -> Result<Self, AdminError> {
        serde_json::from_slice(bytes).map_err(|error| AdminError::new(AdminErrorCode::Malformed, error.to_string()))
    }
}

/// All types here can be written: their keys are names.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

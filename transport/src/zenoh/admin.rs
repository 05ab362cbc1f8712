//! Requests of operators' tools over Zenoh: what a node answers, and what a tool asks.
//!
//! The caller's name is in the key, as a sender's is in that of a packet, so that access control decides who may ask in
//! whose name. Must not know what is asked.

use std::thread;
use std::time::Duration;

use ::zenoh::Wait;
use ::zenoh::query::{ConsolidationMode, Query, QueryTarget};
use accompanist_core::contract::{AdminAccess, AdminCall, TransportError};
use accompanist_core::id::NodeId;

use super::keys::Keys;
use super::session::Kept;
use super::{ZenohConfig, credentials, on_thread, plain};

/// The name of a tool without a certificate.
const UNCERTIFIED: &str = "operator";

/// Returns the call that `query` makes at `node`.
pub(super) fn call(node: &NodeId, caller: NodeId, access: AdminAccess, query: Query) -> AdminCall {
    let request = query.payload().map(|payload| payload.to_bytes().into_owned()).unwrap_or_default();
    // The query may be for all nodes: the response names this one.
    let key = answered_key(query.key_expr().as_str(), node);
    let respond = Box::new(move |response: Vec<u8>| {
        // A large response may block, as large packets do.
        let replied = move || {
            if let Err(error) = query.reply(key, response).wait() {
                tracing::debug!(error = plain(&error), "zenoh refuses a response to an operator");
            }
        };
        let spawned = thread::Builder::new().name("accompanist-zenoh-reply".into()).spawn(replied);
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for a response to an operator: raise the thread limit");
        }
    });
    AdminCall { caller, access, request, respond }
}

/// Puts the name of `node` into the key of a request.
fn answered_key(key: &str, node: &NodeId) -> String {
    let mut parts: Vec<&str> = key.rsplitn(4, '/').collect();
    if let Some(asked) = parts.get_mut(2) {
        *asked = node.as_str();
    }
    parts.reverse();
    parts.join("/")
}

/// An operator's tool on a Zenoh network: asks nodes, and collects their responses.
///
/// The tool is a client: it needs one node or router to connect to.
pub struct ZenohAdmin {
    session: Kept,
    namespace: String,
    caller: NodeId,
}

impl std::fmt::Debug for ZenohAdmin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ZenohAdmin({} as {})", self.namespace, self.caller)
    }
}

impl ZenohAdmin {
    /// Connects with this configuration, which may be that of a node: what the node listens on, the tool connects to.
    /// The tool asks in the name of its certificate, and only a member that is an
    /// operator gets answers; without certificates its name is `operator`, and the nodes trust this machine.
    ///
    /// # Errors
    /// [`TransportError::Open`] when nobody lets the tool connect, and [`TransportError::Config`] as for a node.
    pub async fn open(config: ZenohConfig) -> Result<Self, TransportError> {
        let config = config.into_tool();
        let (settings, _) = config.to_zenoh()?;
        let certified = credentials::common_name(&settings).map(|(_, name)| name);
        let caller = NodeId::new(certified.unwrap_or_else(|| UNCERTIFIED.to_owned()));
        let caller = caller.map_err(|error| TransportError::Config(error.to_string()))?;
        let opened = on_thread("accompanist-zenoh-open", move || ::zenoh::open(settings).wait()).await?;
        let session = opened.map_err(|error| TransportError::Open(config.explain(&plain(&error))))?;
        Ok(Self { session: Kept::new(session), namespace: config.into_namespace(), caller })
    }

    /// Returns the name in which the tool asks.
    pub fn caller(&self) -> &NodeId {
        &self.caller
    }

    /// Sends a request to one node or to all, and returns the responses that arrive within `wait`, each with the node
    /// that sent it. Returns earlier once all nodes that the network knows have answered.
    ///
    /// # Errors
    /// [`TransportError::Open`] when the request cannot be sent.
    pub async fn ask(
        &self,
        to: Option<&NodeId>,
        access: AdminAccess,
        request: Vec<u8>,
        wait: Duration,
    ) -> Result<Vec<(NodeId, Vec<u8>)>, TransportError> {
        let to = to.map_or("*", NodeId::as_str);
        let key = Keys::new(&self.namespace).admin(to, access, self.caller.as_str());
        let session = self.session.get().cloned();
        let session = session.ok_or_else(|| TransportError::Open("the zenoh session is closed".into()))?;
        // Zenoh blocks, and may not be used on a current-thread runtime.
        let asked = on_thread("accompanist-zenoh-ask", move || {
            let asked = session.get(key).payload(request).target(QueryTarget::All);
            let asked = asked.consolidation(ConsolidationMode::None).timeout(wait).wait();
            let responses = asked.map_err(|error| plain(&error))?;
            // Ends when all have answered, or the time is over.
            Ok(responses.iter().filter_map(|response| of_node(&response)).collect())
        });
        asked.await?.map_err(|error: String| TransportError::Open(format!("zenoh refuses a request: {error}")))
    }
}

/// Returns the node that sent a response, and the response.
fn of_node(response: &::zenoh::query::Reply) -> Option<(NodeId, Vec<u8>)> {
    let sample = response.result().ok()?;
    let node = sample.key_expr().as_str().rsplit('/').nth(2)?;
    Some((NodeId::new(node).ok()?, sample.payload().to_bytes().into_owned()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_response_names_the_node_that_was_asked_among_all() {
        let node = NodeId::new("bank-1").unwrap();
        for asked in ["ns/admin/*/read/ops", "ns/admin/bank-1/read/ops"] {
            assert_eq!(answered_key(asked, &node), "ns/admin/bank-1/read/ops");
        }
    }
}

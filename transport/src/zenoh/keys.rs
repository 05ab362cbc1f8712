//! The keys of packets and tokens: sender and receiver are part of the key, so that rules about keys are rules about
//! nodes.

use accompanist_core::contract::AdminAccess;

/// The keys of one namespace. A name may be `*` in rules and subscriptions.
pub(super) struct Keys<'a>(&'a str);

impl<'a> Keys<'a> {
    pub(super) fn new(namespace: &'a str) -> Self {
        Self(namespace)
    }

    /// The key of packets from one node to another.
    pub(super) fn node(&self, to: &str, from: &str) -> String {
        format!("{}/node/{to}/{from}", self.0)
    }

    /// The key of packets from one node to all.
    pub(super) fn all(&self, from: &str) -> String {
        format!("{}/all/{from}", self.0)
    }

    /// The key of an operator's requests to one node, in the name of `caller`.
    pub(super) fn admin(&self, node: &str, access: AdminAccess, caller: &str) -> String {
        format!("{}/admin/{node}/{}/{caller}", self.0, access.name())
    }

    /// The key of the token with which a session shows that it is connected, by its id in Zenoh.
    pub(super) fn here(&self, session: &str) -> String {
        format!("{}/here/{session}", self.0)
    }
}

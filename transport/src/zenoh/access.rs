//! The Zenoh configuration of a node in a system with members: TLS with certificates at both ends, no other listener,
//! and rules that allow each certificate to send only in its own name.
//!
//! A packet's sender is the last part of its key. The rule "only `a` puts to `../a`" makes the sender authentic, and
//! "only `a` subscribes to `../node/a/*`" hides the packet from others. Zenoh matches names exactly, so the rules
//! list each member.
//!
//! This module must not know certificates, only where their files are. Next: [`super::exposure`], which refuses a
//! node without all this.

use std::path::Path;

use accompanist_core::NodeId;
use accompanist_core::contract::AdminAccess;
use serde_json::{Value, json};

use super::keys::Keys;

/// The input for the Zenoh configuration files of a system with members. `accompanist security` creates them.
///
/// ```
/// use accompanist_core::NodeId;
/// use accompanist_transport::ZenohAccess;
///
/// let access = ZenohAccess {
///     namespace: "shop-floor".into(),
///     members: vec![NodeId::new("shop")?, NodeId::new("bank")?],
///     routers: vec![],
/// };
/// let (folder, listen) = ("/etc/accompanist/shop", "tls/0.0.0.0:7447");
/// let file = access.node_file(&NodeId::new("shop")?, folder.as_ref(), &[listen.into()], &[]);
/// assert!(file.contains("shop-floor/node/shop/bank"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZenohAccess {
    /// The namespace of the system's nodes: [`ZenohConfig::namespace`](crate::ZenohConfig::namespace).
    pub namespace: String,
    /// All nodes, by the names in their certificates.
    pub members: Vec<NodeId>,
    /// The names in the certificates of the Zenoh routers between the nodes. A router is trusted to name senders
    /// truthfully.
    pub routers: Vec<NodeId>,
}

/// The name of the authority's certificate in a node's folder.
pub const CA_FILE: &str = "ca.pem";
/// The name of the node's certificate in a node's folder.
pub const CERTIFICATE_FILE: &str = "certificate.pem";
/// The name of the node's private key in a node's folder.
pub const KEY_FILE: &str = "key.pem";

/// Any node: stands for the nodes behind a router, which is trusted to name them truthfully.
const ANY: &str = "*";

/// The rights of one end of a connection: the keys to which it may put, and those to which it may subscribe.
struct Allowed {
    puts: Vec<String>,
    subscribes: Vec<String>,
    /// Requests of operators. Whether the caller is one is decided by each node, by its members file.
    queries: Vec<String>,
    /// The operators' requests that it answers.
    answers: Vec<String>,
}

impl Allowed {
    /// Returns what may go from `from` to `to`, each of which is a node or [`ANY`].
    fn new(keys: &Keys<'_>, from: &str, to: &str) -> Self {
        let admin =
            |node, caller| [AdminAccess::Read, AdminAccess::Write].map(|access| keys.admin(node, access, caller));
        Self {
            puts: vec![keys.node(to, from), keys.all(from)],
            subscribes: vec![keys.node(from, ANY), keys.all(ANY)],
            queries: admin(ANY, from).into(),
            answers: admin(from, ANY).into(),
        }
    }
}

impl ZenohAccess {
    /// Returns the file of node `own`, whose certificate and key are in `folder`.
    pub fn node_file(&self, own: &NodeId, folder: &Path, listen: &[String], connect: &[String]) -> String {
        file("peer", folder, listen, connect, &self.rules(own, own.as_str()))
    }

    /// Returns the file of router `own` between the nodes, for `zenohd --config`.
    pub fn router_file(&self, own: &NodeId, folder: &Path, listen: &[String], connect: &[String]) -> String {
        file("router", folder, listen, connect, &self.rules(own, ANY))
    }

    /// Returns the rules of `own` for all other ends; `own` sends and receives as `end`.
    fn rules(&self, own: &NodeId, end: &str) -> Value {
        let keys = Keys::new(&self.namespace);
        let members = self.members.iter().map(|member| (member, member.as_str()));
        let others = members.chain(self.routers.iter().map(|router| (router, ANY))).filter(|(other, _)| *other != own);
        let ends = others.map(|(other, far)| (other, Allowed::new(&keys, far, end), Allowed::new(&keys, end, far)));
        access_control(&keys, &ends.collect::<Vec<_>>())
    }
}

fn access_control(keys: &Keys<'_>, ends: &[(&NodeId, Allowed, Allowed)]) -> Value {
    let (mut rules, mut subjects, mut policies) = (Vec::new(), Vec::new(), Vec::new());
    for (end, from, to) in ends {
        let mut of_end = Vec::new();
        for (flow, allowed) in [("ingress", from), ("egress", to)] {
            let Allowed { puts, subscribes, queries, answers } = allowed;
            for (message, key_exprs) in [
                ("put", puts),
                ("declare_subscriber", subscribes),
                ("query", queries),
                ("declare_queryable", answers),
                ("reply", answers),
            ] {
                let id = format!("{end} {flow} {message}");
                rules.push(json!({
                    "id": id, "permission": "allow", "flows": [flow], "messages": [message], "key_exprs": key_exprs
                }));
                of_end.push(id);
            }
        }
        let subject = format!("{end}");
        subjects.push(json!({ "id": subject, "cert_common_names": [end.as_str()] }));
        of_end.push("presence".to_owned());
        policies.push(json!({ "rules": of_end, "subjects": [subject] }));
    }
    rules.push(json!({
        "id": "presence", "permission": "allow", "flows": ["ingress", "egress"],
        "messages": ["liveliness_token", "liveliness_query", "declare_liveliness_subscriber"],
        "key_exprs": [keys.here("*")]
    }));
    json!({
        "enabled": true, "default_permission": "deny", "rules": rules, "subjects": subjects, "policies": policies
    })
}

fn file(mode: &str, folder: &Path, listen: &[String], connect: &[String], access_control: &Value) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    let (certificate, key) = (path(CERTIFICATE_FILE), path(KEY_FILE));
    let mut config = json!({
        "mode": mode,
        "scouting": { "multicast": { "enabled": false } },
        "transport": { "link": {
            "protocols": ["tls"],
            "tls": {
                "root_ca_certificate": path(CA_FILE),
                "listen_certificate": certificate, "listen_private_key": key,
                "connect_certificate": certificate, "connect_private_key": key,
                "enable_mtls": true,
                // The certificate identifies the other end: an address proves nothing more.
                "verify_name_on_connect": false,
                "close_link_on_expiration": true
            }
        } },
        "access_control": access_control
    });
    for (key, endpoints) in [("listen", listen), ("connect", connect)] {
        if let Some(config) = config.as_object_mut().filter(|_| !endpoints.is_empty()) {
            config.insert(key.into(), json!({ "endpoints": endpoints }));
        }
    }
    // Values of this kind can always be written as text.
    serde_json::to_string_pretty(&config).unwrap_or_default() + "\n"
}

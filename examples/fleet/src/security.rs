//! What the nodes of a bench or of a test need to trust each other, as `accompanist security` makes it.

use std::path::{Path, PathBuf};

use accompanist::transport::{CA_FILE, CERTIFICATE_FILE, KEY_FILE, ZenohAccess, ZenohConfig};
use accompanist::{NodeBuilder, NodeId, SEAL_KEY_FILE, SealSecrets};
use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// The namespace of the nodes.
pub const NAMESPACE: &str = "test-system";
/// The Zenoh configuration in a node's folder.
const ZENOH_FILE: &str = "zenoh.json5";
/// The members file in a node's folder.
const MEMBERS_FILE: &str = "members.toml";

/// How nodes protect what they say to each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Protection {
    /// By certificates, access control and members.
    pub secured: bool,
    /// By sealing it from node to node, with members.
    pub sealed: bool,
}

impl Protection {
    /// Whether there is any.
    #[must_use]
    pub fn is_any(self) -> bool {
        self.secured || self.sealed
    }

    /// How an endpoint that says `tcp/` is reached.
    #[must_use]
    pub fn endpoint(self, endpoint: &str) -> String {
        if self.secured { endpoint.replacen("tcp/", "tls/", 1) } else { endpoint.to_owned() }
    }

    /// The network of the node whose files are in `folder`, and that listens there.
    #[must_use]
    pub fn wire(self, folder: &Path, listen: &str, peers: impl IntoIterator<Item = impl AsRef<str>>) -> ZenohConfig {
        let wire = if self.secured {
            ZenohConfig::new().namespace(NAMESPACE).config_file(folder.join(ZENOH_FILE))
        } else {
            ZenohConfig::new()
        };
        let wire = wire.listen(self.endpoint(listen));
        peers.into_iter().fold(wire, |wire, peer| wire.connect(self.endpoint(peer.as_ref())))
    }

    /// The same of the node itself.
    #[must_use]
    pub fn node(self, mut node: NodeBuilder, folder: &Path) -> NodeBuilder {
        if self.is_any() {
            node = node.members_file(folder.join(MEMBERS_FILE));
        }
        if self.sealed {
            node = node.seal_key_file(folder.join(SEAL_KEY_FILE));
        }
        node
    }
}

/// Where the files of the node of `role` are, whose store is in `store`.
#[must_use]
pub fn folder(store: &Path, role: &str) -> PathBuf {
    store.with_file_name("security").join(role)
}

/// Makes what the nodes of these roles need, each of which has the name of its role, with their stores below `base`:
/// those that start sessions, and the others.
///
/// # Errors
/// A file cannot be written, or a role's name is no name of a node.
pub fn make(base: &Path, starting: &[&str], others: &[&str]) -> Result<()> {
    let roles: Vec<_> = starting.iter().chain(others).copied().collect();
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::from_ca_cert_pem(&authority, key)?;
    let members = roles.iter().map(NodeId::new).collect::<Result<_, _>>()?;
    let access = ZenohAccess { namespace: NAMESPACE.into(), members, routers: Vec::new() };
    let secrets = roles.iter().map(|_| SealSecrets::generate()).collect::<Result<Vec<_>, _>>()?;
    let tables = roles.iter().zip(&secrets).map(|(role, secrets)| {
        let keys: Vec<_> = secrets.public_keys().iter().map(ToString::to_string).collect();
        let starts = if starting.contains(role) { "starts = [\"*\"]\n" } else { "" };
        format!("[nodes.{role}]\nroles = [\"{role}\"]\n{starts}seal_keys = {keys:?}\n")
    });
    let of_all = format!("system = \"{NAMESPACE}\"\n{}", tables.collect::<String>());
    for (role, secrets) in roles.into_iter().zip(&secrets) {
        let folder = folder(&base.join(role), role);
        std::fs::create_dir_all(&folder)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, role);
        std::fs::write(folder.join(CERTIFICATE_FILE), params.signed_by(&key, &issuer)?.pem())?;
        std::fs::write(folder.join(KEY_FILE), key.serialize_pem())?;
        std::fs::write(folder.join(CA_FILE), &authority)?;
        std::fs::write(folder.join(ZENOH_FILE), access.node_file(&NodeId::new(role)?, &folder, &[], &[]))?;
        std::fs::write(folder.join(MEMBERS_FILE), &of_all)?;
        let seal_key = folder.join(SEAL_KEY_FILE);
        std::fs::write(&seal_key, secrets.to_text())?;
        std::fs::set_permissions(seal_key, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    Ok(())
}

//! What three nodes need to talk with certificates, as `accompanist security` makes it.

use std::path::{Path, PathBuf};

use accompanist::transport::{CA_FILE, CERTIFICATE_FILE, KEY_FILE, ZenohAccess};
use accompanist::{NodeId, SEAL_KEY_FILE, SealSecrets};
use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// The namespace of the nodes.
pub(crate) const NAMESPACE: &str = "bench";
/// The Zenoh configuration in a node's folder.
pub(crate) const ZENOH_FILE: &str = "zenoh.json5";
/// The members file in a node's folder.
pub(crate) const MEMBERS_FILE: &str = "members.toml";

/// How nodes protect what they say to each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Protection {
    /// By certificates, access control and members.
    pub(crate) secured: bool,
    /// By sealing it from node to node, with members.
    pub(crate) sealed: bool,
}

impl Protection {
    /// Whether there is any.
    pub(crate) fn is_any(self) -> bool {
        self.secured || self.sealed
    }
}

/// Where the certificates of the node of `role` are, whose store is in `store`.
pub(crate) fn folder(store: &Path, role: &str) -> PathBuf {
    store.with_file_name("security").join(role)
}

/// Makes what the nodes of `roles` need, with their stores below `base`.
pub(crate) fn make(base: &Path, roles: &[&str]) -> Result<()> {
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
        format!("[nodes.{role}]\nroles = [\"{role}\"]\nstarts = [\"*\"]\nseal_keys = {keys:?}\n")
    });
    let of_all = format!("system = \"{NAMESPACE}\"\n{}", tables.collect::<String>());
    for (role, secrets) in roles.iter().zip(&secrets) {
        let folder = folder(&base.join(role), role);
        std::fs::create_dir_all(&folder)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, *role);
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

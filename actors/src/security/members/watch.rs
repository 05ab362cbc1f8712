//! The current members of a node's system, and the keys with which it seals. The files are read again when one of
//! them changes, so that a revocation takes effect within seconds.
//!
//! Files that can no longer be used, or that do not match each other, change nothing: members and keys stay as they
//! were, together, and the reason is logged.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use accompanist_core::NodeId;

use super::{Members, MembersError};
use crate::security::SecurityError;
use crate::security::seal::{Seal, SealSecrets};

/// How often the files are checked.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// The source of the members.
#[derive(Debug, Clone)]
pub(crate) enum MembersSource {
    File(PathBuf),
    Fixed(Members),
}

/// The current members, and the current keys if the node seals.
pub(crate) struct CurrentMembers {
    node: NodeId,
    source: MembersSource,
    seal_key_file: Option<PathBuf>,
    current: RwLock<Current>,
    /// The versions of the files as they were last read.
    seen: RwLock<Versions>,
}

#[derive(Clone)]
struct Current {
    members: Arc<Members>,
    seal: Option<Arc<Seal>>,
}

/// The modification time and size of a file, which distinguish one content from another.
type Version = (Option<SystemTime>, u64);
/// The versions of the members file and of the file with the secret keys.
type Versions = [Option<Version>; 2];

fn version(file: &Path) -> Option<Version> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok(), metadata.len()))
}

fn versions(source: &MembersSource, seal_key_file: Option<&Path>) -> Versions {
    files(source, seal_key_file).map(|file| file.and_then(version))
}

fn files<'a>(source: &'a MembersSource, seal_key_file: Option<&'a Path>) -> [Option<&'a Path>; 2] {
    let members = match source {
        MembersSource::File(file) => Some(file.as_path()),
        MembersSource::Fixed(_) => None,
    };
    [members, seal_key_file]
}

fn no_member(node: &NodeId, members: &Members) -> MembersError {
    MembersError::Refused(format!("`{node}` is not a member of system `{}`", members.system))
}

fn read<T: Clone>(lock: &RwLock<T>) -> T {
    lock.read().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Current {
    fn load(node: &NodeId, source: &MembersSource, seal_key_file: Option<&Path>) -> Result<Self, SecurityError> {
        let members = match source {
            MembersSource::File(file) => Members::load(file)?,
            MembersSource::Fixed(members) => members.clone(),
        };
        let Some(file) = seal_key_file else { return Ok(Self { members: Arc::new(members), seal: None }) };
        if !members.has(node) {
            return Err(no_member(node, &members).into());
        }
        let seal = Seal::new(node, &SealSecrets::load(file)?, members.seal_keys())?;
        Ok(Self { members: Arc::new(members), seal: Some(Arc::new(seal)) })
    }
}

impl CurrentMembers {
    /// Loads members and keys. With a file of secret keys, the node seals what it sends to other nodes.
    pub(crate) fn load(
        node: &NodeId,
        source: MembersSource,
        seal_key_file: Option<PathBuf>,
    ) -> Result<Arc<Self>, SecurityError> {
        let seen = versions(&source, seal_key_file.as_deref());
        let current = Current::load(node, &source, seal_key_file.as_deref())?;
        let (current, seen) = (RwLock::new(current), RwLock::new(seen));
        Ok(Arc::new(Self { node: node.clone(), source, seal_key_file, current, seen }))
    }

    /// Checks the files, if there are any, until `ended` or until nobody else holds this value.
    pub(crate) fn follow(self: &Arc<Self>, ended: impl Future<Output: Send> + Send + 'static) {
        if files(&self.source, self.seal_key_file.as_deref()).iter().all(Option::is_none) {
            return;
        }
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::pin!(ended);
            while tokio::time::timeout(LOOK_PERIOD, &mut ended).await.is_err() {
                let weak = weak.clone();
                let looked =
                    tokio::task::spawn_blocking(move || weak.upgrade().map(|members| members.look()).is_some());
                if !looked.await.unwrap_or_default() {
                    return;
                }
            }
        });
    }

    pub(crate) fn get(&self) -> Arc<Members> {
        read(&self.current).members
    }

    /// Returns the keys, if the node seals.
    pub(crate) fn seal(&self) -> Option<Arc<Seal>> {
        read(&self.current).seal
    }

    /// Reads the files again if one has changed. May block for a moment.
    pub(crate) fn look(&self) {
        let now = versions(&self.source, self.seal_key_file.as_deref());
        if read(&self.seen) == now {
            return;
        }
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = now;
        match Current::load(&self.node, &self.source, self.seal_key_file.as_deref()) {
            Ok(current) => {
                tracing::info!(members = current.members.nodes.len(), "members and keys were read again");
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
            }
            Err(error) => tracing::error!(%error, "members and keys stay as they were before a file changed"),
        }
    }

    /// Checks that `node` may do what it is built for.
    pub(crate) fn check_own(&self, node: &NodeId, roles: &[&str]) -> Result<(), MembersError> {
        let members = self.get();
        if !members.has(node) {
            return Err(no_member(node, &members));
        }
        match roles.iter().find(|role| !members.may_play(node, role)) {
            Some(role) => Err(MembersError::Refused(format!("`{node}` may not play role `{role}`"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn write(file: &Path, text: &str) {
        // Replaced as a whole: a write in place within the same clock tick, with the same length, is not detected.
        let new = file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    #[test]
    fn files_that_do_not_fit_each_other_change_nothing_until_they_do() {
        let folder = tempfile::tempdir().unwrap();
        let (members_file, key_file) = (folder.path().join("members.toml"), folder.path().join("seal.key"));
        let (own, other) = (SealSecrets::generate().unwrap(), SealSecrets::generate().unwrap());
        let members = |own: &SealSecrets, more: &str| {
            let keys = |secrets: &SealSecrets| {
                format!("{:?}", secrets.public_keys().iter().map(ToString::to_string).collect::<Vec<_>>())
            };
            let [own, other] = [own, &other].map(keys);
            format!("system = \"s\"\n[nodes.a]\nseal_keys = {own}\n[nodes.b]\nseal_keys = {other}\n{more}")
        };
        write(&members_file, &members(&own, ""));
        write(&key_file, &own.to_text());
        let (a, c) = (NodeId::new("a").unwrap(), NodeId::new("c").unwrap());
        let current =
            CurrentMembers::load(&a, MembersSource::File(members_file.clone()), Some(key_file.clone())).unwrap();
        let (first, before) = (current.seal().unwrap(), current.get());
        let stays = |what: &str| {
            current.look();
            assert!(Arc::ptr_eq(&first, &current.seal().unwrap()) && Arc::ptr_eq(&before, &current.get()), "{what}");
        };
        stays("the same files");
        write(&members_file, &members(&own, "[nodes.c]\n"));
        stays("a member without keys");
        write(&members_file, &members(&own, "[nodes.a]"));
        stays("no members file");
        write(&members_file, &members(&own, "").replace("[nodes.a]", "[nodes.a]\nrevoked = true"));
        stays("the own node is revoked: it sends nothing in clear for that");
        write(&members_file, &members(&own, ""));
        for text in ["no key\n", &SealSecrets::generate().unwrap().to_text()] {
            write(&key_file, text);
            stays("no keys, or others");
        }
        // Renewals whose members file comes later.
        let renewed = own.renewed().unwrap().renewed().unwrap().renewed().unwrap();
        write(&key_file, &renewed.to_text());
        stays("keys that no member knows yet");
        let more = format!("[nodes.c]\nseal_keys = [\"{}\"]\n", SealSecrets::generate().unwrap().public_keys()[0]);
        write(&members_file, &members(&renewed, &more));
        current.look();
        assert!(!Arc::ptr_eq(&first, &current.seal().unwrap()) && current.get().has(&c));
    }
}

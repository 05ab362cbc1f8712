//! The members that a node goes by now: read again when their file changes, so that a revocation holds within seconds.
//!
//! A file that cannot be used any more changes nothing: the former members stay, and the reason is logged.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use accompanist_core::NodeId;

use super::{Members, MembersError};
use crate::shared::Shared;

/// How often the file is looked at.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Where members come from.
#[derive(Debug, Clone)]
pub(crate) enum MembersSource {
    File(PathBuf),
    Fixed(Members),
}

/// The present members.
pub(crate) struct CurrentMembers {
    file: Option<PathBuf>,
    members: RwLock<Arc<Members>>,
    /// Of the file as it was read last.
    seen: RwLock<Option<Version>>,
}

/// What tells one content of a file from another.
type Version = (Option<SystemTime>, u64);

fn version(file: &Path) -> Option<Version> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok(), metadata.len()))
}

/// Looks at the file for as long as the node runs.
pub(crate) fn spawn(shared: &Arc<Shared>) {
    if shared.members.as_ref().is_none_or(|members| members.file.is_none()) {
        return;
    }
    let (node, ended) = (Arc::downgrade(shared), shared.end.wait());
    tokio::spawn(async move {
        tokio::pin!(ended);
        while tokio::time::timeout(LOOK_PERIOD, &mut ended).await.is_err() {
            let looked = tokio::task::spawn_blocking({
                let node = node.clone();
                move || node.upgrade().is_some_and(|shared| shared.members.as_ref().map(CurrentMembers::look).is_some())
            });
            if !looked.await.unwrap_or_default() {
                return;
            }
        }
    });
}

impl CurrentMembers {
    pub(crate) fn load(source: MembersSource) -> Result<Self, MembersError> {
        let (file, seen, members) = match source {
            MembersSource::File(file) => {
                let seen = version(&file);
                let members = Members::load(&file)?;
                (Some(file), seen, members)
            }
            MembersSource::Fixed(members) => (None, None, members),
        };
        Ok(Self { file, members: RwLock::new(Arc::new(members)), seen: RwLock::new(seen) })
    }

    pub(crate) fn get(&self) -> Arc<Members> {
        self.members.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again if it has changed. May block for a moment.
    pub(crate) fn look(&self) {
        let Some(file) = &self.file else { return };
        let now = version(file);
        if *self.seen.read().unwrap_or_else(PoisonError::into_inner) == now {
            return;
        }
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = now;
        match Members::load(file) {
            Ok(members) => {
                tracing::info!(file = %file.display(), members = members.nodes.len(), "the members file was read again");
                *self.members.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(members);
            }
            Err(error) => tracing::error!(%error, "the members stay as they were before the file changed"),
        }
    }

    /// Checks that `node` may be what it is built for.
    pub(crate) fn check_own(&self, node: &NodeId, roles: &[&str]) -> Result<(), MembersError> {
        let members = self.get();
        if !members.has(node) {
            return Err(MembersError::Refused(format!("`{node}` is not a member of system `{}`", members.system)));
        }
        match roles.iter().find(|role| !members.may_play(node, role)) {
            Some(role) => Err(MembersError::Refused(format!("`{node}` may not play role `{role}`"))),
            None => Ok(()),
        }
    }
}

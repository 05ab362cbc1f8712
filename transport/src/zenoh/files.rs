//! The files with which a session was opened: whether they have changed since, and until when its certificate is
//! valid.
//!
//! This module must not know how the answers are used. Next: [`super::keeper`].

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::zenoh::Config;
use x509_parser::pem::parse_x509_pem;

use super::credentials;

/// The keys of the paths of certificates and keys in Zenoh's configuration.
const PATHS: [&str; 5] =
    ["root_ca_certificate", "listen_certificate", "listen_private_key", "connect_certificate", "connect_private_key"];

/// The files of one session, as they were when it was opened.
pub(super) struct Files {
    seen: Vec<(PathBuf, Option<Version>)>,
    certificates: Vec<PathBuf>,
}

/// The modification time and size of a file, which distinguish one content from another.
type Version = (Option<SystemTime>, u64);

fn version(file: &Path) -> Option<Version> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok(), metadata.len()))
}

impl Files {
    pub(super) fn new(config_file: Option<&Path>, config: &Config) -> Self {
        let path_of = |key: &&str| credentials::path(config, key);
        let tls = PATHS.iter().filter_map(path_of);
        let paths = config_file.map(Path::to_owned).into_iter().chain(tls);
        let certificates = ["listen_certificate", "connect_certificate"].iter().filter_map(path_of).collect();
        Self { seen: paths.map(|path| (path.clone(), version(&path))).collect(), certificates }
    }

    /// Whether one of the files has changed. A missing file does not count: it may be about to be replaced.
    pub(super) fn have_changed(&self) -> bool {
        self.seen.iter().any(|(path, seen)| version(path).is_some_and(|now| Some(now) != *seen))
    }

    /// Returns the first of this node's certificates to expire, and how long it is still valid; zero if it has
    /// expired. `None` if no certificate can be read.
    pub(super) fn first_to_expire(&self) -> Option<(&Path, Duration)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let until = self.certificates.iter().filter_map(|path| Some((expiry(&std::fs::read(path).ok()?)?, path)));
        let (until, path) = until.min()?;
        Some((path, until.saturating_sub(now)))
    }
}

/// Returns until when the first certificate of a PEM file is valid, since the Unix epoch.
fn expiry(pem: &[u8]) -> Option<Duration> {
    let (_, pem) = parse_x509_pem(pem).ok()?;
    let seconds = pem.parse_x509().ok()?.validity().not_after.timestamp();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_is_noticed_and_one_that_is_gone_is_not() {
        let path = std::env::temp_dir().join(format!("accompanist-files-{}", std::process::id()));
        std::fs::write(&path, "one").unwrap();
        let files = Files::new(Some(&path), &Config::default());
        assert!(!files.have_changed() && files.first_to_expire().is_none());
        std::fs::write(&path, "another").unwrap();
        assert!(files.have_changed());
        std::fs::remove_file(&path).unwrap();
        assert!(!files.have_changed());
        assert!(expiry(b"no certificate").is_none());
    }
}

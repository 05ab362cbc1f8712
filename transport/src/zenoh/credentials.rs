//! Checks the certificates and the key with which a session is to be opened. Zenoh's errors about unusable ones name
//! neither the file nor what to do, or blame an address.
//!
//! Whether a peer's certificate is valid is known only when it connects: then Zenoh logs it (`docs/security.md`).
//! Next: [`super::files`].

use std::path::{Path, PathBuf};

use ::zenoh::Config;
use accompanist_core::contract::TransportError;
use x509_parser::pem::Pem;

/// The contents of each file, by the last part of its key in Zenoh's configuration.
const FILES: [(&str, &str, Content); 5] = [
    ("root_ca_certificate", "certificate of the authority", Content::Certificate),
    ("listen_certificate", "node's certificate", Content::Certificate),
    ("listen_private_key", "node's private key", Content::Key),
    ("connect_certificate", "node's certificate", Content::Certificate),
    ("connect_private_key", "node's private key", Content::Key),
];

/// The name that the TLS library below Zenoh gives to a key of another certificate.
const MISMATCH: &str = "KeyMismatch";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Certificate,
    Key,
}

/// Returns the file that a configuration names under a key, if there is one.
pub(super) fn path(config: &Config, key: &str) -> Option<PathBuf> {
    serde_json::from_str(&config.get_json(&format!("transport/link/tls/{key}")).ok()?).ok()
}

/// Checks that each file that the configuration names can be read and has the expected contents.
pub(super) fn check(config: &Config) -> Result<(), TransportError> {
    for (key, what, content) in FILES {
        let Some(path) = path(config, key) else { continue };
        let refused = |reason: String| {
            let path = path.display();
            TransportError::Config(format!(
                "the {what} `{path}` (`{key}`) {reason}: put it there, with the rights for this process to read it; \
                 `accompanist security renew` makes another certificate with its key"
            ))
        };
        let bytes = std::fs::read(&path).map_err(|error| refused(format!("cannot be read ({error})")))?;
        let has_any = Pem::iter_from_buffer(&bytes).flatten().any(|pem| match content {
            Content::Certificate => pem.parse_x509().is_ok(),
            Content::Key => pem.label.ends_with("PRIVATE KEY"),
        });
        if !has_any {
            let wanted = if content == Content::Key { "private key" } else { "certificate" };
            return Err(refused(format!("has no {wanted} in PEM")));
        }
    }
    Ok(())
}

/// Returns what Zenoh's error means, if it is about a key that does not belong to its certificate.
pub(super) fn explain(error: &str, config: &Config) -> Option<String> {
    let of =
        |end: &str| Some((path(config, &format!("{end}_private_key"))?, path(config, &format!("{end}_certificate"))?));
    let (key, certificate) = of("listen").or_else(|| of("connect")).filter(|_| error.contains(MISMATCH))?;
    let subject = subject(&certificate).unwrap_or_default();
    let (key, certificate) = (key.display(), certificate.display());
    Some(format!(
        "the private key `{key}` is not that of the certificate `{certificate}` ({subject}): copy both from the same \
         folder, or make others with `accompanist security renew`"
    ))
}

/// Returns the subject of a certificate, as text.
pub(super) fn subject(file: &Path) -> Option<String> {
    read(file, |certificate| Some(certificate.subject().to_string()))
}

/// Returns the name in the certificate that this node presents when it connects, or else when others connect to it.
pub(super) fn common_name(config: &Config) -> Option<(PathBuf, String)> {
    let file = path(config, "connect_certificate").or_else(|| path(config, "listen_certificate"))?;
    let name =
        read(&file, |certificate| Some(certificate.subject().iter_common_name().next()?.as_str().ok()?.to_owned()))?;
    Some((file, name))
}

/// Returns what `look` finds in the first certificate of a file.
fn read<T>(file: &Path, look: impl FnOnce(&x509_parser::certificate::X509Certificate<'_>) -> Option<T>) -> Option<T> {
    let bytes = std::fs::read(file).ok()?;
    let pem = Pem::iter_from_buffer(&bytes).flatten().next()?;
    look(&pem.parse_x509().ok()?)
}

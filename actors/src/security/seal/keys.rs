//! The keys with which packets are sealed: public ones in the members file, secret ones in a separate file that only
//! their node has.
//!
//! Both are written as base64, 32 bytes each. Pure, except for reading a file and for the operating system's random
//! numbers.

use std::fmt;
use std::path::Path;

use accompanist_core::NodeId;
use base64ct::{Base64, Encoding};
use crypto_box::aead::OsRng;
use crypto_box::aead::rand_core::RngCore;
use crypto_box::{KEY_SIZE, PublicKey, SecretKey};
use serde::{Deserialize, Serialize};

/// The most keys of one node: a packet is tried with each pair of keys until one opens it.
pub const SEAL_KEYS_MAX: usize = 4;
/// The name that `accompanist security` gives to a node's file of secret keys.
pub const SEAL_KEY_FILE: &str = "seal.key";

const HEAD: &str =
    "# The secret keys of this node: the first one that the members file names seals, each of them opens.\n";

/// Keys or members with which packets cannot be sealed.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The file of the secret keys cannot be read.
    #[error(
        "the seal key file `{file}` cannot be read ({reason}): `accompanist security add-node` or `renew` makes one"
    )]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// Other users may read the secret keys.
    #[error("others can use the seal key file `{file}` (mode {mode:o}): `chmod go= {file}`")]
    Rights {
        /// The file.
        file: String,
        /// The file's mode.
        mode: u32,
    },
    /// The file is not a file of secret keys.
    #[error("the seal key file `{file}` is not understood: {reason}; `accompanist security renew` makes another one")]
    Malformed {
        /// The file.
        file: String,
        /// The problem, with its line.
        reason: String,
    },
    /// Nothing says which keys the other nodes have.
    #[error(
        "a node that seals needs the keys of the others: give it a members file as well (`NodeBuilder::members_file`)"
    )]
    NoMembers,
    /// Some members have no keys, or their names are patterns.
    #[error(
        "a node that seals talks to members that do so alone, and the members file has no `seal_keys` of {0}: \
         `accompanist security renew` adds them for one node, a name that ends in `*` cannot have any"
    )]
    Missing(String),
    /// Two members have the same key: each could send in the other's name.
    #[error("the members file gives `{one}` and `{other}` the same seal key: give each keys of its own")]
    SameKey {
        /// The first member.
        one: String,
        /// The second member.
        other: String,
    },
    /// The members file names none of the node's own keys.
    #[error(
        "the members file names none of the seal keys that `{0}` has: copy both files anew, or call `accompanist \
         security renew {0}`"
    )]
    NotOwn(NodeId),
    /// The operating system provides no random numbers.
    #[error("the operating system gives no random numbers: {0}")]
    Random(String),
}

accompanist_core::debug_as_text!(SealError);

/// A node's public key, as in the members file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SealKey([u8; KEY_SIZE]);

impl SealKey {
    pub(super) fn public_key(self) -> PublicKey {
        PublicKey::from_bytes(self.0)
    }
}

impl fmt::Display for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Base64::encode_string(&self.0))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<SealKey> for String {
    fn from(key: SealKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for SealKey {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        match decode(&text) {
            // A placeholder for a missing key; anyone can open what is sealed with it.
            Some([0, rest @ ..]) if rest == [0; KEY_SIZE - 1] => Err("this is no seal key, but zeros"),
            Some(bytes) => Ok(Self(bytes)),
            None => Err("this is no seal key: 32 bytes as base64, as `accompanist security` writes them"),
        }
    }
}

fn decode(text: &str) -> Option<[u8; KEY_SIZE]> {
    let mut bytes = [0; KEY_SIZE];
    (Base64::decode(text, &mut bytes).ok()?.len() == KEY_SIZE).then_some(bytes)
}

/// A node's secret keys: the one in use, the next one, and the former one. Each has its public key in the members
/// file.
#[derive(Clone)]
pub struct SealSecrets(Vec<SecretKey>);

impl fmt::Debug for SealSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SealSecrets").field(&self.public_keys()).finish()
    }
}

impl SealSecrets {
    /// Generates two keys: the one that is used from now on, and the one after it.
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub fn generate() -> Result<Self, SealError> {
        Ok(Self(vec![fresh()?, fresh()?]))
    }

    /// Returns renewed keys: the next key is used from now on, a new key follows it, and the key that was in use
    /// becomes the former one. A node with this file or the previous one can exchange sealed packets with nodes that
    /// have these public keys or the previous ones.
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub fn renewed(&self) -> Result<Self, SealError> {
        match self.0.as_slice() {
            [used, next, ..] => Ok(Self(vec![next.clone(), fresh()?, used.clone()])),
            // The other nodes know no other key that could be used.
            keys => Ok(Self(keys.iter().cloned().chain([fresh()?]).collect())),
        }
    }

    /// Reads a file that nobody else may use.
    ///
    /// # Errors
    /// [`SealError::Unreadable`], [`SealError::Rights`] and [`SealError::Malformed`].
    pub fn load(file: impl AsRef<Path>) -> Result<Self, SealError> {
        let (file, name) = (file.as_ref(), file.as_ref().display().to_string());
        let unreadable =
            |error: std::io::Error| SealError::Unreadable { file: name.clone(), reason: error.to_string() };
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(file).map_err(unreadable)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(SealError::Rights { file: name, mode });
            }
        }
        let text = std::fs::read_to_string(file).map_err(unreadable)?;
        Self::from_text(&text).map_err(|reason| SealError::Malformed { file: name.clone(), reason })
    }

    /// Reads text that [`SealSecrets::to_text`] has written: one key per line, except for empty lines and lines that
    /// begin with `#`.
    fn from_text(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        // Errors do not repeat the line: it may be a key.
        let key = |(at, line): (usize, &str)| {
            decode(line).map(SecretKey::from_bytes).ok_or(format!("line {} is no key of 32 bytes as base64", at + 1))
        };
        let keys: Vec<_> = lines.map(key).collect::<Result<_, _>>()?;
        match keys.len() {
            0 => Err("it has no key".into()),
            found if found > SEAL_KEYS_MAX => Err(format!("it has {found} keys, the limit is {SEAL_KEYS_MAX}")),
            _ => Ok(Self(keys)),
        }
    }

    /// Returns the text of the keys' file.
    pub fn to_text(&self) -> String {
        let keys = self.0.iter().map(|key| Base64::encode_string(&key.to_bytes()) + "\n");
        [HEAD.to_owned()].into_iter().chain(keys).collect()
    }

    /// Returns the public keys for the members file, in the same order.
    pub fn public_keys(&self) -> Vec<SealKey> {
        self.keys().map(|(_, public)| public).collect()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = (&SecretKey, SealKey)> {
        self.0.iter().map(|key| (key, SealKey(*key.public_key().as_bytes())))
    }
}

fn fresh() -> Result<SecretKey, SealError> {
    let mut bytes = [0; KEY_SIZE];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| SealError::Random(error.to_string()))?;
    Ok(SecretKey::from_bytes(bytes))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_secret_keys_reads_the_same_and_is_its_owners_alone() {
        let secrets = SealSecrets::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(SEAL_KEY_FILE);
        std::fs::write(&file, secrets.to_text()).unwrap();
        let set_mode = |mode| {
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            SealSecrets::load(&file)
        };
        assert_eq!(set_mode(0o600).unwrap().public_keys(), secrets.public_keys());
        assert_eq!(set_mode(0o400).unwrap().public_keys(), secrets.public_keys());
        for mode in [0o640, 0o604, 0o620, 0o644] {
            let error = set_mode(mode).unwrap_err().to_string();
            assert!(error.contains("chmod go=") && error.contains(&format!("{mode:o}")), "{error}");
        }
        let error = SealSecrets::load(folder.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("none") && error.contains("accompanist security"), "{error}");
    }

    #[test]
    fn a_file_that_is_none_says_in_which_line_and_shows_no_key() {
        let secrets = SealSecrets::generate().unwrap().to_text();
        let key = secrets.lines().nth(1).unwrap();
        for (text, expected) in [
            (String::new(), "no key"),
            ("# nothing\n\n".into(), "no key"),
            (format!("{key}\n{}", &key[1..]), "line 2"),
            (format!("\n\n{key}{key}\n"), "line 3"),
            (format!("secret = {key}"), "line 1"),
            (format!("{key}\n").repeat(5), "5 keys"),
        ] {
            let error = SealSecrets::from_text(&text).unwrap_err();
            assert!(error.contains(expected) && !error.contains(&key[2..10]), "{error}");
        }
        assert!(!format!("{:?}", SealSecrets::from_text(&secrets)).contains(&key[2..10]));
    }

    #[test]
    fn the_next_key_is_used_after_a_renewal() {
        let first = SealSecrets::generate().unwrap();
        let second = first.renewed().unwrap();
        let (before, after) = (first.public_keys(), second.public_keys());
        assert_eq!((before.len(), after.len(), after[0], after[2]), (2, 3, before[1], before[0]));
        assert!(!before.contains(&after[1]));
        let last = second.renewed().unwrap().renewed().unwrap();
        assert!(last.public_keys().iter().all(|key| !before.contains(key)), "all are gone after three");
        let one = SealSecrets(first.0[..1].to_vec());
        assert_eq!(one.renewed().unwrap().public_keys()[0], before[0], "the others know no other one");
    }

    #[test]
    fn public_keys_are_checked() {
        let key = SealSecrets::generate().unwrap().public_keys()[0];
        assert_eq!(SealKey::try_from(key.to_string()), Ok(key));
        let zeros = Base64::encode_string(&[0; 32]);
        for text in ["", "key", &key.to_string()[1..], &format!("{key}A"), &zeros] {
            assert!(SealKey::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}

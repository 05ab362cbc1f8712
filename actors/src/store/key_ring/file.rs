//! The file with the keys of a store. No error shows any of its text, which is secret.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::{KEY_BYTES, KeyRingError};
use crate::store::codec::KeyId;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    #[serde(default)]
    keys: Vec<KeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    id: u32,
    secret: toml::Spanned<String>,
}

/// Reads the keys from a file that only its owner may read.
pub(super) fn read(file: &Path) -> Result<Vec<(KeyId, [u8; KEY_BYTES])>, KeyRingError> {
    let name = file.display().to_string();
    let unreadable =
        |error: &std::io::Error| KeyRingError::Unreadable { file: name.clone(), reason: error.to_string() };
    let mut opened = File::open(file).map_err(|error| unreadable(&error))?;
    if let Some(mode) = exposed(&opened).map_err(|error| unreadable(&error))? {
        return Err(KeyRingError::Exposed { file: name, mode });
    }
    let mut text = String::new();
    opened.read_to_string(&mut text).map_err(|error| unreadable(&error))?;
    parse(&text).map_err(|line| KeyRingError::Malformed { file: name, line })
}

/// Returns the mode of a file that users other than its owner may read or write.
#[cfg(unix)]
fn exposed(file: &File) -> std::io::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    Ok((mode & 0o077 != 0).then_some(mode))
}

#[cfg(not(unix))]
fn exposed(_: &File) -> std::io::Result<Option<u32>> {
    Ok(None)
}

/// Returns the keys in a file's text, or the number of the line that cannot be parsed.
fn parse(text: &str) -> Result<Vec<(KeyId, [u8; KEY_BYTES])>, usize> {
    let line = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    let file: KeyFile = toml::from_str(text).map_err(|error| line(error.span().map_or(0, |span| span.start)))?;
    let key = |entry: KeyEntry| {
        let secret = from_hex(entry.secret.get_ref()).ok_or_else(|| line(entry.secret.span().start))?;
        Ok((KeyId(entry.id), secret))
    };
    file.keys.into_iter().map(key).collect()
}

fn from_hex(text: &str) -> Option<[u8; KEY_BYTES]> {
    let digits: Vec<_> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let bytes = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high << 4 | low).ok(),
        _ => None,
    });
    bytes.collect::<Option<Vec<_>>>()?.try_into().ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    const SECRET: &str = "00ff10A0c4b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeeff";

    fn write(text: &str, mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.toml");
        std::fs::write(&file, text).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        (folder, file)
    }

    #[test]
    fn keys_are_read_in_their_order() {
        let other = SECRET.replace("00ff", "1234");
        let text = format!("# two\n[[keys]]\nid = 12\nsecret = \"{SECRET}\"\n[[keys]]\nid = 3\nsecret = \"{other}\"\n");
        let (_folder, file) = write(&text, 0o600);
        let keys = read(&file).unwrap();
        assert_eq!(keys.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [12, 3]);
        assert_eq!(keys[0].1[..4], [0x00, 0xff, 0x10, 0xa0]);
        assert_eq!(keys[1].1[..4], [0x12, 0x34, 0x10, 0xa0]);
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn what_is_not_understood_is_named_by_its_line_and_not_shown() {
        let short = &SECRET[1..];
        let cases = [
            (format!("[[keys]]\nid = 1\nsecret = \"{short}\"\n"), 3),
            (format!("[[keys]]\nid = 1\nsecret = \"{short}g\"\n"), 3),
            (format!("[[keys]]\nid = 1\nsecret = \"{SECRET}00\"\n"), 3),
            (format!("[[keys]]\nid = 1\nsecret = \"+{short}\"\n"), 3),
            (format!("[[keys]]\nid = 1\nsecret = {SECRET}\n"), 3),
            (format!("[[keys]]\nid = \"{SECRET}\"\nsecret = \"{SECRET}\"\n"), 2),
            (format!("[[keys]]\nid = -1\nsecret = \"{SECRET}\"\n"), 2),
            (format!("[[keys]]\nid = 1\nsecret = \"{SECRET}\"\nkey = \"{SECRET}\"\n"), 4),
            (format!("[[keys]]\nsecret = \"{SECRET}\"\n"), 1),
            (format!("\n{SECRET}\n"), 2),
            (format!("{SECRET} = \"{SECRET}\"\n"), 1),
        ];
        for (text, expected) in cases {
            let (_folder, file) = write(&text, 0o600);
            let error = read(&file).unwrap_err();
            assert!(matches!(error, KeyRingError::Malformed { line, .. } if line == expected), "{error:?} of {text}");
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(&SECRET[8..20]), "{shown}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let text = format!("[[keys]]\nid = 1\nsecret = \"{SECRET}\"\n");
        for mode in [0o640, 0o604, 0o644, 0o660, 0o622] {
            let (_folder, file) = write(&text, mode);
            let error = read(&file).unwrap_err();
            assert!(matches!(error, KeyRingError::Exposed { .. }), "{mode:o}: {error}");
            assert!(error.to_string().contains(&format!("chmod 600 {}", file.display())), "{error}");
        }
        for mode in [0o600, 0o400] {
            let (_folder, file) = write(&text, mode);
            assert_eq!(read(&file).unwrap().len(), 1, "{mode:o}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read(Path::new("/nowhere/keys.toml")).unwrap_err();
        assert!(error.to_string().contains("`/nowhere/keys.toml` cannot be read"), "{error}");
    }
}

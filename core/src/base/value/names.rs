//! The names of types and fields that a value was written with, against those that its type has now.
//!
//! A type name is a prefix of the encoded value. The type that reads the value must ask for the same name, so that
//! `Cents(u64)` is not read as `Euros(u64)`. Some types write one name and ask for another
//! (`#[serde(try_from = "String")]` on a newtype asks for none); [`correct`] gives their bytes the names that they ask
//! for, when they are encoded.

use serde::de::Error as _;

use super::{Error, kind};

/// What is done about a type name that is not the expected one.
pub(super) enum Names {
    /// The value is refused.
    Checked,
    /// The value was just encoded and is read back: the name is corrected.
    Corrected {
        /// The number of bytes of the whole value.
        whole: usize,
        corrections: Vec<Correction>,
    },
}

/// One changed type name.
pub(super) struct Correction {
    /// Where the name begins.
    pub(super) at: usize,
    /// The number of bytes of the written name, with its kind.
    pub(super) removed: usize,
    /// The name in its place.
    pub(super) name: Option<&'static str>,
}

/// Returns `bytes` with the `corrections`, which are in the order of the bytes.
pub(super) fn correct(bytes: &[u8], corrections: &[Correction]) -> Vec<u8> {
    let (mut corrected, mut done) = (Vec::with_capacity(bytes.len()), 0);
    for Correction { at, removed, name } in corrections {
        corrected.extend_from_slice(bytes.get(done..*at).unwrap_or_default());
        if let Some(name) = name {
            corrected.push(kind::NAMED);
            super::encoder::varint(&mut corrected, name.len() as u64);
            corrected.extend_from_slice(name.as_bytes());
        }
        done = at + removed;
    }
    corrected.extend_from_slice(bytes.get(done..).unwrap_or_default());
    corrected
}

impl Error {
    pub(super) fn other_type(written: Option<&str>, expected: Option<&str>) -> Self {
        let written = written.map_or_else(|| "no named type".into(), |name| format!("`{}`", shown(name)));
        let expected = expected.map_or_else(|| "a type without a name".into(), |name| format!("`{name}`"));
        Self::custom(format!("it was {written} when it was written, and is read as {expected}"))
    }
}

/// A name from encoded bytes, for people: bounded, and without control characters.
pub(super) fn shown(name: &str) -> String {
    const CHARACTERS_MAX: usize = 40;
    let mut shown: String = name.chars().take(CHARACTERS_MAX).flat_map(char::escape_debug).collect();
    if name.chars().nth(CHARACTERS_MAX).is_some() {
        shown.push_str("..");
    }
    shown
}

/// The fields of a type, and those of them that were written.
///
/// A written field that the type does not have may be ignored, and a field that was not written may have a default.
/// If there are fields of both sorts, a field may have been renamed, and its value would silently be replaced by a
/// default. So such a value is refused.
pub(super) struct KnownFields<'de> {
    fields: &'static [&'static str],
    found: usize,
    /// A written field that the type does not have.
    unknown: Option<&'de str>,
    /// Which of the first fields were written; the others are searched for anew if an error names them.
    written: u128,
}

impl<'de> KnownFields<'de> {
    pub(super) fn new(fields: &'static [&'static str]) -> Self {
        Self { fields, found: 0, unknown: None, written: 0 }
    }

    pub(super) fn found(&mut self, name: &'de str) {
        // Usually the fields have the order of the type.
        let next = self.found;
        let index = match self.fields.get(next) {
            Some(field) if *field == name => Some(next),
            _ => self.fields.iter().position(|field| *field == name),
        };
        match index {
            Some(index) => {
                self.found += 1;
                self.written |= u32::try_from(index).ok().and_then(|index| 1_u128.checked_shl(index)).unwrap_or(0);
            }
            None => self.unknown = Some(name),
        }
    }

    /// Refuses a value in which a field may have been renamed.
    pub(super) fn check(&self) -> Result<(), Error> {
        let Some(unknown) = self.unknown.filter(|_| self.found < self.fields.len()) else { return Ok(()) };
        let unknown = shown(unknown);
        let bits = 0..u128::BITS;
        let absent = bits.zip(self.fields).find(|(bit, _)| (self.written >> bit) & 1 == 0);
        let absent = absent.map_or_else(|| "another field".to_owned(), |(_, field)| format!("`{field}`"));
        Err(Error::custom(format!(
            "field `{unknown}` was written and is unknown, {absent} is known and was not written: if it was renamed, \
             use `alias`; if it is gone, keep `{unknown}` as `IgnoredAny` with `default, skip_serializing`"
        )))
    }
}

//! An encoded value as people read it: close to Rust's own `Debug`, and cut off at a bound.
//!
//! Unlike `written`, this shows the content, so its texts are for operators who ask for them and not for logs.

use super::decoder::Decoder;
use super::names::shown;
use super::{DEPTH_MAX, kind};

/// Renders the value in `bytes` in at most `characters_max` characters and an ellipsis; `None` if it is none. The part
/// that does not fit is not read.
pub(crate) fn rendered(bytes: &[u8], characters_max: usize) -> Option<String> {
    let mut rendering = Rendering { value: Decoder::over(bytes), text: String::new(), left: characters_max };
    match rendering.part(DEPTH_MAX) {
        Ok(()) if rendering.value.peek().is_some() => None, // Bytes are left over.
        Ok(()) => Some(rendering.text),
        Err(End::Full) => Some(rendering.text + ".."),
        Err(End::NoValue) => None,
    }
}

/// Why a rendering ends early.
enum End {
    /// The text is as long as it may be.
    Full,
    /// The bytes are no value.
    NoValue,
}

impl From<super::Error> for End {
    fn from(_: super::Error) -> Self {
        Self::NoValue
    }
}

struct Rendering<'a> {
    value: Decoder<'a>,
    text: String,
    /// The number of characters that may follow.
    left: usize,
}

impl Rendering<'_> {
    fn push(&mut self, text: &str) -> Result<(), End> {
        for c in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(End::Full)?;
            self.text.push(c);
        }
        Ok(())
    }

    /// Renders one value.
    fn part(&mut self, depth: u32) -> Result<(), End> {
        let depth = depth.checked_sub(1).ok_or(End::NoValue)?;
        match self.value.byte()? {
            kind::NAMED => self.named(depth),
            kind::SOME => self.enclosed("Some", depth),
            kind::VARIANT => {
                let name = shown(self.value.name()?);
                self.content(&name, depth)
            }
            kind::SEQUENCE => {
                let length = self.value.length()?;
                self.parts("[", "]", Some(length), |rendering| rendering.part(depth))
            }
            kind::SEQUENCE_OPEN => self.parts("[", "]", None, |rendering| rendering.part(depth)),
            kind::MAP => {
                let length = self.value.length()?;
                self.parts("{", "}", Some(length), |rendering| rendering.entry(depth))
            }
            kind::MAP_OPEN => self.parts("{", "}", None, |rendering| rendering.entry(depth)),
            kind::STRUCT => {
                let length = self.value.length()?;
                self.parts("{", "}", Some(length), |rendering| rendering.field(depth))
            }
            scalar => {
                let text = self.scalar(scalar)?;
                self.push(&text)
            }
        }
    }

    /// A value of a type with a name, which stands before its value.
    fn named(&mut self, depth: u32) -> Result<(), End> {
        let name = shown(self.value.name()?);
        match self.value.peek() {
            Some(kind::UNIT_VARIANT | kind::VARIANT) => {
                self.push(&name)?;
                self.push("::")?;
                self.part(depth)
            }
            Some(kind::UNIT) => {
                self.value.byte()?;
                self.push(&name)
            }
            _ => self.content(&name, depth),
        }
    }

    /// The content of what has this name. Fields and lists have brackets of their own.
    fn content(&mut self, name: &str, depth: u32) -> Result<(), End> {
        match self.value.peek() {
            Some(kind::STRUCT) => {
                self.push(name)?;
                self.push(" ")?;
                self.part(depth)
            }
            _ => self.enclosed(name, depth),
        }
    }

    fn enclosed(&mut self, name: &str, depth: u32) -> Result<(), End> {
        self.push(name)?;
        self.push("(")?;
        self.part(depth)?;
        self.push(")")
    }

    /// The parts of a sequence, a map or a struct: `left` of them, or all up to the end mark.
    fn parts(
        &mut self,
        open: &str,
        close: &str,
        mut left: Option<usize>,
        part: impl Fn(&mut Self) -> Result<(), End>,
    ) -> Result<(), End> {
        self.push(open)?;
        let mut separator = "";
        while self.has_next(&mut left)? {
            self.push(separator)?;
            part(self)?;
            separator = ", ";
        }
        self.push(close)
    }

    fn has_next(&mut self, left: &mut Option<usize>) -> Result<bool, End> {
        match left {
            Some(0) => Ok(false),
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None if self.value.peek() == Some(kind::END) => {
                self.value.byte()?;
                Ok(false)
            }
            None => Ok(true),
        }
    }

    fn entry(&mut self, depth: u32) -> Result<(), End> {
        self.part(depth)?;
        self.push(": ")?;
        self.part(depth)
    }

    fn field(&mut self, depth: u32) -> Result<(), End> {
        let name = shown(self.value.name()?);
        self.push(&name)?;
        self.push(": ")?;
        self.part(depth)
    }

    fn scalar(&mut self, kind: u8) -> Result<String, End> {
        Ok(match kind {
            number if number < kind::TEXT_SHORT => number.to_string(),
            short if short < kind::TEXT_SHORT + kind::TEXT_SHORT_BYTES => {
                self.quoted(usize::from(short - kind::TEXT_SHORT))?
            }
            kind::UNIT => "()".into(),
            kind::NONE => "None".into(),
            kind::FALSE => "false".into(),
            kind::TRUE => "true".into(),
            kind::NUMBER => self.value.varint()?.to_string(),
            kind::NEGATIVE => (-1 - i128::from(self.value.varint()?)).to_string(),
            kind::NUMBER_128 => u128::from_le_bytes(self.array()?).to_string(),
            kind::NEGATIVE_128 => i128::from_le_bytes(self.array()?).to_string(),
            kind::F32 => f32::from_le_bytes(self.array()?).to_string(),
            kind::F64 => f64::from_le_bytes(self.array()?).to_string(),
            kind::TEXT => {
                let length = self.value.length()?;
                self.quoted(length)?
            }
            kind::UNIT_VARIANT => shown(self.value.name()?),
            kind::BYTES | kind::SEQUENCE_OF_BYTES => {
                let length = self.value.length()?;
                self.value.take(length)?;
                format!("{length} bytes")
            }
            kind::CHAR => {
                let character = u32::try_from(self.value.varint()?).ok().and_then(char::from_u32);
                format!("{:?}", character.ok_or(End::NoValue)?)
            }
            _ => return Err(End::NoValue),
        })
    }

    /// A text of that many bytes. Only as much of it is escaped as can be shown.
    fn quoted(&mut self, length: usize) -> Result<String, End> {
        let text = std::str::from_utf8(self.value.take(length)?).map_err(|_| End::NoValue)?;
        let begin: String = text.chars().take(self.left.saturating_add(1)).collect();
        Ok(format!("{begin:?}"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], End> {
        self.value.take(N)?.try_into().map_err(|_| End::NoValue)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use serde::Serialize;

    use super::super::encode;
    use super::*;

    #[derive(Serialize)]
    struct Order {
        id: Id,
        books: u32,
        gift: Option<&'static str>,
        lines: Vec<(i16, f64)>,
        state: State,
    }

    #[derive(Serialize)]
    struct Id(u64);

    #[derive(Serialize)]
    enum State {
        Open,
        Paid { by: char },
        Sent(BTreeMap<String, bool>),
    }

    #[derive(Serialize)]
    struct Nothing;

    fn check(value: &impl Serialize, characters_max: usize, expected: &str) {
        let bytes = encode(value).unwrap().bytes;
        assert_eq!(rendered(&bytes, characters_max).as_deref(), Some(expected));
    }

    #[test]
    fn a_value_is_shown_with_the_names_of_its_types() {
        let order = |state| Order { id: Id(300), books: 3, gift: Some("to \"you\""), lines: vec![(-7, 2.5)], state };
        check(
            &order(State::Open),
            1_000,
            r#"Order {id: Id(300), books: 3, gift: Some("to \"you\""), lines: [[-7, 2.5]], state: State::Open}"#,
        );
        check(&State::Paid { by: 'x' }, 100, "State::Paid {by: 'x'}");
        check(&State::Sent(BTreeMap::from([("a".into(), true)])), 100, r#"State::Sent({"a": true})"#);
        check(&(Nothing, u128::MAX, i64::MIN, ()), 100, &format!("[Nothing, {}, {}, ()]", u128::MAX, i64::MIN));
        check(&order(State::Open), 12, "Order {id: I..");
        check(&"a".repeat(10_000), 5, "\"aaaa..");
    }

    #[test]
    fn bytes_that_are_no_value_are_not_shown() {
        let mut bytes = encode(&(1, "two")).unwrap().bytes;
        assert!(rendered(&bytes, 100).is_some());
        bytes.pop();
        assert_eq!(rendered(&bytes, 100), None);
        bytes.extend([b'o', 7]);
        assert_eq!(rendered(&bytes, 100), None, "bytes are left over");
        assert_eq!(rendered(&[], 100), None);
        let deep = vec![kind::SOME; 100_000];
        assert_eq!(rendered(&deep, 1_000_000), None);
    }
}

//! Decodes values. The bytes may come from anybody, so lengths are checked against the bytes that are there, and the
//! depth is bounded.

use serde::de::value::{BorrowedStrDeserializer, SeqDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::names::{self, Correction, KnownFields, Names};
use super::{DEPTH_MAX, Error, kind};

/// Decodes a value, which must be all of `bytes`.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    Decoder::over(bytes).whole()
}

/// Decodes a value that was just encoded. If its `Deserialize` asks for other type names than its `Serialize` wrote
/// (as with `#[serde(try_from)]` on a newtype), the bytes are changed to the names that it asks for.
pub(crate) fn read_back<T: DeserializeOwned>(bytes: &mut Vec<u8>) -> Result<T, Error> {
    let names = Names::Corrected { whole: bytes.len(), corrections: Vec::new() };
    let mut decoder = Decoder { bytes, depth: 0, names };
    let value = decoder.whole()?;
    match decoder.names {
        Names::Corrected { corrections, .. } if !corrections.is_empty() => {
            *bytes = names::correct(bytes, &corrections);
            decode(bytes)
        }
        _ => Ok(value),
    }
}

pub(super) struct Decoder<'de> {
    bytes: &'de [u8],
    depth: u32,
    names: Names,
}

impl<'de> Decoder<'de> {
    pub(super) fn over(bytes: &'de [u8]) -> Self {
        Self { bytes, depth: 0, names: Names::Checked }
    }

    fn whole<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        let value = T::deserialize(&mut *self)?;
        match self.bytes.len() {
            0 => Ok(value),
            left => Err(Error::custom(format!("{left} bytes are left over"))),
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        let (byte, rest) = self.bytes.split_first().ok_or_else(Error::cut_off)?;
        self.bytes = rest;
        Ok(*byte)
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'de [u8], Error> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or_else(Error::cut_off)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or_else(Error::cut_off)?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub(super) fn varint(&mut self) -> Result<u64, Error> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Error::custom("a number has more than 64 bits"))
    }

    /// Reads a number of items, each of which has at least one byte.
    pub(super) fn length(&mut self) -> Result<usize, Error> {
        let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if length > self.bytes.len() { Err(Error::cut_off()) } else { Ok(length) }
    }

    fn text(&mut self, length: usize) -> Result<&'de str, Error> {
        std::str::from_utf8(self.take(length)?).map_err(Error::custom)
    }

    pub(super) fn name(&mut self) -> Result<&'de str, Error> {
        let length = self.length()?;
        self.text(length)
    }

    /// Reads the name of the type of the value that comes next, if it has one.
    fn type_name(&mut self) -> Result<Option<&'de str>, Error> {
        if self.peek() != Some(kind::NAMED) {
            return Ok(None);
        }
        self.byte()?;
        self.name().map(Some)
    }

    /// Reads the type name of the next value, which must be `expected`.
    fn named(&mut self, expected: Option<&'static str>) -> Result<(), Error> {
        let before = self.bytes.len();
        let written = self.type_name()?;
        if written == expected {
            return Ok(());
        }
        let Names::Corrected { whole, corrections } = &mut self.names else {
            return Err(Error::other_type(written, expected));
        };
        let at = *whole - before;
        corrections.push(Correction { at, removed: before - self.bytes.len(), name: expected });
        Ok(())
    }

    /// Like [`Decoder::named`], for a value that is no newtype: no other name may follow.
    fn named_itself(&mut self, expected: Option<&'static str>) -> Result<(), Error> {
        self.named(expected)?;
        while self.peek() == Some(kind::NAMED) {
            self.named(None)?;
        }
        Ok(())
    }

    /// Reads a value of a type without a name.
    fn unnamed<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.named_itself(None)?;
        self.any(visitor)
    }

    /// Reads the fields of a struct or of a variant. A sequence is not taken for fields: it has no names.
    fn fields<V: Visitor<'de>>(&mut self, known: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        match self.peek() {
            Some(kind::STRUCT) => {
                self.byte()?;
                let length = self.length()?;
                let mut known = KnownFields::new(known);
                let value =
                    self.parts(Some(length), |parts| visitor.visit_map(Fields { parts, known: Some(&mut known) }))?;
                known.check()?;
                Ok(value)
            }
            Some(kind::MAP | kind::MAP_OPEN) => self.any(visitor),
            _ => Err(Error::custom("it had no named fields when it was written")),
        }
    }

    fn negative(&mut self) -> Result<i64, Error> {
        let complement = i64::try_from(self.varint()?).map_err(|_| Error::custom("a number has more than 64 bits"))?;
        Ok(!complement)
    }

    /// Reads one level deeper.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Error::too_deep());
        }
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    /// Reads a sequence or map with `read`, which must consume all its parts: `left` parts, or all up to the end
    /// mark.
    fn parts<T>(
        &mut self,
        left: Option<usize>,
        read: impl FnOnce(&mut Parts<'_, 'de>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.deeper(|decoder| {
            let mut parts = Parts { decoder, left };
            let value = read(&mut parts)?;
            if parts.next()? { Err(Error::custom("it has more parts than its type")) } else { Ok(value) }
        })
    }

    fn bytes_one_by_one<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let length = self.length()?;
        let mut items = SeqDeserializer::new(self.take(length)?.iter().copied());
        let value = visitor.visit_seq(&mut items)?;
        items.end()?;
        Ok(value)
    }

    fn any<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        while self.type_name()?.is_some() {} // A type that takes values of any type has no name to compare with.
        match self.byte()? {
            number if number < kind::TEXT_SHORT => visitor.visit_u8(number),
            short if short < kind::TEXT_SHORT + kind::TEXT_SHORT_BYTES => {
                visitor.visit_borrowed_str(self.text(usize::from(short - kind::TEXT_SHORT))?)
            }
            kind::UNIT => visitor.visit_unit(),
            kind::NONE => visitor.visit_none(),
            kind::SOME => self.deeper(|decoder| visitor.visit_some(decoder)),
            kind::FALSE => visitor.visit_bool(false),
            kind::TRUE => visitor.visit_bool(true),
            kind::NUMBER => visitor.visit_u64(self.varint()?),
            kind::NEGATIVE => visitor.visit_i64(self.negative()?),
            kind::NUMBER_128 => visitor.visit_u128(u128::from_le_bytes(self.array()?)),
            kind::NEGATIVE_128 => visitor.visit_i128(i128::from_le_bytes(self.array()?)),
            kind::F32 => visitor.visit_f32(f32::from_bits(u32::from_le_bytes(self.array()?))),
            kind::F64 => visitor.visit_f64(f64::from_bits(u64::from_le_bytes(self.array()?))),
            kind::TEXT | kind::UNIT_VARIANT => visitor.visit_borrowed_str(self.name()?),
            kind::BYTES => {
                let length = self.length()?;
                visitor.visit_borrowed_bytes(self.take(length)?)
            }
            kind::CHAR => {
                let character = u32::try_from(self.varint()?).ok().and_then(char::from_u32);
                visitor.visit_char(character.ok_or_else(|| Error::custom("a character is none"))?)
            }
            kind::SEQUENCE => {
                let length = self.length()?;
                self.parts(Some(length), |parts| visitor.visit_seq(parts))
            }
            kind::SEQUENCE_OPEN => self.parts(None, |parts| visitor.visit_seq(parts)),
            kind::SEQUENCE_OF_BYTES => self.bytes_one_by_one(visitor),
            kind::MAP => {
                let length = self.length()?;
                self.parts(Some(length), |parts| visitor.visit_map(parts))
            }
            kind::MAP_OPEN => self.parts(None, |parts| visitor.visit_map(parts)),
            kind::STRUCT => {
                let length = self.length()?;
                self.parts(Some(length), |parts| visitor.visit_map(Fields { parts, known: None }))
            }
            // This is the form in which serde's own buffer for values of unknown type accepts a variant.
            kind::VARIANT => self.parts(Some(1), |parts| visitor.visit_map(Fields { parts, known: None })),
            unknown => Err(Error::custom(format!("{unknown:#04x} is no kind of value"))),
        }
    }
}

/// Reads values of types without a name, which have no kinds to tell apart but those that serde checks.
macro_rules! unnamed {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.unnamed(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.named_itself(None)?;
        match self.peek() {
            Some(kind::NONE | kind::SOME) => self.any(visitor),
            _ => Err(Error::custom("it was not optional when it was written")),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.named_itself(Some(name))?;
        self.any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.named(Some(name))?;
        self.deeper(|decoder| visitor.visit_newtype_struct(decoder))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.named_itself(Some(name))?;
        self.any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.named_itself(Some(name))?;
        self.fields(fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.named_itself(Some(name))?;
        match self.byte()? {
            kind::UNIT_VARIANT => visitor.visit_enum(self.name()?.into_deserializer()),
            kind::VARIANT => self.deeper(|decoder| visitor.visit_enum(Variant(decoder))),
            _ => Err(Error::custom(format!("it was no enum `{name}` when it was written"))),
        }
    }

    /// An `f64` may have been an `f32`, which it represents exactly. An integer may be too large for that, and is not
    /// read, whatever its value.
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.named_itself(None)?;
        match self.peek() {
            Some(kind::F32 | kind::F64) => self.any(visitor),
            _ => Err(Error::custom("it was no floating point number when it was written")),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.named_itself(None)?;
        match self.peek() {
            Some(kind::F32) => self.any(visitor),
            _ => Err(Error::custom("it was no `f32` when it was written")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.named_itself(None)?;
        match self.peek() {
            Some(kind::BYTES) => Err(Error::custom("it was bytes and no text when it was written")),
            _ => self.any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.named_itself(None)?;
        match self.peek() {
            Some(kind::SEQUENCE_OF_BYTES) => {
                self.byte()?;
                let length = self.length()?;
                visitor.visit_borrowed_bytes(self.take(length)?)
            }
            Some(kind::BYTES | kind::SEQUENCE | kind::SEQUENCE_OPEN) => self.any(visitor),
            _ => Err(Error::custom("it was no bytes when it was written")),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.any(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.unnamed(visitor)
    }

    unnamed! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_char deserialize_unit
        deserialize_seq deserialize_map
    }
}

/// The parts of a sequence or map.
struct Parts<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    /// The number of remaining parts; `None` if unknown.
    left: Option<usize>,
}

impl Parts<'_, '_> {
    /// Whether there is another part, which must be read next.
    fn next(&mut self) -> Result<bool, Error> {
        match &mut self.left {
            Some(0) => return Ok(false),
            Some(left) => *left -= 1,
            None if self.decoder.peek() == Some(kind::END) => {
                self.decoder.byte()?;
                self.left = Some(0);
                return Ok(false);
            }
            None => {}
        }
        Ok(true)
    }
}

impl<'de> SeqAccess<'de> for &mut Parts<'_, 'de> {
    type Error = Error;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.next()? { seed.deserialize(&mut *self.decoder).map(Some) } else { Ok(None) }
    }
    fn size_hint(&self) -> Option<usize> {
        self.left
    }
}

impl<'de> MapAccess<'de> for &mut Parts<'_, 'de> {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.next()? { seed.deserialize(&mut *self.decoder).map(Some) } else { Ok(None) }
    }
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.decoder)
    }
    fn size_hint(&self) -> Option<usize> {
        self.left
    }
}

/// The fields of a struct, by their names.
struct Fields<'a, 'b, 'de> {
    parts: &'a mut Parts<'b, 'de>,
    /// The fields of the type, if they are known.
    known: Option<&'a mut KnownFields<'de>>,
}

impl<'de> MapAccess<'de> for Fields<'_, '_, 'de> {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if !self.parts.next()? {
            return Ok(None);
        }
        let name = self.parts.decoder.name()?;
        if let Some(known) = &mut self.known {
            known.found(name);
        }
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.parts.decoder)
    }
    fn size_hint(&self) -> Option<usize> {
        self.parts.left
    }
}

/// A variant with content.
struct Variant<'a, 'de>(&'a mut Decoder<'de>);

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        let name = self.0.name()?;
        Ok((seed.deserialize(BorrowedStrDeserializer::<Error>::new(name))?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    fn unit_variant(self) -> Result<(), Error> {
        Err(Error::custom("the variant had content when it was written"))
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.0)
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.0.unnamed(visitor)
    }
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.0.fields(fields, visitor)
    }
}

//! Encodes values.

use std::any::type_name;

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::order::Order;
use super::{DEPTH_MAX, Error, kind};

/// The initial capacity for encoded values, sufficient for most of them. A vector that starts empty is reallocated
/// four times.
const BYTES_USUAL: usize = 128;

/// An encoded value.
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    /// Whether the same value is encoded to the same bytes again.
    pub(crate) order: Order,
}

/// Encodes `value`.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Encoded, Error> {
    let mut encoder =
        Encoder { bytes: Vec::with_capacity(BYTES_USUAL), depth: 0, order: Order::Fixed, plain_bytes: false };
    value.serialize(&mut encoder)?;
    Ok(Encoded { bytes: encoder.bytes, order: encoder.order })
}

struct Encoder {
    bytes: Vec<u8>,
    depth: u32,
    order: Order,
    /// Whether the encoder is in a sequence of bytes, whose items are written without a kind.
    plain_bytes: bool,
}

/// Appends a number, seven bits in each byte, the lowest first.
pub(super) fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

impl Encoder {
    fn varint(&mut self, number: u64) {
        varint(&mut self.bytes, number);
    }

    fn number(&mut self, number: u64) {
        if let Some(small) = u8::try_from(number).ok().filter(|number| *number < kind::TEXT_SHORT) {
            self.bytes.push(small);
        } else {
            self.bytes.push(kind::NUMBER);
            self.varint(number);
        }
    }

    fn sized(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    fn enter(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(Error::too_deep()) } else { Ok(()) }
    }

    fn nested<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.enter()?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    /// Writes the name of the type of the value that follows.
    fn named(&mut self, name: &str) {
        self.bytes.push(kind::NAMED);
        self.sized(name.as_bytes());
    }

    fn variant(&mut self, of: &str, name: &str) {
        self.named(of);
        self.bytes.push(kind::VARIANT);
        self.sized(name.as_bytes());
    }

    /// Begins a value with parts, with kind `open` if their number is unknown.
    fn parts(&mut self, kind: u8, open: u8, length: Option<usize>) -> Result<Parts<'_>, Error> {
        self.enter()?;
        match length {
            Some(length) => {
                self.bytes.push(kind);
                self.varint(length as u64);
            }
            None => self.bytes.push(open),
        }
        Ok(Parts { encoder: self, length, count: 0, order: Some(Order::unknown) })
    }

    /// Begins a value that always has the same parts in the same order.
    fn fixed(&mut self, kind: u8, length: usize) -> Result<Parts<'_>, Error> {
        let parts = self.parts(kind, kind, Some(length))?;
        Ok(Parts { order: None, ..parts })
    }
}

/// A value with parts that is being written.
struct Parts<'a> {
    encoder: &'a mut Encoder,
    length: Option<usize>,
    count: usize,
    /// Determines the order of the parts from their number; `None` if the order is fixed.
    order: Option<fn(usize) -> Order>,
}

impl Parts<'_> {
    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.count += 1;
        value.serialize(&mut *self.encoder)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Error> {
        self.encoder.sized(name.as_bytes());
        self.part(value)
    }

    fn finish(self) -> Result<(), Error> {
        match self.length {
            Some(length) if length != self.count => {
                return Err(Error::custom(format!("it says that it has {length} parts, and has {}", self.count)));
            }
            Some(_) => {}
            None => self.encoder.bytes.push(kind::END),
        }
        if let Some(order) = self.order {
            self.encoder.order = self.encoder.order.and(order(self.count));
        }
        self.encoder.depth -= 1;
        Ok(())
    }
}

/// The number of items of an iterator, if it knows.
fn length_of(iterator: &impl Iterator) -> Option<usize> {
    match iterator.size_hint() {
        (least, Some(most)) if least == most => Some(least),
        _ => None,
    }
}

impl<'a> Serializer for &'a mut Encoder {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.bytes.push(if value { kind::TRUE } else { kind::FALSE });
        Ok(())
    }
    fn serialize_i8(self, value: i8) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }
    fn serialize_i16(self, value: i16) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }
    fn serialize_i32(self, value: i32) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }
    fn serialize_i64(self, value: i64) -> Result<(), Error> {
        if let Ok(value) = u64::try_from(value) {
            self.number(value);
        } else {
            self.bytes.push(kind::NEGATIVE);
            self.varint((!value).cast_unsigned());
        }
        Ok(())
    }
    fn serialize_i128(self, value: i128) -> Result<(), Error> {
        if let Ok(value) = i64::try_from(value) {
            return self.serialize_i64(value);
        }
        if let Ok(value) = u128::try_from(value) {
            return self.serialize_u128(value);
        }
        self.bytes.push(kind::NEGATIVE_128);
        self.bytes.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }
    fn serialize_u8(self, value: u8) -> Result<(), Error> {
        if self.plain_bytes {
            self.bytes.push(value);
        } else {
            self.number(value.into());
        }
        Ok(())
    }
    fn serialize_u16(self, value: u16) -> Result<(), Error> {
        self.number(value.into());
        Ok(())
    }
    fn serialize_u32(self, value: u32) -> Result<(), Error> {
        self.number(value.into());
        Ok(())
    }
    fn serialize_u64(self, value: u64) -> Result<(), Error> {
        self.number(value);
        Ok(())
    }
    fn serialize_u128(self, value: u128) -> Result<(), Error> {
        if let Ok(value) = u64::try_from(value) {
            self.number(value);
        } else {
            self.bytes.push(kind::NUMBER_128);
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
        Ok(())
    }
    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.bytes.push(kind::F32);
        self.bytes.extend_from_slice(&value.to_bits().to_le_bytes());
        Ok(())
    }
    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.bytes.push(kind::F64);
        self.bytes.extend_from_slice(&value.to_bits().to_le_bytes());
        Ok(())
    }
    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.bytes.push(kind::CHAR);
        self.varint(u32::from(value).into());
        Ok(())
    }
    fn serialize_str(self, value: &str) -> Result<(), Error> {
        if let Some(length) = u8::try_from(value.len()).ok().filter(|length| *length < kind::TEXT_SHORT_BYTES) {
            self.bytes.push(kind::TEXT_SHORT + length);
            self.bytes.extend_from_slice(value.as_bytes());
        } else {
            self.bytes.push(kind::TEXT);
            self.sized(value.as_bytes());
        }
        Ok(())
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.bytes.push(kind::BYTES);
        self.sized(value);
        Ok(())
    }
    fn serialize_none(self) -> Result<(), Error> {
        self.bytes.push(kind::NONE);
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.bytes.push(kind::SOME);
        self.nested(value)
    }
    fn serialize_unit(self) -> Result<(), Error> {
        self.bytes.push(kind::UNIT);
        Ok(())
    }
    fn serialize_unit_struct(self, name: &'static str) -> Result<(), Error> {
        self.named(name);
        self.serialize_unit()
    }
    fn serialize_unit_variant(self, name: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.named(name);
        self.bytes.push(kind::UNIT_VARIANT);
        self.sized(variant.as_bytes());
        Ok(())
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<(), Error> {
        self.named(name);
        self.nested(value)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.variant(name, variant);
        self.nested(value)
    }
    fn serialize_seq(self, length: Option<usize>) -> Result<Parts<'a>, Error> {
        self.parts(kind::SEQUENCE, kind::SEQUENCE_OPEN, length)
    }
    fn serialize_tuple(self, length: usize) -> Result<Parts<'a>, Error> {
        self.fixed(kind::SEQUENCE, length)
    }
    fn serialize_tuple_struct(self, name: &'static str, length: usize) -> Result<Parts<'a>, Error> {
        self.named(name);
        self.fixed(kind::SEQUENCE, length)
    }
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Parts<'a>, Error> {
        self.variant(name, variant);
        self.fixed(kind::SEQUENCE, length)
    }
    fn serialize_map(self, length: Option<usize>) -> Result<Parts<'a>, Error> {
        self.parts(kind::MAP, kind::MAP_OPEN, length)
    }
    fn serialize_struct(self, name: &'static str, length: usize) -> Result<Parts<'a>, Error> {
        self.named(name);
        self.fixed(kind::STRUCT, length)
    }
    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Parts<'a>, Error> {
        self.variant(name, variant);
        self.fixed(kind::STRUCT, length)
    }

    /// Like serde's default, except that here the type of the collection is known, and so its order.
    fn collect_seq<I>(self, items: I) -> Result<(), Error>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        let items = items.into_iter();
        if matches!(type_name::<I>(), "&[u8]" | "&alloc::vec::Vec<u8>") && !self.plain_bytes {
            self.bytes.push(kind::SEQUENCE_OF_BYTES);
            self.varint(items.size_hint().0 as u64);
            self.plain_bytes = true;
            for byte in items {
                byte.serialize(&mut *self)?;
            }
            self.plain_bytes = false;
            return Ok(());
        }
        let mut parts = self.serialize_seq(length_of(&items))?;
        parts.order = Some(Order::of::<I>);
        for item in items {
            parts.part(&item)?;
        }
        parts.finish()
    }

    fn collect_map<K, V, I>(self, entries: I) -> Result<(), Error>
    where
        K: Serialize,
        V: Serialize,
        I: IntoIterator<Item = (K, V)>,
    {
        let entries = entries.into_iter();
        let mut parts = self.serialize_map(length_of(&entries))?;
        parts.order = Some(Order::of::<I>);
        for (key, value) in entries {
            key.serialize(&mut *parts.encoder)?;
            parts.part(&value)?;
        }
        parts.finish()
    }
}

impl SerializeSeq for Parts<'_> {
    type Ok = ();
    type Error = Error;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.part(value)
    }
    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl SerializeTuple for Parts<'_> {
    type Ok = ();
    type Error = Error;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.part(value)
    }
    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl SerializeTupleStruct for Parts<'_> {
    type Ok = ();
    type Error = Error;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.part(value)
    }
    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl SerializeTupleVariant for Parts<'_> {
    type Ok = ();
    type Error = Error;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.part(value)
    }
    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Error;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        key.serialize(&mut *self.encoder)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.part(value)
    }
    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl SerializeStruct for Parts<'_> {
    type Ok = ();
    type Error = Error;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.field(name, value)
    }
    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl SerializeStructVariant for Parts<'_> {
    type Ok = ();
    type Error = Error;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.field(name, value)
    }
    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

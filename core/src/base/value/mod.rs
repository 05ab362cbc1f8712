//! The encoding of what a program sends and records: self-describing, with one byte for the kind before each value.
//!
//! Structs and enums are encoded with their own names and those of their fields and variants, so that a value is read
//! as what it was written as, or refused, even if its type has changed since (decisions 0028 and 0052). This module
//! knows serde, not messages; next: `encoder.rs`, `decoder.rs`, `names.rs` for the names of types, `written.rs` and
//! `expected.rs` for the shapes in errors, `rendered.rs` for values as people read them, and `order.rs` for values
//! whose encoding differs each time.

mod decoder;
mod encoder;
mod expected;
mod names;
mod order;
mod rendered;
mod written;

use std::fmt::Display;

use serde::de::{Expected, Unexpected};

pub(crate) use decoder::{decode, read_back};
pub(crate) use encoder::{Encoded, encode};
pub(crate) use expected::expected_shape;
pub(crate) use order::Order;
pub(crate) use rendered::rendered;
pub(crate) use written::written_shape;

/// The maximum nesting depth of a value. Values come from other nodes, and must not exhaust the stack.
const DEPTH_MAX: u32 = 128;
/// The maximum number of characters of a shape in an error.
const SHAPE_CHARACTERS_MAX: usize = 240;

/// The kinds: the first byte of each value. A byte below [`kind::TEXT_SHORT`] is the number itself. Kinds are only
/// appended.
mod kind {
    /// A text of fewer than [`TEXT_SHORT_BYTES`] bytes; its length is added to the kind.
    pub(super) const TEXT_SHORT: u8 = 0x80;
    pub(super) const TEXT_SHORT_BYTES: u8 = 0x20;
    pub(super) const UNIT: u8 = 0xa0;
    pub(super) const NONE: u8 = 0xa1;
    pub(super) const SOME: u8 = 0xa2;
    pub(super) const FALSE: u8 = 0xa3;
    pub(super) const TRUE: u8 = 0xa4;
    /// A number of up to 64 bits, seven of them in each byte, the lowest first.
    pub(super) const NUMBER: u8 = 0xa5;
    /// The complement of a negative number, in the same form.
    pub(super) const NEGATIVE: u8 = 0xa6;
    /// A number of more than 64 bits: sixteen bytes, the lowest first.
    pub(super) const NUMBER_128: u8 = 0xa7;
    pub(super) const NEGATIVE_128: u8 = 0xa8;
    pub(super) const F32: u8 = 0xa9;
    pub(super) const F64: u8 = 0xaa;
    pub(super) const TEXT: u8 = 0xab;
    pub(super) const BYTES: u8 = 0xac;
    pub(super) const CHAR: u8 = 0xad;
    /// A sequence: its length, then its values.
    pub(super) const SEQUENCE: u8 = 0xae;
    /// A map: its length, then its keys and values.
    pub(super) const MAP: u8 = 0xaf;
    /// A struct: the number of fields, then their names and values.
    pub(super) const STRUCT: u8 = 0xb0;
    /// A variant without content: its name.
    pub(super) const UNIT_VARIANT: u8 = 0xb1;
    /// A variant with content: its name, then its content as a value.
    pub(super) const VARIANT: u8 = 0xb2;
    /// As `SEQUENCE` and `MAP`, with `END` instead of a length.
    pub(super) const SEQUENCE_OPEN: u8 = 0xb3;
    pub(super) const MAP_OPEN: u8 = 0xb4;
    pub(super) const END: u8 = 0xb5;
    /// A sequence in which each value is one byte: its length, then the bytes.
    pub(super) const SEQUENCE_OF_BYTES: u8 = 0xb6;
    /// The name of a struct or enum: its text. The value itself follows, with its own kind.
    pub(super) const NAMED: u8 = 0xb7;
}

/// The reason why a value cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(Box<str>);

impl Error {
    fn too_deep() -> Self {
        Self(format!("it is nested deeper than {DEPTH_MAX} levels").into())
    }
    fn cut_off() -> Self {
        Self("the bytes end within it".into())
    }
}

impl serde::ser::Error for Error {
    fn custom<T: Display>(reason: T) -> Self {
        Self(reason.to_string().into())
    }
}

/// The texts never contain a value, or a part of one, because they are logged and users' data must not be. A message
/// of a user's own `Deserialize` is shown unchanged.
impl serde::de::Error for Error {
    fn custom<T: Display>(reason: T) -> Self {
        Self(reason.to_string().into())
    }
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self(format!("invalid type: {}, expected {expected}", kind_of(&found)).into())
    }
    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self(format!("invalid value: {} that is not shown, expected {expected}", kind_of(&found)).into())
    }
    // Names may be values: tags, and keys of maps.
    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self(format!("unknown variant, expected {}", one_of(expected)).into())
    }
    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self(format!("unknown field, expected {}", one_of(expected)).into())
    }
}

/// Describes what was found, without its content.
fn kind_of(found: &Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a floating point number",
        Unexpected::Char(_) => "a character",
        Unexpected::Str(_) => "a text",
        Unexpected::Bytes(_) => "bytes",
        Unexpected::Unit => "a unit",
        Unexpected::Option => "an optional value",
        Unexpected::NewtypeStruct => "a newtype struct",
        Unexpected::Seq => "a sequence",
        Unexpected::Map => "a map",
        Unexpected::Enum => "an enum",
        Unexpected::UnitVariant => "a unit variant",
        Unexpected::NewtypeVariant => "a newtype variant",
        Unexpected::TupleVariant => "a tuple variant",
        Unexpected::StructVariant => "a struct variant",
        // serde describes numbers that it has no variant for like this: "integer `7` as u128".
        Unexpected::Other(what) if what.ends_with(" as u128") => "a u128",
        Unexpected::Other(what) if what.ends_with(" as i128") => "an i128",
        Unexpected::Other(_) => "a value",
    }
}

fn one_of(names: &[&str]) -> String {
    match names {
        [] => "none".into(),
        names => format!("one of `{}`", names.join("`, `")),
    }
}

//! The shape of a type, for errors: what its `Deserialize` asks for, found by reading an example out of nothing.
//!
//! A type may refuse the example (a text that must be a date, say), and a type that takes values of any form does not
//! say which. The shape then ends with `..`.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::{Error, SHAPE_CHARACTERS_MAX};

/// The depth from which optional values are empty and lists without items, so that recursive types have an example.
const DEPTH_SHOWN: u32 = 6;
/// The depth at which the example is given up: the type contains itself in each of its forms.
const DEPTH_MAX: u32 = 48;

/// Describes what `T` is read from, such as `Order {book: text, count: u32}`.
pub(crate) fn expected_shape<T: DeserializeOwned>() -> String {
    let mut shape = String::new();
    let complete = T::deserialize(Example { shape: &mut shape, depth: 0 }).is_ok();
    if shape.chars().count() > SHAPE_CHARACTERS_MAX {
        return super::written::cut_off(shape);
    }
    if !complete {
        shape.push_str("..");
    }
    shape
}

/// Gives each type an example of what it asks for, and writes down what that was.
struct Example<'a> {
    shape: &'a mut String,
    depth: u32,
}

impl Example<'_> {
    fn push(&mut self, text: &str) {
        if self.shape.len() <= 4 * SHAPE_CHARACTERS_MAX {
            self.shape.push_str(text);
        }
    }

    fn deeper(&mut self) -> Example<'_> {
        Example { shape: self.shape, depth: self.depth + 1 }
    }

    fn check_depth(&self) -> Result<(), Error> {
        if self.depth > DEPTH_MAX { Err(Error::too_deep()) } else { Ok(()) }
    }
}

macro_rules! scalars {
    ($($method:ident $shape:literal $visit:ident $value:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
            self.push($shape);
            visitor.$visit($value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Example<'_> {
    type Error = Error;

    // One, because a type may refuse zero.
    scalars! {
        deserialize_bool "bool" visit_bool false;
        deserialize_i8 "i8" visit_i8 1;
        deserialize_i16 "i16" visit_i16 1;
        deserialize_i32 "i32" visit_i32 1;
        deserialize_i64 "i64" visit_i64 1;
        deserialize_i128 "i128" visit_i128 1;
        deserialize_u8 "u8" visit_u8 1;
        deserialize_u16 "u16" visit_u16 1;
        deserialize_u32 "u32" visit_u32 1;
        deserialize_u64 "u64" visit_u64 1;
        deserialize_u128 "u128" visit_u128 1;
        deserialize_f32 "f32" visit_f32 1.0;
        deserialize_f64 "f64" visit_f64 1.0;
        deserialize_char "char" visit_char 'a';
        deserialize_str "text" visit_borrowed_str "";
        deserialize_string "text" visit_borrowed_str "";
        deserialize_bytes "bytes" visit_borrowed_bytes b"";
        deserialize_byte_buf "bytes" visit_borrowed_bytes b"";
        deserialize_identifier "text" visit_borrowed_str "";
    }

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.push("any form");
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.push("ignored");
        visitor.visit_unit()
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.push("()");
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(mut self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.push(name);
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        if self.depth >= DEPTH_SHOWN {
            self.push("Option<..>");
            return visitor.visit_none();
        }
        self.push("Option<");
        let value = visitor.visit_some(self.deeper())?;
        self.push(">");
        Ok(value)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.check_depth()?;
        self.push(name);
        self.push("(");
        let value = visitor.visit_newtype_struct(self.deeper())?;
        self.push(")");
        Ok(value)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        let left = usize::from(self.depth < DEPTH_SHOWN);
        self.push("[");
        let value = visitor.visit_seq(Parts { example: &mut self, left, total: left })?;
        self.push("]");
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(mut self, length: usize, visitor: V) -> Result<V::Value, Error> {
        self.check_depth()?;
        self.push("(");
        let value = visitor.visit_seq(Parts { example: &mut self, left: length, total: length })?;
        self.push(")");
        Ok(value)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.push(name);
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.push("map");
        let left = usize::from(self.depth < DEPTH_SHOWN);
        visitor.visit_map(Entries { example: &mut self, left })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.check_depth()?;
        self.push(name);
        self.push(" {");
        let value = visitor.visit_map(Fields { example: &mut self, left: fields, first: true })?;
        self.push("}");
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.check_depth()?;
        self.push(name);
        self.push("::{");
        self.push(&variants.join(" | "));
        self.push("}");
        let variant = variants.first().ok_or_else(|| Error::custom("it has no variants"))?;
        // What the variant contains is no part of the shape, or it would be shown for the first one only.
        let mut ignored = String::new();
        visitor.visit_enum(Variant { example: Example { shape: &mut ignored, depth: self.depth + 1 }, name: variant })
    }
}

struct Parts<'a, 'b> {
    example: &'a mut Example<'b>,
    left: usize,
    total: usize,
}

impl<'de> SeqAccess<'de> for Parts<'_, '_> {
    type Error = Error;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.left < self.total {
            self.example.push(", ");
        }
        self.left -= 1;
        seed.deserialize(self.example.deeper()).map(Some)
    }
}

struct Entries<'a, 'b> {
    example: &'a mut Example<'b>,
    left: usize,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.example.push(" of ");
        seed.deserialize(self.example.deeper()).map(Some)
    }
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.example.push(" to ");
        seed.deserialize(self.example.deeper())
    }
}

struct Fields<'a, 'b> {
    example: &'a mut Example<'b>,
    left: &'static [&'static str],
    first: bool,
}

impl<'de> MapAccess<'de> for Fields<'_, '_> {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((name, left)) = self.left.split_first() else { return Ok(None) };
        self.left = left;
        if !std::mem::take(&mut self.first) {
            self.example.push(", ");
        }
        self.example.push(name);
        self.example.push(": ");
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.example.deeper())
    }
}

struct Variant<'a> {
    example: Example<'a>,
    name: &'static str,
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Error;
    type Variant = Self;
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        Ok((seed.deserialize(BorrowedStrDeserializer::<Error>::new(self.name))?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Error;
    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.example)
    }
    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        self.example.deserialize_tuple(length, visitor)
    }
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.example.deserialize_struct("", fields, visitor)
    }
}

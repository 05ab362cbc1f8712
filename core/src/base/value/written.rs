//! The shape of an encoded value, for errors: the names and kinds in it, and nothing of its content.

use super::names::shown;
use super::{DEPTH_MAX, SHAPE_CHARACTERS_MAX, decoder::Decoder, kind};

/// The maximum number of fields or parts that are shown of a value.
const PARTS_MAX: usize = 16;

/// Describes what `bytes` were written as, such as `Order {book: text, count: number}`.
pub(crate) fn written_shape(bytes: &[u8]) -> String {
    shape(&mut Decoder::over(bytes), DEPTH_MAX).unwrap_or_else(|| "bytes that are no value".into())
}

/// Reads one value and describes it; `None` if it is none, or too deep.
fn shape(value: &mut Decoder<'_>, depth: u32) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    let shape = match value.byte().ok()? {
        kind::NAMED => named(value, depth)?,
        first => unnamed(value, first, depth)?,
    };
    Some(cut_off(shape))
}

fn named(value: &mut Decoder<'_>, depth: u32) -> Option<String> {
    let name = shown(value.name().ok()?);
    Some(match value.peek()? {
        kind::STRUCT => format!("{name} {}", shape(value, depth)?),
        kind::UNIT_VARIANT | kind::VARIANT => format!("{name}::{}", shape(value, depth)?),
        kind::UNIT => {
            shape(value, depth)?;
            name
        }
        _ => {
            let content = shape(value, depth)?;
            if content.starts_with('(') { format!("{name}{content}") } else { format!("{name}({content})") }
        }
    })
}

fn unnamed(value: &mut Decoder<'_>, first: u8, depth: u32) -> Option<String> {
    Some(match first {
        number if number < kind::TEXT_SHORT => "number".into(),
        kind::SOME => format!("Some({})", shape(value, depth)?),
        kind::UNIT_VARIANT => shown(value.name().ok()?),
        kind::VARIANT => {
            let name = shown(value.name().ok()?);
            let content = shape(value, depth)?;
            let enclosed = content.starts_with(['(', '{']);
            if enclosed { format!("{name} {content}") } else { format!("{name}({content})") }
        }
        kind::SEQUENCE => {
            let length = value.length().ok()?;
            sequence(value, Some(length), depth)?
        }
        kind::SEQUENCE_OPEN => sequence(value, None, depth)?,
        kind::MAP => {
            let length = value.length().ok()?;
            map(value, Some(length), depth)?
        }
        kind::MAP_OPEN => map(value, None, depth)?,
        kind::STRUCT => fields(value, depth)?,
        scalar => scalar_shape(value, scalar)?.into(),
    })
}

fn scalar_shape(value: &mut Decoder<'_>, kind: u8) -> Option<&'static str> {
    let (length, shape) = match kind {
        short if (kind::TEXT_SHORT..kind::UNIT).contains(&short) => (usize::from(short - kind::TEXT_SHORT), "text"),
        kind::UNIT => (0, "()"),
        kind::NONE => (0, "None"),
        kind::FALSE | kind::TRUE => (0, "bool"),
        kind::NUMBER | kind::NEGATIVE => {
            value.varint().ok()?;
            (0, "number")
        }
        kind::CHAR => {
            value.varint().ok()?;
            (0, "char")
        }
        kind::NUMBER_128 | kind::NEGATIVE_128 => (16, "number"),
        kind::F32 => (4, "f32"),
        kind::F64 => (8, "f64"),
        kind::TEXT => (value.length().ok()?, "text"),
        kind::BYTES | kind::SEQUENCE_OF_BYTES => (value.length().ok()?, "bytes"),
        _ => return None,
    };
    value.take(length).ok()?;
    Some(shape)
}

/// Whether another part follows; `left` counts down, or is `None` before an end mark.
fn has_next(value: &mut Decoder<'_>, left: &mut Option<usize>) -> bool {
    match left {
        Some(0) => false,
        Some(left) => {
            *left -= 1;
            true
        }
        None if value.peek() == Some(kind::END) => {
            let _ = value.byte();
            false
        }
        None => true,
    }
}

/// A sequence of values of one shape is a list, as far as bytes tell.
fn sequence(value: &mut Decoder<'_>, mut left: Option<usize>, depth: u32) -> Option<String> {
    let mut shapes: Vec<String> = Vec::new();
    let (mut same, mut count) = (true, 0);
    while has_next(value, &mut left) {
        let part = shape(value, depth)?;
        same &= shapes.first().is_none_or(|first| *first == part);
        count += 1;
        if shapes.len() < PARTS_MAX {
            shapes.push(part);
        }
    }
    Some(match shapes.as_slice() {
        [] => "[]".into(),
        [first, ..] if same && count > PARTS_MAX => format!("[{first}; {count}]"),
        shapes => format!("({}{})", shapes.join(", "), if count > PARTS_MAX { ", .." } else { "" }),
    })
}

fn map(value: &mut Decoder<'_>, mut left: Option<usize>, depth: u32) -> Option<String> {
    let mut first = None;
    while has_next(value, &mut left) {
        let (key, content) = (shape(value, depth)?, shape(value, depth)?);
        first.get_or_insert_with(|| format!("map of {key} to {content}"));
    }
    Some(first.unwrap_or_else(|| "map".into()))
}

fn fields(value: &mut Decoder<'_>, depth: u32) -> Option<String> {
    let count = value.length().ok()?;
    let mut shapes = Vec::new();
    for _ in 0..count {
        let name = shown(value.name().ok()?);
        let content = shape(value, depth)?;
        if shapes.len() < PARTS_MAX {
            shapes.push(format!("{name}: {content}"));
        }
    }
    Some(format!("{{{}{}}}", shapes.join(", "), if count > PARTS_MAX { ", .." } else { "" }))
}

pub(super) fn cut_off(mut shape: String) -> String {
    if let Some((end, _)) = shape.char_indices().nth(SHAPE_CHARACTERS_MAX) {
        shape.truncate(end);
        shape.push_str("..");
    }
    shape
}

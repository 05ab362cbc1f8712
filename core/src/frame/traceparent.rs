//! Where a session belongs in a trace: the `traceparent` of W3C Trace Context, as it travels in a session's header.
//!
//! Opaque here: this crate neither makes spans nor knows who exports them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::error_text::debug_as_text;

/// The length of the text form in bytes: `00-<32 digits>-<16 digits>-<2 digits>`.
const TEXT_BYTES: usize = 55;

/// The flags that are known: "sampled" and "random". A sender must not pass on the others.
const KNOWN_FLAGS: u8 = 0b11;

/// The flag that says that the trace is exported.
const SAMPLED: u8 = 0b01;

/// A position in a trace: the trace, and the span that what follows belongs under. The `traceparent` header of
/// [W3C Trace Context](https://www.w3.org/TR/trace-context/).
///
/// It travels with its session, to all roles and through restarts, so that the spans of all nodes join one trace. Its
/// 25 bytes say nothing about a session: they are for those who look at traces, and nothing is decided by them.
///
/// ```
/// use accompanist_core::frame::Traceparent;
///
/// let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"; // Of an HTTP request, say.
/// let caller: Traceparent = header.parse()?;
/// assert!(caller.is_sampled());
/// assert_eq!(caller.to_string(), header);
/// assert!("00-no-trace".parse::<Traceparent>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Traceparent {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
}

/// The error for a text that is no `traceparent`.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no traceparent: give the text of the W3C header, `00-`, 32 and 16 digits 0-9 and a-f that are not all 0, \
     and 2 more, with `-` between them"
)]
pub struct InvalidTraceparent(String);

debug_as_text!(InvalidTraceparent);

impl Traceparent {
    /// Creates a position from the ids of a trace and of a span in it; `None` if one of them is all zeros, which
    /// stands for no trace. Unknown flags are left out.
    pub fn new(trace: [u8; 16], span: [u8; 8], flags: u8) -> Option<Self> {
        let is_valid = trace != [0; 16] && span != [0; 8];
        is_valid.then_some(Self { trace, span, flags: flags & KNOWN_FLAGS })
    }

    /// The id of the trace.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace
    }

    /// The id of the span that what follows belongs under.
    pub fn span_id(&self) -> [u8; 8] {
        self.span
    }

    /// The flags of the trace.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether the trace is exported. Those who sample by it export all of a trace or nothing.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace), u64::from_be_bytes(self.span));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", self.flags)
    }
}

/// Reads bytes of two lower-case digits each.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.len() != 2 * N || !digits.bytes().all(is_digit) {
        return None;
    }
    let mut read = [0; N];
    for (index, byte) in read.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(read)
}

fn parse(text: &str) -> Option<Traceparent> {
    let (known, rest) = text.split_at_checked(TEXT_BYTES)?;
    let mut fields = known.split('-');
    let [version] = bytes::<1>(fields.next()?)?;
    let (trace, span, [flags]) = (bytes(fields.next()?)?, bytes(fields.next()?)?, bytes(fields.next()?)?);
    // Later versions may append fields; 255 is none.
    let fits =
        if version == 0 { rest.is_empty() } else { version < u8::MAX && (rest.is_empty() || rest.starts_with('-')) };
    Traceparent::new(trace, span, flags).filter(|_| fits)
}

impl FromStr for Traceparent {
    type Err = InvalidTraceparent;
    fn from_str(text: &str) -> Result<Self, InvalidTraceparent> {
        parse(text).ok_or_else(|| InvalidTraceparent(text.chars().take(TEXT_BYTES).collect()))
    }
}

impl Serialize for Traceparent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        (self.trace, self.span, self.flags).serialize(serializer)
    }
}

/// Reads the field of a header. What is no position in a trace is ignored: it must not keep a session from running.
pub(super) fn valid_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Traceparent>, D::Error> {
    if deserializer.is_human_readable() {
        let text = Option::<String>::deserialize(deserializer)?;
        return Ok(text.and_then(|text| text.parse().ok()));
    }
    let fields = Option::<([u8; 16], [u8; 8], u8)>::deserialize(deserializer)?;
    Ok(fields.and_then(|(trace, span, flags)| Traceparent::new(trace, span, flags)))
}

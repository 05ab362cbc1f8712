//! The stored data of a step: how it ended, and its result as bytes with a version.
//!
//! This module knows the columns of the table, but no database. Next: `database.rs`.

use accompanist_core::message::{CodecError, decode, encode};
use accompanist_core::{Abort, Message};
use sqlx::Error;

/// The first byte of every stored result.
const RESULT_VERSION: u8 = 1;

/// The end of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marker {
    /// Done, with this output.
    Committed(Kept),
    /// Refused, with this abort.
    Refused(Kept),
    /// Compensated, or never to be done.
    Compensated,
}

/// A value as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept(Vec<u8>);

impl Kept {
    fn encode<T: Message>(value: &T) -> sqlx::Result<Self> {
        let mut bytes = vec![RESULT_VERSION];
        bytes.extend(encode(value).map_err(|error| Error::Encode(error.into()))?);
        Ok(Self(bytes))
    }

    /// Decodes the value.
    pub fn decode<T: Message>(&self) -> sqlx::Result<T> {
        let Some((&RESULT_VERSION, value)) = self.0.split_first() else {
            return Err(Error::Decode("the kept result of a step has an unknown version".into()));
        };
        decode(value).map_err(|error: CodecError| Error::Decode(error.into()))
    }
}

impl Marker {
    /// The state of a marker whose step is running, visible only inside its transaction.
    pub const CLAIMED: &str = "claimed";
    const COMMITTED: &str = "committed";
    const REFUSED: &str = "refused";
    const COMPENSATED: &str = "compensated";

    /// Creates the marker of a step with this output.
    pub fn committed<T: Message>(output: &T) -> sqlx::Result<Self> {
        Kept::encode(output).map(Self::Committed)
    }

    /// Creates the marker of a refused step.
    pub fn refused(abort: &Abort) -> sqlx::Result<Self> {
        Kept::encode(abort).map(Self::Refused)
    }

    /// Returns the columns `state` and `result`.
    pub fn columns(&self) -> (&'static str, Option<&[u8]>) {
        match self {
            Self::Committed(Kept(output)) => (Self::COMMITTED, Some(output)),
            Self::Refused(Kept(abort)) => (Self::REFUSED, Some(abort)),
            Self::Compensated => (Self::COMPENSATED, None),
        }
    }

    /// Reads the columns of a claimed row: `None` if the step has yet to run.
    pub fn claimed((state, result): (String, Option<Vec<u8>>)) -> sqlx::Result<Option<Self>> {
        match (state.as_str(), result) {
            (Self::CLAIMED, None) => Ok(None),
            (Self::COMMITTED, Some(output)) => Ok(Some(Self::Committed(Kept(output)))),
            (Self::REFUSED, Some(abort)) => Ok(Some(Self::Refused(Kept(abort)))),
            (Self::COMPENSATED, _) => Ok(Some(Self::Compensated)),
            (state, _) => Err(Error::Decode(format!("a marker of a step has the state `{state}`").into())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_bytes_of_a_result_stay() {
        let committed = Marker::committed(&("a", 300_u32).1).unwrap();
        assert_eq!(committed.columns(), ("committed", Some(&[1, 0xa5, 0xac, 0x02][..])));
        let refused = Marker::refused(&Abort::new("no", "why")).unwrap();
        assert_eq!(
            refused.columns(),
            ("refused", Some(&b"\x01\xb7\x05Abort\xb0\x02\x04code\x82no\x07message\x83why"[..]))
        );
        assert_eq!(Marker::Compensated.columns(), ("compensated", None));
    }

    #[test]
    fn markers_round_trip() {
        for marker in [Marker::committed(&7_u8).unwrap(), Marker::refused(&Abort::new("a", "b")).unwrap()] {
            let (state, result) = marker.columns();
            assert_eq!(Marker::claimed((state.into(), result.map(Into::into))).unwrap(), Some(marker));
        }
    }

    #[test]
    fn an_unreadable_marker_is_an_error() {
        assert!(Kept(vec![2, 0]).decode::<u8>().is_err());
        assert!(Kept(vec![]).decode::<()>().is_err());
        assert!(Kept(vec![1, 0, 0]).decode::<u8>().is_err());
        assert!(Marker::claimed(("abandoned".into(), None)).is_err());
        assert!(Marker::claimed(("committed".into(), None)).is_err());
    }
}

//! What the parts say to each other, as bytes.
//!
//! The fillers stand for what the nodes' packets have besides: names, paths, epochs, the session's header.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::saga::Order;

/// The roles, by number.
pub(super) const WAREHOUSE: u8 = 0;
pub(super) const PAYMENT: u8 = 1;
pub(super) const LOYALTY: u8 = 2;
/// How many they are.
pub(super) const ROLES: usize = 3;

/// One order, at all parts.
pub(super) type Session = [u8; 16];

/// Name and epoch of the sender.
const PACKET_FILLER: &[u8] = &[0; 17];
/// The same, and the epoch of the receiver, which acknowledgements need.
const ACKS_FILLER: &[u8] = &[0; 28];
/// The session's header, with the first frame to each role, and roles and path of the operation.
const FIRST_FILLER_BYTES: usize = 66;
/// Roles and path alone.
const NEXT_FILLER_BYTES: usize = 4;
/// What an order takes more in the nodes' form of values than in postcard's: the names of its fields, and kinds.
pub(super) const ORDER_NAMES_BYTES: usize = 40;
const FILLER: &[u8] = &[0; FIRST_FILLER_BYTES + ORDER_NAMES_BYTES];

/// What is said.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Body {
    /// The order comes by: it is this part's turn.
    Deliver(Order),
    /// The sender has done its part.
    Done,
    /// All have.
    Close,
}

/// One thing said, to be acknowledged by its number.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Frame<'a> {
    pub(super) number: u64,
    pub(super) session: Session,
    pub(super) body: Body,
    filler: &'a [u8],
}

/// Frames and acknowledgements that leave together.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Packet<'a> {
    pub(super) from: u8,
    filler: &'a [u8],
    #[serde(borrow)]
    pub(super) frames: Vec<Frame<'a>>,
    pub(super) acks: Vec<u64>,
}

impl Frame<'_> {
    /// A frame; `first` if the sender has said nothing to its receiver before.
    pub(super) fn new(number: u64, session: Session, body: Body, first: bool) -> Frame<'static> {
        let head = if first { FIRST_FILLER_BYTES } else { NEXT_FILLER_BYTES };
        let names = if matches!(body, Body::Deliver(_)) { ORDER_NAMES_BYTES } else { 0 };
        Frame { number, session, body, filler: FILLER.get(..head + names).unwrap_or(FILLER) }
    }
}

impl<'a> Packet<'a> {
    pub(super) fn new(from: u8, frames: Vec<Frame<'a>>, acks: Vec<u64>) -> Self {
        let filler = if acks.is_empty() { PACKET_FILLER } else { ACKS_FILLER };
        Self { from, filler, frames, acks }
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        postcard::to_stdvec(self).context("a packet's bytes")
    }

    pub(super) fn from_bytes(bytes: &'a [u8]) -> Result<Self> {
        postcard::from_bytes(bytes).context("a packet that cannot be read")
    }
}

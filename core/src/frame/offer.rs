//! What a node says to all others from time to time: what it offers, whether it drains, who has left, which nodes
//! that drain are still needed, and what it last received from each.
//!
//! Part of a packet, with the same rules. Every list has a bound. Knows nothing of who keeps an offer, or casts by it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::epoch::{EPOCH_BYTES, Epoch};
use crate::id::{NODE_ID_BYTES_MAX, NodeId};

/// The most bytes that the name of a role, a choreography or a patch has. Headers and offers carry them.
pub const NAME_BYTES_MAX: usize = 64;
/// The most patches of one version of a choreography. The next version starts with none again.
pub const PATCHES_MAX: usize = 16;
/// The most bytes of what an offer has of roles and choreographies: every node keeps those of all others in memory.
pub const OFFER_BYTES_MAX: usize = 32 * 1024;
/// The most nodes in each list of an offer: those that have left, those that drain, and those that were received from. Who
/// knows of more says them in turn.
pub const NODES_PER_OFFER_MAX: usize = 64;
/// The most bytes of these lists.
pub const OFFER_NODES_BYTES_MAX: usize = 3 * NODES_PER_OFFER_MAX * NODE_BYTES;

/// What a name or a number takes besides its bytes, at most.
const OFFER_ITEM_BYTES: usize = 8;
/// What a number of 64 bits takes, at most.
const NUMBER_BYTES: usize = 10;
/// What the opening of a store takes, at most.
const GENERATION_BYTES: usize = 4 * NUMBER_BYTES + 2 * NUMBER_BYTES;
/// What an entry of a list of nodes takes, at most: a name, an epoch, and up to two numbers; or a name and three numbers.
const NODE_BYTES: usize = NODE_ID_BYTES_MAX + OFFER_ITEM_BYTES + EPOCH_BYTES + 2 * NUMBER_BYTES;

/// A node's time with the others, from its first start over a fresh store until it leaves: a random number. The next
/// one under the same name has another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Membership(pub u64);

/// One opening of a node's store, and how far the store was: so that an older copy of a store, and a second one, are noticed by all
/// who hear of it (decision 0033). Claimed at each start, on disk before anything is served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// How often an operator has accepted an older copy of the store in the place of the one that the others know.
    pub restores: u64,
    /// Counts the openings of the store, those of all copies before this one included.
    pub number: u64,
    /// Drawn at random for this opening.
    pub id: u128,
    /// How many batches the store had when it was opened.
    pub opened: u64,
    /// How many it has on disk now, but for those that only note how far others are.
    pub batch: u64,
}

impl Generation {
    /// Which of two openings came later. Those of two copies of a store may have the same.
    pub fn order(&self) -> (u64, u64) {
        (self.restores, self.number)
    }

    /// Whether they are the same opening of the same store.
    pub fn is_same(&self, other: &Self) -> bool {
        self.order() == other.order() && self.id == other.id
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { restores, number, id, batch, .. } = self;
        // So much of the id tells two of them apart.
        write!(f, "generation {restores}.{number} ({:08x}), batch {batch}", id >> 96)
    }
}

/// Of two openings of a store under the receiver's name: the sender does not take the one for the store of that node, since it
/// knows the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// The membership that both claim.
    pub membership: Membership,
    /// The one that is refused.
    pub refused: Generation,
    /// The one that is known.
    pub known: Generation,
    /// Whether both are at work: the one that is known has to stop, too, until an operator chooses.
    pub both_live: bool,
}

/// What a node says of itself, and of those that come and go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its membership.
    pub membership: Membership,
    /// Counts the changes of `draining` from 0. An offer with a lower number than one that is known comes late.
    pub change: u64,
    /// Whether it takes no new sessions.
    pub draining: bool,
    /// Names of the roles that it plays.
    pub roles: Vec<String>,
    /// Whether the receivers should say what they offer, too.
    pub ask: bool,
    /// The choreographies that it has, each version for itself.
    pub choreographies: Vec<Offered>,
    /// Of an offer to one node: the receiver's membership, once the sender has it on disk. Only then the receiver may cast
    /// the sender, which so knows of everybody who may.
    pub knows: Option<Membership>,
    /// Who has left, as it has on disk.
    pub left: Vec<Left>,
    /// Which nodes that drain are still needed, or no longer, as it has on disk.
    pub needs: Vec<Need>,
    /// From which nodes the sender has received something in this life, and what last. A list with fewer than
    /// [`NODES_PER_OFFER_MAX`] entries is complete: nothing was received from those that are not in it.
    pub received: Vec<Reception>,
    /// Whether its membership was begun knowingly, by an operator or by joining anew after it had left: it takes the place of
    /// another one under its name. Without this, who knows the name in another membership does not hear it.
    pub fresh: bool,
    /// The opening of its store.
    pub generation: Generation,
    /// Of an offer to one node, or of one that a node tells all of its own name: which opening of the receiver's store is refused.
    pub dispute: Option<Dispute>,
    /// Of an offer to one node: the id of the opening that the sender knows of the receiver's store.
    pub accepts: Option<u128>,
}

/// One version of a choreography that a node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// The choreography's name.
    pub choreography: String,
    /// The version.
    pub version: u32,
    /// The patches that its code knows.
    pub patches: Vec<String>,
}

/// A node that has left for good, or was forgotten by an operator: nobody casts it any more in this membership.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Left {
    /// When, in milliseconds since the Unix epoch, by the clock of the node that said it first. The oldest go first when
    /// there are too many to keep.
    pub at_unix_ms: u64,
    /// Its name.
    pub node: NodeId,
    /// Its membership.
    pub membership: Membership,
}

/// How much a node that drains is still needed, in the sender's eyes. Sent only when it is on the sender's disk that the
/// node drains: no session begins there any more that it is cast in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// The node that drains.
    pub node: NodeId,
    /// Its membership.
    pub membership: Membership,
    /// The number that its offer had.
    pub change: u64,
    /// How many role instances are open at the sender whose sessions have it in their cast.
    pub open: u64,
}

/// What the sender of an offer has received from another node: so that one learns whether what it sends arrives. The
/// numbers are those of [`Round`](super::Round)s; 0 stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reception {
    /// The node whose packets these were.
    pub node: NodeId,
    /// The epoch in which it sent them.
    pub epoch: Epoch,
    /// The latest round of its packets to the offer's sender alone.
    pub direct: u64,
    /// The latest round of its packets to all.
    pub broadcast: u64,
}

/// An offer that no node may make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// A name is too long.
    #[error("the name `{0}..` has more than {NAME_BYTES_MAX} bytes: shorten it")]
    LongName(String),
    /// A choreography has too many patches.
    #[error(
        "`{choreography}` version {version} has more than {PATCHES_MAX} patches: raise its VERSION and leave them out"
    )]
    ManyPatches {
        /// The choreography.
        choreography: String,
        /// The version.
        version: u32,
    },
    /// All in all it is too large.
    #[error(
        "roles and choreographies take {0} bytes, the limit is {OFFER_BYTES_MAX}: leave out versions that have no open sessions"
    )]
    Large(usize),
    /// It speaks of too many nodes.
    #[error("a list of nodes has {0} entries, the limit is {NODES_PER_OFFER_MAX}")]
    ManyNodes(usize),
}

impl Offer {
    /// Checks its bounds.
    ///
    /// # Errors
    /// [`OfferError`], which says what to do.
    pub fn check(&self) -> Result<(), OfferError> {
        if let Some(name) = self.names().find(|name| name.len() > NAME_BYTES_MAX) {
            return Err(OfferError::LongName(name.chars().take(NAME_BYTES_MAX / 4).collect()));
        }
        if let Some(offered) = self.choreographies.iter().find(|offered| offered.patches.len() > PATCHES_MAX) {
            let (choreography, version) = (offered.choreography.clone(), offered.version);
            return Err(OfferError::ManyPatches { choreography, version });
        }
        let mut lists = [self.left.len(), self.needs.len(), self.received.len()].into_iter();
        if let Some(nodes) = lists.find(|nodes| *nodes > NODES_PER_OFFER_MAX) {
            return Err(OfferError::ManyNodes(nodes));
        }
        let size = self.names_size();
        if size > OFFER_BYTES_MAX { Err(OfferError::Large(size)) } else { Ok(()) }
    }

    /// What it takes in a packet, at most.
    pub fn size(&self) -> usize {
        let nodes = (self.left.len() + self.needs.len() + self.received.len()) * NODE_BYTES;
        self.names_size() + nodes + 3 * NUMBER_BYTES + OFFER_ITEM_BYTES + 4 * GENERATION_BYTES + 2 * NUMBER_BYTES
    }

    fn names_size(&self) -> usize {
        let names: usize = self.names().map(|name| name.len() + OFFER_ITEM_BYTES).sum();
        names + self.choreographies.len() * 2 * OFFER_ITEM_BYTES
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        let offered = self.choreographies.iter();
        self.roles
            .iter()
            .chain(offered.flat_map(|offered| std::iter::once(&offered.choreography).chain(&offered.patches)))
    }
}

//! Advertisements: what a node broadcasts from time to time. An advertisement says what the node can play, whether it
//! drains, which nodes have left, which draining nodes are still needed, and what it last received from each node.
//!
//! An advertisement is part of a packet and follows the same encoding rules. Every list is bounded. This module does
//! not know who stores an advertisement or casts by it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::epoch::{EPOCH_BYTES, Epoch};
use crate::base::error_text::debug_as_text;
use crate::base::id::{NODE_ID_BYTES_MAX, NodeId};

/// The maximum length in bytes of the name of a role, a choreography or a patch. Headers and advertisements contain
/// these names.
pub const NAME_BYTES_MAX: usize = 64;
/// The maximum number of patches of one version of a choreography. The next version starts without patches again.
pub const PATCHES_MAX: usize = 16;
/// The maximum size in bytes of the roles and choreographies in an advertisement. Every node holds those of all other
/// nodes in memory.
pub const ADVERTISEMENT_BYTES_MAX: usize = 32 * 1024;
/// The maximum number of nodes in each list of an advertisement: nodes that have left, nodes that drain, nodes that
/// were received from. A node that knows more of them rotates through them.
pub const NODES_PER_ADVERTISEMENT_MAX: usize = 64;
/// The maximum size of these lists in bytes.
pub const ADVERTISEMENT_NODES_BYTES_MAX: usize = 3 * NODES_PER_ADVERTISEMENT_MAX * NODE_BYTES;

/// The maximum overhead of a name, or the maximum size of a number.
const ADVERTISEMENT_ITEM_BYTES: usize = 8;
/// The maximum size of a 64-bit number.
const NUMBER_BYTES: usize = 10;
/// The maximum size of a [`Generation`].
const GENERATION_BYTES: usize = 4 * NUMBER_BYTES + 2 * NUMBER_BYTES;
/// The maximum size of an entry of a list of nodes: a name, an epoch and up to two numbers, or a name and three
/// numbers.
const NODE_BYTES: usize = NODE_ID_BYTES_MAX + ADVERTISEMENT_ITEM_BYTES + EPOCH_BYTES + 2 * NUMBER_BYTES;

/// A node's membership in the system, from its first start over a fresh store until it leaves: a random number. A
/// later membership under the same name has another number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Membership(pub u64);

/// The generation of a store: one opening of it, and how far the store was. With it, all nodes that learn of an older
/// copy of a store, or of a second copy in use, detect that (decision 0033). A node claims a generation at each start
/// and has it on disk before it serves anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// The number of times an operator has accepted an older copy of the store in place of the one that other nodes
    /// know.
    pub restores: u64,
    /// The number of openings of the store, including those of all copies from which this one descends.
    pub number: u64,
    /// A random number drawn for this opening.
    pub id: u128,
    /// The number of batches the store had when it was opened.
    pub opened: u64,
    /// The number of batches the store has on disk now, not counting those that only note the progress of other
    /// nodes.
    pub batch: u64,
}

impl Generation {
    /// The order of openings: the greater one came later. Openings of two copies of a store may compare equal.
    pub fn order(&self) -> (u64, u64) {
        (self.restores, self.number)
    }

    /// Whether both are the same opening of the same store.
    pub fn is_same(&self, other: &Self) -> bool {
        self.order() == other.order() && self.id == other.id
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { restores, number, id, batch, .. } = self;
        // These 32 bits of the id suffice to distinguish two openings.
        write!(f, "generation {restores}.{number} ({:08x}), batch {batch}", id >> 96)
    }
}

/// A dispute about two openings of a store under the receiver's name: the sender refuses to accept one of them as
/// that node's store, because it knows the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// The membership that both openings claim.
    pub membership: Membership,
    /// The refused opening.
    pub refused: Generation,
    /// The known opening.
    pub known: Generation,
    /// Whether both are running. If so, the known one must stop, too, until an operator chooses between them.
    pub both_live: bool,
}

/// The advertisement of a node: facts about itself, and about nodes that join and leave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advertisement {
    /// The membership of the node.
    pub membership: Membership,
    /// The number of changes of `draining`, from 0. An advertisement with a lower number than a known one is out of
    /// date.
    pub change: u64,
    /// Whether the node accepts no new sessions.
    pub draining: bool,
    /// The names of the roles that the node plays.
    pub roles: Vec<String>,
    /// Whether the receivers should send their own advertisements in return.
    pub ask: bool,
    /// The choreographies that the node has, with one entry for each version.
    pub choreographies: Vec<OfferedChoreography>,
    /// In an advertisement to a single node: the receiver's membership, once the sender has it on disk. The receiver
    /// may cast the sender only after that, so the sender knows every node that may cast it.
    pub knows: Option<Membership>,
    /// The nodes that have left, as far as the sender has that on disk.
    pub left: Vec<Left>,
    /// The draining nodes that are still needed, or no longer needed, as far as the sender has that on disk.
    pub needs: Vec<DrainBlocker>,
    /// The nodes from which the sender has received packets in its current epoch, with the latest round of each. A list
    /// with fewer than [`NODES_PER_ADVERTISEMENT_MAX`] entries is complete: nothing was received from nodes that are
    /// not in it.
    pub received: Vec<Reception>,
    /// Whether the membership was begun deliberately, by an operator or by a node that joins again after it left.
    /// Such a membership replaces another one under the same name. Without this flag, nodes that know the name with
    /// another membership ignore the advertisement.
    pub fresh: bool,
    /// The generation of the node's store.
    pub generation: Generation,
    /// In an advertisement to a single node, or in one that a node broadcasts about its own name: the opening of the
    /// receiver's store that is refused.
    pub dispute: Option<Dispute>,
    /// In an advertisement to a single node: the id of the opening that the sender knows of the receiver's store.
    pub accepts: Option<u128>,
}

/// A version of a choreography that a node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedChoreography {
    /// The choreography's name.
    pub choreography: String,
    /// The version.
    pub version: u32,
    /// The patches that its code knows.
    pub patches: Vec<String>,
}

/// A node that has left for good, or that an operator made the others forget. No node casts it any more in this
/// membership.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Left {
    /// The time at which the node left, in milliseconds since the Unix epoch, by the clock of the node that first
    /// reported it. If there are too many entries to store, the oldest are dropped.
    pub at_unix_ms: u64,
    /// The name of the node.
    pub node: NodeId,
    /// The membership that has ended.
    pub membership: Membership,
}

/// The extent to which the sender still needs a draining node. Sent only once the sender has on disk that the node
/// drains; from then on the sender starts no sessions with that node in their cast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainBlocker {
    /// The node that drains.
    pub node: NodeId,
    /// The membership of that node.
    pub membership: Membership,
    /// The `change` number of that node's advertisement.
    pub change: u64,
    /// The number of role instances open at the sender whose sessions have that node in their cast.
    pub open: u64,
}

/// A report of what the sender of an advertisement has received from another node, from which that node learns
/// whether its packets arrive. The numbers are those of [`Round`](super::Round)s; 0 means nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reception {
    /// The node that sent the packets.
    pub node: NodeId,
    /// The epoch in which that node sent them.
    pub epoch: Epoch,
    /// The latest round of its packets to the sender of this advertisement alone.
    pub direct: u64,
    /// The latest round of its broadcast packets.
    pub broadcast: u64,
}

/// The error of an advertisement that exceeds a limit.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdvertisementError {
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
    /// The names are too large in total.
    #[error(
        "roles and choreographies take {0} bytes, the limit is {ADVERTISEMENT_BYTES_MAX}: leave out versions that have \
         no open sessions"
    )]
    Large(usize),
    /// A list has too many nodes.
    #[error("a list of nodes has {0} entries, the limit is {NODES_PER_ADVERTISEMENT_MAX}")]
    ManyNodes(usize),
}

debug_as_text!(AdvertisementError);

impl Advertisement {
    /// Checks that the advertisement is within its limits.
    ///
    /// # Errors
    /// [`AdvertisementError`], which says what to do.
    pub fn check(&self) -> Result<(), AdvertisementError> {
        if let Some(name) = self.names().find(|name| name.len() > NAME_BYTES_MAX) {
            return Err(AdvertisementError::LongName(name.chars().take(NAME_BYTES_MAX / 4).collect()));
        }
        if let Some(offered) = self.choreographies.iter().find(|offered| offered.patches.len() > PATCHES_MAX) {
            let (choreography, version) = (offered.choreography.clone(), offered.version);
            return Err(AdvertisementError::ManyPatches { choreography, version });
        }
        let mut lists = [self.left.len(), self.needs.len(), self.received.len()].into_iter();
        if let Some(nodes) = lists.find(|nodes| *nodes > NODES_PER_ADVERTISEMENT_MAX) {
            return Err(AdvertisementError::ManyNodes(nodes));
        }
        let size = self.names_size();
        if size > ADVERTISEMENT_BYTES_MAX { Err(AdvertisementError::Large(size)) } else { Ok(()) }
    }

    /// The maximum size of the advertisement in a packet.
    pub fn size(&self) -> usize {
        let nodes = (self.left.len() + self.needs.len() + self.received.len()) * NODE_BYTES;
        self.names_size()
            + nodes
            + 3 * NUMBER_BYTES
            + ADVERTISEMENT_ITEM_BYTES
            + 4 * GENERATION_BYTES
            + 2 * NUMBER_BYTES
    }

    fn names_size(&self) -> usize {
        let names: usize = self.names().map(|name| name.len() + ADVERTISEMENT_ITEM_BYTES).sum();
        names + self.choreographies.len() * 2 * ADVERTISEMENT_ITEM_BYTES
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        let offered = self.choreographies.iter();
        self.roles
            .iter()
            .chain(offered.flat_map(|offered| std::iter::once(&offered.choreography).chain(&offered.patches)))
    }
}

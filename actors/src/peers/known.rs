//! All that is known of the nodes of the system, under one lock of [`Peers`](super::Peers).
//!
//! Each part owns its data and its rules: `contacts` which nodes are received and receive, `own` this node's
//! membership, `opening` the opening of this node's store, `openings` those of the others, `drain` the counts of open
//! instances. The files of this folder that are named after an idea add the rules that concern several of the parts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use accompanist_core::NodeId;
use accompanist_core::contract::{Batch, Space, Store, StoreError};
use accompanist_core::frame::{Advertisement, Generation, Membership};
use accompanist_core::record::read_value;

use super::PEERS_MAX;
use super::contact::Contacts;
use super::cordon::restore_cordoned;
use super::departed::DepartedNodes;
use super::drain::DrainCounts;
use super::hints::DepartureHints;
use super::membership::{OwnMembership, OwnStatus};
use super::openings::Openings;
use super::own_name::OwnOpening;
use super::peer::{NODE_KEY, Peer, node_of_key};
use crate::store::STANDING_KEY;
use crate::writer::Counts;

/// The known nodes, with this one among them; see the module's documentation.
pub(super) struct KnownNodes {
    /// This node.
    pub(super) node: NodeId,
    pub(super) own: OwnMembership,
    pub(super) opening: OwnOpening,
    /// The last advertisement of each known node, this one included.
    pub(super) peers: BTreeMap<NodeId, Peer>,
    /// The memberships that are on disk.
    pub(super) stored: BTreeMap<NodeId, Membership>,
    pub(super) contacts: Contacts,
    /// The openings of the others' stores.
    pub(super) openings: Openings,
    /// The nodes that an operator has barred from new sessions of this node.
    pub(super) cordoned: BTreeSet<NodeId>,
    pub(super) left: DepartedNodes,
    pub(super) hints: DepartureHints,
    pub(super) drain: DrainCounts,
    /// The number of starts under way here that have cast a node and are not in the store yet.
    pub(super) placed: Counts,
}

impl KnownNodes {
    /// Creates the value for a node that begins to listen now; each node advertises itself within `period`.
    pub(super) fn new(node: NodeId, advertisement: Advertisement, period: Duration, now_ms: u64) -> Self {
        let contacts = Contacts::new(node.clone(), period, now_ms);
        let own = OwnStatus { membership: advertisement.membership, change: 0, draining: false, fresh: false };
        Self {
            own: OwnMembership::new(own),
            opening: OwnOpening::new(contacts.period_ms()),
            peers: BTreeMap::from([(node.clone(), Peer { mutual: true, ..advertisement.into() })]),
            node,
            stored: BTreeMap::new(),
            hints: DepartureHints::new(contacts.silence_ms()),
            contacts,
            openings: Openings::default(),
            cordoned: BTreeSet::new(),
            left: DepartedNodes::default(),
            drain: DrainCounts::default(),
            placed: Counts::new(),
        }
    }

    /// Restores the stored state, and makes a fresh store a member; with `fresh`, in place of another one under its
    /// name. Returns the changes that must be on disk before other nodes learn of them.
    pub(super) fn restore(
        &mut self,
        store: &dyn Store,
        membership: Membership,
        fresh: bool,
        generation: Generation,
    ) -> Result<Batch, StoreError> {
        self.openings = Openings::restore(store, self.contacts.period_ms())?;
        self.left = DepartedNodes::restore(store)?;
        self.cordoned = restore_cordoned(store)?;
        for (key, value) in store.scan(Space::Meta, NODE_KEY, None, PEERS_MAX)? {
            let peer: Peer = read_value(Space::Meta, &value)?;
            if let Some(node) = node_of_key(NODE_KEY, &key) {
                self.stored.insert(node.clone(), peer.membership);
                self.peers.entry(node).or_insert(peer);
            }
        }
        let stored: Option<OwnStatus> =
            store.get(Space::Meta, STANDING_KEY)?.map(|value| read_value(Space::Meta, &value)).transpose()?;
        let mut own = stored.unwrap_or(OwnStatus { membership, ..self.own.status() });
        own.fresh |= fresh;
        self.own = OwnMembership::new(own);
        self.note_status();
        let others = self.peers.keys().filter(|node| **node != self.node).cloned();
        self.opening.begin(generation, others.collect());
        Ok(if stored == Some(own) { Batch::new() } else { own.stored() })
    }
}

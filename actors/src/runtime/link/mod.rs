//! Frames between nodes: numbering, acknowledgement, retransmission, and the nodes' advertisements.
//!
//! The wire may lose, duplicate, reorder and delay packets. The link resends a frame until its receiver's node
//! acknowledges it, which means that the frame is durable there. All state here is in memory: after a crash the
//! instances send all unacknowledged frames again. Knows packets and nodes, but no programs or stores.
//! `introductions` decides which nodes are received, `outbox` holds the frames under way, `passivated_senders` knows
//! which passivated instances have unacknowledged frames, `reachability` whether packets to a peer arrive at all, and
//! `sealing` encrypts packets. Next: `sending` and `receiving`.

mod gossip;
mod inbox;
mod introductions;
mod outbox;
mod passivated_senders;
mod reachability;
mod receiving;
mod reception;
mod round_trip;
mod sealing;
mod sending;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use accompanist_core::NodeId;
use accompanist_core::contract::{Transport, Wire};
use accompanist_core::frame::{ADVERTISEMENT_NODES_BYTES_MAX, Advertisement, Epoch, Frame};
use accompanist_core::machine::Forget;
use metrics::counter;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use self::gossip::Counted;
use self::inbox::{LinkInbox, Waiting};
use self::introductions::Introductions;
use self::outbox::{Outbox, millis};
use self::passivated_senders::PassivatedSenders;
use self::reachability::Reachability;
use self::reception::Receptions;
use self::sealing::Sealing;
use self::sending::{FRAME_OVERHEAD_BYTES, PACKET_OVERHEAD_BYTES};
use crate::base::metric;
use crate::config::ADVERTISEMENT_DELAY_MIN;
use crate::runtime::context::NodeContext;
use crate::runtime::messages::{LinkHandle, LinkMessage, SupervisorMessage};
use crate::runtime::queue_delay::QueueDelay;

/// A signal that wakes the link.
pub(crate) enum LinkSignal {
    /// The link's queue has messages.
    Told,
    /// Probe each node that has unacknowledged frames of passivated instances with one instance.
    Probe,
    /// Some frames are due to be resent.
    Retransmit,
    /// Advertise this node to all, unless a later round has begun.
    Advertisement(u64),
    /// Advertise this node to one node.
    AdvertiseTo(NodeId),
    /// Count which draining nodes are still needed here.
    Count,
    /// The result of the count.
    Counted(Counted),
}

/// The link of a node; see the module's documentation.
pub(crate) struct Link;

pub(crate) struct LinkArguments {
    pub(crate) context: Arc<NodeContext>,
    pub(crate) transport: Arc<dyn Transport>,
}

pub(crate) struct LinkState {
    context: Arc<NodeContext>,
    /// The epoch of this link, drawn at random at its start: frame and round numbers count within it.
    epoch: Epoch,
    /// The handle on this link's own queue.
    own: LinkHandle,
    /// The packets that have arrived and wait for this link.
    waiting: Arc<Waiting>,
    wire: Weak<dyn Wire>,
    packet_bytes_max: usize,
    outbox: Outbox,
    /// The queue delay of this node as last sent.
    queue_ms: u64,
    passivated: PassivatedSenders,
    probe_asked: bool,
    /// The content to send to each node once all queued messages have been handled.
    due: BTreeMap<NodeId, DuePackets>,
    timer_at_ms: Option<u64>,
    receptions: Receptions,
    reachability: Reachability,
    introductions: Introductions,
    sealing: Sealing,
    /// The peers that are known to have acknowledged a frame.
    partners: BTreeSet<NodeId>,
    advertise_delay: Duration,
    advertise_round: u64,
    /// Whether the writer counts the open instances that need draining nodes.
    is_counting: bool,
    /// Whether the node is about to stop because its store is not the one that others know.
    is_halted: bool,
}

#[derive(Default)]
struct DuePackets {
    frames: Vec<(u64, Frame)>,
    acks: BTreeMap<Epoch, Vec<u64>>,
    advertisement: Option<Advertisement>,
    /// Whether to send a packet even without content, to learn whether it arrives.
    probe: bool,
}

impl Actor for Link {
    type Msg = LinkSignal;
    type State = LinkState;
    type Arguments = LinkArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<LinkSignal>,
        LinkArguments { context, transport }: LinkArguments,
    ) -> Result<LinkState, ActorProcessingErr> {
        *context.admissions.queue_delay() = QueueDelay::default();
        let own = LinkHandle::new({
            let myself = myself.clone();
            move || myself.cast(LinkSignal::Told).is_ok()
        });
        let waiting = Arc::<Waiting>::default();
        let inbox = Arc::new(LinkInbox::new(&context, waiting.clone(), own.clone()));
        let wire = transport.attach(context.node.clone(), inbox).await?;
        let packet_max = sealing::packet_bytes_max(&context, wire.as_ref());
        let payload_max = context.settings.limits.payload_bytes_max;
        if payload_max.saturating_add(FRAME_OVERHEAD_BYTES + PACKET_OVERHEAD_BYTES) > packet_max {
            let text = format!(
                "`payload_bytes_max` is {payload_max}, and the transport carries packets of up to {packet_max} bytes: \
                 lower the one or raise the other"
            );
            return Err(text.into());
        }
        let advertisement_bytes = context.advertisement(None).size() + ADVERTISEMENT_NODES_BYTES_MAX;
        if advertisement_bytes + PACKET_OVERHEAD_BYTES > packet_max {
            let text = format!(
                "roles and choreographies take {advertisement_bytes} bytes, and the transport carries packets of up to \
                 {packet_max} bytes: give it larger ones"
            );
            return Err(text.into());
        }
        context.routes.set_wire(Some(wire.clone()));
        context.routes.set_link(Some(own.clone()));
        myself.cast(LinkSignal::Advertisement(0))?;
        let outbox = Outbox::new(&context.settings);
        let epoch = Epoch(context.environment.random_u128());
        let reachability =
            Reachability::new(context.node.clone(), epoch, millis(context.settings.advertisement_period_max));
        let introductions = Introductions::new(
            millis(context.settings.retransmission_delay_min),
            millis(context.settings.retransmission_delay_max),
        );
        context.peers.begin_link();
        Ok(LinkState {
            context,
            epoch,
            own,
            waiting,
            wire: Arc::downgrade(&wire),
            packet_bytes_max: packet_max,
            outbox,
            queue_ms: 0,
            passivated: PassivatedSenders::default(),
            probe_asked: false,
            due: BTreeMap::new(),
            timer_at_ms: None,
            receptions: Receptions::default(),
            reachability,
            introductions,
            sealing: Sealing::new(epoch),
            partners: BTreeSet::new(),
            advertise_delay: ADVERTISEMENT_DELAY_MIN,
            advertise_round: 0,
            is_counting: false,
            is_halted: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<LinkSignal>,
        signal: LinkSignal,
        state: &mut LinkState,
    ) -> Result<(), ActorProcessingErr> {
        match signal {
            LinkSignal::Told => {
                // Let all ready instances send first, so that what is due to one node shares a packet.
                tokio::task::yield_now().await;
                for message in state.own.take() {
                    state.hear(&myself, message)?;
                }
            }
            LinkSignal::Probe => {
                state.probe_asked = false;
                state.passivated.probe();
            }
            LinkSignal::Retransmit => {
                state.timer_at_ms = None;
                for transmission in state.outbox.take_due(state.context.now_ms(), state.context.environment.as_ref()) {
                    counter!(metric::FRAMES_SENT_AGAIN).increment(1);
                    state.transmit(transmission);
                }
            }
            LinkSignal::Advertisement(round) if round == state.advertise_round => state.advertise(&myself),
            LinkSignal::Advertisement(_) => {}
            LinkSignal::AdvertiseTo(node) => {
                state.introductions.answered(&node);
                state.advertise_to(node);
            }
            LinkSignal::Count => state.count(&myself),
            LinkSignal::Counted(counted) => state.counted(&counted),
        }
        state.flush();
        state.schedule(&myself);
        Ok(())
    }
}

impl LinkState {
    fn hear(&mut self, myself: &ActorRef<LinkSignal>, message: LinkMessage) -> Result<(), ActorProcessingErr> {
        match message {
            LinkMessage::Send { id, frames, acks } => {
                for outgoing in frames {
                    self.say(id, outgoing);
                }
                for receipt in acks {
                    self.acknowledge(receipt);
                }
            }
            LinkMessage::Forget { id, what } => self.forget(id, what),
            LinkMessage::Passivated { id, unacknowledged } => {
                self.forget(id, Forget::All);
                self.passivated.add(id, unacknowledged);
            }
            LinkMessage::Packet { from, bytes, arrived_ms } => {
                self.waiting.give_back(bytes.len());
                if let Some(packet) = self.open(&from, bytes) {
                    self.receive(myself, &from, packet.bytes(), arrived_ms);
                }
            }
            LinkMessage::Announce => self.announce(myself),
            LinkMessage::Ask(node) => self.ask(&node),
            // The next link attaches again.
            LinkMessage::WireClosed(reason) => return Err(format!("its wire has ended: {reason}").into()),
            #[cfg(feature = "testing")]
            LinkMessage::Panic => crate::base::faults::as_ordered(),
        }
        Ok(())
    }

    /// Reactivates instances whose nodes acknowledge again, as far as the windows have room.
    fn reactivate(&mut self, myself: &ActorRef<LinkSignal>) {
        let back = self.passivated.take(|node| self.outbox.room(node));
        if !back.is_empty() {
            self.context.routes.to_supervisor(SupervisorMessage::SayAgain(back));
        }
        if !self.passivated.is_empty() && !self.probe_asked {
            self.probe_asked = true;
            myself.send_after(self.context.settings.retransmission_delay_max, || LinkSignal::Probe);
        }
    }

    /// Schedules the next retransmission and the reactivation of passivated instances.
    fn schedule(&mut self, myself: &ActorRef<LinkSignal>) {
        if !self.passivated.is_empty() {
            self.reactivate(myself);
        }
        if let Some(at_ms) = self.outbox.next_due_ms()
            && self.timer_at_ms.is_none_or(|known| at_ms < known)
        {
            self.timer_at_ms = Some(at_ms);
            // One millisecond more, because clock readings are truncated.
            let delay = Duration::from_millis(at_ms.saturating_sub(self.context.now_ms()) + 1);
            myself.send_after(delay, || LinkSignal::Retransmit);
        }
    }
}

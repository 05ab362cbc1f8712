//! Frames between nodes: numbering, acknowledgement, retransmission, and the nodes' advertisements.
//!
//! The wire may lose, duplicate, reorder and delay packets. The link resends a frame until its receiver's node
//! acknowledges it, which means that the frame is durable there. All state here is in memory: after a crash the
//! instances send all unacknowledged frames again. Knows packets and nodes, but no programs or stores.
//! `introductions` decides which nodes are received, `outbox` holds the frames under way, `passivated_senders` knows
//! which passivated instances have unacknowledged frames, `rounds` whether packets to a peer arrive at all,
//! `due_packets` what is due to each node, `endpoint` has the wire, and `sealing` encrypts packets. Next: `sending` and
//! `receiving`.

mod advertising;
mod due_packets;
mod endpoint;
mod gossip;
mod inbox;
mod introductions;
mod outbox;
mod passivated_senders;
mod reachability;
mod receiving;
mod reception;
mod round_trip;
mod rounds;
mod sealing;
mod sending;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use accompanist_core::NodeId;
use accompanist_core::contract::Transport;
use accompanist_core::frame::Epoch;
use accompanist_core::machine::Forget;
use metrics::counter;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use self::advertising::AdvertisementSchedule;
use self::due_packets::PacketQueue;
use self::endpoint::Endpoint;
use self::gossip::Counted;
use self::introductions::Introductions;
use self::outbox::{Outbox, millis};
use self::passivated_senders::PassivatedSenders;
use self::rounds::Rounds;
use self::sealing::Sealing;
use crate::base::metric;
use crate::runtime::context::NodeContext;
use crate::runtime::messages::{LinkHandle, LinkMessage, SupervisorMessage};
use crate::runtime::queue_delay::QueueDelay;

/// A signal that wakes the link.
pub(crate) enum LinkSignal {
    /// The link's queue has messages.
    Queued,
    /// Probe each node that has unacknowledged frames of passivated instances with one instance.
    Probe,
    /// Some frames are due to be resent.
    Retransmit,
    /// Advertise this node to all, unless a later series of advertisements has begun.
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
    endpoint: Endpoint,
    outbox: Outbox,
    /// The queue delay of this node as last sent.
    queue_ms: u64,
    passivated: PassivatedSenders,
    due: PacketQueue,
    rounds: Rounds,
    introductions: Introductions,
    sealing: Sealing,
    /// The peers that are known to have acknowledged a frame.
    partners: BTreeSet<NodeId>,
    schedule: AdvertisementSchedule,
    /// Whether the writer counts the open instances that need draining nodes.
    is_counting: bool,
    /// Whether the node is about to stop because its store is not the one that others know.
    is_halted: bool,
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
            move || myself.cast(LinkSignal::Queued).is_ok()
        });
        let (endpoint, wire) = Endpoint::attach(&context, transport.as_ref(), own.clone()).await?;
        context.routes.set_wire(Some(wire));
        context.routes.set_link(Some(own.clone()));
        let epoch = Epoch(context.environment.random_u128());
        myself.cast(LinkSignal::Advertisement(0))?;
        let outbox = Outbox::new(&context.settings);
        let rounds = Rounds::new(context.node.clone(), epoch, millis(context.settings.advertisement_period_max));
        let introductions = Introductions::new(
            millis(context.settings.retransmission_delay_min),
            millis(context.settings.retransmission_delay_max),
        );
        context.peers.begin_link();
        Ok(LinkState {
            context,
            epoch,
            own,
            endpoint,
            outbox,
            queue_ms: 0,
            passivated: PassivatedSenders::default(),
            due: PacketQueue::default(),
            rounds,
            introductions,
            sealing: Sealing::new(epoch),
            partners: BTreeSet::new(),
            schedule: AdvertisementSchedule::new(),
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
            LinkSignal::Queued => {
                // Let all ready instances send first, so that what is due to one node shares a packet.
                tokio::task::yield_now().await;
                for message in state.own.take() {
                    state.handle_message(&myself, message)?;
                }
            }
            LinkSignal::Probe => state.passivated.probe(),
            LinkSignal::Retransmit => {
                state.outbox.timer_ended();
                for transmission in state.outbox.take_due(state.context.now_ms(), state.context.environment.as_ref()) {
                    counter!(metric::FRAMES_SENT_AGAIN).increment(1);
                    state.transmit(transmission);
                }
            }
            LinkSignal::Advertisement(series) if state.schedule.is_due(series) => state.advertise(&myself),
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
    fn handle_message(
        &mut self,
        myself: &ActorRef<LinkSignal>,
        message: LinkMessage,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LinkMessage::Send { id, frames, acks } => {
                for outgoing in frames {
                    self.send(id, outgoing);
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
                self.endpoint.release(bytes.len());
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
            self.context.routes.to_supervisor(SupervisorMessage::Resend(back));
        }
        if self.passivated.plan_probe() {
            myself.send_after(self.context.settings.retransmission_delay_max, || LinkSignal::Probe);
        }
    }

    /// Schedules the next retransmission and the reactivation of passivated instances.
    fn schedule(&mut self, myself: &ActorRef<LinkSignal>) {
        if !self.passivated.is_empty() {
            self.reactivate(myself);
        }
        if let Some(at_ms) = self.outbox.plan_timer() {
            // One millisecond more, because clock readings are truncated.
            let delay = Duration::from_millis(at_ms.saturating_sub(self.context.now_ms()) + 1);
            myself.send_after(delay, || LinkSignal::Retransmit);
        }
    }
}

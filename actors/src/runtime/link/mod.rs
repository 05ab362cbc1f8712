//! Frames between nodes: numbering, acknowledgement, retransmission, and the nodes' advertisements.
//!
//! The wire may lose, duplicate, reorder and delay packets. The link resends a frame until its receiver's node
//! acknowledges it, which means that the frame is durable there. All state here is in memory: after a crash the
//! instances send all unacknowledged frames again. Knows packets and nodes, but no programs or stores.
//! `introductions` decides which nodes are received, `outbox` holds the frames under way, `passivated` knows which
//! passivated instances have unacknowledged frames, `reachability` whether packets to a peer arrive at all, and
//! `sealing` encrypts packets.

mod gossip;
mod inbox;
mod introductions;
mod outbox;
mod passivated_senders;
mod reachability;
mod reception;
mod round_trip;
mod sealing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use accompanist_core::NodeId;
use accompanist_core::contract::{Transport, Wire};
use accompanist_core::frame::{
    ADVERTISEMENT_NODES_BYTES_MAX, Advertisement, Body, Delivery, Epoch, Frame, Packet, Receipt, Round,
};
use accompanist_core::id::InstanceId;
use accompanist_core::machine::{Forget, Outgoing};
use metrics::{counter, gauge};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use self::gossip::Counted;
use self::inbox::{LinkInbox, Waiting};
use self::introductions::Introductions;
use self::outbox::{Outbox, Transmission, millis};
use self::passivated_senders::PassivatedSenders;
use self::reachability::Reachability;
use self::reception::Receptions;
use self::sealing::Sealing;
use crate::base::dropped::Dropped;
use crate::base::metric;
use crate::config::ADVERTISEMENT_DELAY_MIN;
use crate::runtime::context::NodeContext;
use crate::runtime::messages::{InstanceMessage, LinkHandle, LinkMessage, SupervisorMessage};
use crate::runtime::queue_delay::{Arrival, QueueDelay};
use crate::writer::Job;

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

/// The most bytes of a packet besides its frames: version, checksum, epoch, round, and lengths.
const PACKET_OVERHEAD_BYTES: usize = 256;
/// The most bytes of a frame besides its payload: ids, path, and a header with twelve node names and sixteen patches.
const FRAME_OVERHEAD_BYTES: usize = 2_048;
/// The size up to which an advertisement shares a packet with the first frames to a node; a larger one is sent before
/// them.
const ADVERTISEMENT_ALONG_BYTES_MAX: usize = 8 * 1024;
/// The most acknowledgements in one packet.
const PACKET_ACKS_MAX: usize = 4_096;
/// The most bytes of one acknowledgement, and of the frame around those of one epoch.
const ACK_BYTES: usize = 10;
const ACKS_OVERHEAD_BYTES: usize = 20;

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
            LinkMessage::Say { id, frames, acks } => {
                for outgoing in frames {
                    self.say(id, outgoing);
                }
                for receipt in acks {
                    self.acknowledge(receipt);
                }
            }
            LinkMessage::Forget { id, what } => self.forget(id, what),
            LinkMessage::Rest { id, unacknowledged } => {
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

    fn forget(&mut self, id: InstanceId, what: Forget) {
        for next in self.outbox.forget(id, what, self.context.now_ms()) {
            self.transmit(next);
        }
    }

    fn say(&mut self, id: InstanceId, outgoing: Outgoing) {
        if !outgoing.key.is_acknowledged() {
            return self.transmit(Transmission { node: outgoing.node, number: 0, frame: outgoing.frame });
        }
        counter!(metric::FRAMES_SENT).increment(1);
        if let Some(transmission) = self.outbox.add(id, outgoing, self.context.now_ms()) {
            self.transmit(transmission);
        }
    }

    fn transmit(&mut self, Transmission { node, number, frame }: Transmission) {
        if node == self.context.node {
            let now_ms = self.context.now_ms();
            self.dispatch(delivery(node, self.epoch, number, frame), now_ms);
        } else {
            self.due.entry(node).or_default().frames.push((number, frame));
        }
    }

    fn acknowledge(&mut self, receipt: Receipt) {
        self.context.admissions.queue_delay().stored(&Arrival::Frame(receipt.clone()), self.context.now_ms());
        if receipt.to == self.context.node {
            self.acknowledged(&receipt.to, receipt.epoch, receipt.number);
        } else {
            self.due.entry(receipt.to).or_default().acks.entry(receipt.epoch).or_default().push(receipt.number);
        }
    }

    /// Handles an acknowledgement: the receiver has made a frame durable. Informs the frame's instance, and sends a
    /// frame that waited for room in the window.
    fn acknowledged(&mut self, by: &NodeId, epoch: Epoch, number: u64) {
        if epoch != self.epoch {
            return Dropped::count("acknowledgement of another epoch"); // Of an earlier link of this node, mostly.
        }
        if !self.outbox.is_sent_to(number, by) {
            let detail = || format!("{by} acknowledges frame {number}, which went to another node");
            return self.context.note_dropped("acknowledgement of another node", detail);
        }
        let (acked, next) = self.outbox.acknowledge(number, self.context.now_ms());
        self.context.routes.note_ack_latency(self.outbox.ack_latency_ms());
        if let Some((id, key, node)) = acked {
            self.passivated.acknowledged(&node);
            self.note_partner(&node);
            // A passivated instance does not need the acknowledgement.
            let _ = self.context.directory.tell(id, InstanceMessage::Acked(key));
        }
        if let Some(next) = next {
            self.transmit(next);
        }
    }

    /// Notes that a node takes part in sessions: what is known of it is kept from now on.
    fn note_partner(&mut self, node: &NodeId) {
        if self.partners.contains(node) || *node == self.context.node {
            return;
        }
        let _order = self.context.writer.in_order();
        let change = self.context.peers.note_partner(node);
        if self.context.peers.knows(node) {
            self.partners.insert(node.clone());
        }
        if let Some(change) = change {
            self.context.writer.submit(Job::Change { changes: vec![change], done: Box::new(|_| ()) });
        }
    }

    fn receive(&mut self, myself: &ActorRef<LinkSignal>, from: &NodeId, bytes: &[u8], arrived_ms: u64) {
        if self.is_halted {
            return;
        }
        if !self.context.access.is_member(from) {
            return self
                .context
                .note_dropped("not a member", || format!("`{from}` is not in the members file, or revoked"));
        }
        let packet = match Packet::from_bytes(bytes, from, &self.context.node) {
            // Only the advertisement in such a packet matters: it tells who else uses this node's name.
            Ok(packet) if *from == self.context.node => {
                if let Some(advertisement) = packet.advertisement.filter(|_| packet.epoch != self.epoch) {
                    self.hear_own(myself, &advertisement);
                }
                return;
            }
            Ok(packet) => packet,
            Err(error) => return self.context.note_dropped(error.reason(), || format!("{from}: {error}")),
        };
        let Packet { epoch, round, queue_ms, frames, acks, advertisement } = packet;
        // Advertisements come first: this one may introduce the sender.
        let advertisements =
            advertisement.map(|advertisement| self.learn(myself, from, epoch, advertisement)).is_some();
        if !self.introductions.has(from, epoch) {
            if !advertisements {
                self.context.note_dropped("not introduced", || format!("{from} in epoch {epoch} has made no offer"));
                self.ask(from);
            }
            return;
        }
        self.context.peers.note_received(from, queue_ms, self.context.now_ms());
        self.receptions.note(from, epoch, round);
        for (epoch, numbers) in acks {
            for number in numbers {
                self.acknowledged(from, epoch, number);
            }
        }
        for (number, frame) in frames {
            self.dispatch(delivery(from.clone(), epoch, number, frame), arrived_ms);
        }
    }

    /// Asks a node that is not introduced to introduce itself: a packet from it, or one that names it, has arrived.
    fn ask(&mut self, node: &NodeId) {
        let is_known = self.context.peers.knows(node);
        if *node != self.context.node && self.introductions.asks(node, is_known, self.context.now_ms()) {
            self.advertise_asking(node);
        }
    }

    fn dispatch(&mut self, delivery: Delivery, arrived_ms: u64) {
        if let Some(receipt) = &delivery.receipt {
            self.context.admissions.queue_delay().arrived(
                Arrival::Frame(receipt.clone()),
                arrived_ms,
                self.context.now_ms(),
            );
        }
        let id = delivery.frame.receiver();
        let bytes_max = self.context.settings.limits.payload_bytes_max;
        if let Body::Deliver { payload, path, .. } = &delivery.frame.body
            && payload.len() > bytes_max
        {
            let reason = format!(
                "the message at {path} has {} bytes, the limit here is {bytes_max}: raise `payload_bytes_max`, which is larger \
                 at its sender",
                payload.len()
            );
            self.context.admissions.note_taken(&delivery);
            self.context.note_dropped("too large", || format!("{id}: {reason}"));
            return self.context.operator.note_dead(&delivery, &reason);
        }
        if let Err(InstanceMessage::Deliver(delivery)) =
            self.context.directory.tell(id, InstanceMessage::Deliver(delivery))
        {
            self.context.routes.to_supervisor(SupervisorMessage::Deliver(delivery));
        }
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

    fn packet(&self) -> Packet {
        let round = Round::Direct(self.reachability.round());
        Packet { round, queue_ms: self.queue_ms, ..Packet::new(self.epoch) }
    }

    /// Updates the queue delay of this node, which each packet carries.
    fn note_queue(&mut self) {
        let delay_ms = self.context.admissions.queue_delay().ms(self.context.now_ms());
        if std::mem::replace(&mut self.queue_ms, delay_ms) != delay_ms {
            gauge!(metric::QUEUE_DELAY).set(Duration::from_millis(self.queue_ms).as_secs_f64());
        }
    }

    /// Sends all that has become due.
    fn flush(&mut self) {
        self.note_queue();
        let bytes_max = self.packet_bytes_max.saturating_sub(PACKET_OVERHEAD_BYTES);
        for (node, DuePackets { frames, acks, mut advertisement, probe }) in std::mem::take(&mut self.due) {
            self.reachability.sent(&node);
            let says = !(frames.is_empty() && acks.is_empty());
            // A node that may not know this one receives its advertisement before anything else.
            if (says || advertisement.is_some()) && self.introductions.greets(&node) && advertisement.is_none() {
                advertisement = Some(self.greeting(&node));
            }
            let mut packet = self.packet();
            if advertisement
                .as_ref()
                .is_some_and(|advertisement| says && advertisement.size() <= ADVERTISEMENT_ALONG_BYTES_MAX)
            {
                packet.advertisement = advertisement;
            } else if advertisement.is_some() || (probe && !says) {
                // Sent alone, since it may be large.
                let alone = Packet { advertisement, ..self.packet() };
                self.put(Some(&node), &alone);
            }
            let advertisement_bytes = packet.advertisement.as_ref().map_or(0, Advertisement::size);
            let mut acks_in_packet = 0;
            for (epoch, numbers) in acks {
                for numbers in numbers.chunks(PACKET_ACKS_MAX) {
                    if acks_in_packet + numbers.len() > PACKET_ACKS_MAX {
                        let full = std::mem::replace(&mut packet, self.packet());
                        self.put(Some(&node), &full);
                        acks_in_packet = 0;
                    }
                    acks_in_packet += numbers.len();
                    packet.acks.push((epoch, numbers.to_vec()));
                }
            }
            let mut bytes = advertisement_bytes + acks_in_packet * ACK_BYTES + packet.acks.len() * ACKS_OVERHEAD_BYTES;
            for (number, frame) in frames {
                let frame_bytes = frame_bytes(&frame);
                if bytes + frame_bytes > bytes_max && !packet.is_empty() {
                    let full = std::mem::replace(&mut packet, self.packet());
                    self.put(Some(&node), &full);
                    bytes = 0;
                }
                bytes += frame_bytes;
                packet.frames.push((number, frame));
            }
            if !packet.is_empty() {
                self.put(Some(&node), &packet);
            }
        }
    }

    fn put(&mut self, to: Option<&NodeId>, packet: &Packet) {
        let Some(wire) = self.wire.upgrade() else { return };
        if let Some(seal) = self.context.access.seal() {
            return self.put_sealed(&seal, wire.as_ref(), to, packet);
        }
        match (packet.to_bytes(&self.context.node, to), to) {
            (Err(error), _) => self.context.note_dropped("unencodable", || error.to_string()),
            (Ok(bytes), Some(node)) => wire.send(node, bytes),
            (Ok(bytes), None) => wire.broadcast(bytes),
        }
    }
}

/// Makes a delivery of a received frame; number 0 asks for no acknowledgement.
fn delivery(from: NodeId, epoch: Epoch, number: u64, frame: Frame) -> Delivery {
    let receipt = (number > 0).then(|| Receipt { to: from.clone(), epoch, number });
    Delivery { from, frame, receipt }
}

/// Returns the most bytes that a frame takes in a packet.
fn frame_bytes(frame: &Frame) -> usize {
    use accompanist_core::frame::Outcome;
    let payload = match &frame.body {
        Body::Deliver { payload, .. } => payload.len(),
        Body::Abort(abort) | Body::Done(Outcome::Compensated(abort)) | Body::Close(Outcome::Compensated(abort)) => {
            abort.code().len() + abort.message().len()
        }
        // A path has at most five bytes for each enclosing scope, and scopes are few.
        Body::Turns { finals, .. } => finals.len() * 64,
        _ => 0,
    };
    payload + FRAME_OVERHEAD_BYTES
}

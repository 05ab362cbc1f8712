//! Frames between nodes: numbering, acknowledgement, retransmission, and what each node offers.
//!
//! The wire may lose, double, reorder and delay; a frame is sent again until its receiver's node says that it is
//! durable there. Everything here is memory: after a crash the instances say all unheard things again. Knows
//! packets and nodes, nothing of programs or stores. `outbox` has the frames under way.

mod news;
mod outbox;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use accompanist_core::NodeId;
use accompanist_core::contract::{Inbox, Transport, Wire};
use accompanist_core::frame::{Frame, OFFER_NODES_BYTES_MAX, Offer, Packet, Receipt};
use accompanist_core::id::InstanceId;
use accompanist_core::instance::{Outgoing, OutgoingKey};
use metrics::counter;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use self::news::{Counted, OFFER_DELAY_MIN};
use self::outbox::{Outbox, Transmission};
use crate::instance_actor::InstanceMessage;
use crate::metric;
use crate::roles::RolesMessage;
use crate::shared::{Shared, note_dropped};

/// What the link is told.
pub(crate) enum LinkMessage {
    /// An instance says something, or acknowledges.
    Say { id: InstanceId, frames: Vec<Outgoing>, acks: Vec<Receipt> },
    /// What an instance has said is of no more use: its messages, or (it has closed) all of it.
    Forget { id: InstanceId, all: bool },
    /// A packet has arrived.
    Packet(Vec<u8>),
    /// All that was said meanwhile goes out together.
    Flush,
    /// Some frames are due to be sent again.
    Retransmit,
    /// Tell all what is offered here, unless a later round has begun.
    Offer(u64),
    /// Tell all now: something has changed.
    Announce,
    /// Tell one.
    OfferTo(NodeId),
    /// Who of those that drain is still needed here?
    Count,
    /// These are.
    Counted(Counted),
}

/// Bytes that a packet has besides its frames, at most: version, node, epoch, and lengths.
const PACKET_OVERHEAD_BYTES: usize = 256;
/// Bytes that a frame has besides its payload, at most: ids, path, and a header with twelve node names and sixteen patches.
const FRAME_OVERHEAD_BYTES: usize = 2_048;
/// Acknowledgements in one packet, at most: each has up to ten bytes.
const PACKET_ACKS_MAX: usize = 4_096;

/// See the module's documentation.
pub(crate) struct Link;

pub(crate) struct LinkArguments {
    pub(crate) shared: Arc<Shared>,
    pub(crate) transport: Arc<dyn Transport>,
}

pub(crate) struct LinkState {
    shared: Arc<Shared>,
    wire: Weak<dyn Wire>,
    packet_bytes_max: usize,
    outbox: Outbox,
    /// What goes out at the next flush, by node.
    due: BTreeMap<NodeId, Due>,
    flush_asked: bool,
    timer_at_ms: Option<u64>,
    /// The latest epoch heard of each node.
    epochs: BTreeMap<NodeId, u64>,
    offer_delay: Duration,
    offer_round: u64,
    /// Whether the writer counts for nodes that drain.
    is_counting: bool,
}

#[derive(Default)]
struct Due {
    frames: Vec<(u64, Frame)>,
    acks: BTreeMap<u64, Vec<u64>>,
    offer: Option<Offer>,
}

/// Hands packets from the network's thread to the link, and drops them when too many wait.
struct LinkInbox {
    shared: Arc<Shared>,
    link: ActorRef<LinkMessage>,
}

impl Inbox for LinkInbox {
    fn receive(&self, packet: &[u8]) {
        if self.shared.inbox.fetch_add(1, Ordering::Relaxed) >= self.shared.settings.inbox_packets_max
            || self.link.cast(LinkMessage::Packet(packet.to_vec())).is_err()
        {
            self.shared.inbox.fetch_sub(1, Ordering::Relaxed);
            counter!(metric::DROPPED, "reason" => "inbox full").increment(1);
        }
    }
}

impl Actor for Link {
    type Msg = LinkMessage;
    type State = LinkState;
    type Arguments = LinkArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<LinkMessage>,
        LinkArguments { shared, transport }: LinkArguments,
    ) -> Result<LinkState, ActorProcessingErr> {
        shared.inbox.store(0, Ordering::Relaxed);
        let inbox = Arc::new(LinkInbox { shared: shared.clone(), link: myself.clone() });
        let wire = transport.attach(shared.node.clone(), inbox).await?;
        let (payload_max, packet_max) = (shared.settings.limits.payload_bytes_max, wire.packet_bytes_max());
        if payload_max + FRAME_OVERHEAD_BYTES + PACKET_OVERHEAD_BYTES > packet_max {
            let text = format!(
                "`payload_bytes_max` is {payload_max}, and the transport carries packets of up to {packet_max} bytes: \
                 lower the one or raise the other"
            );
            return Err(text.into());
        }
        let offer_bytes = shared.offer(None).size() + OFFER_NODES_BYTES_MAX;
        if offer_bytes + PACKET_OVERHEAD_BYTES > packet_max {
            let text = format!(
                "roles and choreographies take {offer_bytes} bytes, and the transport carries packets of up to \
                 {packet_max} bytes: give it larger ones"
            );
            return Err(text.into());
        }
        shared.set_wire(Some(wire.clone()));
        shared.set_link(Some(myself.clone()));
        myself.cast(LinkMessage::Offer(0))?;
        let outbox = Outbox::new(&shared.settings);
        Ok(LinkState {
            shared,
            wire: Arc::downgrade(&wire),
            packet_bytes_max: wire.packet_bytes_max(),
            outbox,
            due: BTreeMap::new(),
            flush_asked: false,
            timer_at_ms: None,
            epochs: BTreeMap::new(),
            offer_delay: OFFER_DELAY_MIN,
            offer_round: 0,
            is_counting: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<LinkMessage>,
        message: LinkMessage,
        state: &mut LinkState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LinkMessage::Say { id, frames, acks } => {
                for outgoing in frames {
                    state.say(id, outgoing);
                }
                for receipt in acks {
                    state.acknowledge(receipt);
                }
            }
            LinkMessage::Forget { id, all } => {
                let useless = |key: &OutgoingKey| all || matches!(key, OutgoingKey::Deliver(..));
                for next in state.outbox.forget(id, useless, state.shared.now_ms()) {
                    state.transmit(next);
                }
            }
            LinkMessage::Packet(bytes) => {
                state.shared.inbox.fetch_sub(1, Ordering::Relaxed);
                state.receive(&myself, &bytes);
            }
            LinkMessage::Flush => state.flush(),
            LinkMessage::Retransmit => {
                state.timer_at_ms = None;
                for transmission in state.outbox.take_due(state.shared.now_ms(), state.shared.environment.as_ref()) {
                    counter!(metric::FRAMES_SENT_AGAIN).increment(1);
                    state.transmit(transmission);
                }
            }
            LinkMessage::Offer(round) if round == state.offer_round => state.offer(&myself),
            LinkMessage::Offer(_) => {}
            LinkMessage::Announce => state.announce(&myself),
            LinkMessage::OfferTo(node) => state.offer_to(node),
            LinkMessage::Count => state.count(&myself),
            LinkMessage::Counted(counted) => state.counted(&counted),
        }
        state.schedule(&myself)
    }
}

impl LinkState {
    fn say(&mut self, id: InstanceId, outgoing: Outgoing) {
        if let OutgoingKey::Nudge(_) = outgoing.key {
            return self.transmit(Transmission { node: outgoing.node, number: 0, frame: outgoing.frame });
        }
        counter!(metric::FRAMES_SENT).increment(1);
        if let Some(transmission) = self.outbox.add(id, outgoing, self.shared.now_ms()) {
            self.transmit(transmission);
        }
    }

    fn transmit(&mut self, Transmission { node, number, frame }: Transmission) {
        if node == self.shared.node {
            let receipt = (number > 0).then(|| Receipt { to: node, epoch: self.shared.epoch, number });
            self.dispatch(frame, receipt);
        } else {
            self.due.entry(node).or_default().frames.push((number, frame));
        }
    }

    fn acknowledge(&mut self, receipt: Receipt) {
        if receipt.to == self.shared.node {
            self.acknowledged(receipt.epoch, receipt.number);
        } else {
            self.due.entry(receipt.to).or_default().acks.entry(receipt.epoch).or_default().push(receipt.number);
        }
    }

    /// The receiver has made a frame durable: tells its sender, and lets another one go in its place.
    fn acknowledged(&mut self, epoch: u64, number: u64) {
        if epoch != self.shared.epoch {
            return; // Of an earlier life of this node.
        }
        let (acked, next) = self.outbox.acknowledge(number, self.shared.now_ms());
        if let Some((id, key)) = acked {
            // An instance that is not in memory asks nothing.
            let _ = self.shared.to_instance(id, InstanceMessage::Acked(key));
        }
        if let Some(next) = next {
            self.transmit(next);
        }
    }

    fn receive(&mut self, myself: &ActorRef<LinkMessage>, bytes: &[u8]) {
        let packet = match Packet::from_bytes(bytes) {
            Ok(packet) if packet.from == self.shared.node => {
                return note_dropped("same name", &format!("another node calls itself `{}`, too", packet.from));
            }
            Ok(packet) => packet,
            Err(error) => return note_dropped("garbled", &error.to_string()),
        };
        let Packet { from, epoch, frames, acks, offer } = packet;
        if self.epochs.get(&from) != Some(&epoch) {
            self.epochs.insert(from.clone(), epoch);
            // It has just come (back): what waits for it need not wait longer.
            self.outbox.hurry(&from, self.shared.now_ms());
        }
        for (epoch, numbers) in acks {
            for number in numbers {
                self.acknowledged(epoch, number);
            }
        }
        for (number, frame) in frames {
            let receipt = (number > 0).then(|| Receipt { to: from.clone(), epoch, number });
            self.dispatch(frame, receipt);
        }
        if let Some(offer) = offer {
            self.learn(myself, &from, offer);
        }
    }

    fn dispatch(&mut self, frame: Frame, receipt: Option<Receipt>) {
        let id = frame.receiver();
        if let Err(InstanceMessage::Deliver(frame, receipt)) =
            self.shared.to_instance(id, InstanceMessage::Deliver(frame, receipt))
        {
            self.shared.to_roles(RolesMessage::Deliver(frame, receipt));
        }
    }

    /// Asks for what is to happen later.
    fn schedule(&mut self, myself: &ActorRef<LinkMessage>) -> Result<(), ActorProcessingErr> {
        if !self.due.is_empty() && !self.flush_asked {
            // Behind all that waits already, so that it goes out together.
            self.flush_asked = true;
            myself.cast(LinkMessage::Flush)?;
        }
        if let Some(at_ms) = self.outbox.next_due_ms()
            && self.timer_at_ms.is_none_or(|known| at_ms < known)
        {
            self.timer_at_ms = Some(at_ms);
            // One more millisecond, since the clock's are cut off.
            let delay = Duration::from_millis(at_ms.saturating_sub(self.shared.now_ms()) + 1);
            myself.send_after(delay, || LinkMessage::Retransmit);
        }
        Ok(())
    }

    fn packet(&self) -> Packet {
        Packet::new(self.shared.node.clone(), self.shared.epoch)
    }

    fn flush(&mut self) {
        self.flush_asked = false;
        let bytes_max = self.packet_bytes_max.saturating_sub(PACKET_OVERHEAD_BYTES);
        for (node, Due { frames, acks, offer }) in std::mem::take(&mut self.due) {
            if offer.is_some() {
                // Alone, since it may be large.
                self.put(Some(&node), &Packet { offer, ..self.packet() });
            }
            let mut packet = self.packet();
            let mut acks_in_packet = 0;
            for (epoch, numbers) in acks {
                for numbers in numbers.chunks(PACKET_ACKS_MAX) {
                    if acks_in_packet + numbers.len() > PACKET_ACKS_MAX {
                        self.put(Some(&node), &std::mem::replace(&mut packet, self.packet()));
                        acks_in_packet = 0;
                    }
                    acks_in_packet += numbers.len();
                    packet.acks.push((epoch, numbers.to_vec()));
                }
            }
            let mut bytes = acks_in_packet * 10;
            for (number, frame) in frames {
                let frame_bytes = frame_bytes(&frame);
                if bytes + frame_bytes > bytes_max && !packet.is_empty() {
                    self.put(Some(&node), &std::mem::replace(&mut packet, self.packet()));
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

    fn put(&self, to: Option<&NodeId>, packet: &Packet) {
        let Some(wire) = self.wire.upgrade() else { return };
        match (packet.to_bytes(), to) {
            (Err(error), _) => note_dropped("unencodable", &error.to_string()),
            (Ok(bytes), Some(node)) => wire.send(node, bytes),
            (Ok(bytes), None) => wire.broadcast(bytes),
        }
    }
}

/// What a frame takes in a packet, at most.
fn frame_bytes(frame: &Frame) -> usize {
    use accompanist_core::frame::{Body, Outcome};
    let payload = match &frame.body {
        Body::Deliver { payload, .. } => payload.len(),
        Body::Abort(abort) | Body::Done(Outcome::Compensated(abort)) | Body::Close(Outcome::Compensated(abort)) => {
            abort.code().len() + abort.message().len()
        }
        // A path has at most five bytes for each scope around it, and few scopes.
        Body::Turns { finals, .. } => finals.len() * 64,
        _ => 0,
    };
    payload + FRAME_OVERHEAD_BYTES
}

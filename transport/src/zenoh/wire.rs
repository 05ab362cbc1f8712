//! One node's end of the Zenoh network.
//!
//! The caller puts small packets itself: with `Drop` congestion control that waits a millisecond at most. Large ones
//! would always be lost that way, because Zenoh cuts them into fragments and has few buffers; one thread per wire
//! puts them with `Block`, behind a bounded queue. Large packets have a separate priority: Zenoh holds a lock per
//! priority while it blocks, so a small packet of the same priority would wait too. Zenoh's reliability marker is
//! left at `Reliable`, which picks the link (TCP rather than UDP) and retransmits nothing.
//!
//! When the session is reopened, the thread repeats the declarations that it had made at the previous one.
//!
//! The sender of a packet is the one that its key names, since access control has checked the key. Two nodes with the
//! same name must receive each other's packets, so a wire ignores received packets that carry its own tag, not those
//! that carry its own name.
//!
//! This module must not know what is in a packet. Next: [`super::publishers`].

use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use ::zenoh::pubsub::Subscriber;
use ::zenoh::qos::{CongestionControl, Priority};
use ::zenoh::query::{Query, Queryable};
use ::zenoh::sample::Sample;
use ::zenoh::{Session, Wait};
use accompanist_core::contract::{AdminAccess, Heal, Inbox, TransportError, Wire};
use accompanist_core::id::NodeId;
use accompanist_core::panics;
use tokio::sync::oneshot;

use super::publishers::{Addressee, Publishers};
use super::session::{Found, Kept};
use super::{Shared, admin, plain};
use crate::metric;

/// The largest packet, in bytes, that the caller sends: it fits into one of Zenoh's batches of 64 KiB.
const INLINE_BYTES_MAX: usize = 32 * 1024;

/// The longest queue of the sender thread. When the queue is full, packets are dropped and counted: the link resends
/// them. With packets of 1 MiB the queue holds 32 MiB at most.
const JOBS_MAX: usize = 32;

/// The pause before subscribers are declared again when Zenoh has refused them, or has no session.
const SUBSCRIBE_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The mark on a wire's broadcasts: random, and therefore unique to the wire.
type Tag = [u8; 16];

/// Work for the wire's thread: operations that may block.
pub(super) enum Job {
    Declare(Addressee),
    /// Declares an existing publisher again.
    Redeclare(Addressee),
    SendLarge(Addressee, Vec<u8>),
}

struct ZenohWire {
    node: NodeId,
    link: Arc<Link>,
    jobs: SyncSender<Job>,
}

/// The state that a wire shares with its thread and its subscribers.
struct Link {
    shared: Arc<Shared>,
    publishers: Publishers,
    slot: Arc<Slot>,
    /// Tells the thread to leave what is still queued.
    is_detached: AtomicBool,
}

/// The destination of packets while the node is attached.
struct Slot {
    node: NodeId,
    tag: Tag,
    inbox: RwLock<Option<Arc<dyn Inbox>>>,
}

/// Attaches `node`: returns when its subscribers are declared.
pub(super) async fn attach(
    shared: Arc<Shared>,
    node: NodeId,
    inbox: Arc<dyn Inbox>,
) -> Result<Arc<dyn Wire>, TransportError> {
    let (jobs, queue) = mpsc::sync_channel(JOBS_MAX);
    match shared.attached().entry(node.clone()) {
        Entry::Occupied(_) => return Err(TransportError::NameTaken(node)),
        Entry::Vacant(place) => place.insert(jobs.clone()),
    };
    let tag = fastrand::u128(..).to_be_bytes();
    let slot = Arc::new(Slot { node: node.clone(), tag, inbox: RwLock::new(Some(inbox)) });
    let link = Arc::new(Link { shared, publishers: Publishers::default(), slot, is_detached: AtomicBool::new(false) });
    // Created before anything can fail: dropping it releases the name.
    let wire = ZenohWire { node, link: Arc::clone(&link), jobs };
    let (ready, is_ready) = oneshot::channel();
    thread::Builder::new()
        .name("accompanist-zenoh-wire".into())
        .spawn(move || {
            let ran = panics::catch(|| link.run(&queue, ready));
            link.slot.closed(ran.err().as_deref().unwrap_or("its thread has ended"));
        })
        .map_err(|error| TransportError::Open(format!("no thread for zenoh ({error}): raise the thread limit")))?;
    is_ready.await.map_err(|_| TransportError::Open("the wire's thread has panicked: see the log".into()))??;
    Ok(Arc::new(wire))
}

impl Wire for ZenohWire {
    fn send(&self, to: &NodeId, packet: Vec<u8>) {
        self.dispatch(Some(to.clone()), packet);
    }

    fn broadcast(&self, packet: Vec<u8>) {
        self.dispatch(None, packet);
    }

    fn packet_bytes_max(&self) -> usize {
        self.link.shared.packet_bytes_max
    }

    fn heal(&self, to: &NodeId, level: Heal) {
        match level {
            Heal::Publisher => {
                // If the queue is full, the link asks again.
                for to in [Some(to.clone()), None] {
                    let _ = self.jobs.try_send(Job::Redeclare(to));
                }
            }
            // All publishers are dropped with the session.
            Heal::Session => self.link.shared.ask_to_reopen(),
        }
    }
}

impl ZenohWire {
    fn dispatch(&self, to: Addressee, packet: Vec<u8>) {
        if packet.len() > self.link.shared.packet_bytes_max {
            metric::dropped(metric::Drop::Oversize);
        } else if packet.len() > INLINE_BYTES_MAX {
            if self.jobs.try_send(Job::SendLarge(to, packet)).is_err() {
                metric::dropped(metric::Drop::QueueFull);
            }
        } else if self.link.put(&to, packet, CongestionControl::Drop, Priority::Data) == Put::Undeclared {
            // If the queue is full, the next packet asks again.
            let _ = self.jobs.try_send(Job::Declare(to));
        }
    }
}

impl Drop for ZenohWire {
    fn drop(&mut self) {
        // From here on nothing is delivered, although the thread undeclares the subscribers only after this.
        let inbox = self.link.slot.inbox.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(inbox);
        self.link.is_detached.store(true, Ordering::Release);
        self.link.shared.attached().remove(&self.node);
        // The thread ends when `jobs` is dropped. Nothing waits for it: it may be blocked in Zenoh.
    }
}

/// The way in which a packet was put.
#[derive(PartialEq, Eq)]
enum Put {
    Declared,
    Undeclared,
    Refused,
}

/// The subscribers of one life of the session, and what answers operators' requests; dropping them undeclares them.
struct Subscribed {
    life: u64,
    _subscribers: [Subscriber<()>; 2],
    _queryables: [Queryable<()>; 2],
}

impl Link {
    /// Runs the wire's thread.
    fn run(&self, queue: &Receiver<Job>, ready: oneshot::Sender<Result<(), TransportError>>) {
        let mut ready = Some(ready);
        let mut declared = None;
        loop {
            if declared.as_ref().is_none_or(|declared: &Subscribed| declared.life != self.shared.sessions.life()) {
                drop(declared.take());
                drop(self.publishers.take());
                declared = match (self.subscribe(), &mut ready) {
                    (Ok(subscribers), _) => subscribers,
                    (Err(error), Some(_)) => {
                        let _ = ready.take().map(|ready| ready.send(Err(error)));
                        return;
                    }
                    (Err(error), None) => {
                        tracing::warn!(
                            %error, node = %self.slot.node,
                            "nothing can be received yet; it is tried again"
                        );
                        None
                    }
                };
            }
            if declared.is_some() {
                let _ = ready.take().map(|ready| ready.send(Ok(())));
            }
            let job = match queue.recv_timeout(SUBSCRIBE_RETRY_PAUSE) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if self.is_detached.load(Ordering::Acquire) {
                break;
            }
            self.carry_out(job);
        }
        drop(declared);
        drop(self.publishers.take());
    }

    fn carry_out(&self, job: Job) {
        match job {
            Job::Declare(to) => self.declare(to),
            Job::Redeclare(to) => {
                if let Some(publisher) = self.publishers.remove(&to) {
                    drop(publisher);
                    self.declare(to);
                }
            }
            Job::SendLarge(to, packet) => {
                self.put(&to, packet, CongestionControl::Block, Priority::DataLow);
            }
        }
    }

    /// Declares the subscribers at the current session; `None` while there is no session.
    fn subscribe(&self) -> Result<Option<Subscribed>, TransportError> {
        let (session, life) = match self.shared.sessions.get() {
            Found::Open(session, life) => (session, life),
            Found::Reopening => return Ok(None),
            Found::Closed => {
                return Err(TransportError::Open("the zenoh session is closed: open another".into()));
            }
        };
        let Some(session) = session.get() else { return Ok(None) };
        let [node, all] = self.shared.keys_for(&self.slot.node);
        let (node, all) = (self.subscribe_to(session, node)?, self.subscribe_to(session, all)?);
        let [read, write] = self.shared.admin_keys(&self.slot.node).map(|keys| self.answer(session, keys));
        Ok(Some(Subscribed { life, _subscribers: [node, all], _queryables: [read?, write?] }))
    }

    fn answer(&self, session: &Session, (access, key): (AdminAccess, String)) -> Result<Queryable<()>, TransportError> {
        let slot = Arc::clone(&self.slot);
        let declared = session.declare_queryable(key).callback(move |query| slot.receive_call(access, query)).wait();
        declared.map_err(|error| TransportError::Open(format!("zenoh refuses a queryable: {}", plain(&error))))
    }

    fn subscribe_to(&self, session: &Session, key: String) -> Result<Subscriber<()>, TransportError> {
        let slot = Arc::clone(&self.slot);
        let declared = session.declare_subscriber(key).callback(move |sample| slot.receive(&sample)).wait();
        declared.map_err(|error| TransportError::Open(format!("zenoh refuses a subscriber: {}", plain(&error))))
    }

    /// Returns the current session, if there is one.
    fn session(&self) -> Option<Arc<Kept>> {
        match self.shared.sessions.get() {
            Found::Open(session, _) => Some(session),
            Found::Reopening | Found::Closed => None,
        }
    }

    fn declare(&self, to: Addressee) {
        // Several packets may have asked before the first was served.
        if self.publishers.get(&to).is_some() {
            return;
        }
        let session = self.session();
        let Some(session) = session.as_ref().and_then(|session| session.get()) else { return };
        let declared = session
            .declare_publisher(self.key(&to))
            .congestion_control(CongestionControl::Drop)
            .priority(Priority::Data)
            .express(true)
            .wait();
        match declared {
            Ok(publisher) => drop(self.publishers.insert(to, publisher)),
            Err(error) => tracing::debug!(error = plain(&error), "no zenoh publisher could be declared"),
        }
    }

    fn put(&self, to: &Addressee, packet: Vec<u8>, congestion: CongestionControl, priority: Priority) -> Put {
        let bytes = packet.len();
        // A broadcast carries the wire's tag, by which the wire's own subscriber recognises it. Other nodes may be
        // attached to the same session, so the broadcast cannot be withheld from the whole session.
        let tag = to.is_none().then_some(self.slot.tag);
        // A declared publisher is for small packets: its congestion control and priority are fixed.
        let publisher = if congestion == CongestionControl::Drop { self.publishers.get(to) } else { None };
        let (result, put) = if let Some(publisher) = publisher {
            (publisher.put(packet).attachment(tag).wait(), Put::Declared)
        } else if let Some(session) = self.session().as_ref().and_then(|session| session.get()) {
            let put = session.put(self.key(to), packet).congestion_control(congestion).priority(priority);
            (put.express(true).attachment(tag).wait(), Put::Undeclared)
        } else {
            return Put::Refused;
        };
        match result {
            Ok(()) => {
                metric::sent(bytes);
                put
            }
            Err(error) => {
                metric::dropped(metric::Drop::Refused);
                tracing::debug!(error = plain(&error), "zenoh refuses a packet");
                Put::Refused
            }
        }
    }

    fn key(&self, to: &Addressee) -> String {
        self.shared.key(&self.slot.node, to.as_ref())
    }
}

/// Returns the sender of a packet with this key: the key's last part. A packet may be put to a key expression that
/// matches many keys, and no rule for a single sender applies to that: such a packet has no sender.
fn sender(key: &str) -> Option<NodeId> {
    let (to, from) = key.rsplit_once('/')?;
    if to.contains('*') { None } else { NodeId::new(from).ok() }
}

/// Returns the caller of a request with this key expression: its last part. One request may go to many nodes, but
/// only in one name.
fn caller(key: &str) -> Option<NodeId> {
    NodeId::new(key.rsplit_once('/')?.1).ok()
}

impl Slot {
    /// Reports that the wire's thread has ended. If the wire was dropped, nobody is informed.
    fn closed(&self, reason: &str) {
        let inbox = self.inbox.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(inbox) = inbox {
            inbox.closed(reason);
        }
    }

    /// Called on Zenoh's thread.
    fn receive_call(&self, access: AdminAccess, query: Query) {
        let Some(caller) = caller(query.key_expr().as_str()) else {
            metric::dropped(metric::Drop::NoSender);
            return;
        };
        let inbox = self.inbox.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(inbox) = inbox {
            inbox.admin(admin::call(&self.node, caller, access, query));
        }
    }

    /// Called on Zenoh's thread.
    fn receive(&self, sample: &Sample) {
        if sample.attachment().is_some_and(|tag| *tag.to_bytes() == self.tag) {
            return; // This wire's own broadcast.
        }
        let Some(from) = sender(sample.key_expr().as_str()) else {
            metric::dropped(metric::Drop::NoSender);
            return;
        };
        let inbox = self.inbox.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(inbox) = inbox {
            let packet = sample.payload().to_bytes();
            metric::received(packet.len());
            inbox.receive(&from, &packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sender_is_the_last_part_of_a_plain_key() {
        let check = |key, expected: Option<&str>| {
            assert_eq!(sender(key).as_ref().map(NodeId::as_str), expected, "{key}");
        };
        check("accompanist/node/bank/shop-1", Some("shop-1"));
        check("accompanist/all/shop", Some("shop"));
        for key in ["shop", "", "accompanist/all/", "accompanist/all/..", "accompanist/all/Sh op", "accompanist/all/-x"]
        {
            check(key, None);
        }
        for key in ["accompanist/**", "accompanist/node/*/shop", "accompanist/**/shop", "accompanist/n$*/bank/shop"] {
            check(key, None);
        }
    }
}

//! The network of one part: raw Zenoh, with the settings of our transport.
//!
//! What arrives goes to its session's task on Zenoh's own thread. What is said waits until all tasks that are ready
//! have run, and leaves together, a packet per peer. Nothing is sent again: on one machine, with `Block`, nothing is
//! lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use zenoh::Config;
use zenoh::bytes::ZBytes;
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::{CongestionControl, Priority};

use super::message::{Body, Frame, Packet, ROLES, Session, WAREHOUSE};
use crate::process::endpoint;
use crate::usage::Usage;

/// What a session's task is told.
pub(super) enum Event {
    /// A frame has come; the receipt acknowledges it.
    Message(Body, Receipt),
    /// Something that the task has said is durable at its receiver.
    Acked,
}

/// What acknowledges a frame.
pub(super) struct Receipt {
    to: u8,
    number: u64,
}

/// One session's end at one part: its task speaks and hears through it.
pub(super) struct Station {
    pub(super) session: Session,
    link: Arc<Link>,
    sender: UnboundedSender<Event>,
    events: UnboundedReceiver<Event>,
}

/// Plays a session that another part has begun.
pub(super) type Player = Box<dyn Fn(Station) + Send + Sync>;

#[derive(Default)]
struct Due {
    frames: Vec<Frame<'static>>,
    acks: Vec<u64>,
}

#[derive(Default)]
struct State {
    sessions: HashMap<Session, UnboundedSender<Event>>,
    unacked: HashMap<u64, UnboundedSender<Event>>,
    due: [Due; ROLES],
    flush_asked: bool,
}

/// See the module's documentation.
pub(super) struct Link {
    role: u8,
    runtime: tokio::runtime::Handle,
    player: Player,
    /// Closed when it is dropped.
    session: zenoh::Session,
    publishers: Vec<Publisher<'static>>,
    subscriber: OnceLock<Subscriber<()>>,
    state: Mutex<State>,
    next_number: AtomicU64,
    packets: AtomicU64,
    packet_bytes: AtomicU64,
}

/// How long the others may take to be there, and the pause between two looks.
const HEARD_WAIT_MAX: Duration = Duration::from_secs(20);
const LOOK_PAUSE: Duration = Duration::from_millis(10);

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn zenoh_error(error: zenoh::Error) -> anyhow::Error {
    anyhow!("zenoh: {error}")
}

/// As `transport/src/zenoh/config.rs` has it.
fn config(port: u16, peers: &[u16]) -> Result<Config> {
    let list = |ports: &[u16]| {
        let endpoints: Vec<String> = ports.iter().map(|port| format!("\"{}\"", endpoint(*port))).collect();
        format!("[{}]", endpoints.join(","))
    };
    let mut config = Config::default();
    for (key, value) in [
        ("mode", "\"peer\"".to_owned()),
        ("scouting/multicast/enabled", "false".to_owned()),
        ("scouting/gossip/enabled", "true".to_owned()),
        ("open/return_conditions/connect_scouted", "false".to_owned()),
        ("connect/timeout_ms", "-1".to_owned()),
        ("connect/exit_on_failure", "false".to_owned()),
        ("connect/retry", "{ period_init_ms: 100, period_max_ms: 1000, period_increase_factor: 2 }".to_owned()),
        ("listen/endpoints", list(&[port])),
        ("connect/endpoints", list(peers)),
    ] {
        config.insert_json5(key, &value).map_err(zenoh_error)?;
    }
    Ok(config)
}

impl Link {
    pub(super) async fn open(role: u8, port: u16, peers: &[u16], player: Player) -> Result<Arc<Self>> {
        let session = zenoh::open(config(port, peers)?).await.map_err(zenoh_error)?;
        let mut publishers = Vec::new();
        for to in WAREHOUSE..u8::try_from(ROLES)? {
            let publisher = session
                .declare_publisher(format!("floor/{to}"))
                .congestion_control(CongestionControl::Block)
                .priority(Priority::Data)
                .express(true);
            publishers.push(publisher.await.map_err(zenoh_error)?);
        }
        let link = Arc::new(Self {
            role,
            runtime: tokio::runtime::Handle::current(),
            player,
            session,
            publishers,
            subscriber: OnceLock::new(),
            state: Mutex::default(),
            next_number: AtomicU64::new(0),
            packets: AtomicU64::new(0),
            packet_bytes: AtomicU64::new(0),
        });
        let hearing = link.clone();
        let subscriber = link.session.declare_subscriber(format!("floor/{role}"));
        let subscriber = subscriber.callback(move |sample| hearing.receive(&sample.payload().to_bytes()));
        // The two keep each other alive for as long as the process: that is meant.
        let _ = link.subscriber.set(subscriber.await.map_err(zenoh_error)?);
        Ok(link)
    }

    /// Returns once all others have a subscription that this one knows of.
    pub(super) async fn is_heard(&self) -> Result<()> {
        let heard = async {
            for (to, publisher) in self.publishers.iter().enumerate() {
                while to != usize::from(self.role)
                    && !publisher.matching_status().await.map_err(zenoh_error)?.matching()
                {
                    tokio::time::sleep(LOOK_PAUSE).await;
                }
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(HEARD_WAIT_MAX, heard).await.context("the floor's processes do not find each other")?
    }

    /// What it has sent.
    pub(super) fn usage(&self) -> Usage {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Usage {
            frames: get(&self.next_number),
            packets: get(&self.packets),
            packet_bytes: get(&self.packet_bytes),
            ..Usage::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session of this part's.
    pub(super) fn station(self: &Arc<Self>, session: Session) -> Station {
        self.enter(&mut self.lock(), session)
    }

    fn enter(self: &Arc<Self>, state: &mut State, session: Session) -> Station {
        let (sender, events) = mpsc::unbounded_channel();
        state.sessions.insert(session, sender.clone());
        Station { session, link: self.clone(), sender, events }
    }

    /// On Zenoh's thread.
    fn receive(self: &Arc<Self>, bytes: &[u8]) {
        let Packet { from, frames, acks, .. } = match Packet::from_bytes(bytes) {
            Ok(packet) => packet,
            Err(error) => return eprintln!("the floor: {error:#}"),
        };
        let mut state = self.lock();
        for number in acks {
            if let Some(session) = state.unacked.remove(&number) {
                let _ = session.send(Event::Acked); // A task that is gone needs none.
            }
        }
        for Frame { number, session, body, .. } in frames {
            if !state.sessions.contains_key(&session) {
                (self.player)(self.enter(&mut state, session));
            }
            if let Some(session) = state.sessions.get(&session) {
                let _ = session.send(Event::Message(body, Receipt { to: from, number }));
            }
        }
    }

    /// Adds to what is due, and sees to it that it leaves.
    fn put(self: &Arc<Self>, to: u8, add: impl FnOnce(&mut State, &mut Due)) {
        let mut state = self.lock();
        let Some(mut due) = state.due.get_mut(usize::from(to)).map(std::mem::take) else { return };
        add(&mut state, &mut due);
        if let Some(place) = state.due.get_mut(usize::from(to)) {
            *place = due;
        }
        if !std::mem::replace(&mut state.flush_asked, true) {
            let link = self.clone();
            drop(state);
            self.runtime.spawn(async move {
                // Behind all tasks that are ready, so that what they say goes out together.
                tokio::task::yield_now().await;
                link.flush().await;
            });
        }
    }

    async fn flush(&self) {
        let due = {
            let mut state = self.lock();
            state.flush_asked = false;
            std::mem::take(&mut state.due)
        };
        for (Due { frames, acks }, publisher) in due.into_iter().zip(&self.publishers) {
            if frames.is_empty() && acks.is_empty() {
                continue;
            }
            let sent = match Packet::new(self.role, frames, acks).to_bytes() {
                Ok(bytes) => {
                    self.packets.fetch_add(1, Ordering::Relaxed);
                    self.packet_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    publisher.put(ZBytes::from(bytes)).await.map_err(zenoh_error)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                eprintln!("the floor: {error:#}");
            }
        }
    }
}

impl Station {
    /// Says `body` to the part `to`, which acknowledges it; `first` if nothing was said to it before.
    pub(super) fn say(&self, to: u8, body: Body, first: bool) {
        let number = self.link.next_number.fetch_add(1, Ordering::Relaxed);
        self.link.put(to, |state, due| {
            state.unacked.insert(number, self.sender.clone());
            due.frames.push(Frame::new(number, self.session, body, first));
        });
    }

    /// What was received is durable.
    pub(super) fn acknowledge(&self, receipt: &Receipt) {
        self.link.put(receipt.to, |_, due| due.acks.push(receipt.number));
    }

    /// What comes next.
    pub(super) async fn event(&mut self) -> Result<Event> {
        self.events.recv().await.context("the floor's link has ended")
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        self.link.lock().sessions.remove(&self.session);
    }
}

//! Durable actors on nodes of one process: what they promise callers, and what their supervision does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use accompanist::NodeBuilder;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use serde::{Deserialize, Serialize};

use crate::support::{TestNode, node_id, on_disk, quick, until, within};

/// What the recorder is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Note {
    /// By whom, and what.
    Say(String, u32),
    /// Say nothing, and count.
    Count,
    /// A reply of so many bytes would be needed.
    Refuse,
}

/// All that was heard, in its order.
const HEARD: Table<u64, (String, u32)> = Table::new("heard");

fn count(state: &State<'_>) -> Result<u64, Abort> {
    Ok(HEARD.last(state, ..)?.map_or(0, |(at, _)| at + 1))
}

/// Writes down all that it hears, and says how much that is by now.
pub struct Recorder;
impl DurableActor for Recorder {
    const NAME: &'static str = "recorder";
    type Message = Note;
    type Reply = u64;
    fn handle(&self, _: &mut ActorContext<'_>, state: &mut State<'_>, note: Note) -> Result<u64, Abort> {
        match note {
            Note::Say(by, number) => {
                let at = count(state)?;
                HEARD.put(state, at, &(by, number))?;
            }
            Note::Count => {}
            Note::Refuse => {
                HEARD.put(state, u64::MAX, &(String::new(), 0))?;
                return Err(Abort::new("no", "it does not want to"));
            }
        }
        count(state)
    }
}

pub async fn heard_by(node: &Node, name: &str) -> Vec<(String, u32)> {
    let read = |state: &State<'_>| HEARD.range(state, ..).map(|row| row.map(|(_, heard)| heard)).collect();
    let heard: Result<_, Abort> = match node.actor::<Recorder>().named(name).read(read).await {
        Ok(heard) => heard,
        Err(ActorError::NodeStopped | ActorError::Store(_)) => return Vec::new(), // It is down just now.
        Err(error) => panic!("{error}"),
    };
    heard.unwrap()
}

pub async fn heard(node: &Node) -> Vec<(String, u32)> {
    heard_by(node, "").await
}

/// Passes on what it is told, and keeps count.
pub struct Relay;
const PASSED: Table<String, u32> = Table::new("passed");
impl DurableActor for Relay {
    const NAME: &'static str = "relay";
    type Message = u32;
    type Reply = ();
    fn handle(&self, here: &mut ActorContext<'_>, state: &mut State<'_>, number: u32) -> Result<(), Abort> {
        let sender = here.sender().to_string();
        let passed = PASSED.update(state, &sender, |passed| Ok(passed.unwrap_or_default() + 1))?;
        assert_eq!(passed, number + 1, "each once, in order");
        here.tell::<Recorder>("", &Note::Say(sender, number))
    }
}

/// Nodes on disks and a network that outlive them.
#[derive(Default)]
pub struct Place {
    pub network: LocalNetwork,
    disks: std::sync::Mutex<BTreeMap<&'static str, MemoryDisk>>,
}

impl Place {
    pub fn builder(&self, name: &'static str) -> NodeBuilder {
        let disk = self.disks.lock().unwrap().entry(name).or_default().clone();
        on_disk(name, &disk, self.network.clone())
    }
    pub async fn recorder(&self) -> TestNode {
        TestNode::start(self.builder("site").actor(Recorder)).await
    }
    /// The power is cut.
    pub async fn crash(&self, name: &str, node: TestNode) {
        self.disks.lock().unwrap()[name].crash(0);
        within(node.kill()).await;
    }
    pub async fn edge(&self) -> TestNode {
        TestNode::start(self.builder("edge").talks_to::<Recorder>()).await
    }
}

pub fn say(number: u32) -> Note {
    Note::Say("edge".into(), number)
}

pub fn said(numbers: impl IntoIterator<Item = u32>) -> Vec<(String, u32)> {
    numbers.into_iter().map(|number| ("edge".to_owned(), number)).collect()
}

pub async fn until_heard(node: &Node, expected: &[(String, u32)]) {
    within(async {
        loop {
            let heard = heard(node).await;
            if heard == expected {
                return;
            }
            assert!(heard.len() <= expected.len(), "{heard:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actors_are_told_and_asked_by_name_and_instances_have_separate_states() {
    let place = Place::default();
    let (site, edge) = (place.recorder().await, place.edge().await);
    let recorder = edge.actor::<Recorder>();
    assert_eq!(
        (recorder.to_string(), recorder.named("north").to_string()),
        ("recorder".into(), "recorder/north".into())
    );
    for number in 0..3 {
        within(recorder.tell(&say(number))).await.unwrap();
    }
    // What is asked comes behind what was told.
    assert_eq!(within(recorder.ask(&say(3))).await.unwrap(), 4);
    assert_eq!(within(recorder.named("north").ask(&say(9))).await.unwrap(), 1);
    // On its own node, it is reached in the same way.
    assert_eq!(within(site.actor::<Recorder>().ask(&Note::Count)).await.unwrap(), 4);
    assert_eq!(heard(&site).await, said(0..4));
    assert_eq!(heard_by(&site, "north").await, said([9]));
    let elsewhere = edge.actor::<Recorder>().read(|_| ()).await.unwrap_err();
    assert!(matches!(elsewhere, ActorError::NotPlayedHere("recorder")), "{elsewhere}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_ask_changes_nothing_and_returns_the_reason() {
    let place = Place::default();
    let (site, edge) = (place.recorder().await, place.edge().await);
    let recorder = edge.actor::<Recorder>();
    let refused = within(recorder.ask(&Note::Refuse)).await.unwrap_err();
    assert!(matches!(&refused, ActorError::Refused { abort, .. } if abort.code() == "no"), "{refused}");
    within(recorder.tell(&Note::Refuse)).await.unwrap();
    assert_eq!(within(recorder.ask(&say(1))).await.unwrap(), 1);
    assert_eq!(heard(&site).await, said([1]));
    // Refused is refused, also when it is asked again.
    let first = within(recorder.ask(&Note::Refuse).key("k")).await.unwrap_err().to_string();
    assert_eq!(within(recorder.ask(&Note::Refuse).key("k")).await.unwrap_err().to_string(), first);
}

/// A gate that can be shut: then it refuses those who come.
struct Gate;
const SHUT: Table<u8, bool> = Table::new("shut");
const THROUGH: Table<u32, ()> = Table::new("through");

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Way {
    Shut(bool),
    Pass(u32),
}

impl DurableActor for Gate {
    const NAME: &'static str = "gate";
    type Message = Way;
    type Reply = usize;
    fn handle(&self, _: &mut ActorContext<'_>, state: &mut State<'_>, way: Way) -> Result<usize, Abort> {
        match way {
            Way::Shut(shut) => SHUT.put(state, 0, &shut)?,
            Way::Pass(_) if SHUT.get(state, 0)? == Some(true) => return Err(Abort::new("shut", "come again later")),
            Way::Pass(number) => {
                if THROUGH.get(state, number)?.is_some() {
                    return Err(Abort::new("twice", "it has passed before"));
                }
                THROUGH.put(state, number, &())?;
            }
        }
        Ok(THROUGH.range(state, ..).count())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_tell_is_kept_and_handled_once_when_retried() {
    let place = Place::default();
    let mut settings = quick();
    settings.actors.refusals_max = 4;
    let site = || TestNode::start(place.builder("site").settings(settings.clone()).actor(Gate));
    let edge = place.builder("edge").talks_to::<Gate>();
    let (at_site, edge) = (site().await, TestNode::start(edge).await);
    let gate = edge.actor::<Gate>();
    within(gate.tell(&Way::Shut(true))).await.unwrap();
    for number in 0..6 {
        within(gate.tell(&Way::Pass(number))).await.unwrap();
    }
    // Who asks hears of it, and nothing is kept.
    within(gate.ask(&Way::Pass(9))).await.unwrap_err();
    place.crash("site", at_site).await;
    let at_site = site().await;
    let refused = within(at_site.actor::<Gate>().refused()).await.unwrap();
    let numbers: Vec<_> = refused.iter().map(|refused| (refused.number, refused.message.clone())).collect();
    assert_eq!(numbers, [3, 4, 5, 6].map(|number| (number, Some(Way::Pass(u32::try_from(number).unwrap() - 1)))));
    assert!(refused.iter().all(|refused| refused.abort.code() == "shut" && refused.sender == node_id("edge")));
    // Refused again, it stays as it is.
    within(gate.handle_refused(4)).await.unwrap();
    within(gate.tell(&Way::Shut(false))).await.unwrap();
    for number in [4, 4, 1, 99] {
        within(gate.handle_refused(number)).await.unwrap();
    }
    within(gate.discard_refused(6)).await.unwrap();
    assert_eq!(within(gate.ask(&Way::Pass(30))).await.unwrap(), 2, "one that was refused, once, and this");
    let left = within(at_site.actor::<Gate>().refused()).await.unwrap();
    assert_eq!(left.iter().map(|refused| refused.number).collect::<Vec<_>>(), [3, 5]);
    let elsewhere = within(gate.refused()).await.unwrap_err();
    assert!(matches!(elsewhere, ActorError::NotPlayedHere("gate")), "{elsewhere}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_wait_on_disk_for_an_actor_that_is_down_and_outlive_their_sender() {
    let place = Place::default();
    let (site, edge) = (place.recorder().await, place.edge().await);
    within(edge.actor::<Recorder>().tell(&say(0))).await.unwrap();
    until_heard(&site, &said([0])).await;
    within(site.shutdown()).await;
    for number in 1..20 {
        within(edge.actor::<Recorder>().tell(&say(number))).await.unwrap();
    }
    place.crash("edge", edge).await;
    let edge = place.edge().await;
    // In this life it knows of the actor by what it has kept only.
    for number in 20..25 {
        within(edge.actor::<Recorder>().tell(&say(number))).await.unwrap();
    }
    let site = place.recorder().await;
    until_heard(&site, &said(0..25)).await;
    assert_eq!(within(edge.actor::<Recorder>().ask(&Note::Count)).await.unwrap(), 25);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_mailbox_is_an_error_and_nothing_of_it_is_lost_or_doubled() {
    let place = Place::default();
    let site = place.recorder().await;
    let mut settings = quick();
    (settings.limits.signals_max, settings.actors.batch_max) = (8, 3);
    let edge = TestNode::start(place.builder("edge").settings(settings).talks_to::<Recorder>()).await;
    within(edge.actor::<Recorder>().tell(&say(0))).await.unwrap();
    until_heard(&site, &said([0])).await;
    within(site.shutdown()).await;
    let mut taken = 1;
    let full = loop {
        match within(edge.actor::<Recorder>().tell(&say(taken))).await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, ActorError::Full { waiting: 8, .. }), "{full}");
    assert!((1 + 8..=1 + 8 + 3).contains(&taken), "as many as may wait, besides a batch under way: {taken}");
    let site = place.recorder().await;
    until_heard(&site, &said(0..taken)).await;
    within(edge.actor::<Recorder>().tell(&say(taken))).await.unwrap();
    until_heard(&site, &said(0..=taken)).await;
}

/// Panics at the number 7 until it is mended.
pub struct Fragile(pub Arc<AtomicBool>);
impl DurableActor for Fragile {
    const NAME: &'static str = "recorder";
    type Message = Note;
    type Reply = u64;
    fn handle(&self, here: &mut ActorContext<'_>, state: &mut State<'_>, note: Note) -> Result<u64, Abort> {
        let broken = matches!(note, Note::Say(_, 7)) && !self.0.load(Ordering::SeqCst);
        let reply = Recorder.handle(here, state, note)?;
        assert!(!broken, "it cannot stand sevens");
        Ok(reply)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_panics_is_tried_again_then_quarantined_alone_and_goes_on_when_mended() {
    let place = Place::default();
    let mended = Arc::new(AtomicBool::new(false));
    let mut settings = quick();
    settings.supervision.instances.restarts_max = 2;
    let builder = || place.builder("site").settings(settings.clone()).actor(Fragile(mended.clone()));
    let site = TestNode::start(builder()).await;
    let (edge, other) = (place.edge().await, TestNode::start(place.builder("other").talks_to::<Recorder>()).await);
    within(edge.actor::<Recorder>().tell(&say(5))).await.unwrap();
    until_heard(&site, &said([5])).await;
    within(site.shutdown()).await;
    for number in 6..10 {
        within(edge.actor::<Recorder>().tell(&say(number))).await.unwrap(); // They arrive together, or nearly.
    }
    let site = TestNode::start(builder()).await;
    let stopped = site.stopped().await;
    assert_eq!(stopped.len(), 1);
    assert!(stopped[0].reason.contains("it cannot stand sevens"), "{stopped:?}");
    assert_eq!(heard(&site).await, said([5, 6]), "what came before it is handled, and nothing of it is");
    // Another sender's messages are handled, as are those to another instance of the actor.
    let from_other = Note::Say("other".into(), 1);
    assert_eq!(within(other.actor::<Recorder>().ask(&from_other)).await.unwrap(), 3);
    assert_eq!(within(edge.actor::<Recorder>().named("north").ask(&say(1))).await.unwrap(), 1);
    // It is stopped over a restart, and its sender's messages wait.
    within(site.shutdown()).await;
    let site = TestNode::start(builder()).await;
    assert_eq!(site.stopped().await.len(), 1);
    mended.store(true, Ordering::SeqCst);
    let stopped = &site.operator().stopped_sessions()[0];
    within(site.operator().instance(stopped.session, stopped.role).resume()).await.unwrap();
    let expected = [said([5, 6]), vec![("other".into(), 1)], said([7, 8, 9])].concat();
    until_heard(&site, &expected).await;
}

/// As the recorder, but told otherwise.
struct Changed;
impl DurableActor for Changed {
    const NAME: &'static str = "recorder";
    const VERSION: u32 = 2;
    type Message = (String, u64);
    type Reply = ();
    fn handle(
        &self,
        _: &mut ActorContext<'_>,
        state: &mut State<'_>,
        (by, number): (String, u64),
    ) -> Result<(), Abort> {
        let at = count(state)?;
        HEARD.put(state, at, &(by, u32::try_from(number).unwrap_or(u32::MAX)))
    }
}

/// Someone has changed the type, and forgotten the version.
pub struct Careless;
impl DurableActor for Careless {
    const NAME: &'static str = "recorder";
    type Message = (String, String, String);
    type Reply = u64;
    fn handle(&self, _: &mut ActorContext<'_>, _: &mut State<'_>, _: Self::Message) -> Result<u64, Abort> {
        Ok(0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_another_version_or_type_are_refused_and_not_misread() {
    let place = Place::default();
    let site = place.recorder().await;
    let mut settings = quick();
    settings.cast_wait_max = Duration::from_millis(300);
    let edge =
        TestNode::start(place.builder("edge").settings(settings).talks_to::<Recorder>().talks_to::<Changed>()).await;
    within(edge.actor::<Recorder>().tell(&say(0))).await.unwrap();
    let other = within(edge.actor::<Changed>().tell(&("edge".into(), 1))).await.unwrap_err();
    assert!(other.to_string().contains("offers version 1"), "{other}");
    let unknown = within(edge.actor::<Relay>().tell(&1)).await.unwrap_err();
    assert!(matches!(unknown, ActorError::UnknownActor { .. }), "{unknown}");
    until_heard(&site, &said([0])).await;
    within(site.shutdown()).await;

    // Told while nobody reads it; then comes a release that has both versions, and what waits is handled as what it is.
    within(edge.actor::<Recorder>().tell(&say(1))).await.unwrap();
    let site = TestNode::start(place.builder("site").actor(Recorder).actor(Changed)).await;
    until_heard(&site, &said(0..2)).await; // Each version has a channel of its own, and their order is not promised.
    within(async { while edge.actor::<Changed>().tell(&("edge".into(), 2)).await.is_err() {} }).await;
    until_heard(&site, &said(0..3)).await;
    within(site.shutdown()).await;

    // The type has changed under the same version: it is stopped, says so, and loses nothing.
    within(edge.actor::<Recorder>().tell(&say(3))).await.unwrap();
    let site = TestNode::start(place.builder("site").actor(Careless)).await;
    until("both channels", || site.operator().stopped_sessions().len() == 2).await;
    let reasons: Vec<_> = site.stopped().await.into_iter().map(|stopped| stopped.reason).collect();
    assert!(reasons.iter().any(|reason| reason.contains("raise VERSION")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("version 2 is not known here")), "{reasons:?}");
    within(site.shutdown()).await;
    let site = TestNode::start(place.builder("site").actor(Recorder).actor(Changed)).await;
    for stopped in site.operator().stopped_sessions() {
        within(site.operator().instance(stopped.session, stopped.role).resume()).await.unwrap();
    }
    until_heard(&site, &said(0..4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_one_message_and_one_reply_and_another_message_under_it_is_refused() {
    let place = Place::default();
    let (site, edge) = (place.recorder().await, place.edge().await);
    let recorder = edge.actor::<Recorder>();
    for _ in 0..3 {
        within(recorder.tell(&say(1)).key("a")).await.unwrap();
        assert_eq!(within(recorder.ask(&say(2)).key("b")).await.unwrap(), 2);
    }
    until_heard(&site, &said([1, 2])).await;
    for error in [
        within(recorder.tell(&say(3)).key("a")).await.unwrap_err(),
        within(recorder.ask(&say(3)).key("b")).await.map(drop).unwrap_err(),
        within(recorder.ask(&say(1)).key("a")).await.map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, ActorError::KeyReused { .. }), "{error}");
    }
    let twice = within(recorder.tell(&say(3)).key("c").key("c").key("d")).await.unwrap_err();
    assert!(
        matches!(&twice, ActorError::KeyTwice { first, second } if (first.as_str(), second.as_str()) == ("c", "d"))
    );
    // After a power cut of the asker, the reply is the same, though the actor is gone.
    within(site.shutdown()).await;
    place.crash("edge", edge).await;
    let edge = place.edge().await;
    assert_eq!(within(edge.actor::<Recorder>().ask(&say(2)).key("b")).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_reply_can_be_fetched_later() {
    let place = Place::default();
    let (site, edge) = (place.recorder().await, place.edge().await);
    let recorder = edge.actor::<Recorder>();
    within(recorder.tell(&say(0))).await.unwrap();
    until_heard(&site, &said([0])).await;
    within(site.shutdown()).await;
    let early = tokio::time::timeout(Duration::from_millis(20), recorder.ask(&say(1)).key("q")).await;
    assert!(early.is_err(), "nobody is there to answer");
    let site = place.recorder().await;
    assert_eq!(within(recorder.ask(&say(1)).key("q")).await.unwrap(), 2);
    until_heard(&site, &said(0..2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_replies_travel_in_as_many_messages_as_they_need() {
    let place = Place::default();
    let small = || {
        let mut settings = quick();
        settings.limits.payload_bytes_max = 4_096;
        settings
    };
    let site = TestNode::start(place.builder("site").settings(small()).actor(Echo)).await;
    let edge = TestNode::start(place.builder("edge").settings(small()).talks_to::<Echo>()).await;
    let echo = edge.actor::<Echo>();
    let asks = (0..100_usize).map(|number| {
        let echo = echo.clone();
        tokio::spawn(async move { (number, echo.ask(&(number * 15)).await) })
    });
    for asked in asks.collect::<Vec<_>>() {
        let (number, reply) = within(asked).await.unwrap();
        assert_eq!(reply.unwrap().len(), number * 15);
    }
    let large = within(echo.ask(&3_000)).await.unwrap_err();
    assert!(large.to_string().contains("raise `payload_bytes_max`"), "{large}");
    assert_eq!(within(echo.ask(&5)).await.unwrap().len(), 5);
    drop(site);
}

/// Answers with as many bytes as it is asked for.
struct Echo;
impl DurableActor for Echo {
    const NAME: &'static str = "echo";
    type Message = usize;
    type Reply = Vec<u8>;
    fn handle(&self, _: &mut ActorContext<'_>, _: &mut State<'_>, size: usize) -> Result<Vec<u8>, Abort> {
        Ok(vec![7; size])
    }
}

/// Told of by its size.
struct Bulk;
impl DurableActor for Bulk {
    const NAME: &'static str = "bulk";
    type Message = Vec<u8>;
    type Reply = usize;
    fn handle(&self, _: &mut ActorContext<'_>, _: &mut State<'_>, bytes: Vec<u8>) -> Result<usize, Abort> {
        Ok(bytes.len())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_message_arrives_and_a_larger_one_is_refused_at_once() {
    let place = Place::default();
    let site = TestNode::start(place.builder("site").actor(Bulk)).await;
    let edge = TestNode::start(place.builder("edge").talks_to::<Bulk>()).await;
    let bulk = edge.actor::<Bulk>();
    let refused = within(bulk.tell(&vec![7; quick().limits.payload_bytes_max])).await.unwrap_err();
    let ActorError::TooLarge { found, limit } = refused else { panic!("{refused}") };
    let largest = quick().limits.payload_bytes_max - (found - limit);
    let asks: Vec<_> = (0..3)
        .map(|less| {
            let bulk = bulk.clone();
            tokio::spawn(async move { bulk.ask(&vec![7; largest - less]).await })
        })
        .collect();
    let mut replies = Vec::new();
    for asked in asks {
        replies.push(within(asked).await.unwrap().unwrap());
    }
    assert_eq!(replies, [largest, largest - 1, largest - 2]);
    let name = within(bulk.named("n".repeat(257)).tell(&vec![])).await.unwrap_err();
    assert!(matches!(name, ActorError::NameTooLong(257)), "{name}");
    drop(site);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_two_nodes_play_is_refused_to_new_senders_and_kept_by_old_ones() {
    let place = Place::default();
    let (site, edge) = (place.recorder().await, place.edge().await);
    within(edge.actor::<Recorder>().tell(&say(0))).await.unwrap();
    let twin = TestNode::start(place.builder("twin").actor(Recorder)).await;
    let new = TestNode::start(place.builder("new").talks_to::<Recorder>()).await;
    let mut name = 0;
    let refused = within(async {
        // Until it has heard of both.
        loop {
            name += 1;
            if let Err(error) = new.actor::<Recorder>().named(name.to_string()).tell(&say(1)).await {
                return error;
            }
        }
    })
    .await;
    assert!(matches!(&refused, ActorError::PlayedTwice { nodes, .. } if nodes.len() == 2), "{refused}");
    within(edge.actor::<Recorder>().tell(&say(1))).await.unwrap();
    until_heard(&site, &said(0..2)).await;
    assert_eq!(heard(&twin).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_of_an_actor_are_delivered_past_waiting_messages() {
    let place = Place::default();
    let mut settings = quick();
    (settings.limits.signals_max, settings.actors.batch_max) = (4, 2);
    let relay = || place.builder("middle").settings(settings.clone()).actor(Relay).talks_to::<Recorder>();
    let site = place.recorder().await;
    let middle = TestNode::start(relay()).await;
    let edge = TestNode::start(place.builder("edge").talks_to::<Relay>()).await;
    within(edge.actor::<Relay>().tell(&0)).await.unwrap();
    until_heard(&site, &said([0])).await;
    // The site goes; the relay's mailbox for it is full soon, and what it is told waits at the edge.
    within(site.shutdown()).await;
    for number in 1..60 {
        within(edge.actor::<Relay>().tell(&number)).await.unwrap();
    }
    place.crash("middle", middle).await;
    let middle = TestNode::start(relay()).await;
    let site = place.recorder().await;
    until_heard(&site, &said(0..60)).await;
    drop(middle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_tells_an_unknown_actor_stops_until_it_is_known() {
    let place = Place::default();
    let site = place.recorder().await;
    let middle = TestNode::start(place.builder("middle").actor(Relay)).await;
    let edge = TestNode::start(place.builder("edge").talks_to::<Relay>()).await;
    within(edge.actor::<Relay>().tell(&0)).await.unwrap();
    let stopped = middle.stopped().await;
    assert!(stopped[0].reason.contains("talks_to"), "{stopped:?}");
    within(middle.shutdown()).await;
    let middle = TestNode::start(place.builder("middle").actor(Relay).talks_to::<Recorder>()).await;
    until_heard(&site, &said([0])).await;
    drop(middle);
}

#[test]
fn a_handler_can_be_tested_by_itself() {
    let base = accompanist::state::Writes::default();
    let state = &mut State::new(&base, Relay::NAME);
    let sender = node_id("edge");
    let mut here = ActorContext::alone(&sender, "");
    assert_eq!(Relay.handle(&mut here, state, 0), Ok(()));
    let told = here.told_to::<Recorder>("");
    assert!(matches!(&told[..], [Note::Say(by, 0)] if by == "edge"), "{told:?}");
}

/// A role of an actor's name.
#[derive(Clone, Copy)]
struct Namesake;
impl Role for Namesake {
    const NAME: &'static str = "recorder";
    type Service = ();
}

#[tokio::test]
async fn two_actors_of_one_name_and_version_are_refused() {
    let builder = on_disk("twice", &MemoryDisk::default(), LocalNetwork::new());
    let error = builder.actor(Recorder).actor(Careless).start().await.unwrap_err();
    assert!(error.to_string().contains("`actor recorder` version 1 is given twice"), "{error}");

    let builder = on_disk("twice", &MemoryDisk::default(), LocalNetwork::new());
    let error = builder.actor(Recorder).role(Namesake, Arc::new(())).start().await.unwrap_err();
    assert!(error.to_string().contains("an actor and a role are named `recorder`"), "{error}");
}

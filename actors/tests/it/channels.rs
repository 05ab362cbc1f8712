//! Channels to durable actors in an operator's hands: nothing ends one with messages in it, one message can be skipped,
//! and a channel that is over all the same can be opened anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use accompanist::actor::SkippedMessage;
use accompanist::contract::{Inbox, Transport, Wire};
use accompanist::id::RoleIndex;
use accompanist::machine::Status;
use accompanist::prelude::*;
use accompanist::transport::LocalNetwork;
use accompanist::{AskError, InstanceOperator, NodeBuilder};
use accompanist_core::frame::{Advertisement, Body, Epoch, Frame, Packet};

use crate::actor::{Careless, Fragile, Note, Place, Recorder, heard, said, say, until_heard};
use crate::rogue::Rogue;
use crate::support::{TestNode, node_id, quick, until, within};

/// A site whose actor panics at sevens.
fn fragile(place: &Place, mended: &Arc<AtomicBool>) -> NodeBuilder {
    let mut settings = quick();
    settings.supervision.instances.restarts_max = 2;
    place.builder("site").settings(settings).actor(Fragile(mended.clone()))
}

fn stopped_at(site: &Node) -> InstanceOperator {
    let stopped = &site.operator().stopped_sessions()[0];
    site.operator().instance(stopped.session, stopped.role)
}

/// Each way that would end the channel is refused here, and names what to do instead.
async fn ends_nothing(end: &InstanceOperator, is_stopped: bool) {
    let mut refused = Vec::new();
    if is_stopped {
        refused.push(within(end.abort("away with it")).await.unwrap_err());
        refused.push(within(end.terminate("away with it")).await.map(drop).unwrap_err());
    } else {
        refused.push(within(end.cancel("away with it")).await.unwrap_err());
    }
    for error in refused {
        assert!(matches!(error, AskError::DoesNotFit { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("channel to a durable actor") && text.contains("`skip_message`"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_cannot_be_ended_and_the_message_in_its_way_is_skipped_and_kept() {
    let place = Place::default();
    let mended = Arc::new(AtomicBool::new(false));
    let (site, edge) = (TestNode::start(fragile(&place, &mended)).await, place.edge().await);
    for number in 5..10 {
        within(edge.actor::<Recorder>().tell(&say(number))).await.unwrap();
    }
    site.stopped().await;
    ends_nothing(&stopped_at(&site), true).await;
    let channel = within(edge.actor::<Recorder>().channel()).await.unwrap().id();
    ends_nothing(&edge.operator().instance(channel.session, channel.role), false).await;
    assert!(within(edge.actor::<Recorder>().reopen()).await.is_err_and(|error| error.to_string().contains("is open")));
    // Nothing of it is lost over a restart of either.
    within(site.shutdown()).await;
    within(edge.shutdown()).await;
    let (site, edge) = (TestNode::start(fragile(&place, &mended)).await, place.edge().await);
    site.stopped().await;
    ends_nothing(&stopped_at(&site), true).await;
    within(edge.actor::<Recorder>().tell(&say(10))).await.unwrap();
    assert_eq!(heard(&site).await, said([5, 6]));

    let skipped = within(stopped_at(&site).skip_message()).await.unwrap();
    let SkippedMessage { instance, sender, asks, .. } = &skipped;
    assert_eq!((instance.as_str(), sender.as_str(), *asks), ("", "edge", false));
    // Durable when it returns.
    place.crash("site", site).await;
    let site = TestNode::start(fragile(&place, &mended)).await;
    until_heard(&site, &said([5, 6, 8, 9, 10])).await;
    let refused = within(site.actor::<Recorder>().refused()).await.unwrap();
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].abort.code(), refused[0].sender.as_str()), ("accompanist.skipped", "edge"));
    assert!(matches!(refused[0].message, Some(Note::Say(_, 7))));

    // Once it is mended, it is handled like any that was refused; the next seven is not taken for it.
    mended.store(true, Ordering::SeqCst);
    within(edge.actor::<Recorder>().handle_refused(refused[0].number)).await.unwrap();
    within(edge.actor::<Recorder>().tell(&say(7))).await.unwrap();
    until_heard(&site, &said([5, 6, 8, 9, 10, 7, 7])).await;
    assert!(within(site.actor::<Recorder>().refused()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocking_messages_are_skipped_one_by_one_and_their_askers_refused() {
    let place = Place::default();
    let never = Arc::new(AtomicBool::new(false));
    let (site, edge) = (TestNode::start(fragile(&place, &never)).await, place.edge().await);
    let north = edge.actor::<Recorder>().named("north");
    // Two of the same bytes: they are two.
    within(north.tell(&say(7))).await.unwrap();
    within(north.tell(&say(7))).await.unwrap();
    let asked = tokio::spawn({
        let north = north.clone();
        async move { north.ask(&say(7)).await }
    });
    for skipped in 0..3 {
        site.stopped().await;
        let end = stopped_at(&site);
        let message = within(async {
            // The question may not have come yet.
            loop {
                match end.skip_message().await {
                    Err(AskError::DoesNotFit { .. }) => tokio::task::yield_now().await,
                    message => break message.unwrap(),
                }
            }
        });
        let message = message.await;
        assert_eq!((message.instance.as_str(), message.asks), ("north", skipped == 2));
    }
    let refusal = within(asked).await.unwrap().unwrap_err();
    assert!(
        matches!(&refusal, ActorError::Refused { abort, .. } if abort.code() == "accompanist.skipped"),
        "{refusal}"
    );
    let refused = within(site.actor::<Recorder>().named("north").refused()).await.unwrap();
    assert_eq!(refused.len(), 2, "who asks has heard of it");
    assert_eq!(within(north.ask(&say(8))).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_another_type_can_be_skipped() {
    let place = Place::default();
    let (site, edge) = (TestNode::start(place.builder("site").actor(Careless)).await, place.edge().await);
    within(edge.actor::<Recorder>().tell(&say(1))).await.unwrap();
    site.stopped().await;
    within(stopped_at(&site).skip_message()).await.unwrap();
    within(async { while site.actor::<Careless>().refused().await.unwrap().is_empty() {} }).await;
    let refused = within(site.actor::<Careless>().refused()).await.unwrap();
    assert!(refused[0].message.is_none(), "it is of another type");
    // The release before reads it.
    within(site.shutdown()).await;
    let site = place.recorder().await;
    within(edge.actor::<Recorder>().handle_refused(refused[0].number)).await.unwrap();
    until_heard(&site, &said([1])).await;
}

/// Waits until the turn that has handled what was told is over and final: its sender then waits for more.
async fn turn_is_over(channel: &accompanist::InstanceHandle) {
    let waits =
        async || channel.waits_for().await.is_ok_and(|waits| waits.iter().any(|(_, what)| what.contains("signal")));
    within(async { while !waits().await {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_may_no_longer_be_sent_wait_in_the_channel() {
    let place = Place::default();
    let (site, edge) = (place.recorder().await, place.edge().await);
    within(edge.actor::<Recorder>().tell(&say(0))).await.unwrap();
    until_heard(&site, &said([0])).await;
    turn_is_over(&within(edge.actor::<Recorder>().channel()).await.unwrap()).await;
    within(site.shutdown()).await;
    let long = Note::Say("x".repeat(2_000), 1);
    within(edge.actor::<Recorder>().tell(&long)).await.unwrap();
    within(edge.actor::<Recorder>().tell(&say(2))).await.unwrap();
    within(edge.shutdown()).await;

    let mut settings = quick();
    settings.limits.payload_bytes_max = 1_000;
    let edge = TestNode::start(place.builder("edge").settings(settings).talks_to::<Recorder>()).await;
    let stopped = edge.stopped().await;
    assert!(stopped[0].reason.contains("raise `payload_bytes_max`"), "{stopped:?}");
    ends_nothing(&stopped_at(&edge), true).await;
    let no_message = within(stopped_at(&edge).skip_message()).await.unwrap_err();
    assert!(no_message.to_string().contains("no message in its way"), "{no_message}");
    within(edge.shutdown()).await;

    let (site, _edge) = (place.recorder().await, place.edge().await);
    until_heard(&site, &[said([0]), vec![("x".repeat(2_000), 1)], said([2])].concat()).await;
}

/// Hears nothing.
struct Deaf;
impl Inbox for Deaf {
    fn receive(&self, _: &NodeId, _: &[u8]) {}
}

/// A node of another release, or one that lies, plays another one and says that the session is aborted.
async fn abort_as(
    network: &LocalNetwork,
    who: &str,
    advertisement: Advertisement,
    to: &str,
    channel: SessionId,
) -> Arc<dyn Wire> {
    let wire = network.attach(node_id(who), Arc::new(Deaf)).await.unwrap();
    let body = Body::Abort(Abort::new("elsewhere", "an operator of another release"));
    let (from, role) = if who == "edge" { (RoleIndex(0), RoleIndex(1)) } else { (RoleIndex(1), RoleIndex(0)) };
    let frame = Frame { session: channel, from, to: role, header: None, body };
    let packet = Packet { frames: vec![(1, frame)], advertisement: Some(advertisement), ..Packet::new(Epoch(77)) };
    wire.send(&node_id(to), packet.to_bytes(&node_id(who), Some(&node_id(to))).unwrap());
    wire
}

async fn is_over(edge: &Node) {
    within(async {
        loop {
            match edge.actor::<Recorder>().tell(&say(99)).await {
                // Before the abort has come.
                Ok(()) => tokio::task::yield_now().await,
                Err(ActorError::ChannelOver { reason, .. }) => break assert!(reason.contains("another release")),
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
}

async fn a_channel_that_is_over_is_opened_anew(closes_first: bool) {
    let place = Place::default();
    let (site, edge) = (place.recorder().await, place.edge().await);
    within(edge.actor::<Recorder>().tell(&say(0))).await.unwrap();
    until_heard(&site, &said([0])).await;
    let channel = within(edge.actor::<Recorder>().channel()).await.unwrap();
    turn_is_over(&channel).await;
    let rogue = Rogue::attach(&place.network).await;
    let (of_site, of_edge) = (rogue.advertisement_of("site").await, rogue.advertisement_of("edge").await);
    within(site.shutdown()).await;
    let wire = abort_as(&place.network, "site", of_site, "edge", channel.id().session).await;
    is_over(&edge).await;
    drop(wire);
    // It says so in its next life, too, and not only once.
    within(edge.shutdown()).await;
    let site = place.recorder().await;
    if closes_first {
        let end = site.operator().instance(channel.id().session, RoleIndex(1));
        let wire = abort_as(&place.network, "edge", of_edge, "site", channel.id().session).await;
        within(async { while end.handle().status().await.unwrap() == Status::Running {} }).await;
        drop(wire);
    }
    let edge = place.edge().await;
    if closes_first {
        within(async { while edge.open().await > 0 || site.open().await > 0 {} }).await;
    }
    is_over(&edge).await;
    is_over(&edge).await;
    within(edge.actor::<Recorder>().reopen()).await.unwrap();
    let twice = within(edge.actor::<Recorder>().reopen()).await.unwrap_err();
    assert!(matches!(twice, ActorError::ChannelIsOpen(_)), "{twice}");
    within(edge.actor::<Recorder>().tell(&say(1))).await.unwrap();
    let heard_after = async |expected: Vec<(String, u32)>| {
        within(async { while !heard(&site).await.ends_with(&expected) {} }).await;
    };
    heard_after(said([1])).await;
    // The new one is found again.
    within(edge.shutdown()).await;
    let edge = place.edge().await;
    within(edge.actor::<Recorder>().tell(&say(2))).await.unwrap();
    heard_after(said([1, 2])).await;
    assert_ne!(within(edge.actor::<Recorder>().channel()).await.unwrap().id(), channel.id());
    until("nothing in trouble", || {
        edge.operator().troubled_sessions().is_empty() && site.operator().troubled_sessions().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_is_aborted_is_opened_anew() {
    a_channel_that_is_over_is_opened_anew(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_is_closed_is_opened_anew() {
    a_channel_that_is_over_is_opened_anew(true).await;
}

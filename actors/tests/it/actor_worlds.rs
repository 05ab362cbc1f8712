//! Durable actors over many seeds, with crashes of each side, power cuts, and a network that loses, doubles, reorders,
//! delays and splits: each message once, in its sender's order.
//!
//! `ACCOMPANIST_SEEDS=5000` runs more of them, `ACCOMPANIST_SEED=17` one again.

use std::time::Duration;

use accompanist::NodeBuilder;
use accompanist::prelude::*;
use accompanist::testing::{FaultProfile, Simulation, World};

use crate::actor::{Note, Recorder, Relay, heard};

const MESSAGES: u32 = 12;
const EDGES: [&str; 2] = ["edge-a", "edge-b"];
/// Far longer than anything that is sent again takes.
const CALM: Duration = Duration::from_secs(30);

fn settings() -> Settings {
    let mut settings = Settings {
        retransmission_delay_min: Duration::from_millis(20),
        retransmission_delay_max: Duration::from_millis(60),
        // Deafness is noticed after some of these, and a world waits for that.
        advertisement_period_max: Duration::from_millis(300),
        ..Settings::default()
    };
    // Small enough that batches end for every reason there is.
    (settings.actors.batch_max, settings.limits.signals_max) = (3, 5);
    settings
}

async fn add_nodes(world: &World) {
    let edge = |node: NodeBuilder| node.settings(settings()).talks_to::<Relay>().talks_to::<Recorder>();
    for name in EDGES {
        world.add_node(name, edge).await;
    }
    world.add_node("middle", |node| node.settings(settings()).actor(Relay).talks_to::<Recorder>()).await;
    world.add_node("site", |node| node.settings(settings()).actor(Recorder)).await;
}

/// What was not taken in, or perhaps was, is repeated under its key.
fn is_passing(error: &ActorError) -> bool {
    matches!(
        error,
        ActorError::Full { .. }
            | ActorError::NodeStopped
            | ActorError::Channel { .. }
            | ActorError::Unreachable { .. }
            | ActorError::Store(_)
    )
}

/// What was taken in, or a pause before it is tried again.
async fn taken<T>(result: Result<T, ActorError>) -> Option<T> {
    match result {
        Ok(done) => return Some(done),
        Err(error) if is_passing(&error) => tokio::time::sleep(Duration::from_millis(25)).await,
        Err(error) => panic!("{error}"),
    }
    None
}

/// Tells all it has to, each under its key, over all crashes of the edge's node.
async fn tell_all(world: World, edge: &'static str, relayed: bool) {
    for number in 0..MESSAGES {
        let key = format!("number {number}");
        loop {
            let node = world.running(edge).await;
            let told = if relayed {
                node.actor::<Relay>().tell(&number).key(&key).await
            } else {
                node.actor::<Recorder>().tell(&Note::Say(format!("{edge} directly"), number)).key(&key).await
            };
            if taken(told).await.is_some() {
                break;
            }
        }
    }
}

async fn ask(world: &World, edge: &'static str, number: u32) -> u64 {
    let key = format!("question {number}");
    loop {
        let node = world.running(edge).await;
        let asked = node.actor::<Recorder>().ask(&Note::Say(edge.into(), number)).key(&key).await;
        if let Some(reply) = taken(asked).await {
            return reply;
        }
    }
}

fn from(by: &str) -> Vec<(String, u32)> {
    (0..MESSAGES).map(|number| (by.to_owned(), number)).collect()
}

async fn expect(world: &World, by: &[&str]) {
    let all = by.len() * MESSAGES as usize;
    world
        .settle_when(async || {
            let heard = heard(&world.running("site").await).await;
            assert!(heard.len() <= all, "{heard:?}");
            heard.len() == all
        })
        .await;
    tokio::time::sleep(CALM).await;
    let heard = heard(&world.running("site").await).await;
    for by in by {
        let of_it: Vec<_> = heard.iter().filter(|(from, _)| from == by).cloned().collect();
        assert_eq!(of_it, from(by), "each once, in order: {heard:?}");
    }
    assert_eq!(heard.len(), all);
    world.recorder().note(format!("{heard:?}"));
}

/// Two edges tell the site, directly and over another actor on a third node.
async fn chain(world: World) {
    add_nodes(&world).await;
    let tells = EDGES.iter().flat_map(|edge| [true, false].map(|relayed| tell_all(world.clone(), edge, relayed)));
    let tells: Vec<_> = tells.map(tokio::spawn).collect();
    for told in tells {
        told.await.unwrap();
    }
    expect(&world, &["edge-a", "edge-b", "edge-a directly", "edge-b directly"]).await;
}

#[test]
fn each_message_is_handled_once_and_in_order_over_crashes_and_a_rough_network() {
    println!("{}", Simulation::new().seeds(40).twice().run(chain));
}

/// One that crashes far more often.
fn crashing() -> FaultProfile {
    FaultProfile {
        crashes_max: 40,
        crash_pause_max: Duration::from_millis(200),
        down_max: Duration::from_millis(100),
        ..FaultProfile::rough()
    }
}

#[test]
fn each_message_is_handled_once_and_in_order_however_often_nodes_crash() {
    println!("{}", Simulation::new().seeds(40).fault_profile(crashing()).run(chain));
}

/// Asks under keys, over crashes of the asker, and asks all again at the end.
async fn questions(world: World) {
    add_nodes(&world).await;
    let mut replies = Vec::new();
    for number in 0..MESSAGES {
        for edge in EDGES {
            replies.push(ask(&world, edge, number).await);
        }
    }
    expect(&world, &EDGES).await;
    // Each has counted, and each has counted once.
    let mut sorted = replies.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=u64::from(MESSAGES) * 2).collect::<Vec<_>>());
    let mut again = Vec::new();
    for number in 0..MESSAGES {
        for edge in EDGES {
            again.push(ask(&world, edge, number).await);
        }
    }
    assert_eq!(again, replies);
    assert_eq!(heard(&world.running("site").await).await.len(), replies.len());
}

#[test]
fn a_question_under_a_key_has_one_answer_over_crashes_of_either_side() {
    println!("{}", Simulation::new().seeds(30).twice().run(questions));
}

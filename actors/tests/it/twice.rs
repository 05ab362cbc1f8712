//! What is given to a builder twice, or in two ways that contradict each other, is refused at the start with both
//! named.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::supervision::{Group, Policy, Restart};
use accompanist::transport::{Faults, FaultyNetwork, LocalNetwork};
use accompanist::{Config, Members, NodeBuilder, NodeError, SystemEnvironment};

use crate::support::{TestNode, all_roles, node_id, quick, within};
use crate::trade::{Back, Front, Outside, Side, Trade, deal};

fn builder() -> NodeBuilder {
    let builder = Node::builder(node_id("one")).store(MemoryDisk::default().open().unwrap());
    builder.transport(LocalNetwork::new()).role(Front, Arc::new(()))
}

/// The start is refused, and says all of this.
async fn refused(builder: NodeBuilder, parts: &[&str]) -> NodeError {
    let error = within(builder.start()).await.expect_err("it was taken");
    let text = error.to_string();
    assert!(parts.iter().all(|part| text.contains(part)), "{parts:?} are not all in: {text}");
    error
}

fn config(file: &str) -> Config {
    Config::from_toml(file, "", []).unwrap()
}

#[tokio::test]
async fn a_builder_refuses_what_is_given_twice() {
    let store = || MemoryDisk::default().open().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let on_disk = FjallStore::open(folder.path()).unwrap();
    refused(builder().store(on_disk), &["two stores", "MemoryStore", "FjallStore", "leave one out"]).await;
    refused(builder().simulated_store(store(), Duration::ZERO), &["two stores", "MemoryStore"]).await;
    refused(
        builder().transport(FaultyNetwork::new(1, Faults::none())),
        &["two transports", "LocalNetwork", "FaultyNetwork"],
    )
    .await;
    let settings = builder().settings(quick());
    refused(settings.settings(Settings::default()), &["two sets of settings", "`NodeBuilder::settings`"]).await;
    let both = builder().settings(quick()).config(config("a.toml"));
    refused(both, &["two sets of settings", "`NodeBuilder::settings`", "`a.toml`"]).await;
    let both = builder().config(config("a.toml")).config(config("b.toml"));
    refused(both, &["two sets of settings", "`a.toml`", "`b.toml`"]).await;
    let files = builder().members_file("a/members.toml").members_file("b/members.toml");
    refused(files, &["two lists of members", "`a/members.toml`", "`b/members.toml`"]).await;
    let members = Members::from_toml("m.toml", "system = \"s\"\n[nodes.one]\nroles = [\"front\"]\n").unwrap();
    let both = builder().members(members).members_file("a/members.toml");
    refused(both, &["two lists of members", "`NodeBuilder::members`", "`a/members.toml`"]).await;
    let keys = builder().seal_key_file("a/seal.key").seal_key_file("b/seal.key");
    refused(keys, &["two seal key files", "`a/seal.key`", "`b/seal.key`"]).await;
    let clock = || Arc::new(SystemEnvironment::default());
    refused(builder().environment(clock()).environment(clock()), &["two environments"]).await;
    // The first of several is told.
    let many = builder().store(store()).transport(LocalNetwork::new()).settings(quick()).settings(quick());
    refused(many, &["two stores"]).await;
}

#[tokio::test]
async fn two_ways_that_contradict_each_other_are_refused() {
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut settings = quick();
        change(&mut settings);
        builder().settings(settings)
    };
    let file = |name: &str| Some(PathBuf::from(name));
    let keys = with(&|settings| settings.seal_key_file = file("a/seal.key")).seal_key_file("b/seal.key");
    refused(keys, &["two seal key files", "`b/seal.key`", "`a/seal.key` of the settings"]).await;
    // The same in both ways is no contradiction: it lacks members.
    let same = with(&|settings| settings.seal_key_file = file("a/seal.key")).seal_key_file("a/seal.key");
    assert!(matches!(within(same.start()).await, Err(NodeError::Seal(_))));
    for both in [
        builder().fresh().accept_restore(),
        with(&|settings| settings.fresh = true).accept_restore(),
        with(&|settings| settings.accept_restore = true).fresh(),
        with(&|settings| (settings.fresh, settings.accept_restore) = (true, true)),
    ] {
        refused(both, &["two ways to begin", "`fresh`", "`accept_restore`"]).await;
    }
    // Said twice alike, it is said once.
    let fresh = with(&|settings| settings.fresh = true).fresh();
    TestNode::start(fresh).await.shutdown().await;
}

/// Another type, of the same name.
#[derive(Clone, Copy)]
struct AlsoFront;
impl Role for AlsoFront {
    const NAME: &'static str = Front::NAME;
    type Service = u32;
}

/// One that takes our own name.
#[derive(Clone, Copy)]
struct Teller;
impl Role for Teller {
    const NAME: &'static str = "accompanist.sender";
    type Service = ();
}

struct Ear;
impl DurableActor for Ear {
    const NAME: &'static str = "ear";
    type Message = ();
    type Reply = ();
    fn handle(&self, _: &mut ActorContext<'_>, _: &mut State<'_>, (): ()) -> Result<(), Abort> {
        Ok(())
    }
}

#[tokio::test]
async fn a_role_has_one_service() {
    for twice in [builder().role(Front, Arc::new(())), builder().role(AlsoFront, Arc::new(7))] {
        let error = refused(twice, &["role `front` is given twice"]).await;
        assert!(matches!(error, NodeError::RoleTwice("front")), "{error}");
    }
    for taken in [
        builder().role(Teller, Arc::new(())).talks_to::<Ear>(),
        builder().talks_to::<Ear>().role(Teller, Arc::new(())),
        builder().actor(Ear).role(Teller, Arc::new(())),
    ] {
        refused(taken, &["role `accompanist.sender` is given twice"]).await;
    }
    // Whom one talks to may be said as often as one likes.
    let node = TestNode::start(builder().talks_to::<Ear>().talks_to::<Ear>().actor(Ear).talks_to::<Ear>()).await;
    within(node.shutdown()).await;
    refused(builder().actor(Ear).actor(Ear), &["ear", "given twice"]).await;
    refused(builder().choreography(Trade).choreography(Trade), &["`trade` version 1 is given twice"]).await;
}

#[tokio::test]
async fn a_group_has_one_policy_and_each_of_its_actors_a_name() {
    use accompanist::ractor::{ActorCell, SpawnErr};

    async fn never(_: ActorCell) -> Result<ActorCell, SpawnErr> {
        panic!("it is not started")
    }
    let group = || Group::new("meters");
    let twice = group().policy(Policy::default()).policy(Policy { restarts_max: 1, ..Policy::default() });
    refused(builder().supervise(twice), &["group `meters`", "two policies"]).await;
    let child = |name: &str| group().child("a", Restart::Permanent, never).child(name, Restart::Transient, never);
    refused(builder().supervise(child("a")), &["group `meters`", "two of its actors are named `a`"]).await;
    refused(builder().supervise(group()).supervise(group()), &["two groups are named `meters`"]).await;
}

#[tokio::test]
async fn a_start_has_one_key_and_one_deadline() {
    let outside = Arc::new(Outside::default());
    let store = MemoryDisk::default().open().unwrap();
    let node = TestNode::start(all_roles("home", store, LocalNetwork::new(), &outside).choreography(Trade)).await;
    let start = || node.start(Trade, deal(1));
    for (twice, parts) in [
        (start().key("a").key("b"), ["its key", "`a`", "`b`"]),
        (
            start().deadline(Duration::from_mins(1)).key("a").deadline(Duration::from_mins(2)),
            ["its deadline", "`1m`", "`2m`"],
        ),
    ] {
        let error = within(twice).await.err().unwrap().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    let once = within(start().key("a").key("a")).await.unwrap();
    within(once.settled()).await.unwrap();
    let _: (Back, Side) = (Back, Side);
}

#[cfg(feature = "zenoh")]
#[test]
fn a_configuration_of_zenoh_says_each_thing_once() {
    use accompanist::transport::{ZenohConfig, ZenohMode};

    let config = ZenohConfig::new;
    for (twice, parts) in [
        (config().mode(ZenohMode::Peer).mode(ZenohMode::Client), ["`mode`", "`Peer`", "`Client`"]),
        (config().gossip(true).gossip(false), ["`gossip`", "`true`", "`false`"]),
        (config().namespace("a").namespace("b"), ["`namespace`", "`a`", "`b`"]),
        (config().packet_bytes_max(2_000).packet_bytes_max(3_000), ["`packet_bytes_max`", "`2000`", "`3000`"]),
        (config().insecure(true).insecure(false), ["`insecure`", "`true`", "`false`"]),
        (config().config_file("a.json5").config_file("b.json5"), ["`config_file`", "`a.json5`", "`b.json5`"]),
        (config().listen("tcp/127.0.0.1:7447").listen("tcp/127.0.0.1:7447"), ["`listen`", "twice", "127.0.0.1:7447"]),
    ] {
        let error = twice.check_exposure().unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    config()
        .namespace("a")
        .namespace("a")
        .listen("tcp/127.0.0.1:1")
        .listen("tcp/127.0.0.1:2")
        .check_exposure()
        .unwrap();
}

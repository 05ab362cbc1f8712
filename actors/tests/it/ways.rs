//! The table of states and ways in docs/operators.md, cell by cell: each is brought about anew, and the way is gone.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use accompanist::contract::{Change, Space, Store};
use accompanist::id::{InstanceId, RoleIndex};
use accompanist::machine::{Resolution, Status};
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use accompanist::{AskError, InstanceOperator, NodeBuilder};
use accompanist_core::frame::Outcome;
use accompanist_core::record::{self, Closed, Opened, read_value};

use crate::actor::{Fragile, Place, Recorder, heard, said, say};
use crate::support::{node_id, quick, until, within};

const TABLE: &str = include_str!("../../../docs/operators.md");

/// What services have done, and what is in the way.
#[derive(Default)]
struct Site {
    done: Mutex<BTreeSet<String>>,
    undone: Mutex<BTreeSet<String>>,
    blocks: Mutex<BTreeSet<&'static str>>,
}

impl Site {
    fn has(&self, block: &str) -> bool {
        self.blocks.lock().unwrap().contains(block)
    }
    fn block(&self, block: &'static str) {
        self.blocks.lock().unwrap().insert(block);
    }
    /// How many steps are committed and not compensated.
    fn left(&self) -> usize {
        self.done.lock().unwrap().len() - self.undone.lock().unwrap().len()
    }
}

#[derive(Clone, Copy)]
struct Front;
impl Role for Front {
    const NAME: &'static str = "front";
    type Service = Site;
}
#[derive(Clone, Copy)]
struct Back;
impl Role for Back {
    const NAME: &'static str = "back";
    type Service = Site;
}

/// Is done, and can be taken back unless something blocks that at this role.
struct Do<R>(PhantomData<R>);
impl<R: Role<Service = Site> + Clone> Transaction for Do<R> {
    const NAME: &'static str = "do";
    type Role = R;
    type Input = ();
    type Output = ();
    async fn commit(&self, here: &Local<R>, (): &()) -> Result<(), Abort> {
        here.service().done.lock().unwrap().insert(here.key().to_string());
        Ok(())
    }
    async fn compensate(&self, here: &Local<R>, (): &(), (): &()) -> Result<(), Retry> {
        let blocked = |how: &str| here.service().has(&format!("{} {how}", R::NAME));
        assert!(!blocked("undo panics"), "it cannot be taken back");
        if blocked("is jammed") {
            return Err(Retry::new("it is jammed"));
        }
        if blocked("needs an operator") {
            return Err(Retry::needs_operator("it is lost"));
        }
        here.service().undone.lock().unwrap().insert(here.key().to_string());
        Ok(())
    }
}

struct Force;
impl Transaction for Force {
    const NAME: &'static str = "force";
    const KIND: Kind = Kind::Retriable;
    type Role = Front;
    type Input = ();
    type Output = ();
    async fn commit(&self, here: &Local<Front>, (): &()) -> Result<(), Abort> {
        if here.service().has("refuses") { Err(Abort::new("no", "not yet")) } else { Ok(()) }
    }
}

/// A pivot whose service does not know what became of it.
struct Decide;
impl Transaction for Decide {
    const NAME: &'static str = "decide";
    const KIND: Kind = Kind::Pivot;
    type Role = Front;
    type Input = ();
    type Output = ();
    async fn commit(&self, here: &Local<Front>, (): &()) -> Result<(), Abort> {
        if here.service().has("hangs") {
            here.service().block("hung");
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

/// What it does after a step at each role depends on what it is started with.
struct Ways;
impl Choreography for Ways {
    const NAME: &'static str = "ways";
    type Roles = (Front, Back);
    type Input = At<Front, String>;
    type Output = At<Front, ()>;
    async fn run(&self, ctx: &Context<Self::Roles>, kind: At<Front, String>) -> Result<At<Front, ()>, Abort> {
        let kind = ctx.broadcast(Front, &kind).await?;
        ctx.transact(Do::<Front>(PhantomData), &ctx.locally(Front, |_| ())).await?;
        ctx.transact(Do::<Back>(PhantomData), &ctx.locally(Back, |_| ())).await?;
        if kind.ends_with("panics") {
            // Each has done its step.
            ctx.comm(Back, Front, &ctx.locally(Back, |_| ())).await?;
            ctx.comm(Front, Back, &ctx.locally(Front, |_| ())).await?;
        }
        match kind.as_str() {
            "force" => {
                ctx.transact(Force, &ctx.locally(Front, |_| ())).await?;
            }
            "decide" => {
                ctx.transact(Decide, &ctx.locally(Front, |_| ())).await?;
            }
            "front panics" => {
                ctx.locally(Front, |here| assert!(!here.service().has("panics"), "it is broken"));
            }
            "back panics" => {
                ctx.locally(Back, |here| assert!(!here.service().has("panics"), "it is broken"));
            }
            // The bytes are not the same in each life.
            "front hears" => {
                let heard = ctx.locally(Back, |here| here.service().has("swapped"));
                ctx.comm(Back, Front, &heard).await?;
            }
            "back hears" => {
                let heard = ctx.locally(Front, |here| here.service().has("swapped"));
                ctx.comm(Front, Back, &heard).await?;
            }
            _ => {}
        }
        match kind.as_str() {
            "front waits" | "decide" => {
                let go: At<Front, ()> = ctx.signal(Front, "go").await?;
                ctx.comm(Front, Back, &go).await?;
            }
            "front awaits" => {
                let go: At<Back, ()> = ctx.signal(Back, "go").await?;
                ctx.comm(Back, Front, &go).await?;
            }
            "back ends" | "back hears" => {
                let _: At<Front, ()> = ctx.signal(Front, "go").await?;
            }
            "front ends" | "front hears" => {
                let _: At<Back, ()> = ctx.signal(Back, "go").await?;
            }
            _ => {}
        }
        Ok(ctx.locally(Front, |_| ()))
    }
}

/// Both nodes, their disks, and the session.
struct World {
    network: LocalNetwork,
    disks: [MemoryDisk; 2],
    site: Arc<Site>,
    nodes: [Option<Node>; 2],
    session: SessionId,
    /// The part that a way is gone at.
    at: usize,
}

impl World {
    fn builder(&self, which: usize) -> NodeBuilder {
        let mut settings = quick();
        // What is heard is not written down, so that it is said again.
        settings.passivation_delay = Duration::from_hours(1);
        settings.limits.tries_max = if self.site.has("never ends") { u32::MAX } else { 3 };
        settings.limits.retry_delay_max_ms = 2;
        let builder = Node::builder(node_id(["front", "back"][which])).store(self.disks[which].open().unwrap());
        let builder = builder.transport(self.network.clone()).settings(settings);
        if which == 0 { builder.role(Front, self.site.clone()) } else { builder.role(Back, self.site.clone()) }
    }

    async fn start(kind: &str, blocks: &[&'static str], at: usize) -> Self {
        let mut world = Self {
            network: LocalNetwork::new(),
            disks: Default::default(),
            site: Arc::default(),
            nodes: [None, None],
            session: SessionId::keyed("no", "such"),
            at,
        };
        for block in blocks {
            world.site.block(block);
        }
        for which in [0, 1] {
            world.nodes[which] = Some(within(world.builder(which).choreography(Ways).start()).await.unwrap());
        }
        let session = within(world.node(0).start(Ways, kind.to_owned()).key("k")).await.unwrap();
        world.session = session.id();
        world
    }

    fn node(&self, which: usize) -> &Node {
        self.nodes[which].as_ref().unwrap()
    }

    fn part(&self, which: usize) -> InstanceOperator {
        self.node(which).operator().instance(self.session, RoleIndex(u8::try_from(which).unwrap()))
    }

    async fn stop(&mut self, which: usize) {
        let node = self.nodes[which].take().unwrap();
        within(node.kill()).await;
        within(node.shutdown()).await;
    }

    async fn start_again(&mut self, which: usize, knows: bool) {
        let builder = self.builder(which);
        let builder = if knows { builder.choreography(Ways) } else { builder.choreography(Other) };
        self.nodes[which] = Some(within(builder.start()).await.unwrap());
    }

    async fn is(&self, which: usize, status: Status) {
        let part = self.part(which);
        within(async { while part.handle().status().await.ok() != Some(status) {} }).await;
    }

    /// Both have done their steps, and one waits for the signal.
    async fn waits(&self, which: usize) {
        let part = self.part(which);
        let waits = async || {
            part.handle().waits_for().await.is_ok_and(|waits| waits.iter().any(|(_, what)| what.contains("signal")))
        };
        within(async { while !waits().await || self.site.left() < 2 {} }).await;
    }

    async fn is_stopped(&self, which: usize) {
        until("a part that is stopped", || !self.node(which).operator().stopped_sessions().is_empty()).await;
    }

    async fn in_trouble(&self) {
        until("a step in trouble", || !self.node(0).operator().troubled_sessions().is_empty()).await;
    }
}

/// A release that does not know the choreography any more.
struct Other;
impl Choreography for Other {
    const NAME: &'static str = "other";
    type Roles = (Front, Back);
    type Input = At<Front, ()>;
    type Output = At<Front, ()>;
    async fn run(&self, _: &Context<Self::Roles>, input: At<Front, ()>) -> Result<At<Front, ()>, Abort> {
        Ok(input)
    }
}

/// Brings a session into the state of the row.
#[expect(clippy::too_many_lines, reason = "a state each")]
async fn bring_about(state: &str) -> World {
    match state {
        "runs, initiating role" => waiting("front waits", 0, 0).await,
        "runs, another role" => waiting("front waits", 0, 1).await,
        "has finished, initiating role" => {
            let world = waiting("front ends", 1, 0).await;
            world.is(0, Status::Finished).await;
            world
        }
        "has finished, another role" => {
            let world = waiting("back ends", 0, 1).await;
            world.is(1, Status::Finished).await;
            world
        }
        "is being compensated" => {
            let world = cancelled("front waits", &["front is jammed", "never ends"]).await;
            world.is(0, Status::Compensating).await;
            world
        }
        "is compensated, others are not" => {
            let world = cancelled("front waits", &["back is jammed", "never ends"]).await;
            world.is(0, Status::Compensated).await;
            world
        }
        "a step has to be committed" => {
            let world = World::start("force", &["refuses"], 0).await;
            world.in_trouble().await;
            world
        }
        "a step has to be compensated" => {
            let world = cancelled("front waits", &["front needs an operator"]).await;
            world.in_trouble().await;
            world
        }
        "a step's outcome has to be found out" => {
            let mut world = World::start("decide", &["hangs"], 0).await;
            until("a commit that runs", || world.site.has("hung")).await;
            within(world.part(0).cancel("not wanted")).await.unwrap();
            world.stop(0).await;
            world.start_again(0, true).await;
            world.in_trouble().await;
            world
        }
        "a step has to be reconciled" => {
            let world = cancelled("decide", &[]).await;
            world.in_trouble().await;
            world
        }
        "is stopped, initiating role" => still("front panics", "panics", 0).await,
        "is stopped, another role" => still("back panics", "panics", 1).await,
        "is stopped and has finished, initiating role" => other_bytes("front hears", 0).await,
        "is stopped and has finished, another role" => other_bytes("back hears", 1).await,
        "is stopped while it is compensated" => {
            let mut world = cancelled("front waits", &["back undo panics"]).await;
            world.is_stopped(1).await;
            world.at = 1;
            world
        }
        "cannot be played by this release" => {
            let mut world = waiting("front waits", 0, 1).await;
            world.stop(1).await;
            world.start_again(1, false).await;
            world.is_stopped(1).await;
            world
        }
        "cannot be read from the store" => {
            let mut world = waiting("front waits", 0, 1).await;
            world.stop(1).await;
            damage(&world.disks[1], world.session);
            world.start_again(1, true).await;
            world.is_stopped(1).await;
            world
        }
        "left behind by a role that has closed, initiating role" => {
            let mut world = waiting("front awaits", 1, 0).await;
            world.stop(1).await;
            close_by_hand(&world.disks[1], world.session, 1);
            world.start_again(1, true).await;
            world.is_stopped(0).await;
            world
        }
        "left behind by a role that has closed, another role" => {
            let mut world = waiting("front waits", 0, 1).await;
            world.stop(0).await;
            close_by_hand(&world.disks[0], world.session, 0);
            world.start_again(0, true).await;
            world.is_stopped(1).await;
            world
        }
        "has finished, and its initiating role does not know the session" => {
            let mut world = waiting("back ends", 0, 1).await;
            world.is(1, Status::Finished).await;
            world.stop(0).await;
            lose(&world.disks[0], world.session, 0);
            world.start_again(0, true).await;
            world.is_stopped(1).await;
            world
        }
        "is not open here" => {
            let mut world = waiting("front waits", 0, 1).await;
            world.session = SessionId::keyed("no", "such");
            world
        }
        state => panic!("no test brings about `{state}`"),
    }
}

async fn waiting(kind: &str, waits: usize, at: usize) -> World {
    let world = World::start(kind, &[], at).await;
    world.waits(waits).await;
    world
}

async fn cancelled(kind: &str, blocks: &[&'static str]) -> World {
    let world = World::start(kind, blocks, 0).await;
    world.waits(0).await;
    within(world.part(0).cancel("not wanted")).await.unwrap();
    world
}

async fn still(kind: &str, block: &'static str, at: usize) -> World {
    let world = World::start(kind, &[block], at).await;
    world.is_stopped(at).await;
    until("a step at each", || world.site.left() == 2).await;
    world
}

/// A role finishes, and then the other one says other bytes than it has said before.
async fn other_bytes(kind: &str, at: usize) -> World {
    let mut world = World::start(kind, &[], at).await;
    world.is(at, Status::Finished).await;
    world.waits(1 - at).await;
    world.stop(1 - at).await;
    world.site.block("swapped");
    world.start_again(1 - at, true).await;
    world.is_stopped(at).await;
    world
}

/// Overwrites the record of a step's result with what is no record.
pub fn damage(disk: &MemoryDisk, session: SessionId) {
    let (mut store, prefix) = (disk.open().unwrap(), InstanceId { session, role: RoleIndex(1) }.to_bytes());
    let records = store.scan(Space::Journal, &prefix, None, usize::MAX).unwrap();
    let (key, _) = records.into_iter().find(|(key, _)| key.last() == Some(&b'c')).unwrap();
    store.apply(vec![Change { space: Space::Journal, key, value: Some(vec![0xff]) }]).unwrap();
    store.sync().unwrap();
}

/// Removes all that a role has of its session, as if its store were older than that.
fn lose(disk: &MemoryDisk, session: SessionId, role: u8) {
    let (mut store, prefix) = (disk.open().unwrap(), InstanceId { session, role: RoleIndex(role) }.to_bytes());
    for space in [Space::Open, Space::Journal] {
        let entries = store.scan(space, &prefix, None, usize::MAX).unwrap();
        store.apply(entries.into_iter().map(|(key, _)| Change { space, key, value: None }).collect()).unwrap();
    }
    store.sync().unwrap();
}

/// As if the session had finished at a role, and the store of the other one had gone back.
fn close_by_hand(disk: &MemoryDisk, session: SessionId, role: u8) {
    let id = InstanceId { session, role: RoleIndex(role) };
    let opened = disk.open().unwrap().get(Space::Open, &id.to_bytes()).unwrap().unwrap();
    let opened: Opened = read_value(Space::Open, &opened).unwrap();
    lose(disk, session, role);
    let closed = Closed { header: opened.header, outcome: Outcome::Finished, output: None };
    let mut store = disk.open().unwrap();
    store.apply(record::close(id, &closed, Vec::new()).unwrap()).unwrap();
    store.sync().unwrap();
}

/// Goes the way; gives how many steps are the operator's.
async fn go(way: &str, part: &InstanceOperator) -> Result<usize, AskError> {
    match way {
        "cancel" => part.cancel("as an operator wants").await.map(|()| 0),
        "resume" => part.resume().await.map(|()| 0),
        "abort" => part.abort("as an operator wants").await.map(|()| 0),
        "terminate" => part.terminate("as an operator wants").await.map(|left| left.len()),
        "resolve(Retry)" => part.resolve(Resolution::Retry).await.map(|_| 0),
        "resolve(Compensated)" => part.resolve(Resolution::Compensated).await,
        "skip_message" => part.skip_message().await.map(|_| 0),
        way => panic!("no test goes the way `{way}`"),
    }
}

async fn check(state: &str, way: &str, expected: &str) {
    let world = bring_about(state).await;
    let part = world.part(world.at);
    if let Some(named) = expected.strip_prefix("→ ") {
        let before = part.handle().status().await.ok();
        let error = within(go(way, &part)).await.unwrap_err();
        assert!(error.to_string().contains(named), "{state}, {way}: {error}");
        assert_eq!(part.handle().status().await.ok(), before, "{state}, {way}: nothing has changed");
        return world.end().await;
    }
    // What was in the way is gone, but for what comes again.
    if expected != "again" {
        world.site.blocks.lock().unwrap().retain(|block| *block == "swapped");
    }
    let left = within(go(way, &part)).await.unwrap_or_else(|error| panic!("{state}, {way}: {error}"));
    match expected {
        "again" if !state.starts_with("a step") => world.is_stopped(world.at).await,
        "again" => world.in_trouble().await,
        "finishes" => {
            let go = [world.part(0), world.part(1)];
            within(async {
                for part in &go {
                    let _ = part.handle().signal("go", "k", &()).await; // Only one waits for it.
                }
            })
            .await;
            let session = within(world.node(0).session::<Ways>(world.session)).await.unwrap();
            within(session.settled()).await.unwrap_or_else(|error| panic!("{state}, {way}: {error}"));
            assert_eq!(world.site.left(), 2, "{state}, {way}");
        }
        "ends here" => {
            assert_eq!(left, usize::from(!state.starts_with("has finished")), "{state}, {way}: all of it is listed");
            let is_over = async || matches!(part.handle().status().await, Err(AskError::NotOpen(_)));
            within(async { while !is_over().await {} }).await;
        }
        "compensated" | "by hand" => {
            let session = within(world.node(0).session::<Ways>(world.session)).await.unwrap();
            let settled = async {
                loop {
                    // It may be told that it was stopped before.
                    match session.settled().await {
                        Err(SessionError::Stopped { .. }) if world.node(0).operator().stopped_sessions().is_empty() => {
                        }
                        settled => break settled,
                    }
                    tokio::task::yield_now().await;
                }
            };
            let settled = within(settled).await;
            assert!(matches!(settled, Err(SessionError::Aborted(_))), "{state}, {way}: {settled:?}");
            let by_hand = usize::from(expected == "by hand");
            assert_eq!(world.site.left(), by_hand, "{state}, {way}");
            if by_hand > 0 {
                assert_eq!(left, by_hand, "{state}, {way}: all of it is listed");
            }
        }
        expected => panic!("{state}, {way}: what is `{expected}`?"),
    }
    world.end().await;
}

impl World {
    async fn end(mut self) {
        for which in [0, 1] {
            self.stop(which).await;
        }
    }
}

/// The rows of the table, by state, with what is in each column.
fn rows() -> Vec<(String, Vec<(String, String)>)> {
    let cells = |line: &str| -> Vec<String> {
        let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        cells.collect()
    };
    let table = TABLE.lines().skip_while(|line| !line.starts_with("| state |"));
    let mut table = table.take_while(|line| line.starts_with('|'));
    let ways = cells(table.next().unwrap());
    let rows = table.skip(1).map(|line| {
        let mut row = cells(line).into_iter();
        let state = row.next().unwrap();
        (state, ways[1..].iter().map(|way| way.trim_matches('`').to_owned()).zip(row).collect())
    });
    rows.collect()
}

/// Goes all ways out of the states that `wanted` names.
async fn check_rows(wanted: &[&str]) {
    let rows = rows();
    for state in wanted {
        let (_, cells) = rows.iter().find(|(row, _)| row == state).unwrap_or_else(|| panic!("no row `{state}`"));
        assert_eq!(cells.len(), 7, "{state}");
        for (way, expected) in cells {
            check(state, way, expected).await;
        }
    }
}

const MOVING: &[&str] = &[
    "runs, initiating role",
    "runs, another role",
    "has finished, initiating role",
    "has finished, another role",
    "is being compensated",
    "is compensated, others are not",
    "is not open here",
];
const TROUBLED: &[&str] = &[
    "a step has to be committed",
    "a step has to be compensated",
    "a step's outcome has to be found out",
    "a step has to be reconciled",
];
const STILL: &[&str] = &[
    "is stopped, initiating role",
    "is stopped, another role",
    "is stopped and has finished, initiating role",
    "is stopped and has finished, another role",
    "is stopped while it is compensated",
    "cannot be played by this release",
    "cannot be read from the store",
];
const LEFT_BEHIND: &[&str] = &[
    "left behind by a role that has closed, initiating role",
    "left behind by a role that has closed, another role",
    "has finished, and its initiating role does not know the session",
];
const CHANNEL: &str = "a channel that is stopped";

#[test]
fn each_row_of_the_table_has_its_test() {
    let tested: BTreeSet<_> =
        [MOVING, TROUBLED, STILL, LEFT_BEHIND, &[CHANNEL]].concat().into_iter().map(str::to_owned).collect();
    let rows: BTreeSet<_> = rows().into_iter().map(|(state, _)| state).collect();
    assert_eq!(rows, tested);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operator_actions_on_a_running_instance_match_the_table() {
    check_rows(MOVING).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operator_actions_on_an_instance_in_trouble_match_the_table() {
    check_rows(TROUBLED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operator_actions_on_a_stopped_instance_match_the_table() {
    check_rows(STILL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operator_actions_on_an_overtaken_instance_match_the_table() {
    check_rows(LEFT_BEHIND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operator_actions_on_a_stopped_channel_match_the_table() {
    let (_, cells) = rows().into_iter().find(|(state, _)| state == CHANNEL).unwrap();
    for (way, expected) in cells {
        let place = Place::default();
        let site = place.builder("site").actor(Fragile(Arc::new(AtomicBool::new(false))));
        let site = within(site.start()).await.unwrap();
        let edge = within(place.builder("edge").talks_to::<Recorder>().start()).await.unwrap();
        for number in [7, 8] {
            within(edge.actor::<Recorder>().tell(&say(number))).await.unwrap();
        }
        let is_stopped =
            async || until("a channel that is stopped", || !site.operator().stopped_sessions().is_empty()).await;
        is_stopped().await;
        let part = site.operator().instance(site.operator().stopped_sessions()[0].session, RoleIndex(1));
        let gone = within(go(&way, &part)).await;
        match expected.as_str() {
            "again" => {
                gone.unwrap();
                is_stopped().await;
            }
            "finishes" => {
                gone.unwrap();
                within(async { while heard(&site).await != said([8]) {} }).await;
            }
            expected => {
                let error = gone.unwrap_err();
                assert!(error.to_string().contains(expected.strip_prefix("→ ").unwrap()), "{way}: {error}");
                is_stopped().await;
            }
        }
        within(site.shutdown()).await;
        within(edge.shutdown()).await;
    }
}

//! Sessions that want the same rows, steps that panic, and values of another type. Next: `supervision`, `stores`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use accompanist::id::RoleIndex;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use tokio::task::JoinHandle;

use crate::opening::{Lock, Slow};
use crate::support::{TestNode, all_roles, node_id, quick, until, within};
use crate::trade::{Back, Deal, Dispatch, Front, Outside, Pay, Side, UNLUCKY, deal};

/// How many cakes are left.
const CAKES: Table<(), u32> = Table::new("cakes");
/// Who has one, and how many were left then.
const BUYERS: Table<u32, u32> = Table::new("buyers");
/// What somebody might take the cakes for.
const NAMES_OF_CAKES: Table<(), String> = Table::new("cakes");

/// What goes wrong with the steps of unlucky deals, as a test wants.
#[derive(Default)]
struct Mishaps {
    /// How often a commit, or a compensation, still panics.
    commits: AtomicU32,
    compensations: AtomicU32,
    /// How often either has panicked.
    panics: AtomicU32,
    /// Whether commits, or compensations, read cakes as their names.
    commits_mistyped: AtomicBool,
    compensations_mistyped: AtomicBool,
}

impl Mishaps {
    fn pass(&self, left: &AtomicU32, deal: Deal) {
        let trips = deal.id >= UNLUCKY
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if trips {
            self.panics.fetch_add(1, Ordering::SeqCst);
            panic!("an unlucky cake, as the test wants");
        }
    }
}

fn read(mistyped: &AtomicBool, deal: Deal, state: &State<'_>) -> Result<(), Abort> {
    if deal.id >= UNLUCKY && mistyped.load(Ordering::SeqCst) {
        NAMES_OF_CAKES.get(state, ())?;
    }
    Ok(())
}

/// Takes a cake; nobody gets one that is not there.
struct Take<R>(R, Arc<Mishaps>);
impl<R: Role> LocalTransaction for Take<R> {
    const NAME: &'static str = "take";
    type Role = R;
    type Input = Deal;
    type Output = u32;
    fn commit(&self, state: &mut State<'_>, deal: &Deal) -> Result<u32, Abort> {
        assert!(!BUYERS.contains(state, deal.id)?, "deal {} takes its second cake", deal.id);
        // First the row of its own, so that a refusal has something to throw away.
        BUYERS.put(state, deal.id, &u32::MAX)?;
        let sold_out = || Abort::new("sold-out", "there is no cake left");
        let left = CAKES.update(state, (), |left| left.unwrap_or_default().checked_sub(1).ok_or_else(sold_out))?;
        BUYERS.put(state, deal.id, &left)?;
        self.1.pass(&self.1.commits, *deal);
        read(&self.1.commits_mistyped, *deal, state)?;
        Ok(left)
    }
    fn compensate(&self, state: &mut State<'_>, deal: &Deal, left: &u32) -> Result<(), Retry> {
        assert_eq!(BUYERS.take(state, deal.id)?, Some(*left), "deal {} has no cake to give back", deal.id);
        CAKES.update(state, (), |left| Ok(left.unwrap_or_default() + 1))?;
        self.1.pass(&self.1.compensations, *deal);
        Ok(read(&self.1.compensations_mistyped, *deal, state)?)
    }
}

/// A cake is taken, paid for, and dispatched or not.
#[derive(Clone, Default)]
struct Sale(Arc<Mishaps>);
impl Choreography for Sale {
    const NAME: &'static str = "sale";
    type Roles = (Front, Back);
    type Input = At<Front, Deal>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, deal: At<Front, Deal>) -> Result<At<Front, u32>, Abort> {
        let left = ctx.transact(Take(Front, self.0.clone()), &deal).await?;
        let bill = ctx.comm(Front, Back, &deal).await?;
        let paid = ctx.transact(Pay, &bill).await?;
        ctx.comm(Back, Front, &paid).await?;
        ctx.transact(Dispatch, &deal).await?;
        Ok(left)
    }
}

/// Takes a cake at each of two roles, which have tables of the same names.
struct Pair;
impl Choreography for Pair {
    const NAME: &'static str = "pair";
    type Roles = (Front, Side);
    type Input = At<Front, Deal>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, deal: At<Front, Deal>) -> Result<At<Front, u32>, Abort> {
        let left = ctx.transact(Take(Front, Arc::default()), &deal).await?;
        let other = ctx.comm(Front, Side, &deal).await?;
        ctx.transact(Take(Side, Arc::default()), &other).await?;
        Ok(left)
    }
}

struct Bake<R>(R);
impl<R: Role> LocalTransaction for Bake<R> {
    const NAME: &'static str = "bake";
    type Role = R;
    type Input = u32;
    type Output = ();
    fn commit(&self, state: &mut State<'_>, more: &u32) -> Result<(), Abort> {
        CAKES.update(state, (), |left| Ok(left.unwrap_or_default() + more)).map(drop)
    }
    fn compensate(&self, _: &mut State<'_>, _: &u32, (): &()) -> Result<(), Retry> {
        unreachable!("baking is never aborted")
    }
}

/// Bakes so many at either role.
struct Baking;
impl Choreography for Baking {
    const NAME: &'static str = "baking";
    type Roles = (Front, Side);
    type Input = At<Front, (u32, u32)>;
    type Output = At<Front, ()>;
    async fn run(&self, ctx: &Context<Self::Roles>, cakes: At<Front, (u32, u32)>) -> Result<At<Front, ()>, Abort> {
        let here = ctx.locally(Front, |front| front.get(&cakes).0);
        let there = ctx.locally(Front, |front| front.get(&cakes).1);
        let there = ctx.comm(Front, Side, &there).await?;
        ctx.transact(Bake(Side), &there).await?;
        ctx.transact(Bake(Front), &here).await
    }
}

/// A bakery on a disk that a test can hold up.
struct Bakery {
    node: TestNode,
    lock: Arc<Lock>,
    outside: Arc<Outside>,
    mishaps: Arc<Mishaps>,
}

impl Bakery {
    async fn open(group_writes_max: usize) -> Self {
        let (lock, outside, sale) = (Arc::new(Lock::default()), Arc::new(Outside::default()), Sale::default());
        let store = Slow(MemoryDisk::default().open().unwrap(), lock.clone());
        let mut settings = Settings { group_writes_max, ..quick() };
        (settings.limits.tries_max, settings.limits.retry_delay_max_ms) = (3, 2);
        let builder = all_roles("bakery", store, LocalNetwork::new(), &outside).settings(settings);
        let node = TestNode::start(builder.choreography(sale.clone()).choreography(Pair).choreography(Baking)).await;
        Self { node, lock, outside, mishaps: sale.0 }
    }

    async fn bake(&self, here: u32, there: u32) {
        let session = within(self.node.start(Baking, (here, there))).await.unwrap();
        within(session.settled()).await.unwrap();
        self.node.is_idle().await;
    }

    /// Starts all of them, no more than 64, before any of them is written: but for the first, they share a group
    /// commit, or as many as its bound makes of it. Gives who ended well and what the others were told.
    async fn serve<C: Choreography<Input = At<Front, Deal>, Output = At<Front, u32>>>(
        &self,
        deals: &[Deal],
        choreography: impl Fn() -> C,
    ) -> (Vec<u32>, Vec<SessionError>) {
        self.lock.set(true);
        let sessions: Vec<JoinHandle<_>> = deals
            .iter()
            .map(|deal| {
                let (node, choreography, deal) = (Node::clone(&self.node), choreography(), *deal);
                tokio::spawn(async move { node.start(choreography, deal).await.unwrap().settled().await })
            })
            .collect();
        until("instances of all sessions", || self.node.operator().instances() >= deals.len()).await;
        self.lock.set(false);
        let (mut served, mut refused) = (Vec::new(), Vec::new());
        for (session, deal) in sessions.into_iter().zip(deals) {
            match within(session).await.unwrap() {
                Ok(_) => served.push(deal.id),
                Err(error) => refused.push(error),
            }
        }
        (served, refused)
    }

    /// How many cakes are left at a role, and who has one.
    async fn books<R: Role>(&self, role: R) -> (u32, Vec<u32>) {
        let read = |state: &State<'_>| {
            let buyers = BUYERS.range(state, ..).map(|row| row.unwrap().0).collect();
            (CAKES.get(state, ()).unwrap().unwrap_or_default(), buyers)
        };
        self.node.read_state(role, read).await.unwrap()
    }

    /// Waits for an instance that goes on by itself, at the front.
    async fn books_become(&self, expected: (u32, Vec<u32>)) {
        let wait = async {
            while self.books(Front).await != expected {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within(wait).await;
        self.node.is_idle().await;
        assert_eq!(self.books(Front).await, expected);
    }
}

fn aborted(error: &SessionError, code: &str) -> bool {
    matches!(error, SessionError::Aborted(abort) if abort.code() == code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sixty_sessions_ten_get_the_last_ten() {
    // In one group commit, in several, and each in its own.
    for group_writes_max in [1_024, 7, 1] {
        let bakery = Bakery::open(group_writes_max).await;
        bakery.bake(4, 0).await;
        bakery.bake(6, 0).await;
        let deals: Vec<_> = (0..60).map(deal).collect();
        let (served, refused) = bakery.serve(&deals, Sale::default).await;
        assert_eq!((served.len(), refused.len()), (10, 50));
        assert!(refused.iter().all(|error| aborted(error, "sold-out")), "{refused:?}");
        assert_eq!(bakery.books(Front).await, (0, served));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cake_that_is_put_back_is_there_for_the_next() {
    let bakery = Bakery::open(1_024).await;
    bakery.bake(1, 0).await;
    bakery.outside.set_gate(false);
    let wavering = Deal { id: 1, refused: true };
    let first = within(bakery.node.start(Sale::default(), wavering)).await.unwrap();
    within(bakery.outside.asked_times(1)).await;
    // It is seen to be taken, though the session that took it has not ended.
    assert_eq!(bakery.books(Front).await, (0, vec![1]));
    let second = within(bakery.node.start(Sale::default(), deal(2))).await.unwrap();
    assert!(aborted(&within(second.settled()).await.unwrap_err(), "sold-out"));
    bakery.outside.set_gate(true);
    assert!(aborted(&within(first.settled()).await.unwrap_err(), "no-truck"));
    assert_eq!(bakery.books(Front).await, (1, vec![]));
    let third = within(bakery.node.start(Sale::default(), deal(3))).await.unwrap();
    within(third.settled()).await.unwrap();
    assert_eq!(bakery.books(Front).await, (0, vec![3]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stock_is_exact_under_concurrent_commits_and_compensations() {
    for group_writes_max in [1_024, 5, 1] {
        let bakery = Bakery::open(group_writes_max).await;
        bakery.bake(30, 0).await;
        let mut kept = Vec::new();
        for round in 0..4 {
            let refused = |id| round < 3 && id % 3 > 0;
            let deals: Vec<_> = (0..40).map(|id| Deal { id: round * 40 + id, refused: refused(id) }).collect();
            let (served, told) = bakery.serve(&deals, Sale::default).await;
            assert!(told.iter().all(|error| aborted(error, "no-truck") || aborted(error, "sold-out")), "{told:?}");
            kept.extend(served);
            let (left, buyers) = bakery.books(Front).await;
            assert_eq!((30 - left, &buyers), (u32::try_from(kept.len()).unwrap(), &kept));
        }
        assert_eq!(kept.len(), 30, "what was put back was there for the last round, and no more than that");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_roles_of_one_node_have_tables_of_their_own() {
    for group_writes_max in [1_024, 1] {
        let bakery = Bakery::open(group_writes_max).await;
        bakery.bake(10, 7).await;
        let deals: Vec<_> = (0..40).map(deal).collect();
        let (served, refused) = bakery.serve(&deals, || Pair).await;
        assert!(refused.iter().all(|error| aborted(error, "sold-out")), "{refused:?}");
        // Ten come through to the side, where there are seven; the front's cakes of the other three are put back.
        assert_eq!(served.len(), 7);
        assert_eq!(bakery.books(Side).await, (0, served.clone()));
        assert_eq!(bakery.books(Front).await, (3, served));
    }
}

/// Twenty deals with an unlucky one in the middle, all in one group commit; the others get their cakes.
async fn serve_with_one_unlucky(bakery: &Bakery) -> (Vec<u32>, Vec<SessionError>) {
    let ids = (0..10).chain([UNLUCKY]).chain(10..20);
    let deals: Vec<_> = ids.map(deal).collect();
    bakery.serve(&deals, Sale::default).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_panics_leaves_nothing_and_is_tried_again() {
    let bakery = Bakery::open(1_024).await;
    bakery.bake(30, 0).await;
    bakery.mishaps.commits.store(2, Ordering::SeqCst);
    let (served, refused) = serve_with_one_unlucky(&bakery).await;
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(served.len(), 21);
    assert_eq!(bakery.mishaps.panics.load(Ordering::SeqCst), 2);
    let (left, buyers) = bakery.books(Front).await;
    assert_eq!((left, buyers.len()), (9, 21), "taken once, however often it was tried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_commit_stops_only_its_session_until_resumed() {
    let bakery = Bakery::open(1_024).await;
    bakery.bake(30, 0).await;
    bakery.mishaps.commits.store(u32::MAX, Ordering::SeqCst);
    let (served, refused) = serve_with_one_unlucky(&bakery).await;
    let [SessionError::Stopped { session, reason }] = &refused[..] else { panic!("{refused:?}") };
    assert!(reason.contains("quarantined after 4 failures") && reason.contains("an unlucky cake"), "{reason}");
    assert!(reason.contains("the local transaction at 0 panicked"), "{reason}");
    assert_eq!((served.len(), bakery.mishaps.panics.load(Ordering::SeqCst)), (20, 4));
    assert_eq!(bakery.books(Front).await, (10, (0..20).collect()));
    let stopped = bakery.node.stopped().await;
    assert_eq!((stopped.len(), stopped[0].session, &stopped[0].reason), (1, *session, reason));
    // The code is mended.
    bakery.mishaps.commits.store(0, Ordering::SeqCst);
    within(bakery.node.operator().instance(*session, RoleIndex(0)).resume()).await.unwrap();
    bakery.books_become((9, (0..20).chain([UNLUCKY]).collect())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compensation_that_panics_leaves_nothing_and_is_tried_again() {
    let bakery = Bakery::open(1_024).await;
    bakery.bake(30, 0).await;
    bakery.mishaps.compensations.store(2, Ordering::SeqCst);
    let deals: Vec<_> = (0..5).map(deal).chain([Deal { id: UNLUCKY, refused: true }]).collect();
    let (served, refused) = bakery.serve(&deals, Sale::default).await;
    assert!(refused.len() == 1 && aborted(&refused[0], "no-truck"), "{refused:?}");
    assert_eq!(bakery.mishaps.panics.load(Ordering::SeqCst), 2);
    assert_eq!(bakery.books(Front).await, (25, served));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_compensation_stops_only_its_session_until_resumed() {
    let bakery = Bakery::open(1_024).await;
    bakery.bake(30, 0).await;
    bakery.mishaps.compensations.store(u32::MAX, Ordering::SeqCst);
    let unlucky = Deal { id: UNLUCKY, refused: true };
    let session = within(bakery.node.start(Sale::default(), unlucky)).await.unwrap();
    let told = within(session.settled()).await.unwrap_err();
    let SessionError::Stopped { reason, .. } = &told else { panic!("{told:?}") };
    assert!(reason.contains("quarantined after 4 failures") && reason.contains("an unlucky cake"), "{reason}");
    assert_eq!(bakery.mishaps.panics.load(Ordering::SeqCst), 4);
    let deals: Vec<_> = (0..5).map(deal).collect();
    assert_eq!(bakery.serve(&deals, Sale::default).await.0.len(), 5);
    assert_eq!(bakery.books(Front).await, (24, (0..5).chain([UNLUCKY]).collect()), "not put back");
    assert_eq!(bakery.node.stopped().await[0].session, session.id());
    bakery.mishaps.compensations.store(0, Ordering::SeqCst);
    within(bakery.node.operator().instance(session.id(), RoleIndex(0)).resume()).await.unwrap();
    bakery.books_become((25, (0..5).collect())).await;
}

const TOLD: [&str; 4] = [
    "table `cakes` of role `front`",
    "the value under a key of 0 bytes",
    "run the code that wrote it",
    "nothing was changed",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_another_type_stops_the_session_with_table_and_key_and_loses_nothing() {
    let bakery = Bakery::open(1_024).await;
    bakery.bake(30, 0).await;
    bakery.mishaps.commits_mistyped.store(true, Ordering::SeqCst);
    let (served, refused) = serve_with_one_unlucky(&bakery).await;
    let [SessionError::Stopped { session, reason }] = &refused[..] else { panic!("{refused:?}") };
    assert!(TOLD.iter().all(|part| reason.contains(part)), "{reason}");
    assert!(!reason.contains("quarantined"), "trying again would not help: {reason}");
    assert_eq!(bakery.books(Front).await, (10, served));
    assert_eq!(bakery.node.stopped().await[0].session, *session);
    // With the code that wrote it the session goes on where it was.
    bakery.mishaps.commits_mistyped.store(false, Ordering::SeqCst);
    within(bakery.node.operator().instance(*session, RoleIndex(0)).resume()).await.unwrap();
    bakery.books_become((9, (0..20).chain([UNLUCKY]).collect())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compensation_that_meets_a_row_of_another_type_is_listed_with_table_and_key() {
    use accompanist::machine::Resolution;

    let bakery = Bakery::open(1_024).await;
    bakery.bake(1, 0).await;
    bakery.mishaps.compensations_mistyped.store(true, Ordering::SeqCst);
    let unlucky = Deal { id: UNLUCKY, refused: true };
    let session = within(bakery.node.start(Sale::default(), unlucky)).await.unwrap();
    until("a step in trouble", || !bakery.node.operator().troubled_sessions().is_empty()).await;
    let troubled = bakery.node.operator().troubled_sessions();
    let reason = &troubled[0].steps[0].1.reason;
    assert!(troubled[0].session == session.id() && TOLD.iter().all(|part| reason.contains(part)), "{troubled:?}");
    assert_eq!(bakery.books(Front).await, (0, vec![UNLUCKY]));
    bakery.mishaps.compensations_mistyped.store(false, Ordering::SeqCst);
    assert_eq!(
        within(bakery.node.operator().instance(session.id(), RoleIndex(0)).resolve(Resolution::Retry)).await.unwrap(),
        1
    );
    assert!(aborted(&within(session.settled()).await.unwrap_err(), "no-truck"));
    assert_eq!(bakery.books(Front).await, (1, vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_reader_harms_no_other_reader() {
    let bakery = Bakery::open(1_024).await;
    bakery.bake(1, 0).await;
    let read = |state: &State<'_>| -> u32 { panic!("as the test wants, at {:?}", CAKES.get(state, ())) };
    assert!(bakery.node.read_state(Front, read).await.is_err());
    assert_eq!(bakery.books(Front).await, (1, vec![]));
    let session = within(bakery.node.start(Sale::default(), deal(1))).await.unwrap();
    within(session.settled()).await.unwrap();
    assert_eq!(bakery.books(Front).await, (0, vec![1]));
}

/// Remembers what it has seen, by its name.
struct Urls;
const SEEN: Table<String, u32> = Table::new("seen");
impl DurableActor for Urls {
    const NAME: &'static str = "urls";
    type Message = String;
    type Reply = u32;
    fn handle(&self, _: &mut ActorContext<'_>, state: &mut State<'_>, url: String) -> Result<u32, Abort> {
        SEEN.update(state, &url, |times| Ok(times.unwrap_or_default() + 1))
    }
}

/// Such a key has killed the writer of a store on disk, in each life, and was taken by one in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_no_store_holds_is_refused_alone_over_every_store() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    for life in 0..2_u32 {
        for on_disk in [false, true] {
            let builder = Node::builder(node_id("one")).transport(LocalNetwork::new()).settings(quick()).actor(Urls);
            let builder = if on_disk {
                builder.store(FjallStore::open(folder.path()).unwrap())
            } else {
                builder.store(disk.open().unwrap())
            };
            let node = within(builder.start()).await.unwrap();
            let (urls, other) = (node.actor::<Urls>(), node.actor::<Urls>().named("other"));
            for bytes in [70_000, 65_536, 200_000] {
                let refused = within(urls.ask(&"u".repeat(bytes))).await;
                let Err(ActorError::Refused { abort, .. }) = refused else { panic!("{refused:?}") };
                assert_eq!(abort.code(), Abort::ROW_TOO_LARGE);
            }
            // One that was told and is refused is kept as such.
            within(urls.tell(&"t".repeat(70_000))).await.unwrap();
            for actor in [&urls, &other] {
                assert_eq!(within(actor.ask(&"short".into())).await.unwrap(), life + 1);
            }
            let kept = within(urls.refused()).await.unwrap();
            assert_eq!(kept.len(), usize::try_from(life).unwrap() + 1);
            assert_eq!(node.operator().stopped_sessions(), []);
            within(node.shutdown()).await;
        }
    }
}

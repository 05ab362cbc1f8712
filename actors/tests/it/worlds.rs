//! What a simulated world finds, what it shows of it, and what it does to nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use accompanist::NodeBuilder;
use accompanist::prelude::*;
use accompanist::testing::{EventRecorder, Failure, FaultProfile, Simulation, What, World};

#[derive(Clone, Copy)]
struct Shop;
impl Role for Shop {
    const NAME: &'static str = "shop";
    type Service = ();
}

#[derive(Clone, Copy)]
struct Bank;
impl Role for Bank {
    const NAME: &'static str = "bank";
    type Service = Accounts;
}

/// A bank outside, which tells the world what it does.
struct Accounts {
    recorder: EventRecorder,
    honours_keys: bool,
    paid: Mutex<BTreeMap<String, u32>>,
}

impl Accounts {
    fn new(world: &World, honours_keys: bool) -> Arc<Self> {
        Arc::new(Self { recorder: world.recorder(), honours_keys, paid: Mutex::default() })
    }
    fn paid(&self) -> u32 {
        self.paid.lock().unwrap().values().sum()
    }
}

struct Pay;
impl Transaction for Pay {
    const NAME: &'static str = "pay";
    type Role = Bank;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, here: &Local<Bank>, amount: &u32) -> Result<u32, Abort> {
        let accounts = here.service();
        let is_new = !accounts.paid.lock().unwrap().contains_key(&here.key().to_string());
        if is_new || !accounts.honours_keys {
            *accounts.paid.lock().unwrap().entry(here.key().to_string()).or_default() += amount;
            accounts.recorder.committed(here.key());
        }
        // Long enough for a crash between the effect and its record.
        tokio::time::sleep(Duration::from_millis(30)).await;
        Ok(*amount)
    }
    async fn compensate(&self, _: &Local<Bank>, _: &u32, _: &u32) -> Result<(), Retry> {
        Ok(())
    }
}

struct Sale;
impl Choreography for Sale {
    const NAME: &'static str = "sale";
    type Roles = (Shop, Bank);
    type Input = At<Shop, u32>;
    type Output = At<Shop, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, amount: At<Shop, u32>) -> Result<At<Shop, u32>, Abort> {
        let amount = ctx.comm(Shop, Bank, &amount).await?;
        let paid = ctx.transact(Pay, &amount).await?;
        ctx.comm(Bank, Shop, &paid).await
    }
}

/// Panics in each life of the bank.
struct Broken;
impl Choreography for Broken {
    const NAME: &'static str = "broken";
    type Roles = (Shop, Bank);
    type Input = At<Shop, u32>;
    type Output = At<Shop, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, amount: At<Shop, u32>) -> Result<At<Shop, u32>, Abort> {
        let there = ctx.comm(Shop, Bank, &amount).await?;
        ctx.locally(Bank, |here| assert_eq!(*here.get(&there), 0, "the program is broken"));
        Ok(amount)
    }
}

async fn add_nodes(world: &World, accounts: Arc<Accounts>) {
    // Deafness is noticed after some of these, and a world waits for that.
    let settings = Settings { advertisement_period_max: Duration::from_millis(300), ..Settings::default() };
    let describe = move |node: NodeBuilder| node.settings(settings.clone()).choreography(Sale).choreography(Broken);
    let shop = describe.clone();
    world.add_node("shop", move |node| shop(node).role(Shop, Arc::new(()))).await;
    world.add_node("bank", move |node| describe(node).role(Bank, accounts.clone())).await;
}

async fn sales(world: World, honours_keys: bool) {
    let accounts = Accounts::new(&world, honours_keys);
    add_nodes(&world, accounts.clone()).await;
    for (key, amount) in [("one", 7), ("two", 8), ("three", 9)] {
        assert_eq!(world.settled::<Sale>("shop", key, amount).await, Ok(amount));
    }
    world.settle().await;
    assert_eq!(accounts.paid(), 24);
}

fn failure(simulation: &Simulation, body: impl AsyncFn(World)) -> Failure {
    *simulation.try_run(body).expect_err("something is wrong in one of these worlds")
}

#[test]
fn a_service_that_does_not_honour_its_key_is_found_in_one_seed_again_and_again() {
    let simulation = Simulation::new().seeds(50);
    println!("{}", simulation.run(async |world| sales(world, true).await));

    let body = async |world| sales(world, false).await;
    let failure = failure(&simulation, body);
    assert!(failure.reason.contains("invariant 2"), "{failure}");
    let text = failure.to_string();
    let seed = failure.seed;
    let again = format!("ACCOMPANIST_SEED={seed} {}", accompanist::testing::test_command());
    assert!(text.contains(&again), "{text}");
    let command = "worlds::a_service_that_does_not_honour_its_key_is_found_in_one_seed_again_and_again -- --exact";
    assert!(again.ends_with(command) && again.contains(" -p ") == std::env::var("CARGO_PKG_NAME").is_ok(), "{again}");
    // The timeline shows the crash between the two effects.
    assert_eq!(text.matches("a service commits").count(), failure.trace.tail(40).matches("a service commits").count());
    assert!(text.contains("CRASHES"), "{text}");
    let second = simulation.run_seed(seed, &body).expect_err("the same seed fails again");
    assert_eq!((second.reason, second.trace), (failure.reason, failure.trace));
}

#[test]
fn a_world_that_depends_on_more_than_its_seed_is_found() {
    let run = AtomicU32::new(0);
    let body = async |world: World| {
        sales(world.clone(), true).await;
        world.recorder().note(run.fetch_add(1, Ordering::Relaxed).to_string());
    };
    let failure = failure(&Simulation::new().seeds(1).twice(), body);
    assert!(failure.reason.starts_with("it ran in two ways"), "{failure}");
    for cause in ["not deterministic", "clock", "HashMap", "static"] {
        assert!(failure.reason.contains(cause), "{failure}");
    }
}

static SENT: AtomicU32 = AtomicU32::new(0);
struct Odds;
impl Choreography for Odds {
    const NAME: &'static str = "odds";
    type Roles = (Shop, Bank);
    type Input = At<Shop, String>;
    type Output = At<Shop, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, what: At<Shop, String>) -> Result<At<Shop, u32>, Abort> {
        let what = ctx.broadcast(Shop, &what).await?;
        let sent = ctx.locally(Bank, |_| if what == "sent" { SENT.fetch_add(1, Ordering::Relaxed) } else { 0 });
        ctx.comm(Bank, Shop, &sent).await
    }
}

#[test]
fn two_runs_that_differ_in_a_value_that_is_sent_are_found_to_differ() {
    for what in ["nothing", "sent"] {
        let ended =
            Simulation::new().fault_profile(FaultProfile::none()).seeds(1).twice().try_run(async |world: World| {
                let describe = |node: NodeBuilder| node.choreography(Odds);
                world.add_node("shop", move |node| describe(node).role(Shop, Arc::new(()))).await;
                let accounts = Accounts::new(&world, true);
                world.add_node("bank", move |node| describe(node).role(Bank, accounts.clone())).await;
                world.settled::<Odds>("shop", "key", what.into()).await.unwrap();
            });
        assert_eq!(ended.is_ok(), what == "nothing", "{what}: {ended:?}");
    }
}

/// Where something goes wrong, and how.
struct Wrong(&'static str);
impl Transaction for Wrong {
    const NAME: &'static str = "wrong";
    type Role = Bank;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, _: &Local<Bank>, n: &u32) -> Result<u32, Abort> {
        match self.0 {
            "panics" => panic!("the user's bug"),
            "talks" => drop(tokio::net::TcpStream::connect("127.0.0.1:9").await),
            "hangs" => std::future::pending().await,
            _ => {}
        }
        Ok(*n)
    }
    async fn compensate(&self, _: &Local<Bank>, _: &u32, _: &u32) -> Result<(), Retry> {
        Ok(())
    }
}
struct Wrongs(&'static str);
impl Choreography for Wrongs {
    const NAME: &'static str = "wrongs";
    type Roles = (Shop, Bank);
    type Input = At<Shop, u32>;
    type Output = At<Shop, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, amount: At<Shop, u32>) -> Result<At<Shop, u32>, Abort> {
        let there = ctx.comm(Shop, Bank, &amount).await?;
        ctx.locally(Bank, |_| assert_ne!(self.0, "miscounts", "the user's bug"));
        let there = ctx.transact(Wrong(self.0), &there).await?;
        if self.0 == "waits" {
            let _: At<Bank, u32> = ctx.signal(Bank, "go").await?;
        }
        ctx.comm(Bank, Shop, &there).await
    }
}

#[test]
fn a_failed_world_reports_role_node_operation_and_panic() {
    let simulation = Simulation::new().fault_profile(FaultProfile::none()).seeds(1).time_max(Duration::from_mins(2));
    let failed = |wrong: &'static str, waits_for_all: bool| {
        failure(&simulation, async |world: World| {
            let describe = move |node: NodeBuilder| node.choreography(Wrongs(wrong));
            world.add_node("counter", move |node| describe(node).role(Shop, Arc::new(()))).await;
            let accounts = Accounts::new(&world, true);
            world.add_node("vault", move |node| describe(node).role(Bank, accounts.clone())).await;
            if waits_for_all {
                let _ = world.settled::<Wrongs>("counter", "key", 7).await;
            }
            let session = world.running("counter").await.start(Wrongs(wrong), 7).key("key").await.unwrap();
            let _ = session.output().await;
        })
    };
    let step = "`commit` of step `wrong` at 2 panicked at role `bank`: ";
    let expected = [
        ("panics", [step, "the user's bug", "role `bank` on node `vault`"]),
        ("talks", [step, "IO is disabled", "role `bank` on node `vault`"]),
        (
            "miscounts",
            ["the program panicked at role `bank`, in or after its operation 1", "the user's bug", "on node `vault`"],
        ),
        ("hangs", ["role `bank` on node `vault`", "waits for step `wrong` at 2, which is under way", "it is stuck"]),
        ("waits", ["role `bank` on node `vault`", "waits for signal `go` at 3", "role `shop` on node `counter`"]),
    ];
    for (wrong, expected) in expected {
        for waits_for_all in [true, false] {
            let failure = failed(wrong, waits_for_all);
            for expected in expected {
                assert!(failure.reason.contains(expected), "{wrong} does not say {expected}: {failure}");
            }
            let text = failure.to_string();
            assert!(text.contains("comm 0") && text.contains("of `shop` to `bank`"), "{text}");
            assert!(!text.contains(": offer") && text.lines().count() < 60, "{text}");
        }
    }
}

#[test]
fn a_failing_or_endless_test_names_its_world() {
    let simulation = Simulation::new().seeds(3).time_max(Duration::from_mins(2));
    let failed = failure(&simulation, async |world: World| assert!(world.draw(0..1) > 0, "drawn too low"));
    assert_eq!((failed.seed, failed.reason.as_str()), (0, "drawn too low"));
    let stuck = failure(&simulation, async |_| std::future::pending().await);
    assert!(stuck.reason.starts_with("it is stuck"), "{stuck}");
}

#[test]
fn a_session_that_stands_still_fails_the_world_unless_it_is_allowed() {
    let body = async |world: World, allowed: bool| {
        if allowed {
            world.allow_trouble();
        }
        add_nodes(&world, Accounts::new(&world, true)).await;
        let node = world.running("shop").await;
        let _ = node.start(Broken, 7).key("key").await;
        drop(node);
    };
    let simulation = Simulation::new().seeds(1);
    let failure = failure(&simulation, async |world| body(world, false).await);
    assert!(failure.reason.contains("the program is broken"), "{failure}");
    let seed = failure.seed;
    simulation.run_seed(seed, &async |world| body(world, true).await).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn worlds_have_the_faults_of_their_profile() {
    let happens = |fault_profile: FaultProfile| {
        let simulation = Simulation::new().fault_profile(fault_profile);
        let traces = (0..30).map(|seed| simulation.run_seed(seed, &async |world| sales(world, true).await));
        let mut counts = BTreeMap::new();
        for event in traces.flat_map(|trace| trace.unwrap_or_else(|failure| panic!("{failure}")).events) {
            let kinds = match &event.what {
                What::Crashed { kept, of } if kept < of => vec!["crashed", "lost what was not synced"],
                What::Crashed { .. } => vec!["crashed"],
                What::Cut(_) => vec!["cut"],
                What::Deafened(..) => vec!["deafened"],
                What::Heals(..) => vec!["healed"],
                What::ClockSet(_) => vec!["clock set"],
                What::Sent { lost, doubled, .. } => [("lost", *lost), ("doubled", *doubled)]
                    .into_iter()
                    .filter(|(_, n)| *n > 0)
                    .map(|(w, _)| w)
                    .collect(),
                _ => vec![],
            };
            for kind in kinds {
                *counts.entry(kind).or_insert(0) += 1;
            }
        }
        counts
    };
    assert_eq!(happens(FaultProfile::none()), BTreeMap::new());
    let rough = happens(FaultProfile::rough());
    let kinds: Vec<_> = rough.keys().copied().collect();
    assert_eq!(
        kinds,
        ["clock set", "crashed", "cut", "deafened", "doubled", "healed", "lost", "lost what was not synced"],
        "{rough:?}"
    );
}

/// A ledger outside, with its duties as far as it does them. What is late is refused only if it does the third.
struct Ledger {
    refuses_what_comes_late: bool,
    entries: Mutex<BTreeMap<String, u32>>,
    undone: Mutex<BTreeSet<String>>,
    late: AtomicU32,
}

#[derive(Clone, Copy)]
struct Clerk;
impl Role for Clerk {
    const NAME: &'static str = "clerk";
    type Service = Ledger;
}

struct Enter;
impl Transaction for Enter {
    const NAME: &'static str = "enter";
    type Role = Clerk;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, here: &Local<Clerk>, amount: &u32) -> Result<u32, Abort> {
        let (ledger, key) = (here.service(), here.key().to_string());
        if ledger.undone.lock().unwrap().contains(&key) {
            ledger.late.fetch_add(1, Ordering::Relaxed);
            if ledger.refuses_what_comes_late {
                return Err(Abort::new("too-late", "it was compensated"));
            }
        }
        ledger.entries.lock().unwrap().insert(key, *amount);
        Ok(*amount)
    }
    async fn compensate(&self, here: &Local<Clerk>, _: &u32, _: &u32) -> Result<(), Retry> {
        let (ledger, key) = (here.service(), here.key().to_string());
        ledger.entries.lock().unwrap().remove(&key);
        ledger.undone.lock().unwrap().insert(key);
        Ok(())
    }
}

struct Refused;
impl Choreography for Refused {
    const NAME: &'static str = "refused";
    type Roles = (Shop, Clerk);
    type Input = At<Shop, u32>;
    type Output = At<Shop, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, amount: At<Shop, u32>) -> Result<At<Shop, u32>, Abort> {
        let there = ctx.comm(Shop, Clerk, &amount).await?;
        let entered = ctx.transact(Enter, &there).await?;
        ctx.comm(Clerk, Shop, &entered).await?;
        ctx.abort(Abort::new("changed-mind", "")).await
    }
}

/// How often a request was too late, in all worlds that were run, and what came of them.
fn late_requests(refuses_what_comes_late: bool, fault_profile: FaultProfile) -> (u32, Result<(), Failure>) {
    let late = AtomicU32::new(0);
    let ended = Simulation::new().seeds(40).fault_profile(fault_profile).try_run(async |world: World| {
        let (entries, undone) = (Mutex::default(), Mutex::default());
        let ledger = Arc::new(Ledger { refuses_what_comes_late, entries, undone, late: AtomicU32::new(0) });
        let describe = |node: NodeBuilder| node.choreography(Refused);
        world.add_node("shop", move |node| describe(node).role(Shop, Arc::new(()))).await;
        let clerk = ledger.clone();
        world.add_node("clerk", move |node| describe(node).role(Clerk, clerk.clone())).await;
        for key in ["one", "two", "three"] {
            assert_eq!(world.settled::<Refused>("shop", key, 7).await.unwrap_err().code(), "changed-mind");
        }
        world.settle().await;
        late.fetch_add(ledger.late.load(Ordering::Relaxed), Ordering::Relaxed);
        assert_eq!(*ledger.entries.lock().unwrap(), BTreeMap::new(), "what was compensated is in the ledger");
    });
    (late.into_inner(), ended.map(drop).map_err(|failure| *failure))
}

#[test]
fn a_world_with_late_requests_finds_a_service_that_takes_a_commit_after_its_compensation() {
    let late = FaultProfile { late_requests_max: 8, ..FaultProfile::rough() };
    let (_, ended) = late_requests(false, late);
    let text = ended.unwrap_err().to_string();
    assert!(
        text.contains("what was compensated is in the ledger") && text.contains("`commit` of step `enter`"),
        "{text}"
    );
    // A world without them does not.
    let (times, ended) = late_requests(false, FaultProfile::rough());
    assert!(times == 0 && ended.is_ok(), "{times} {ended:?}");
    let (times, ended) = late_requests(true, late);
    assert!(times > 10 && ended.is_ok(), "{times} {ended:?}");
}

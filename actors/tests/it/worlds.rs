//! What a simulated world finds, what it shows of it, and what it does to nodes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use accompanist::NodeBuilder;
use accompanist::prelude::*;
use accompanist::testing::{Failure, Roughness, Simulation, What, Witness, World};

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
    witness: Witness,
    honours_keys: bool,
    paid: Mutex<BTreeMap<String, u32>>,
}

impl Accounts {
    fn new(world: &World, honours_keys: bool) -> Arc<Self> {
        Arc::new(Self { witness: world.witness(), honours_keys, paid: Mutex::default() })
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
            accounts.witness.committed(here.key());
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
    let settings = Settings { offer_period_max: Duration::from_millis(300), ..Settings::default() };
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
    let again = format!(
        "ACCOMPANIST_SEED={seed} cargo test worlds::a_service_that_does_not_honour_its_key_is_found_in_one_seed_again_and_again"
    );
    assert!(text.contains(&again), "{text}");
    // The timeline shows the crash between the two effects.
    assert_eq!(text.matches("a service commits").count(), failure.trace.tail(40).matches("a service commits").count());
    assert!(text.contains("CRASHES"), "{text}");
    let second = simulation.run_seed(seed, &body).expect_err("the same seed fails again");
    assert_eq!((second.reason, second.trace), (failure.reason, failure.trace));
}

#[test]
fn what_depends_on_more_than_the_seed_is_found() {
    let run = AtomicU32::new(0);
    let body = async |world: World| {
        sales(world.clone(), true).await;
        world.witness().note(run.fetch_add(1, Ordering::Relaxed).to_string());
    };
    let failure = failure(&Simulation::new().seeds(1).twice(), body);
    assert!(failure.reason.starts_with("it ran in two ways"), "{failure}");
}

#[test]
fn a_test_that_fails_or_never_ends_says_in_which_world() {
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
        let _ = node.start_keyed(Broken, "key", 7).await;
        drop(node);
    };
    let simulation = Simulation::new().seeds(1);
    let failure = failure(&simulation, async |world| body(world, false).await);
    assert!(failure.reason.contains("the program is broken"), "{failure}");
    let seed = failure.seed;
    simulation.run_seed(seed, &async |world| body(world, true).await).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn worlds_are_as_rough_as_is_said() {
    let happens = |roughness: Roughness| {
        let simulation = Simulation::new().roughness(roughness);
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
    assert_eq!(happens(Roughness::calm()), BTreeMap::new());
    let rough = happens(Roughness::rough());
    let kinds: Vec<_> = rough.keys().copied().collect();
    assert_eq!(
        kinds,
        ["clock set", "crashed", "cut", "deafened", "doubled", "healed", "lost", "lost what was not synced"],
        "{rough:?}"
    );
}

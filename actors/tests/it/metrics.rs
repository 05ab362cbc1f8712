//! What is measured: each histogram has what happened, each gauge of what is wrong now rises and returns to 0, and a
//! node describes all of it when it starts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use accompanist::machine::Resolution;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::testing::SimulatedClock;
use accompanist::transport::LocalNetwork;
use accompanist::{NodeBuilder, SessionId, metric, transport};
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder as Records, SharedString, Unit,
};
use tokio::sync::watch;

use crate::actor::{Recorder, heard, said, say};
use crate::support::{TestNode, node_id, quick, until, within};

/// Keeps what is measured in one thread, by name and labels: `sales{step=charge}`.
#[derive(Clone, Default)]
pub struct Observed(Arc<Mutex<Series>>);

#[derive(Default)]
struct Series {
    numbers: BTreeMap<String, Arc<AtomicU64>>,
    samples: BTreeMap<String, Arc<Samples>>,
    described: BTreeMap<String, (&'static str, Option<Unit>, String)>,
}

#[derive(Default)]
struct Samples(Mutex<Vec<f64>>);

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

fn series(key: &Key) -> String {
    let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
    if labels.is_empty() { key.name().to_owned() } else { format!("{}{{{}}}", key.name(), labels.join(",")) }
}

impl Observed {
    fn number(&self, series: &str) -> Arc<AtomicU64> {
        self.0.lock().unwrap().numbers.entry(series.into()).or_default().clone()
    }

    /// The value of a gauge, and 0 for one that was never set.
    pub fn gauge(&self, series: &str) -> f64 {
        f64::from_bits(self.number(series).load(Ordering::SeqCst))
    }

    pub fn samples(&self, series: &str) -> Vec<f64> {
        let known = self.0.lock().unwrap().samples.get(series).cloned();
        known.map(|samples| samples.0.lock().unwrap().clone()).unwrap_or_default()
    }

    /// The kinds of the metrics that were described.
    pub fn kinds(&self) -> BTreeMap<String, &'static str> {
        let known = self.0.lock().unwrap();
        known.described.iter().map(|(name, (kind, ..))| (name.clone(), *kind)).collect()
    }

    fn describe(&self, kind: &'static str, name: &KeyName, unit: Option<Unit>, text: &SharedString) {
        self.0.lock().unwrap().described.insert(name.as_str().into(), (kind, unit, text.to_string()));
    }
}

impl Records for Observed {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe("counter", &name, unit, &text);
    }
    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe("gauge", &name, unit, &text);
    }
    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe("histogram", &name, unit, &text);
    }
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.number(&series(key)))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.number(&series(key)))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.0.lock().unwrap().samples.entry(series(key)).or_default().clone())
    }
}

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
    type Service = Desk;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Open,
    /// Refunds are to be tried again.
    Busy,
    /// Refunds need an operator.
    Gone,
}

/// The bank's desk. A charge takes ten milliseconds, and waits while the desk is not open for charges.
struct Desk {
    mood: Mutex<Mood>,
    charges: watch::Sender<bool>,
}

impl Desk {
    fn new() -> Arc<Self> {
        Arc::new(Self { mood: Mutex::new(Mood::Open), charges: watch::channel(true).0 })
    }
    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

struct Charge;
impl Transaction for Charge {
    const NAME: &'static str = "charge";
    type Role = Bank;
    type Input = bool;
    type Output = u32;
    async fn commit(&self, here: &Local<Bank>, _: &bool) -> Result<u32, Abort> {
        here.service().charges.subscribe().wait_for(|open| *open).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok(7)
    }
    async fn compensate(&self, here: &Local<Bank>, _: &bool, _: &u32) -> Result<(), Retry> {
        match *here.service().mood.lock().unwrap() {
            Mood::Open => Ok(()),
            Mood::Busy => Err(Retry::new("the desk is busy")),
            Mood::Gone => Err(Retry::needs_operator("the desk is gone")),
        }
    }
}

struct Ship;
impl LocalTransaction for Ship {
    const NAME: &'static str = "ship";
    type Role = Shop;
    type Input = bool;
    type Output = ();
    fn commit(&self, _: &mut State<'_>, refused: &bool) -> Result<(), Abort> {
        if *refused { Err(Abort::new("no-truck", "there is no truck")) } else { Ok(()) }
    }
    fn compensate(&self, _: &mut State<'_>, _: &bool, (): &()) -> Result<(), Retry> {
        Ok(())
    }
}

/// Charged at the bank, then shipped by the shop, or refused.
struct Sale;
impl Choreography for Sale {
    const NAME: &'static str = "sale";
    type Roles = (Shop, Bank);
    type Input = At<Shop, bool>;
    type Output = At<Shop, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, refused: At<Shop, bool>) -> Result<At<Shop, u32>, Abort> {
        let bill = ctx.comm(Shop, Bank, &refused).await?;
        let paid = ctx.transact(Charge, &bill).await?;
        let paid = ctx.comm(Bank, Shop, &paid).await?;
        ctx.transact(Ship, &refused).await?;
        Ok(paid)
    }
}

/// The shop's program panics each time, once the bank has answered.
struct Broken;
impl Choreography for Broken {
    const NAME: &'static str = "broken";
    type Roles = (Shop, Bank);
    type Input = At<Shop, bool>;
    type Output = At<Shop, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, input: At<Shop, bool>) -> Result<At<Shop, u32>, Abort> {
        let input = ctx.comm(Shop, Bank, &input).await?;
        let answer = ctx.comm(Bank, Shop, &input).await?;
        Ok(ctx.locally(Shop, |shop| if *shop.get(&answer) { panic!("broken, as the test wants") } else { 7 }))
    }
}

/// Two nodes on one thread, whose time passes only while they wait.
struct Town {
    network: LocalNetwork,
    clock: Arc<SimulatedClock>,
    desk: Arc<Desk>,
    disk: MemoryDisk,
}

impl Town {
    fn new() -> Self {
        let clock = Arc::new(SimulatedClock::new(7));
        Self { network: LocalNetwork::new(), clock, desk: Desk::new(), disk: MemoryDisk::default() }
    }
    fn builder(&self, name: &str, disk: &MemoryDisk) -> NodeBuilder {
        let builder = Node::builder(node_id(name)).simulated_store(disk.open().unwrap(), Duration::from_millis(2));
        let builder = builder.transport(self.network.clone()).environment(self.clock.clone()).settings(quick());
        builder.choreography(Sale).choreography(Broken)
    }
    async fn shop(&self) -> TestNode {
        TestNode::start(self.builder("shop", &self.disk).role(Shop, Arc::new(())).actor(Recorder)).await
    }
    /// Under the name that [`say`] gives.
    async fn bank(&self) -> TestNode {
        let builder = self.builder("edge", &MemoryDisk::default()).role(Bank, self.desk.clone());
        TestNode::start(builder.talks_to::<Recorder>()).await
    }
}

fn of_sale(name: &str, labels: &str) -> String {
    format!("{name}{{choreography=sale,{labels}}}")
}

async fn sells(shop: &Node, refused: bool) -> Session<Sale> {
    within(shop.start(Sale, refused)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_node_that_starts_describes_all_metrics() {
    let observed = Observed::default();
    let _recorder = metrics::set_default_local_recorder(&observed);
    let town = Town::new();
    let (shop, bank) = (town.shop().await, town.bank().await);
    assert!(observed.kinds().len() > 40, "{:?}", observed.kinds());
    let described = std::mem::take(&mut observed.0.lock().unwrap().described);
    for (name, (kind, unit, text)) in &described {
        assert!(text.starts_with(|first: char| first.is_ascii_uppercase()) && text.ends_with('.'), "{name}: {text}");
        assert_eq!(name.ends_with("_total"), *kind == "counter", "{name}");
        assert_eq!(name.ends_with("_seconds"), *unit == Some(Unit::Seconds), "{name}");
    }
    let of = |name| described.get(name).map(|(kind, _, text)| (*kind, text.as_str()));
    assert_eq!(of(metric::DEAD_LETTERS), Some(("gauge", "Dead letters.")));
    assert!(of(metric::STEP).is_some_and(|(kind, text)| kind == "histogram" && text.contains("`outcome`")));
    assert!(of(transport::metric::PACKETS_SENT).is_some_and(|(kind, _)| kind == "counter"));
    // For a recorder that was installed later, and any number of times.
    metric::describe();
    assert!(observed.0.lock().unwrap().described == described);
    within(shop.shutdown()).await;
    within(bank.shutdown()).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_its_steps_and_what_they_wait_for_are_measured() {
    let observed = Observed::default();
    let _recorder = metrics::set_default_local_recorder(&observed);
    let town = Town::new();
    let (shop, bank) = (town.shop().await, town.bank().await);
    let session = sells(&shop, false).await;
    assert_eq!(within(session.settled()).await.unwrap(), 7);
    shop.is_idle().await;
    bank.is_idle().await;
    let one = |series: String| {
        let samples = observed.samples(&series);
        assert_eq!(samples.len(), 1, "{series}: {samples:?}");
        samples[0]
    };
    let output = one(of_sale(metric::SESSION_OUTPUT, "outcome=finished"));
    let settled = one(of_sale(metric::SESSION_SETTLED, "outcome=finished"));
    let charge = one(of_sale(metric::STEP, "step=charge,outcome=committed"));
    let shipping = one(of_sale(metric::STEP, "step=ship,outcome=committed"));
    // The charge takes ten milliseconds, and each sync two.
    assert!((0.010..1.0).contains(&charge) && (0.002..1.0).contains(&shipping), "{charge} {shipping}");
    assert!(output >= charge + shipping && settled >= output && settled < 60.0, "{output} {settled}");
    let syncs = observed.samples(metric::SYNC);
    assert!(syncs.len() > 3 && syncs.iter().all(|sync| (0.002..0.1).contains(sync)), "{syncs:?}");
    let groups = observed.samples(metric::GROUP_COMMIT_WRITES);
    assert!(groups.len() >= syncs.len() && groups.iter().all(|writes| *writes >= 1.0), "{groups:?}");
    for urgency in ["urgent", "lazy"] {
        let waits = observed.samples(&format!("{}{{urgency={urgency}}}", metric::COMMIT_WAIT));
        assert!(!waits.is_empty() && waits.iter().all(|wait| (0.002..1.0).contains(wait)), "{urgency} {waits:?}");
    }
    let acknowledgements = observed.samples(metric::ACKNOWLEDGEMENT);
    // A node that has closed the session acknowledges at once, all else after a sync.
    let synced = acknowledgements.iter().filter(|took| **took >= 0.002).count();
    assert!(synced > 1 && acknowledgements.iter().all(|took| *took < 5.0), "{acknowledgements:?}");
    within(shop.shutdown()).await;
    within(bank.shutdown()).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_try_is_measured_and_its_step_counts_as_retried_until_it_succeeds() {
    let observed = Observed::default();
    let _recorder = metrics::set_default_local_recorder(&observed);
    let town = Town::new();
    let (shop, bank) = (town.shop().await, town.bank().await);
    town.desk.is(Mood::Busy);
    let session = sells(&shop, true).await;
    until("a step to be retried", || observed.gauge(metric::STEPS_RETRIED_NOW) > 0.9).await;
    let failed = of_sale(metric::STEP, "step=charge,outcome=failed");
    until("more than one try", || observed.samples(&failed).len() > 1).await;
    assert!((observed.gauge(metric::STEPS_RETRIED_NOW) - 1.0).abs() < 0.1);
    town.desk.is(Mood::Open);
    assert!(matches!(within(session.settled()).await, Err(SessionError::Aborted(_))));
    bank.is_idle().await;
    assert!(observed.gauge(metric::STEPS_RETRIED_NOW).abs() < 0.1);
    for (name, labels) in [
        (metric::SESSION_OUTPUT, "outcome=aborted"),
        (metric::SESSION_SETTLED, "outcome=compensated"),
        (metric::STEP, "step=ship,outcome=aborted"),
        (metric::STEP, "step=charge,outcome=committed"),
        (metric::STEP, "step=charge,outcome=compensated"),
    ] {
        assert_eq!(observed.samples(&of_sale(name, labels)).len(), 1, "{name} {labels}");
    }
    within(shop.shutdown()).await;
    within(bank.shutdown()).await;
}

#[tokio::test(start_paused = true)]
async fn a_gauge_counts_instances_in_trouble_until_they_are_resolved() {
    let observed = Observed::default();
    let _recorder = metrics::set_default_local_recorder(&observed);
    let town = Town::new();
    let (shop, bank) = (town.shop().await, town.bank().await);
    town.desk.is(Mood::Gone);
    let session = sells(&shop, true).await;
    let in_trouble = || observed.gauge(metric::INSTANCES_IN_TROUBLE_NOW);
    until("trouble", || in_trouble() > 0.9).await;
    assert!((in_trouble() - 1.0).abs() < 0.1 && observed.gauge(metric::STEPS_RETRIED_NOW).abs() < 0.1);
    let troubled = bank.operator().troubled_sessions().remove(0);
    let part = bank.operator().instance(troubled.session, troubled.role);
    within(part.resolve(Resolution::Compensated)).await.unwrap();
    assert!(matches!(within(session.settled()).await, Err(SessionError::Aborted(_))));
    bank.is_idle().await;
    assert!(in_trouble().abs() < 0.1);
    within(shop.shutdown()).await;
    within(bank.shutdown()).await;
}

#[tokio::test(start_paused = true)]
async fn a_gauge_counts_stopped_instances_for_as_long_as_they_are_listed() {
    let observed = Observed::default();
    let _recorder = metrics::set_default_local_recorder(&observed);
    let town = Town::new();
    let (shop, bank) = (town.shop().await, town.bank().await);
    let session = within(shop.start(Broken, true)).await.unwrap();
    let stopped = shop.stopped().await.remove(0);
    let stopped_now = || observed.gauge(metric::INSTANCES_STOPPED_NOW);
    assert!((stopped_now() - 1.0).abs() < 0.1);
    let part = shop.operator().instance(stopped.session, stopped.role);
    within(part.terminate("it never works")).await.unwrap();
    until("the instance to leave the list", || stopped_now().abs() < 0.1).await;
    shop.is_idle().await;
    // The next one is listed until the node is gone.
    let _ = within(shop.start(Broken, true)).await;
    until("it to be stopped", || stopped_now() > 0.9).await;
    within(shop.shutdown()).await;
    within(bank.shutdown()).await;
    drop((session, part, shop));
    until("the list to be gone", || stopped_now().abs() < 0.1).await;
}

#[tokio::test(start_paused = true)]
async fn the_age_of_the_oldest_open_session_is_shown_and_its_replays_are_not_measured_again() {
    let observed = Observed::default();
    let _recorder = metrics::set_default_local_recorder(&observed);
    let town = Town::new();
    let (shop, bank) = (town.shop().await, town.bank().await);
    town.desk.charges.send_replace(false);
    let age = || observed.gauge(&format!("{}{{choreography=sale}}", metric::OLDEST_OPEN_AGE));
    let first = sells(&shop, false).await;
    tokio::time::sleep(Duration::from_mins(30)).await;
    let mut sessions = vec![first];
    // More than one page.
    for _ in 0..200 {
        sessions.push(sells(&shop, false).await);
    }
    tokio::time::sleep(Duration::from_mins(30)).await;
    assert!((3_570.0..3_700.0).contains(&age()), "{}", age());
    assert!(observed.gauge(&format!("{}{{choreography=broken}}", metric::OLDEST_OPEN_AGE)).abs() < 0.1);
    town.desk.charges.send_replace(true);
    for session in &sessions {
        within(session.settled()).await.unwrap();
    }
    shop.is_idle().await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(age().abs() < 0.1, "{}", age());
    let outputs = observed.samples(&of_sale(metric::SESSION_OUTPUT, "outcome=finished"));
    let hours = outputs.iter().filter(|took| **took >= 3_600.0).count();
    assert_eq!((outputs.len(), hours), (201, 1), "the shop's instances were passivated meanwhile");
    within(shop.shutdown()).await;
    within(bank.shutdown()).await;
}

#[tokio::test(start_paused = true)]
async fn the_wait_in_a_durable_actors_mailbox_is_measured() {
    let observed = Observed::default();
    let _recorder = metrics::set_default_local_recorder(&observed);
    let town = Town::new();
    let (shop, bank) = (town.shop().await, town.bank().await);
    let address = bank.actor::<Recorder>();
    for number in 0..3 {
        within(address.tell(&say(number))).await.unwrap();
    }
    let expected = said(0..3);
    within(async {
        while heard(&shop).await != expected {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let series = format!("{}{{actor=recorder}}", metric::ACTOR_MAILBOX_WAIT);
    until("the last batch to be measured", || !observed.samples(&series).is_empty()).await;
    let waits = observed.samples(&series);
    assert!(waits.len() <= 3 && waits.iter().all(|wait| (0.002..5.0).contains(wait)), "{waits:?}");
    within(bank.shutdown()).await;
    within(shop.shutdown()).await;
}

/// That a session's id is in no label, and that nothing else a caller chooses is.
#[tokio::test(start_paused = true)]
async fn labels_are_names_of_the_program_alone() {
    let observed = Observed::default();
    let _recorder = metrics::set_default_local_recorder(&observed);
    let town = Town::new();
    let (shop, bank) = (town.shop().await, town.bank().await);
    let mut ids: Vec<SessionId> = Vec::new();
    let mut series = 0;
    for number in 0..6 {
        let session = within(shop.start(Sale, number % 2 == 0).key(format!("order {number}"))).await.unwrap();
        let _ = within(session.settled()).await;
        ids.push(session.id());
        shop.is_idle().await;
        bank.is_idle().await;
        let known = observed.0.lock().unwrap();
        let names: Vec<&String> = known.samples.keys().chain(known.numbers.keys()).collect();
        assert!(names.iter().all(|name| !name.contains("order") && !name.contains(&session.id().to_string())));
        // The first two have all that there is.
        if number >= 2 {
            assert_eq!(names.len(), series, "{names:?}");
        }
        series = names.len();
    }
    within(shop.shutdown()).await;
    within(bank.shutdown()).await;
}

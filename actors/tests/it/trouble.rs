//! The initiator knows: what a shop learns, from its own node alone, of a bank that cannot continue without an
//! operator.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use accompanist::id::RoleIndex;
use accompanist::machine::{Resolution, RoleTrouble, SessionTrouble, Status};
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use accompanist::{AskError, InstanceOperator, SessionInTrouble};
use accompanist_core::frame::{Body, Frame, Packet};
use tracing_subscriber::fmt::MakeWriter;

use crate::rogue::{EPOCH, Rogue};
use crate::support::{node_id, quick, until, within};
use crate::ways::damage;

/// What is in the way at the bank.
#[derive(Default)]
struct Vault(Mutex<BTreeSet<&'static str>>);

impl Vault {
    fn has(&self, block: &str) -> bool {
        self.0.lock().unwrap().contains(block)
    }
    fn block(&self, block: &'static str) {
        self.0.lock().unwrap().insert(block);
    }
    fn unblock(&self) {
        self.0.lock().unwrap().clear();
    }
}

#[derive(Clone, Copy)]
struct Shop;
impl Role for Shop {
    const NAME: &'static str = "shop";
    type Service = Vault;
}
#[derive(Clone, Copy)]
struct Bank;
impl Role for Bank {
    const NAME: &'static str = "bank";
    type Service = Vault;
}

/// Is compensated by a refund, unless something is in the way.
struct Charge;
impl Transaction for Charge {
    const NAME: &'static str = "charge";
    type Role = Bank;
    type Input = ();
    type Output = ();
    async fn commit(&self, _: &Local<Bank>, (): &()) -> Result<(), Abort> {
        Ok(())
    }
    async fn compensate(&self, here: &Local<Bank>, (): &(), (): &()) -> Result<(), Retry> {
        if here.service().has("receipt is lost") {
            return Err(Retry::needs_operator("the receipt is lost"));
        }
        if here.service().has("bank is closed") { Err(Retry::new("the bank is closed")) } else { Ok(()) }
    }
}

/// What another release does in place of the charge.
struct Debit;
impl Transaction for Debit {
    const NAME: &'static str = "debit";
    const KIND: Kind = Kind::Pivot;
    type Role = Bank;
    type Input = ();
    type Output = ();
    async fn commit(&self, _: &Local<Bank>, (): &()) -> Result<(), Abort> {
        Ok(())
    }
}

/// Only goes forward, and not as long as it is blocked.
struct Pay;
impl Transaction for Pay {
    const NAME: &'static str = "pay";
    const KIND: Kind = Kind::Retriable;
    type Role = Bank;
    type Input = ();
    type Output = ();
    async fn commit(&self, here: &Local<Bank>, (): &()) -> Result<(), Abort> {
        if here.service().has("pay") { Err(Abort::new("no", "not today")) } else { Ok(()) }
    }
}

/// Is compensated by fetching the parcel, unless that is lost.
struct Pack;
impl Transaction for Pack {
    const NAME: &'static str = "pack";
    type Role = Shop;
    type Input = ();
    type Output = ();
    async fn commit(&self, _: &Local<Shop>, (): &()) -> Result<(), Abort> {
        Ok(())
    }
    async fn compensate(&self, _: &Local<Shop>, (): &(), (): &()) -> Result<(), Retry> {
        Err(Retry::needs_operator("the parcel is lost"))
    }
}

/// What the bank's first step is depends on what no program should look at: on the release, so to speak.
struct Order(Arc<Vault>);
impl Choreography for Order {
    const NAME: &'static str = "order";
    type Roles = (Shop, Bank);
    type Input = At<Shop, String>;
    type Output = At<Shop, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, kind: At<Shop, String>) -> Result<At<Shop, u32>, Abort> {
        let kind = ctx.broadcast(Shop, &kind).await?;
        let nothing = ctx.locally(Bank, |_| ());
        if self.0.has("other release") {
            ctx.transact(Debit, &nothing).await?;
        } else {
            ctx.transact(Charge, &nothing).await?;
        }
        match kind.as_str() {
            "declined" => {
                ctx.comm(Bank, Shop, &nothing).await?;
                return ctx.abort(Abort::new("declined", "by the shop")).await;
            }
            "returned" => {
                ctx.transact(Pack, &ctx.locally(Shop, |_| ())).await?;
                return ctx.abort(Abort::new("returned", "by the customer")).await;
            }
            "bank panics" => drop(ctx.locally(Bank, |here| assert!(!here.service().has("panics"), "it is broken"))),
            "shop panics" => drop(ctx.locally(Shop, |here| assert!(!here.service().has("panics"), "it is broken"))),
            "signalled" => {
                let _: At<Bank, ()> = ctx.signal(Bank, "go").await?;
            }
            _ => {}
        }
        ctx.transact(Pay, &nothing).await?;
        ctx.comm(Bank, Shop, &ctx.locally(Bank, |_| 7)).await
    }
}

/// A shop and a bank on nodes of their own, `shop-1` and `bank-1`.
struct Town {
    network: LocalNetwork,
    disks: [MemoryDisk; 2],
    vault: Arc<Vault>,
    tries_max: u32,
    nodes: [Option<Node>; 2],
}

const SHOP: usize = 0;
const BANK: usize = 1;

impl Town {
    /// In which a step is tried three times.
    async fn new(blocks: &[&'static str]) -> Self {
        Self::trying(blocks, 3).await
    }

    async fn trying(blocks: &[&'static str], tries_max: u32) -> Self {
        let (network, disks, vault) = (LocalNetwork::new(), <[MemoryDisk; 2]>::default(), Arc::<Vault>::default());
        for block in blocks {
            vault.block(block);
        }
        let mut town = Self { network, disks, vault, tries_max, nodes: [None, None] };
        town.begin(SHOP).await;
        town.begin(BANK).await;
        town
    }

    async fn begin(&mut self, which: usize) {
        let mut settings = quick();
        settings.limits.tries_max = self.tries_max;
        settings.limits.retry_delay_max_ms = 2;
        let builder = Node::builder(node_id(["shop-1", "bank-1"][which])).store(self.disks[which].open().unwrap());
        let builder =
            builder.transport(self.network.clone()).settings(settings).choreography(Order(self.vault.clone()));
        let vault = self.vault.clone();
        let builder = if which == SHOP { builder.role(Shop, vault) } else { builder.role(Bank, vault) };
        self.nodes[which] = Some(within(builder.start()).await.unwrap());
    }

    async fn end(&mut self, which: usize) {
        let node = self.nodes[which].take().unwrap();
        within(node.kill()).await;
        within(node.shutdown()).await;
    }

    fn shop(&self) -> &Node {
        self.nodes[SHOP].as_ref().unwrap()
    }

    fn bank(&self) -> &Node {
        self.nodes[BANK].as_ref().unwrap()
    }

    async fn order(&self, kind: &str) -> Session<Order> {
        within(self.shop().start(Order(self.vault.clone()), kind.to_owned())).await.unwrap()
    }

    /// Waits until the bank's part waits for its signal.
    async fn waits_for_signal(&self, session: SessionId) {
        let part = self.part(session).handle();
        let waits =
            async || part.waits_for().await.is_ok_and(|waits| waits.iter().any(|(_, what)| what == "signal `go`"));
        within(async { while !waits().await {} }).await;
    }

    /// The bank's part of the session, for an operator of its node.
    fn part(&self, session: SessionId) -> InstanceOperator {
        self.bank().operator().instance(session, RoleIndex(1))
    }

    async fn ends_settled(self) {
        for node in [self.shop(), self.bank()] {
            assert_eq!(node.operator().sessions_in_trouble_elsewhere(), []);
            within(node.shutdown()).await;
        }
    }
}

/// The shop's part of the session, for an operator of its node.
fn own(town: &Town, session: &Session<Order>) -> InstanceOperator {
    town.shop().operator().instance(session.id(), RoleIndex(0))
}

/// What the waiting caller is told of the one role in trouble.
async fn trouble(session: &Session<Order>) -> SessionTrouble {
    match within(session.settled_or_trouble()).await {
        Err(SessionError::InTrouble { session: id, mut troubles }) if troubles.len() == 1 => {
            assert_eq!(id, session.id());
            troubles.remove(0)
        }
        other => panic!("{other:?}"),
    }
}

/// Waits until the shop has learned that the trouble is over.
async fn is_over(town: &Town) {
    until("the trouble to be over", || town.shop().operator().sessions_in_trouble_elsewhere().is_empty()).await;
}

const LOST: &str = "role `bank` at node `bank-1`: step `charge` needs an operator: it has to be compensated, which failed: \
    the receipt is lost";

#[tokio::test]
async fn a_shop_learns_that_a_step_of_the_bank_needs_an_operator_and_that_it_does_not_any_more() {
    let town = Town::new(&["receipt is lost"]).await;
    let session = town.order("declined").await;
    let error = within(session.settled_or_trouble()).await.unwrap_err();
    let text = format!(
        "session {} waits for an operator ({LOST}): at that node, `resolve` the step, or `resume`, `abort` or \
         `terminate` the stopped part",
        session.id()
    );
    assert_eq!(error.to_string(), text);
    // From the shop's node only.
    until("the list", || !town.shop().operator().sessions_in_trouble_elsewhere().is_empty()).await;
    let [SessionInTrouble { session: id, troubles, .. }] = &town.shop().operator().sessions_in_trouble_elsewhere()[..]
    else {
        panic!("one session")
    };
    assert_eq!((*id, troubles[0].to_string()), (session.id(), LOST.into()));
    let progress = within(session.progress()).await.unwrap().unwrap();
    assert!(progress.to_string().contains(&format!("waits for {LOST}")), "{progress}");
    assert_eq!(progress.troubles[0].role.node, Some(node_id("bank-1")));

    assert_eq!(within(town.part(session.id()).resolve(Resolution::Compensated)).await.unwrap(), 1);
    is_over(&town).await;
    assert!(matches!(within(session.settled_or_trouble()).await, Err(SessionError::Aborted(_))));
    assert_eq!(within(session.progress()).await.unwrap(), None);
    town.ends_settled().await;
}

/// In memory or not: as long as the node runs, it knows.
#[tokio::test]
async fn a_passivated_shop_still_knows() {
    let town = Town::new(&["receipt is lost"]).await;
    let session = town.order("declined").await;
    assert_eq!(trouble(&session).await.to_string(), LOST);
    until("the shop to be passivated", || town.shop().operator().instances() == 0).await;
    let progress = within(session.progress()).await.unwrap().unwrap();
    assert_eq!(progress.troubles.iter().map(ToString::to_string).collect::<Vec<_>>(), [LOST]);
    let again = within(town.shop().session::<Order>(session.id())).await.unwrap();
    assert_eq!(trouble(&again).await.to_string(), LOST);
    within(town.part(session.id()).resolve(Resolution::Compensated)).await.unwrap();
    within(session.settled()).await.unwrap_err();
    town.ends_settled().await;
}

#[tokio::test]
async fn a_shop_learns_that_a_bank_is_stopped_by_a_replay_that_differs_and_that_it_is_resumed() {
    let mut town = Town::new(&[]).await;
    let session = town.order("signalled").await;
    town.waits_for_signal(session.id()).await;
    town.vault.block("other release");
    town.end(BANK).await;
    town.begin(BANK).await;
    let SessionTrouble { role, trouble: RoleTrouble::Stopped { reason }, .. } = trouble(&session).await else {
        panic!("the bank is stopped")
    };
    assert_eq!(role.to_string(), "role `bank` at node `bank-1`");
    assert!(reason.starts_with("the program is not deterministic"), "{reason}");
    let progress = within(session.progress()).await.unwrap().unwrap();
    assert!(progress.to_string().contains("waits for role `bank` at node `bank-1`: is stopped: "), "{progress}");

    town.vault.unblock();
    within(town.part(session.id()).resume()).await.unwrap();
    is_over(&town).await;
    within(town.part(session.id()).handle().signal("go", "1", &())).await.unwrap();
    assert_eq!(within(session.settled_or_trouble()).await.unwrap(), 7);
    town.ends_settled().await;
}

#[tokio::test]
async fn a_shop_learns_that_the_records_of_a_bank_cannot_be_read() {
    let mut town = Town::new(&[]).await;
    let session = town.order("signalled").await;
    town.waits_for_signal(session.id()).await;
    town.end(BANK).await;
    damage(&town.disks[BANK], session.id());
    town.begin(BANK).await;
    let told = trouble(&session).await.to_string();
    assert!(told.starts_with("role `bank` at node `bank-1`: is stopped: "), "{told}");
    assert_eq!(within(town.part(session.id()).terminate("it is damaged")).await.unwrap().len(), 1);
    within(session.settled()).await.unwrap_err();
    town.ends_settled().await;
}

#[tokio::test]
async fn a_shop_learns_that_a_bank_is_quarantined_and_that_it_is_resumed() {
    let town = Town::new(&["panics"]).await;
    let session = town.order("bank panics").await;
    let told = trouble(&session).await.to_string();
    assert!(told.starts_with("role `bank` at node `bank-1`: is stopped: ") && told.contains("it is broken"), "{told}");
    town.vault.unblock();
    within(town.part(session.id()).resume()).await.unwrap();
    is_over(&town).await;
    assert_eq!(within(session.settled_or_trouble()).await.unwrap(), 7);
    town.ends_settled().await;
}

/// The reports are lost, because the shop is away when the bank makes them. The shop learns by its nudges.
#[tokio::test]
async fn a_shop_that_was_away_learns_of_a_trouble_by_its_nudges() {
    let mut town = Town::new(&["pay"]).await;
    let id = town.order("signalled").await.id();
    town.waits_for_signal(id).await;
    town.end(SHOP).await;
    within(town.part(id).handle().signal("go", "1", &())).await.unwrap();
    until("a step in trouble", || !town.bank().operator().troubled_sessions().is_empty()).await;
    town.begin(SHOP).await;
    let session = within(town.shop().session::<Order>(id)).await.unwrap();
    let expected = "role `bank` at node `bank-1`: step `pay` needs an operator: it has to be committed, which failed 3 \
        times, the last time with: not today (no)";
    assert_eq!(trouble(&session).await.to_string(), expected);

    // The same for a part that is stopped and not in memory.
    town.end(SHOP).await;
    town.vault.block("other release");
    town.end(BANK).await;
    town.begin(BANK).await;
    until("a part that is stopped", || !town.bank().operator().stopped_sessions().is_empty()).await;
    town.begin(SHOP).await;
    let session = within(town.shop().session::<Order>(id)).await.unwrap();
    assert!(matches!(trouble(&session).await.trouble, RoleTrouble::Stopped { .. }));

    // That it is over is lost, too: the shop that believes in it asks.
    town.vault.unblock();
    town.end(BANK).await;
    town.begin(BANK).await;
    let part = town.part(id);
    within(async { while part.handle().status().await.ok() != Some(Status::NeedsOperator) {} }).await;
    within(part.resolve(Resolution::Retry)).await.unwrap();
    assert_eq!(within(session.settled()).await.unwrap(), 7);
    town.ends_settled().await;
}

#[tokio::test]
async fn a_caller_need_not_wait_for_an_operator_of_the_own_part() {
    let town = Town::new(&["panics"]).await;
    let session = town.order("returned").await;
    let told = trouble(&session).await.to_string();
    let expected = "role `shop` at node `shop-1`: step `pack` needs an operator: it has to be compensated, which failed: \
        the parcel is lost";
    assert_eq!(told, expected);
    within(own(&town, &session).resolve(Resolution::Compensated)).await.unwrap();
    assert!(matches!(within(session.settled_or_trouble()).await, Err(SessionError::Aborted(_))));

    let session = town.order("shop panics").await;
    assert!(matches!(within(session.settled_or_trouble()).await, Err(SessionError::Stopped { .. })));
    assert!(matches!(within(session.progress()).await, Err(AskError::Stopped { .. })));
    town.vault.unblock();
    within(own(&town, &session).resume()).await.unwrap();
    assert_eq!(within(session.settled_or_trouble()).await.unwrap(), 7);
    town.ends_settled().await;
}

/// Whoever does not play the bank's role cannot speak for it.
#[tokio::test]
async fn a_report_of_a_node_that_does_not_play_the_role_is_ignored() {
    let town = Town::new(&[]).await;
    let session = town.order("signalled").await;
    let rogue = Rogue::attach(&town.network).await;
    rogue.is_heard(&["shop-1"]).await;
    let (from, to) = (RoleIndex(1), RoleIndex(0));
    let body = Body::Trouble(Some(RoleTrouble::stopped("as the rogue says")));
    let frame = Frame { session: session.id(), from, to, header: None, body };
    for number in 1..100 {
        rogue.send("shop-1", &Packet { frames: vec![(number, frame.clone())], ..Packet::new(EPOCH) });
        assert_eq!(within(session.progress()).await.unwrap().unwrap().troubles, []);
    }
    town.waits_for_signal(session.id()).await;
    within(town.part(session.id()).handle().signal("go", "1", &())).await.unwrap();
    assert_eq!(within(session.settled_or_trouble()).await.unwrap(), 7);
    town.ends_settled().await;
}

/// The lines that were logged on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn with(&self, what: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(what)).map(ToOwned::to_owned).collect()
    }
}

/// The retries that are warned of.
async fn warned_of(what: &str, kind: &str, block: &'static str) -> Vec<String> {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false);
    let _guard = tracing::subscriber::set_default(subscriber.with_writer(lines.clone()).finish());
    let town = Town::trying(&[block], u32::MAX).await;
    let session = town.order(kind).await;
    let count = || lines.with(what).len();
    until("some retries", || count() >= 9).await;
    town.vault.unblock();
    drop(within(session.settled()).await);
    town.ends_settled().await;
    let logged = lines.with(what);
    let warned: Vec<String> = logged.iter().filter(|line| line.contains("WARN")).cloned().collect();
    let failures = |line: &String| {
        let (_, rest) = line.split_once("failures=").unwrap();
        rest.split(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let expected: Vec<usize> =
        (0..usize::BITS).map(|power| 1 << power).take_while(|failures| *failures <= logged.len()).collect();
    assert_eq!(warned.iter().map(failures).collect::<Vec<_>>(), expected, "of {}", logged.len());
    warned
}

#[tokio::test]
async fn a_failing_compensation_is_warned_of_the_first_time_and_then_at_growing_intervals() {
    let warned = warned_of("a compensation did not succeed", "declined", "bank is closed").await;
    for part in ["order", "role=\"bank\"", "step=\"charge\"", "session=", "the bank is closed", "next_try_in_ms="] {
        assert!(warned[0].contains(part), "`{part}`: {}", warned[0]);
    }
}

#[tokio::test]
async fn a_commit_that_is_retried_is_warned_of_the_first_time_and_then_at_growing_intervals() {
    let warned = warned_of("a step did not succeed", "paid", "pay").await;
    assert!(warned[0].contains("step=\"pay\"") && warned[0].contains("not today"), "{}", warned[0]);
}

#[tokio::test]
async fn the_node_of_the_initiator_logs_that_another_role_needs_an_operator() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false);
    let _guard = tracing::subscriber::set_default(subscriber.with_writer(lines.clone()).finish());
    let town = Town::new(&["receipt is lost"]).await;
    let session = town.order("declined").await;
    trouble(&session).await;
    let id = session.id().to_string();
    let told = || lines.with("another role of a session needs an operator");
    until("the line", || !told().is_empty()).await;
    assert!(told()[0].contains(&id) && told()[0].contains("bank-1") && told()[0].contains("charge"), "{:?}", told());
    within(town.part(session.id()).resolve(Resolution::Compensated)).await.unwrap();
    within(session.settled()).await.unwrap_err();
    assert_eq!(told().len(), 1, "once");
    town.ends_settled().await;
}

//! Values between nodes and callers: hash tables that leave memory and come back, and outputs that cannot be recorded.
//! Which types travel is tested in `core/tests/it/values.rs`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use accompanist::id::RoleIndex;
use accompanist::machine::{Resolution, Status};
use accompanist::prelude::*;
use accompanist::record::Task;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use serde::{Deserialize, Serialize, Serializer};

use crate::support::{Home, TestNode, on_disk, quick, until, within};
use crate::trade::{Back, Front, Side};

type Stock = HashMap<String, u32>;

fn stock() -> Stock {
    (0..9).map(|number| (format!("item {number}"), number)).collect()
}

/// The front's table goes to the back, which takes a step on it, waits for a signal, and sends it on.
struct Count;
impl Choreography for Count {
    const NAME: &'static str = "count";
    type Roles = (Front, Back, Side);
    type Input = At<Front, Stock>;
    type Output = At<Front, Stock>;
    async fn run(&self, ctx: &Context<Self::Roles>, stock: At<Front, Stock>) -> Result<Self::Output, Abort> {
        let stock = ctx.comm(Front, Back, &stock).await?;
        let counted = ctx.transact(Sum, &stock).await?;
        let more: At<Back, Vec<u32>> = ctx.signal(Back, "go").await?;
        let counted = ctx.locally(Back, |here| here.get(&counted) + here.get(&more).iter().sum::<u32>());
        ctx.publish(Back, &counted);
        let stock = ctx.comm(Back, Side, &stock).await?;
        ctx.comm(Side, Front, &stock).await
    }
}

struct Sum;
impl LocalTransaction for Sum {
    const NAME: &'static str = "sum";
    type Role = Back;
    type Input = Stock;
    type Output = u32;
    fn commit(&self, _: &mut State<'_>, stock: &Stock) -> Result<u32, Abort> {
        Ok(stock.values().sum())
    }
    fn compensate(&self, _: &mut State<'_>, _: &Stock, _: &u32) -> Result<(), Retry> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hash_table_that_came_as_bytes_outlives_many_returns_to_memory() {
    let home = Home::new();
    let node = TestNode::start(home.builder().choreography(Count)).await;
    let sessions =
        [within(node.start(Count, stock())).await.unwrap(), within(node.start(Count, stock())).await.unwrap()];
    for session in &sessions {
        let back = node.instance(Count, session.id(), Back);
        for _ in 0..3 {
            until("all have left", || node.operator().instances() == 0).await;
            assert_eq!(within(back.status()).await.unwrap(), Status::Running);
        }
        let error = within(back.signal("go", "k", &HashMap::from([(1, 1)]))).await.unwrap_err().to_string();
        assert!(error.contains("HashMap") && error.contains("`BTreeMap`"), "{error}");
        within(back.signal("go", "k", &vec![1_u32])).await.unwrap();
    }
    for session in &sessions {
        assert_eq!(within(session.settled()).await.unwrap(), stock());
    }
    node.is_idle().await;
}

/// Told of tables.
struct Shelf;
impl DurableActor for Shelf {
    const NAME: &'static str = "shelf";
    type Message = BTreeMap<u32, Option<Stock>>;
    type Reply = usize;
    fn handle(&self, _: &mut ActorContext<'_>, _: &mut State<'_>, tables: Self::Message) -> Result<usize, Abort> {
        Ok(tables.len())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tell_of_a_type_without_stable_bytes_is_refused() {
    let disk = MemoryDisk::default();
    let node = TestNode::start(on_disk("shelf", &disk, LocalNetwork::new()).actor(Shelf)).await;
    let shelf = node.actor::<Shelf>();
    let error = within(shelf.tell(&BTreeMap::from([(1, Some(stock()))]))).await.unwrap_err().to_string();
    assert!(error.contains("HashMap") && error.contains("`BTreeMap`"), "{error}");
    assert_eq!(within(shelf.ask(&BTreeMap::from([(1, None), (2, None)]))).await.unwrap(), 2);
}

#[derive(Default)]
struct Books {
    done: AtomicU32,
    undone: AtomicU32,
    mended: AtomicBool,
}

#[derive(Clone, Copy)]
struct Bank;
impl Role for Bank {
    const NAME: &'static str = "bank";
    type Service = Books;
}

#[derive(Deserialize)]
struct Receipt {
    #[serde(skip)]
    is_blank: bool,
}
impl Serialize for Receipt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(!self.is_blank, "a blank receipt");
        BTreeMap::<String, u32>::new().serialize(serializer)
    }
}

struct Charge;
impl Transaction for Charge {
    const NAME: &'static str = "charge";
    type Role = Bank;
    type Input = ();
    type Output = Receipt;
    async fn commit(&self, here: &Local<Bank>, (): &()) -> Result<Receipt, Abort> {
        here.service().done.fetch_add(1, Ordering::SeqCst);
        Ok(Receipt { is_blank: !here.service().mended.load(Ordering::SeqCst) })
    }
    async fn compensate(&self, here: &Local<Bank>, (): &(), _: &Receipt) -> Result<(), Retry> {
        here.service().undone.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

struct Sale;
impl Choreography for Sale {
    const NAME: &'static str = "sale";
    type Roles = (Bank,);
    type Input = At<Bank, ()>;
    type Output = At<Bank, ()>;
    async fn run(&self, ctx: &Context<(Bank,)>, unit: At<Bank, ()>) -> Result<Self::Output, Abort> {
        ctx.transact(Charge, &unit).await?;
        Ok(unit)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_whose_output_cannot_be_recorded_is_listed_and_committed_again_only_by_an_operator() {
    for mended in [false, true] {
        let (books, disk) = (Arc::new(Books::default()), MemoryDisk::default());
        let builder = || {
            let settings = Settings { passivation_delay: Duration::from_millis(10), ..quick() };
            on_disk("bank", &disk, LocalNetwork::new()).settings(settings).role(Bank, books.clone()).choreography(Sale)
        };
        let count = |count: &AtomicU32| count.load(Ordering::SeqCst);
        let node = TestNode::start(builder()).await;
        within(node.start(Sale, ()).key("k")).await.unwrap();
        until("a step in trouble", || !node.operator().troubled_sessions().is_empty()).await;
        let troubled = node.operator().troubled_sessions();
        let trouble = &troubled[0].steps[0].1;
        assert_eq!((trouble.task, trouble.step.as_str()), (Task::Record, "charge"));
        assert!(trouble.reason.contains("Receipt") && trouble.reason.contains("a blank receipt"), "{trouble}");
        within(node.shutdown()).await;

        let node = TestNode::start(builder()).await;
        until("the same trouble", || node.operator().troubled_sessions() == troubled).await;
        let sale = within(node.start(Sale, ()).key("k")).await.unwrap();
        let operated = node.operator().instance(sale.id(), RoleIndex(0));
        assert_eq!(count(&books.done), 1);
        if mended {
            books.mended.store(true, Ordering::SeqCst);
            assert_eq!(within(operated.resolve(Resolution::Retry)).await.unwrap(), 1);
            within(sale.settled()).await.unwrap();
            assert_eq!((count(&books.done), count(&books.undone)), (2, 0));
        } else {
            assert!(within(sale.cancel("mend it")).await.unwrap());
            let moves = within(operated.abort("mend it")).await.unwrap_err();
            assert!(moves.to_string().contains("`resolve(Compensated)`"), "it is not stopped: {moves}");
            assert_eq!(within(sale.initiator().status()).await.unwrap(), Status::NeedsOperator);
            assert_eq!(within(operated.resolve(Resolution::Compensated)).await.unwrap(), 1);
            assert_eq!(
                within(sale.settled()).await.unwrap_err().to_string(),
                "aborted: mend it (accompanist.cancelled)"
            );
            assert_eq!((count(&books.done), count(&books.undone)), (1, 0));
        }
        assert_eq!(node.operator().troubled_sessions(), []);
    }
}

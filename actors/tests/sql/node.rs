//! Whole sagas with a step on a database, over crashes of the node.

use std::marker::PhantomData;
use std::sync::Arc;

use accompanist::NodeBuilder;
use accompanist::prelude::*;
use accompanist::sql::SqlSteps;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use sqlx::Pool;
use tokio::sync::watch;

use crate::backend::{Backend, Connected};
use crate::support::{node_id, quick, until};

#[derive(Clone, Copy)]
pub struct Shop;
impl Role for Shop {
    const NAME: &'static str = "shop";
    type Service = ();
}

pub struct Bank<B>(pub PhantomData<B>);
impl<B> Clone for Bank<B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B> Copy for Bank<B> {}
impl<B: Backend> Role for Bank<B> {
    const NAME: &'static str = "bank";
    type Service = Till<B>;
}

/// Steps on a database, and gates behind their ends: what is done there is not yet recorded at the node.
pub struct Till<B: Backend> {
    pub steps: SqlSteps<B::Db>,
    pub committed: Gate,
    pub compensated: Gate,
}

impl<B: Backend> Till<B> {
    pub fn of(base: &B, committed_open: bool, compensated_open: bool) -> Arc<Self> {
        Self::on(base.steps().pool().clone(), committed_open, compensated_open)
    }

    pub fn on(pool: Pool<B::Db>, committed_open: bool, compensated_open: bool) -> Arc<Self> {
        let [committed, compensated] = [committed_open, compensated_open].map(Gate::new);
        Arc::new(Self { steps: SqlSteps::new(pool), committed, compensated })
    }
}

pub struct Gate {
    pub open: watch::Sender<bool>,
    reached: watch::Sender<u32>,
}

impl Gate {
    fn new(open: bool) -> Self {
        Self { open: watch::channel(open).0, reached: watch::channel(0).0 }
    }

    async fn pass(&self) {
        self.reached.send_modify(|reached| *reached += 1);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
    }

    pub async fn is_reached(&self) {
        self.reached.subscribe().wait_for(|reached| *reached > 0).await.unwrap();
    }

    fn reached(&self) -> u32 {
        *self.reached.borrow()
    }
}

struct Charge<B>(PhantomData<B>);
impl<B: Backend> Transaction for Charge<B> {
    const NAME: &'static str = "charge";
    type Role = Bank<B>;
    type Input = u32;
    type Output = u32;

    async fn commit(&self, here: &Local<Bank<B>>, price: &u32) -> Result<u32, Abort> {
        let till = here.service();
        let charge = async |connection: &mut Connected<B>| {
            B::affect(&mut *connection, "charged").await?;
            if *price > 100 {
                return Err(Abort::new("no-cover", "that is too much").into());
            }
            Ok(price * 2)
        };
        let charged = till.steps.commit(here.key(), charge).await;
        till.committed.pass().await;
        charged
    }

    async fn compensate(&self, here: &Local<Bank<B>>, _: &u32, _: &u32) -> Result<(), Retry> {
        let till = here.service();
        let refund = async |connection: &mut Connected<B>| Ok(B::affect(connection, "refunded").await?);
        till.steps.compensate(here.key(), refund).await?;
        till.compensated.pass().await;
        Ok(())
    }
}

/// The bank charges; the shop gives what is odd back.
pub struct Sale<B>(pub PhantomData<B>);
impl<B: Backend> Choreography for Sale<B> {
    const NAME: &'static str = "sale";
    type Roles = (Shop, Bank<B>);
    type Input = At<Shop, u32>;
    type Output = At<Shop, u32>;

    async fn run(&self, ctx: &Context<Self::Roles>, price: At<Shop, u32>) -> Result<At<Shop, u32>, Abort> {
        let bill = ctx.comm(Shop, Bank(PhantomData), &price).await?;
        let charged = ctx.transact(Charge::<B>(PhantomData), &bill).await?;
        let charged = ctx.comm(Bank(PhantomData), Shop, &charged).await?;
        let odd = ctx.locally(Shop, |here| here.get(&price) % 2 == 1);
        if ctx.broadcast(Shop, &odd).await? {
            return ctx.abort(Abort::new("odd", "the shop does not want this")).await;
        }
        Ok(charged)
    }
}

pub async fn start<B: Backend>(disk: &MemoryDisk, till: &Arc<Till<B>>) -> Node {
    builder(disk, till).sql("bank", &till.steps).start().await.unwrap()
}

/// The builder of a node that has not been told of the steps yet.
pub fn builder<B: Backend>(disk: &MemoryDisk, till: &Arc<Till<B>>) -> NodeBuilder {
    let builder = Node::builder(node_id("home")).store(disk.open().unwrap()).transport(LocalNetwork::new());
    let builder = builder.settings(quick()).role(Shop, Arc::new(())).role(Bank(PhantomData), till.clone());
    builder.choreography(Sale::<B>(PhantomData))
}

async fn ends<B: Backend>(node: &Node, base: &B) -> [i64; 2] {
    until("an idle node", async || node.operator().instances() == 0).await;
    assert_eq!(node.operator().stopped_sessions(), []);
    [base.count("charged").await, base.count("refunded").await]
}

pub async fn a_killed_node_finds_what_it_has_committed<B: Backend>(base: B) {
    let disk = MemoryDisk::default();
    let till = Till::of(&base, false, true);
    let node = start(&disk, &till).await;
    node.start(Sale::<B>(PhantomData), 20).key("k").await.unwrap();
    till.committed.is_reached().await;
    assert_eq!(base.count("charged").await, 1);
    node.kill().await;
    till.committed.open.send_replace(true);

    let node = start(&disk, &till).await;
    let session = node.start(Sale::<B>(PhantomData), 20).key("k").await.unwrap();
    assert_eq!(session.settled().await.unwrap(), 40);
    assert_eq!((ends(&node, &base).await, till.committed.reached()), ([1, 0], 2));
    node.shutdown().await;
}

pub async fn a_killed_node_finds_what_it_has_taken_back<B: Backend>(base: B) {
    let disk = MemoryDisk::default();
    let till = Till::of(&base, true, false);
    let node = start(&disk, &till).await;
    node.start(Sale::<B>(PhantomData), 21).key("k").await.unwrap();
    till.compensated.is_reached().await;
    node.kill().await;
    till.compensated.open.send_replace(true);

    let node = start(&disk, &till).await;
    let session = node.start(Sale::<B>(PhantomData), 21).key("k").await.unwrap();
    let told = session.settled().await.unwrap_err();
    assert!(matches!(&told, SessionError::Aborted(abort) if abort.code() == "odd"), "{told}");
    assert_eq!((ends(&node, &base).await, till.compensated.reached()), ([1, 1], 2));
    node.shutdown().await;
}

pub async fn a_refusal_ends_the_session_and_changes_nothing<B: Backend>(base: B) {
    let disk = MemoryDisk::default();
    let till = Till::of(&base, false, true);
    let node = start(&disk, &till).await;
    node.start(Sale::<B>(PhantomData), 200).key("k").await.unwrap();
    till.committed.is_reached().await;
    node.kill().await;
    till.committed.open.send_replace(true);

    let node = start(&disk, &till).await;
    let session = node.start(Sale::<B>(PhantomData), 200).key("k").await.unwrap();
    let told = session.settled().await.unwrap_err();
    assert!(matches!(&told, SessionError::Aborted(abort) if abort.code() == "no-cover"), "{told}");
    assert_eq!((ends(&node, &base).await, till.committed.reached()), ([0, 0], 2));
    node.shutdown().await;
}

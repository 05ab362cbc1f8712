//! A sale at three nodes: the shop reserves on its built-in state, the carrier books a seat outside, and the bank
//! charges a card, which may be declined.

use std::sync::Arc;
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;

#[derive(Clone, Copy)]
pub struct Shop;
impl Role for Shop {
    const NAME: &'static str = "shop";
    type Service = ();
}
#[derive(Clone, Copy)]
pub struct Carrier;
impl Role for Carrier {
    const NAME: &'static str = "carrier";
    type Service = ();
}
#[derive(Clone, Copy)]
pub struct Bank;
impl Role for Bank {
    const NAME: &'static str = "bank";
    type Service = ();
}

struct Reserve;
impl LocalTransaction for Reserve {
    const NAME: &'static str = "reserve";
    type Role = Shop;
    type Input = u32;
    type Output = ();
    fn commit(&self, _: &mut State<'_>, _: &u32) -> Result<(), Abort> {
        Ok(())
    }
    fn compensate(&self, _: &mut State<'_>, _: &u32, (): &()) -> Result<(), Retry> {
        Ok(())
    }
}

struct Book;
impl Transaction for Book {
    const NAME: &'static str = "book";
    type Role = Carrier;
    type Input = u32;
    type Output = ();
    async fn commit(&self, _: &Local<Carrier>, _: &u32) -> Result<(), Abort> {
        // What a service's own code does in a step belongs to the step.
        tracing::info_span!("ask the carrier").in_scope(|| ());
        Ok(())
    }
    async fn compensate(&self, _: &Local<Carrier>, _: &u32, (): &()) -> Result<(), Retry> {
        Ok(())
    }
}

struct Charge;
impl Transaction for Charge {
    const NAME: &'static str = "charge";
    type Role = Bank;
    type Input = u32;
    type Output = ();
    async fn commit(&self, _: &Local<Bank>, cents: &u32) -> Result<(), Abort> {
        if *cents > 100 { Err(Abort::new("declined", "the card is declined")) } else { Ok(()) }
    }
    async fn compensate(&self, _: &Local<Bank>, _: &u32, (): &()) -> Result<(), Retry> {
        Ok(())
    }
}

pub struct Sale;
impl Choreography for Sale {
    const NAME: &'static str = "sale";
    type Roles = (Shop, Carrier, Bank);
    type Input = At<Shop, u32>;
    type Output = At<Shop, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, cents: At<Shop, u32>) -> Result<At<Shop, u32>, Abort> {
        ctx.transact(Reserve, &cents).await?;
        let at_carrier = ctx.comm(Shop, Carrier, &cents).await?;
        ctx.transact(Book, &at_carrier).await?;
        let booked = ctx.comm(Carrier, Shop, &at_carrier).await?;
        let _confirmed: At<Shop, ()> = ctx.signal(Shop, "confirmed").await?;
        let at_bank = ctx.comm(Shop, Bank, &booked).await?;
        ctx.transact(Charge, &at_bank).await?;
        ctx.comm(Bank, Shop, &at_bank).await
    }
}

/// The three nodes and their disks.
pub struct Sites {
    network: LocalNetwork,
    disks: [MemoryDisk; 3],
}

impl Sites {
    pub fn new() -> Self {
        Self { network: LocalNetwork::new(), disks: std::array::from_fn(|_| MemoryDisk::default()) }
    }

    pub async fn shop(&self) -> Node {
        self.builder("shop-1", 0).role(Shop, Arc::new(())).start().await.unwrap()
    }

    pub async fn carrier(&self) -> Node {
        self.builder("carrier-1", 1).role(Carrier, Arc::new(())).start().await.unwrap()
    }

    pub async fn bank(&self) -> Node {
        self.builder("bank-1", 2).role(Bank, Arc::new(())).start().await.unwrap()
    }

    fn builder(&self, name: &str, disk: usize) -> accompanist::NodeBuilder {
        let settings = Settings { retransmission_delay_max: Duration::from_millis(100), ..Settings::default() };
        let builder = Node::builder(NodeId::new(name).unwrap()).store(self.disks[disk].open().unwrap());
        builder.transport(self.network.clone()).settings_unless_given(settings).choreography(Sale)
    }
}

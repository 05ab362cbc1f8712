//! Nodes that are restarted with other types under the same names: they stop with both shapes, lose nothing, and go on
//! with the former types. The kinds of values within a session are in `core/tests/it/changed.rs`.

#![allow(clippy::type_complexity, reason = "a type parameter for each kind of value")]

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use accompanist::Message;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use serde::{Deserialize, Serialize};

use crate::actor::Place;
use crate::support::{TestNode, on_disk, within};

/// An amount of money, of which the type says what it is counted in.
trait Money: Message + Debug + Clone + PartialEq {
    fn of(amount: u64) -> Self;
    fn amount(&self) -> u64;
}

macro_rules! money {
    ($($name:ident)*) => {$(
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        struct $name(u64);
        impl Money for $name {
            fn of(amount: u64) -> Self {
                Self(amount)
            }
            fn amount(&self) -> u64 {
                self.0
            }
        }
    )*};
}
money! { Cents Euros }

const SHAPES: &str = "written was `Cents(number)`, expected is `Euros(u64)`";

#[derive(Clone, Copy)]
struct Till;
impl Role for Till {
    const NAME: &'static str = "till";
    type Service = ();
}

/// Shows its input, and adds what a signal brings.
struct Sale<M>(PhantomData<fn() -> M>);
impl<M: Money> Choreography for Sale<M> {
    const NAME: &'static str = "sale";
    type Roles = (Till,);
    type Input = At<Till, M>;
    type Output = At<Till, M>;
    async fn run(&self, ctx: &Context<(Till,)>, input: At<Till, M>) -> Result<Self::Output, Abort> {
        ctx.publish(Till, &input);
        let more: At<Till, M> = ctx.signal(Till, "more").await?;
        Ok(ctx.locally(Till, |here| M::of(here.get(&input).amount() + here.get(&more).amount())))
    }
}

async fn till<M: Money>(disk: &MemoryDisk) -> TestNode {
    let builder = on_disk("till", disk, LocalNetwork::new()).role(Till, Arc::new(()));
    TestNode::start(builder.choreography(Sale::<M>(PhantomData))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_changed_types_stops_its_sessions_and_the_former_node_goes_on_with_them() {
    let disk = MemoryDisk::default();
    let node = till::<Cents>(&disk).await;
    let sale = within(node.start(Sale::<Cents>(PhantomData), Cents(1)).key("k")).await.unwrap();
    let id = sale.id();
    within(async { while !matches!(sale.initiator().query::<Cents>().await, Ok(Some(Cents(1)))) {} }).await;
    let view = within(sale.initiator().query::<Euros>()).await.unwrap_err().to_string();
    assert!(view.contains(SHAPES), "{view}");
    within(node.shutdown()).await;

    let node = till::<Euros>(&disk).await;
    let reason = node.stopped().await[0].reason.clone();
    assert!(reason.contains("the input of the session cannot be read at role `till` ("), "{reason}");
    assert!(reason.contains(SHAPES), "{reason}");
    let again = within(node.start(Sale::<Euros>(PhantomData), Euros(1)).key("k")).await.unwrap_err();
    assert!(matches!(again, StartError::OtherInput { .. }), "{again}");
    within(node.shutdown()).await;

    let node = till::<Cents>(&disk).await;
    let sale = within(node.session::<Sale<Cents>>(id)).await.unwrap();
    within(sale.initiator().signal("more", "1", &Cents(2))).await.unwrap();
    assert_eq!(within(sale.settled()).await.unwrap(), Cents(3));
    within(node.shutdown()).await;

    // What is left of a session is not misread either.
    let node = till::<Euros>(&disk).await;
    let sale = within(node.session::<Sale<Euros>>(id)).await.unwrap();
    let output = within(sale.output()).await.unwrap_err().to_string();
    assert!(output.contains(SHAPES), "{output}");
}

const TOTAL: &str = "total";

/// Adds what it is told; its message, state and reply have a type each.
struct Account<M, S, R>(PhantomData<fn() -> (M, S, R)>);
impl<M: Money, S: Money, R: Money> DurableActor for Account<M, S, R> {
    const NAME: &'static str = "account";
    type Message = M;
    type Reply = R;
    fn handle(&self, _: &mut ActorContext<'_>, state: &mut State<'_>, message: M) -> Result<R, Abort> {
        let total = Table::<(), S>::new(TOTAL)
            .update(state, (), |total| Ok(S::of(total.map_or(0, |total| total.amount()) + message.amount())))?;
        Ok(R::of(total.amount()))
    }
}
type Old = Account<Cents, Cents, Cents>;

async fn total(node: &Node) -> u64 {
    let read = |state: &State<'_>| Table::<(), Cents>::new(TOTAL).get(state, ());
    within(node.actor::<Old>().read(read)).await.unwrap().unwrap().map_or(0, |total| total.0)
}

/// What was told while the actor was down stops at `New`, and is handled by the former actor.
async fn check_stops<M: Money, S: Money>(said: u64, place: &Place, edge: &TestNode, part: &str) {
    within(edge.actor::<Old>().tell(&Cents(1))).await.unwrap();
    let site = TestNode::start(place.builder("site").actor(Account::<M, S, Cents>(PhantomData))).await;
    let stopped = site.stopped().await;
    assert!(stopped[0].reason.contains(part) && stopped[0].reason.contains(SHAPES), "{}", stopped[0].reason);
    within(site.shutdown()).await;
    let site = TestNode::start(place.builder("site").actor(Account::<Cents, Cents, Cents>(PhantomData))).await;
    for stopped in site.operator().stopped_sessions() {
        within(site.operator().instance(stopped.session, stopped.role).resume()).await.unwrap();
    }
    within(async { while total(&site).await < said {} }).await;
    assert_eq!(total(&site).await, said);
    within(site.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_with_changed_types_stops_at_the_message_and_the_former_actor_handles_it() {
    let place = Place::default();
    let site = TestNode::start(place.builder("site").actor(Account::<Cents, Cents, Cents>(PhantomData))).await;
    let edge = TestNode::start(place.builder("edge").talks_to::<Old>()).await;
    assert_eq!(within(edge.actor::<Old>().ask(&Cents(1))).await.unwrap(), Cents(1));
    let reply = within(edge.actor::<Account<Cents, Cents, Euros>>().ask(&Cents(1))).await.unwrap_err().to_string();
    assert!(reply.contains(SHAPES), "{reply}");
    assert_eq!(total(&site).await, 2, "the question was handled, and only its reply cannot be read");
    within(site.shutdown()).await;
    check_stops::<Euros, Cents>(3, &place, &edge, "a message from node `edge` to actor `account` version 1").await;
    check_stops::<Cents, Euros>(4, &place, &edge, "table `total` of role `account`: the value under a key").await;
}

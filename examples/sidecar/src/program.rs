//! The choreography: packed at the depot, declared at the customs, booked at the carrier.
//!
//! Its roles are sidecars: each step is a call of a service that was there before. One of them is no service but a
//! workflow of the office, an orchestration as a transaction.

use accompanist::prelude::*;

use crate::api::Api;
use crate::model::{Noted, Order, Outcome, Parcel};

/// What the depot's sidecar calls.
#[derive(Debug)]
pub struct DepotServices {
    /// The service it stands beside.
    pub depot: Api,
    /// The orchestrator.
    pub office: Api,
}

/// Packs. Starts the delivery.
#[derive(Debug, Clone, Copy)]
pub struct Depot;
impl Role for Depot {
    const NAME: &'static str = "depot";
    type Service = DepotServices;
}

/// Takes parcels along.
#[derive(Debug, Clone, Copy)]
pub struct Carrier;
impl Role for Carrier {
    const NAME: &'static str = "carrier";
    type Service = Api;
}

/// Puts the goods into a box.
struct Pack;
impl Transaction for Pack {
    const NAME: &'static str = "pack";
    type Role = Depot;
    type Input = Order;
    type Output = Noted;
    async fn commit(&self, here: &Local<Depot>, order: &Order) -> Result<Noted, Abort> {
        here.service().depot.call("pack", &here.key().to_string(), order).await
    }
    async fn compensate(&self, here: &Local<Depot>, order: &Order, _: &Noted) -> Result<(), Retry> {
        here.service().depot.undo("pack", &here.key().to_string(), order).await
    }
}

/// Has the office run its customs workflow, which is orchestrated as it always was.
struct Customs;
impl Transaction for Customs {
    const NAME: &'static str = "customs";
    type Role = Depot;
    type Input = Order;
    type Output = i64;
    async fn commit(&self, here: &Local<Depot>, order: &Order) -> Result<i64, Abort> {
        match here.service().office.call("workflows/customs", &here.key().to_string(), order).await? {
            Outcome::Done(papers) => Ok(papers),
            Outcome::Refused(reason) => Err(Abort::new(crate::api::REFUSED, reason)),
        }
    }
    async fn compensate(&self, here: &Local<Depot>, order: &Order, _: &i64) -> Result<(), Retry> {
        here.service().office.undo("workflows/customs", &here.key().to_string(), order).await
    }
}

/// Has the parcel taken along, or hears that it is not.
struct Book;
impl Transaction for Book {
    const NAME: &'static str = "book";
    type Role = Carrier;
    type Input = Parcel;
    type Output = Noted;
    async fn commit(&self, here: &Local<Carrier>, parcel: &Parcel) -> Result<Noted, Abort> {
        here.service().call("book", &here.key().to_string(), &parcel.order).await
    }
    async fn compensate(&self, here: &Local<Carrier>, parcel: &Parcel, _: &Noted) -> Result<(), Retry> {
        here.service().undo("book", &here.key().to_string(), &parcel.order).await
    }
}

/// The delivery of an order.
#[derive(Debug, Clone, Copy)]
pub struct Delivery;

impl Choreography for Delivery {
    const NAME: &'static str = "delivery";
    type Roles = (Depot, Carrier);
    type Input = At<Depot, Order>;
    type Output = At<Depot, Noted>;

    async fn run(&self, ctx: &Context<Self::Roles>, order: At<Depot, Order>) -> Result<At<Depot, Noted>, Abort> {
        ctx.transact(Pack, &order).await?;
        let papers = ctx.transact(Customs, &order).await?;
        let parcel = ctx.locally(Depot, |here| Parcel { order: here.get(&order).clone(), papers: *here.get(&papers) });
        let parcel = ctx.comm(Depot, Carrier, &parcel).await?;
        let tracking = ctx.transact(Book, &parcel).await?;
        ctx.comm(Carrier, Depot, &tracking).await
    }
}

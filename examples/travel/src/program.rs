//! The choreography, and the same trip with an orchestrator in the middle.

use accompanist::prelude::*;

use crate::atlas::Atlas;
use crate::booking::Book;
use crate::model::{Booked, Choices, Itinerary, Route, Wish};

/// Wants a trip.
#[derive(Debug, Clone, Copy)]
pub struct Client;
impl Role for Client {
    const NAME: &'static str = "client";
    type Service = ();
}

/// Knows where airports are.
#[derive(Debug, Clone, Copy)]
pub struct Geo;
impl Role for Geo {
    const NAME: &'static str = "geo";
    type Service = Atlas;
}

/// Has the seats.
#[derive(Debug, Clone, Copy)]
pub struct Flight;
impl Role for Flight {
    const NAME: &'static str = "flight";
    type Service = Atlas;
}

/// Has the rooms.
#[derive(Debug, Clone, Copy)]
pub struct Reservation;
impl Role for Reservation {
    const NAME: &'static str = "reservation";
    type Service = Atlas;
}

type Roles = (Client, Geo, Flight, Reservation);

/// What is said when nothing is left.
const SEAT: &str = "seat";
const ROOM: &str = "room";

/// A trip, in three messages one after the other: to geo, on to flight and reservation, and back from both.
#[derive(Debug, Clone, Copy)]
pub struct BookTrip;

impl Choreography for BookTrip {
    const NAME: &'static str = "book-trip";
    type Roles = Roles;
    type Input = At<Client, Wish>;
    type Output = At<Client, Itinerary>;

    async fn run(&self, ctx: &Context<Roles>, wish: At<Client, Wish>) -> Result<At<Client, Itinerary>, Abort> {
        let wish = ctx.comm(Client, Geo, &wish).await?;
        // Whether anyone has to fly is the business of these three: the client need not know to wait for both.
        let booked = ctx.conclave((Geo, Flight, Reservation), async |ctx| {
            let route = ctx.locally(Geo, |here| here.service().route(here.get(&wish)));
            let route = &ctx.broadcast(Geo, &route).await?;
            let (at_flight, at_reservation) = (ctx.fork(), ctx.fork());
            let hotels = at_reservation.locally(Reservation, |here| here.service().hotels(route));
            let hotel = at_reservation.transact(Book::<Reservation>::new(ROOM), &hotels);
            if route.is_local() {
                return Ok((at_flight.locally(Flight, |_| None), hotel.await?));
            }
            let flights = async {
                let out = at_flight.locally(Flight, |here| here.service().flights_out(route));
                let back = at_flight.locally(Flight, |here| here.service().flights_back(route));
                let (out, back) = tokio::try_join!(
                    at_flight.transact(Book::<Flight>::new(SEAT), &out),
                    at_flight.transact(Book::<Flight>::new(SEAT), &back),
                )?;
                Ok(at_flight.locally(Flight, |here| Some((here.get(&out).clone(), here.get(&back).clone()))))
            };
            tokio::try_join!(flights, hotel)
        });
        let (flights, hotel) = booked.await?;
        let (flights, hotel) =
            tokio::try_join!(ctx.comm(Flight, Client, &flights), ctx.comm(Reservation, Client, &hotel))?;
        Ok(itinerary(ctx, &flights, &hotel))
    }
}

fn itinerary(
    ctx: &Context<Roles>,
    flights: &At<Client, Option<(Booked, Booked)>>,
    hotel: &At<Client, Booked>,
) -> At<Client, Itinerary> {
    ctx.locally(Client, |here| Itinerary { flights: here.get(flights).clone(), hotel: here.get(hotel).clone() })
}

/// The same roles, steps, stores and network, with the client as a durable orchestrator: it asks one after the other,
/// and waits for each answer; if `PARALLEL`, it asks at once what does not depend on another answer.
#[derive(Debug, Clone, Copy)]
pub struct BookTripCentrally<const PARALLEL: bool>;

impl<const PARALLEL: bool> Choreography for BookTripCentrally<PARALLEL> {
    const NAME: &'static str = if PARALLEL { "book-trip-centrally-parallel" } else { "book-trip-centrally" };
    type Roles = Roles;
    type Input = At<Client, Wish>;
    type Output = At<Client, Itinerary>;

    async fn run(&self, ctx: &Context<Roles>, wish: At<Client, Wish>) -> Result<At<Client, Itinerary>, Abort> {
        let asked = ctx.comm(Client, Geo, &wish).await?;
        let route = ctx.locally(Geo, |here| here.service().route(here.get(&asked)));
        let route = ctx.comm(Geo, Client, &route).await?;
        // The client does not wait for those whom it tells.
        let is_local = ctx.locally(Client, |here| here.get(&route).is_local());
        let flies = !ctx.broadcast(Client, &is_local).await?;
        let [out, back, stay] = [ctx.fork(), ctx.fork(), ctx.fork()];
        if !flies {
            let hotels = find(&stay, Reservation, &route, Atlas::hotels).await?;
            let hotel = book(&stay, Reservation, ROOM, &hotels).await?;
            return Ok(itinerary(ctx, &ctx.locally(Client, |_| None), &hotel));
        }
        let (out, back, hotel) = if PARALLEL {
            let (flights_out, flights_back, hotels) = tokio::try_join!(
                find(&out, Flight, &route, Atlas::flights_out),
                find(&back, Flight, &route, Atlas::flights_back),
                find(&stay, Reservation, &route, Atlas::hotels),
            )?;
            tokio::try_join!(
                book(&out, Flight, SEAT, &flights_out),
                book(&back, Flight, SEAT, &flights_back),
                book(&stay, Reservation, ROOM, &hotels),
            )?
        } else {
            let flights_out = find(&out, Flight, &route, Atlas::flights_out).await?;
            let flights_back = find(&back, Flight, &route, Atlas::flights_back).await?;
            let hotels = find(&stay, Reservation, &route, Atlas::hotels).await?;
            let out = book(&out, Flight, SEAT, &flights_out).await?;
            let back = book(&back, Flight, SEAT, &flights_back).await?;
            (out, back, book(&stay, Reservation, ROOM, &hotels).await?)
        };
        let flights = ctx.locally(Client, |here| Some((here.get(&out).clone(), here.get(&back).clone())));
        Ok(itinerary(ctx, &flights, &hotel))
    }
}

/// The client asks a role what there is.
async fn find<R: Role<Service = Atlas>, I, J>(
    ctx: &Context<Roles>,
    role: R,
    route: &At<Client, Route>,
    search: fn(&Atlas, &Route) -> Choices,
) -> Result<At<Client, Choices>, Abort>
where
    Roles: Has<R, I> + Has<Client, J>,
{
    let asked = ctx.comm(Client, role, route).await?;
    let found = ctx.locally(role, |here| search(here.service(), here.get(&asked)));
    ctx.comm(role, Client, &found).await
}

/// The client has a role book one of the choices.
async fn book<R: Role<Service = Atlas>, I, J>(
    ctx: &Context<Roles>,
    role: R,
    what: &'static str,
    choices: &At<Client, Choices>,
) -> Result<At<Client, Booked>, Abort>
where
    Roles: Has<R, I> + Has<Client, J>,
{
    let asked = ctx.comm(Client, role, choices).await?;
    let booked = ctx.transact(Book::<R>::new(what), &asked).await?;
    ctx.comm(role, Client, &booked).await
}

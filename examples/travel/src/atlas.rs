//! Airports, flights and hotels, made from a seed: the same at every role.

use crate::model::{Choices, Point, Route, Wish};

/// The seed that is used unless one is given.
pub const SEED: u64 = 17;
/// The map is so many kilometres wide and high.
const SIZE: i32 = 1_000;
const AIRPORTS: usize = 8;
const HOTELS_OF_AIRPORT: usize = 2;
/// Seats of a flight on a day.
pub const SEATS: u32 = 2;
/// Rooms of a hotel in a night.
pub const ROOMS: u32 = 2;
/// Trips begin within so many days.
const DAYS: u32 = 40;
/// The longest stay.
const NIGHTS_MAX: u32 = 4;

/// A place with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub point: Point,
}

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Atlas {
    seed: u64,
    airports: Vec<Site>,
    hotels: Vec<Site>,
    rooms: u32,
}

impl Atlas {
    /// The atlas of that seed.
    pub fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut place = |name: String| Site { name, point: Point { x: random.i32(0..SIZE), y: random.i32(0..SIZE) } };
        let airports: Vec<_> = ('a'..).take(AIRPORTS).map(|letter| place(format!("airport-{letter}"))).collect();
        let hotels = (1..=AIRPORTS * HOTELS_OF_AIRPORT).map(|number| place(format!("hotel-{number}"))).collect();
        Self { seed, airports, hotels, rooms: ROOMS }
    }

    /// The same, with so many rooms in each hotel.
    #[must_use]
    pub fn with_rooms(self, rooms: u32) -> Self {
        Self { rooms, ..self }
    }

    /// The airport next to a place.
    pub fn airport_next_to(&self, point: Point) -> &str {
        let next = self.airports.iter().min_by_key(|airport| airport.point.square_to(point));
        next.map_or("", |airport| &airport.name)
    }

    /// The airports of a wish.
    pub fn route(&self, wish: &Wish) -> Route {
        let (origin, destination) = (self.airport_next_to(wish.from), self.airport_next_to(wish.to));
        Route { wish: wish.clone(), origin: origin.into(), destination: destination.into() }
    }

    /// The flights there on the day of leaving: there is one in the morning and one in the evening.
    pub fn flights_out(&self, route: &Route) -> Choices {
        flights(&route.origin, &route.destination, &route.wish.trip, "out", route.wish.leaves)
    }

    /// The flights back on the day of coming back.
    pub fn flights_back(&self, route: &Route) -> Choices {
        flights(&route.destination, &route.origin, &route.wish.trip, "back", route.wish.returns)
    }

    /// The two hotels next to where the traveller wants to be.
    pub fn hotels(&self, route: &Route) -> Choices {
        let mut hotels: Vec<_> = self.hotels.iter().collect();
        hotels.sort_by_key(|hotel| hotel.point.square_to(route.wish.to));
        let names = hotels.into_iter().take(2).map(|hotel| hotel.name.clone()).collect();
        let Wish { trip, leaves, returns, .. } = &route.wish;
        Choices { trip: format!("{trip} stay"), names, places: self.rooms, days: (*leaves, *returns) }
    }

    /// A wish, the same for each number. Every fourth is near the traveller's own airport.
    pub fn wish(&self, number: u32) -> Wish {
        let mut random = fastrand::Rng::with_seed(self.seed ^ (u64::from(number) << 32));
        let mut somewhere = || Point { x: random.i32(0..SIZE), y: random.i32(0..SIZE) };
        let (from, far) = (somewhere(), somewhere());
        let to = if number.is_multiple_of(4) { from } else { far };
        let leaves = random.u32(0..DAYS);
        Wish { trip: format!("trip-{number}"), from, to, leaves, returns: leaves + random.u32(1..=NIGHTS_MAX) }
    }
}

fn flights(from: &str, to: &str, trip: &str, leg: &str, day: u32) -> Choices {
    let names = ["morning", "evening"].map(|time| format!("{from} to {to}, {time}")).into();
    Choices { trip: format!("{trip} {leg}"), names, places: SEATS, days: (day, day + 1) }
}

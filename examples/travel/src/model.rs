//! What is sent around.

use serde::{Deserialize, Serialize};

/// A place on the map, in kilometres.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// To the east.
    pub x: i32,
    /// To the north.
    pub y: i32,
}

impl Point {
    /// The square of the distance.
    pub fn square_to(self, other: Self) -> i64 {
        let (x, y) = (i64::from(self.x - other.x), i64::from(self.y - other.y));
        x * x + y * y
    }
}

/// What a traveller wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Its name everywhere.
    pub trip: String,
    /// Where the traveller is.
    pub from: Point,
    /// Where the traveller wants to be.
    pub to: Point,
    /// The day of leaving.
    pub leaves: u32,
    /// The day of coming back.
    pub returns: u32,
}

/// A wish, with the airports next to both places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The wish.
    pub wish: Wish,
    /// The airport next to the traveller.
    pub origin: String,
    /// The airport next to where the traveller wants to be.
    pub destination: String,
}

impl Route {
    /// Whether nobody has to fly.
    pub fn is_local(&self) -> bool {
        self.origin == self.destination
    }
}

/// What is to be booked: the best first, and the next one if that is full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choices {
    /// The trip and what it is for: a trip has one booking of each.
    pub trip: String,
    /// Flights or hotels, by name.
    pub names: Vec<String>,
    /// How many of each may be booked on one day.
    pub places: u32,
    /// The days, the last one not included.
    pub days: (u32, u32),
}

/// What was booked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Booked {
    /// The flight or hotel.
    pub name: String,
    /// The days, the last one not included.
    pub days: (u32, u32),
}

/// What the traveller gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Itinerary {
    /// Out and back; none if the hotel is next to the same airport.
    pub flights: Option<(Booked, Booked)>,
    /// Where the traveller sleeps.
    pub hotel: Booked,
}

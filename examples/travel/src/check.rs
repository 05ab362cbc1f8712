//! What must hold of the books when all is over.

use std::collections::BTreeMap;

use accompanist::{Abort, State};

use crate::atlas::{Atlas, ROOMS, SEATS};
use crate::booking::{BOOKINGS, TAKEN};
use crate::model::Booked;

/// What the traveller was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// All is booked.
    Booked,
    /// Nothing is, with the code of the refusal.
    Refused(String),
}

/// The book of one role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    /// How many places are taken, by name and day.
    pub taken: BTreeMap<(String, u32), u32>,
    /// What each trip has: its name and what it is for.
    pub bookings: BTreeMap<String, Booked>,
}

impl Book {
    /// Reads it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read(state: &State<'_>) -> Result<Self, Abort> {
        let taken = TAKEN.range(state, ..).collect::<Result<_, _>>()?;
        Ok(Self { taken, bookings: BOOKINGS.range(state, ..).collect::<Result<_, _>>()? })
    }

    /// Where what is taken is not what was booked, or more than there is.
    fn faults(&self, places: u32) -> Vec<String> {
        let mut booked: BTreeMap<(String, u32), u32> = BTreeMap::new();
        for Booked { name, days } in self.bookings.values() {
            for day in days.0..days.1 {
                *booked.entry((name.clone(), day)).or_default() += 1;
            }
        }
        let keys = self.taken.keys().chain(booked.keys().filter(|key| !self.taken.contains_key(*key)));
        let of = |counts: &BTreeMap<_, u32>, key: &(String, u32)| counts.get(key).copied().unwrap_or_default();
        let counts = keys.map(|key| (key, of(&self.taken, key), of(&booked, key)));
        let wrong = counts.filter(|(_, taken, booked)| taken != booked || *taken > places);
        wrong.map(|((name, day), taken, booked)| format!("{name}, day {day}: {taken} taken, {booked} booked")).collect()
    }
}

/// One check, and where it does not hold.
#[derive(Debug)]
pub struct Check {
    /// What must hold.
    pub name: &'static str,
    /// Where it does not.
    pub faults: Vec<String>,
}

/// Checks the books of both against what the travellers were told.
pub fn check(atlas: &Atlas, flight: &Book, reservation: &Book, answers: &BTreeMap<u32, Answer>) -> [Check; 3] {
    let places = flight.faults(SEATS).into_iter().chain(reservation.faults(ROOMS)).collect();
    let (mut halves, mut wrong) = (Vec::new(), Vec::new());
    let mut known = 0;
    for (number, answer) in answers {
        let wish = atlas.wish(*number);
        let trip = &wish.trip;
        let has = |book: &Book, what: &str| book.bookings.contains_key(&format!("{trip} {what}"));
        let parts = [has(flight, "out"), has(flight, "back"), has(reservation, "stay")];
        known += parts.iter().filter(|has| **has).count();
        let flies = !atlas.route(&wish).is_local();
        let whole = parts == [flies, flies, true];
        if !whole && parts != [false; 3] {
            halves.push(format!("{trip}: out, back and hotel are {parts:?}"));
        }
        if whole != (*answer == Answer::Booked) {
            wrong.push(format!("{trip}: {answer:?}, and out, back and hotel are {parts:?}"));
        }
    }
    let all = flight.bookings.len() + reservation.bookings.len();
    if known != all {
        halves.push(format!("{all} bookings, of which {known} are of trips that were asked for"));
    }
    [
        Check { name: "no seat and no room is given twice, and none is lost", faults: places },
        Check { name: "a trip is booked whole, or not at all", faults: halves },
        Check { name: "every answer is right", faults: wrong },
    ]
}

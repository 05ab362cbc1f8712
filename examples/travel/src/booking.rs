//! The steps: places taken and given back, on the built-in state of the role that has them.

use std::marker::PhantomData;

use accompanist::prelude::*;

use crate::model::{Booked, Choices};

/// How many places are taken, by flight or hotel and day.
pub const TAKEN: Table<(String, u32), u32> = Table::new("taken");
/// What each trip has.
pub const BOOKINGS: Table<String, Booked> = Table::new("bookings");

/// The code of the refusal.
pub const FULL: &str = "full";

/// Takes a place in the first of the choices that has one on all days.
pub(crate) struct Book<R>(PhantomData<fn() -> R>, &'static str);

impl<R> Book<R> {
    /// What is said of what is booked, when it is full.
    pub(crate) const fn new(what: &'static str) -> Self {
        Self(PhantomData, what)
    }
}

impl<R: Role> LocalTransaction for Book<R> {
    const NAME: &'static str = "book";
    type Role = R;
    type Input = Choices;
    type Output = Booked;

    fn commit(&self, state: &mut State<'_>, choices: &Choices) -> Result<Booked, Abort> {
        let Choices { trip, names, places, days } = choices;
        for name in names {
            let mut is_free = true;
            for day in days.0..days.1 {
                is_free &= TAKEN.get(state, (name.as_str(), day))?.unwrap_or_default() < *places;
            }
            if is_free {
                for day in days.0..days.1 {
                    TAKEN.update(state, (name.as_str(), day), |taken| Ok(taken.unwrap_or_default() + 1))?;
                }
                let booked = Booked { name: name.clone(), days: *days };
                BOOKINGS.put(state, trip.as_str(), &booked)?;
                return Ok(booked);
            }
        }
        Err(Abort::new(FULL, format!("no {} is left for {trip}", self.1)))
    }

    fn compensate(&self, state: &mut State<'_>, choices: &Choices, booked: &Booked) -> Result<(), Retry> {
        for day in booked.days.0..booked.days.1 {
            TAKEN
                .update(state, (booked.name.as_str(), day), |taken| Ok(taken.unwrap_or_default().saturating_sub(1)))?;
        }
        BOOKINGS.take(state, choices.trip.as_str())?;
        Ok(())
    }
}

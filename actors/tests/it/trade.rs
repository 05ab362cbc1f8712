//! A small saga for the tests of nodes: a deal between a front with built-in state and a back with a service outside.

use std::collections::BTreeMap;
use std::sync::Mutex;

use accompanist::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

#[derive(Clone, Copy)]
pub struct Front;
#[derive(Clone, Copy)]
pub struct Back;
#[derive(Clone, Copy)]
pub struct Side;

impl Role for Front {
    const NAME: &'static str = "front";
    type Service = ();
}
impl Role for Back {
    const NAME: &'static str = "back";
    type Service = Outside;
}
impl Role for Side {
    const NAME: &'static str = "side";
    type Service = ();
}

/// How often something took effect and was compensated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub done: u32,
    pub undone: u32,
}

pub const KEPT: Tally = Tally { done: 1, undone: 0 };
pub const COMPENSATED: Tally = Tally { done: 1, undone: 1 };
pub const NOTHING: Tally = Tally { done: 0, undone: 0 };

/// A service that honours idempotency keys, and fails and waits when it is told to. Outlives every node.
pub struct Outside {
    tallies: Mutex<BTreeMap<String, Tally>>,
    /// How often it still has to panic, by place.
    trips: Mutex<BTreeMap<&'static str, u32>>,
    asked: watch::Sender<u32>,
    gate_open: watch::Sender<bool>,
}

impl Default for Outside {
    fn default() -> Self {
        Self {
            tallies: Mutex::default(),
            trips: Mutex::default(),
            asked: watch::channel(0).0,
            gate_open: watch::channel(true).0,
        }
    }
}

impl Outside {
    /// Panics the next `times` times that something comes by `place`.
    pub fn trip(&self, place: &'static str, times: u32) {
        self.trips.lock().unwrap().insert(place, times);
    }

    pub fn pass(&self, place: &'static str) {
        let trips = {
            let mut trips = self.trips.lock().unwrap();
            let left = trips.entry(place).or_default();
            std::mem::replace(left, left.saturating_sub(1))
        };
        assert_eq!(trips, 0, "tripped at {place}, as the test wants");
    }

    /// How often it still has to panic at `place`.
    pub fn trips_left(&self, place: &str) -> u32 {
        self.trips.lock().unwrap().get(place).copied().unwrap_or_default()
    }

    /// Lets nobody pass who has been charged, until it is opened.
    pub fn set_gate(&self, open: bool) {
        self.gate_open.send_replace(open);
    }

    /// How often it was asked to charge, repetitions included.
    pub fn asked(&self) -> u32 {
        *self.asked.borrow()
    }

    /// Waits until it was asked so often.
    pub async fn asked_times(&self, times: u32) {
        self.asked.subscribe().wait_for(|asked| *asked >= times).await.unwrap();
    }

    /// What took effect under all keys together.
    pub fn total(&self) -> Tally {
        let tallies = self.tallies.lock().unwrap();
        let sum = |pick: fn(&Tally) -> u32| tallies.values().map(pick).sum();
        Tally { done: sum(|tally| tally.done), undone: sum(|tally| tally.undone) }
    }

    /// What took effect in one session.
    pub fn of(&self, session: SessionId) -> Tally {
        let tallies = self.tallies.lock().unwrap();
        let own = tallies.iter().filter(|(key, _)| key.starts_with(&format!("{session}/")));
        own.fold(NOTHING, |sum, (_, tally)| Tally { done: sum.done + tally.done, undone: sum.undone + tally.undone })
    }

    /// Takes effect at once; whether its caller hears of that is up to trips and gate.
    async fn charge(&self, key: String, id: u32) -> u32 {
        {
            let mut tallies = self.tallies.lock().unwrap();
            let tally = tallies.entry(key).or_default();
            assert_eq!(tally.undone, 0, "a charge came after its refund");
            tally.done = 1;
        }
        self.asked.send_modify(|asked| *asked += 1);
        self.pass("charge");
        self.gate_open.subscribe().wait_for(|open| *open).await.unwrap();
        id * 100
    }

    fn refund(&self, key: String) {
        self.tallies.lock().unwrap().entry(key).or_default().undone = 1;
    }
}

/// The first id that panics the front's first step.
pub const UNLUCKY: u32 = 900;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deal {
    pub id: u32,
    /// Whether the last step is refused.
    pub refused: bool,
}

pub fn deal(id: u32) -> Deal {
    Deal { id, refused: false }
}

pub struct Pay;
impl Transaction for Pay {
    const NAME: &'static str = "pay";
    type Role = Back;
    type Input = Deal;
    type Output = u32;
    async fn commit(&self, here: &Local<Back>, deal: &Deal) -> Result<u32, Abort> {
        Ok(here.service().charge(here.key().to_string(), deal.id).await)
    }
    async fn compensate(&self, here: &Local<Back>, deal: &Deal, paid: &u32) -> Result<(), Retry> {
        assert_eq!(*paid, deal.id * 100);
        here.service().refund(here.key().to_string());
        Ok(())
    }
}

macro_rules! front_step {
    ($step:ident, $table:literal, $check:expr) => {
        pub struct $step;
        impl LocalTransaction for $step {
            const NAME: &'static str = $table;
            type Role = Front;
            type Input = Deal;
            type Output = u32;
            fn commit(&self, state: &mut State<'_>, deal: &Deal) -> Result<u32, Abort> {
                count(state, $table, deal.id, |tally| tally.done += 1)?;
                // After the change, so that there is something to throw away.
                let check: fn(&Deal) -> Result<(), Abort> = $check;
                check(deal).map(|()| deal.id)
            }
            fn compensate(&self, state: &mut State<'_>, deal: &Deal, output: &u32) -> Result<(), Retry> {
                assert_eq!(*output, deal.id);
                Ok(count(state, $table, deal.id, |tally| tally.undone += 1)?)
            }
        }
    };
}
front_step!(Hold, "hold", |deal| {
    assert!(deal.id < UNLUCKY, "an unlucky deal, as the test wants");
    Ok(())
});
front_step!(Dispatch, "dispatch", |deal| {
    if deal.refused { Err(Abort::new("no-truck", "there is no truck")) } else { Ok(()) }
});

/// What a front step did, by deal.
fn table(step: &'static str) -> Table<u32, Tally> {
    Table::new(step)
}

fn count(state: &mut State<'_>, step: &'static str, id: u32, change: impl FnOnce(&mut Tally)) -> Result<(), Abort> {
    let mut tally = table(step).get(state, id)?.unwrap_or_default();
    change(&mut tally);
    table(step).put(state, id, &tally)
}

/// What a front step did for one deal, as the front's node keeps it.
pub async fn tally(front: &Node, step: &'static str, id: u32) -> Tally {
    let read = move |state: &State<'_>| table(step).get(state, id).unwrap().unwrap_or_default();
    front.read_state(Front, read).await.unwrap()
}

/// Started by its second role: reserved in front, paid for at the back, dispatched or refused in front.
pub struct Trade;
impl Choreography for Trade {
    const NAME: &'static str = "trade";
    type Roles = (Back, Front);
    type Input = At<Front, Deal>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, deal: At<Front, Deal>) -> Result<At<Front, u32>, Abort> {
        ctx.transact(Hold, &deal).await?;
        let bill = ctx.comm(Front, Back, &deal).await?;
        let paid = ctx.transact(Pay, &bill).await?;
        let paid = ctx.comm(Back, Front, &paid).await?;
        let dispatched = ctx.transact(Dispatch, &deal).await?;
        Ok(ctx.locally(Front, |here| here.get(&paid) + here.get(&dispatched)))
    }
}

//! The warehouse saga as the tests run it: the warehouse and loyalty on the built-in state, payment at a bank outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::testing::EventRecorder;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy)]
pub struct Warehouse;
#[derive(Clone, Copy)]
pub struct Payment;
#[derive(Clone, Copy)]
pub struct Loyalty;

impl Role for Warehouse {
    const NAME: &'static str = "warehouse";
    type Service = ();
}
impl Role for Payment {
    const NAME: &'static str = "payment";
    type Service = Bank;
}
impl Role for Loyalty {
    const NAME: &'static str = "loyalty";
    type Service = ();
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub id: u32,
    pub declined: bool,
}

/// How often a step was done and compensated for one order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub done: u32,
    pub undone: u32,
}

pub type Ledger = BTreeMap<u32, Entry>;

/// A bank that honours idempotency keys and outlives every node.
#[derive(Default)]
pub struct Bank(Mutex<BankState>, Option<EventRecorder>);

#[derive(Default)]
struct BankState {
    ledger: Ledger,
    charges: BTreeMap<String, Result<u32, Abort>>,
    refunds: BTreeSet<String>,
    asked: u32,
}

impl Bank {
    pub fn watched_by(recorder: EventRecorder) -> Self {
        Self(Mutex::default(), Some(recorder))
    }
    fn told(&self, tell: impl FnOnce(&EventRecorder)) {
        if let Some(recorder) = &self.1 {
            tell(recorder);
        }
    }
    pub fn ledger(&self) -> Ledger {
        self.0.lock().unwrap().ledger.clone()
    }
    /// How often it was asked to charge or refund, repetitions included.
    pub fn asked(&self) -> u32 {
        self.0.lock().unwrap().asked
    }
    async fn charge(&self, step: &IdempotencyKey, order: &Order) -> Result<u32, Abort> {
        let key = step.to_string();
        if !order.id.is_multiple_of(2) {
            tokio::time::sleep(Duration::from_millis(3)).await;
        } // Otherwise it takes effect at once: an intent that is not durable by now comes too late.
        let answer = {
            let mut bank = self.0.lock().unwrap();
            bank.asked += 1;
            let answer = match bank.charges.get(&key) {
                Some(answer) => answer.clone(),
                None if bank.refunds.contains(&key) => panic!("a charge came after its refund"),
                None if order.declined => Err(Abort::new("declined", "the card was declined")),
                None => {
                    bank.ledger.entry(order.id).or_default().done += 1;
                    self.told(|recorder| recorder.committed(step));
                    Ok(order.id)
                }
            };
            bank.charges.insert(key, answer.clone());
            answer
        };
        // A crash now finds the charge made and its result unknown.
        tokio::time::sleep(Duration::from_millis(3)).await;
        answer
    }
    async fn refund(&self, step: &IdempotencyKey, order: &Order) -> Result<(), Retry> {
        tokio::time::sleep(Duration::from_millis(2)).await;
        {
            let mut bank = self.0.lock().unwrap();
            bank.asked += 1;
            if bank.asked.is_multiple_of(3) {
                return Err(Retry::new("the bank is busy"));
            }
            if bank.refunds.insert(step.to_string()) {
                bank.ledger.entry(order.id).or_default().undone += 1;
                self.told(|recorder| recorder.compensated(step));
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok(())
    }
}

/// What a step did, by order.
fn table(step: &'static str) -> Table<u32, Entry> {
    Table::new(step)
}

fn count(state: &mut State<'_>, step: &'static str, id: u32, change: impl FnOnce(&mut Entry)) -> Result<(), Abort> {
    let mut entry = table(step).get(state, id)?.unwrap_or_default();
    change(&mut entry);
    table(step).put(state, id, &entry)
}

macro_rules! local_step {
    ($step:ident, $role:ty, $table:literal, $output:ty, $give:expr, $refuse:expr) => {
        pub struct $step;
        impl LocalTransaction for $step {
            const NAME: &'static str = $table;
            type Role = $role;
            type Input = Order;
            type Output = $output;
            fn commit(&self, state: &mut State<'_>, order: &Order) -> Result<$output, Abort> {
                count(state, $table, order.id, |entry| entry.done += 1)?;
                let refuse: fn(&Order) -> Option<Abort> = $refuse;
                // After the change, so that a refusal has something to throw away.
                refuse(order).map_or(Ok($give), Err)
            }
            fn compensate(&self, state: &mut State<'_>, order: &Order, output: &$output) -> Result<(), Retry> {
                assert_eq!(*output, $give);
                // The last first: what was reserved is not let go before the shipment is called back.
                let shipped = table("ship").get(state, order.id)?.unwrap_or_default();
                assert!($table != "reserve" || shipped.done == shipped.undone, "compensated forwards");
                Ok(count(state, $table, order.id, |entry| entry.undone += 1)?)
            }
        }
    };
}
local_step!(Reserve, Warehouse, "reserve", u32, 7, |_| None);
local_step!(Screen, Loyalty, "screen", u32, 4, |order| {
    (order.id % 10 == 3).then(|| Abort::new("unwelcome", "this customer is not served"))
});
local_step!(Insure, Warehouse, "insure", u32, 6, |order| {
    (order.id % 10 == 5).then(|| Abort::new("no-cover", "nobody insures this"))
});
local_step!(Confirm, Loyalty, "confirm", u32, 5, |order| {
    (order.id % 10 == 4).then(|| Abort::new("no-member", "the membership has ended"))
});
local_step!(Award, Loyalty, "award", u32, 8, |_| None);
local_step!(Ship, Warehouse, "ship", u32, 9, |order| {
    (order.id % 10 == 6).then(|| Abort::new("no-truck", "there is no truck"))
});

pub struct Charge;
impl Transaction for Charge {
    const NAME: &'static str = "charge";
    type Role = Payment;
    type Input = Order;
    type Output = u32;
    async fn commit(&self, here: &Local<Payment>, order: &Order) -> Result<u32, Abort> {
        here.service().charge(here.key(), order).await
    }
    async fn compensate(&self, here: &Local<Payment>, order: &Order, output: &u32) -> Result<(), Retry> {
        assert_eq!(order.id, *output);
        here.service().refund(here.key(), order).await
    }
}

pub struct WarehouseOrder;
impl Choreography for WarehouseOrder {
    const NAME: &'static str = "warehouse-order";
    type Roles = (Warehouse, Payment, Loyalty);
    type Input = At<Warehouse, Order>;
    type Output = At<Warehouse, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, order: At<Warehouse, Order>) -> Result<At<Warehouse, u32>, Abort> {
        // Side by side: a refusal of one must not hide the other from a replay.
        let (insuring, reserving) = (ctx.fork(), ctx.fork());
        tokio::try_join!(insuring.transact(Insure, &order), reserving.transact(Reserve, &order))?;
        // At two roles side by side: the one's refusal comes at any moment of the other's commit.
        let (paying, screening) = (ctx.fork(), ctx.fork());
        let pay = async {
            let bill = paying.comm(Warehouse, Payment, &order).await?;
            paying.transact(Charge, &bill).await?;
            Ok(bill)
        };
        let screen = async {
            let customer = screening.comm(Warehouse, Loyalty, &order).await?;
            screening.transact(Screen, &customer).await
        };
        let (bill, _) = tokio::try_join!(pay, screen)?;
        let bill = ctx.comm(Payment, Loyalty, &bill).await?;
        let lucky = ctx.random(Loyalty).await?;
        ctx.transact(Award, &bill).await?;
        // What Loyalty drew travels: a replay that drew again would send other bytes under the same id.
        let lucky = ctx.comm(Loyalty, Warehouse, &lucky).await?;
        let order = ctx.locally(Warehouse, |here| {
            let _drawn = here.get(&lucky);
            here.get(&order).clone()
        });
        let shipped = ctx.transact(Ship, &order).await?;
        let (_, _) = ctx.multicast(Warehouse, (Payment, Loyalty), &shipped).await?;
        // The others have finished when this one is refused.
        ctx.transact(Confirm, &bill).await?;
        Ok(shipped)
    }
}

/// Checks one order against the ledgers: all done once, or all that was done is undone; `completed` is what its caller
/// was told.
pub fn check_order(order: &Order, completed: bool, ledgers: &BTreeMap<&'static str, Ledger>) {
    for step in ["insure", "reserve", "screen", "charge", "award", "ship", "confirm"] {
        let entry = ledgers[step].get(&order.id).cloned().unwrap_or_default();
        assert!(entry.done <= 1, "{order:?}: {step} was done {} times", entry.done);
        let expected_undone = if completed { 0 } else { entry.done };
        assert_eq!(entry.undone, expected_undone, "{order:?} (completed: {completed}): {step} is {entry:?}");
        if completed {
            assert_eq!(entry.done, 1, "{order:?} is completed, and {step} is lost");
        }
    }
    assert_eq!(completed, !order.declined && ![3, 4, 5, 6].contains(&(order.id % 10)), "{order:?}");
}

/// The ledgers that the warehouse's and loyalty's nodes keep, with the bank's.
pub async fn ledgers(warehouse: &Node, loyalty: &Node, bank: &Arc<Bank>) -> BTreeMap<&'static str, Ledger> {
    let read = |step: &'static str| {
        move |state: &State<'_>| table(step).range(state, ..).collect::<Result<Ledger, _>>().unwrap()
    };
    BTreeMap::from([
        ("insure", warehouse.read_state(Warehouse, read("insure")).await.unwrap()),
        ("reserve", warehouse.read_state(Warehouse, read("reserve")).await.unwrap()),
        ("ship", warehouse.read_state(Warehouse, read("ship")).await.unwrap()),
        ("confirm", loyalty.read_state(Loyalty, read("confirm")).await.unwrap()),
        ("screen", loyalty.read_state(Loyalty, read("screen")).await.unwrap()),
        ("award", loyalty.read_state(Loyalty, read("award")).await.unwrap()),
        ("charge", bank.ledger()),
    ])
}

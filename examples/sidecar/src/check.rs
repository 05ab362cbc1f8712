//! What must hold of the books when all is over.

use std::collections::BTreeMap;

use fleet::Effect;

use crate::model::{ISLAND, Order, Outcome};

/// What is done for an order that is delivered.
pub const EFFECTS: [&str; 5] = ["charge", "pack", "declare", "stamp", "book"];

/// One check, and what does not hold of it.
#[derive(Debug)]
pub struct Check {
    /// What must hold.
    pub name: &'static str,
    /// Where it does not.
    pub faults: Vec<String>,
}

/// Checks the books of all services against the orders and what the office answered.
pub fn check(effects: &[Effect], answers: &[(Order, Outcome)]) -> [Check; 3] {
    let mut done: BTreeMap<(&str, &str), Vec<bool>> = BTreeMap::new();
    for Effect { effect, subject, undone, .. } in effects {
        done.entry((subject, effect)).or_default().push(*undone);
    }
    let twice = done.iter().filter(|(_, times)| times.len() > 1);
    let twice = twice.map(|((order, effect), times)| format!("{effect} of {order}: {} times", times.len())).collect();
    let (mut halves, mut wrong) = (Vec::new(), Vec::new());
    for (order, outcome) in answers {
        let stands = |effect: &str| done.get(&(&order.id, effect)).is_some_and(|times| times.contains(&false));
        let status: Vec<_> = EFFECTS.into_iter().filter(|effect| stands(effect)).collect();
        let expected: &[&str] = if order.to == ISLAND { &[] } else { &EFFECTS };
        if status != expected {
            halves.push(format!("{}: {status:?} stand, and not {expected:?}", order.id));
        }
        if matches!(outcome, Outcome::Done(_)) == (order.to == ISLAND) {
            wrong.push(format!("{}, to {}: {outcome:?}", order.id, order.to));
        }
    }
    [
        Check { name: "nothing is done twice", faults: twice },
        Check { name: "an order is done whole, or taken back whole, on both sides of the border", faults: halves },
        Check { name: "every answer is right", faults: wrong },
    ]
}

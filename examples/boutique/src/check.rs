//! What must hold of the services' books when all is over.

use std::collections::BTreeMap;

use fleet::Effect;

use crate::sample::is_good;

/// What is done for an order.
pub const EFFECTS: [&str; 4] = ["charge", "empty", "mail", "ship"];

/// One check, and where it does not hold.
#[derive(Debug)]
pub struct Check {
    /// What must hold.
    pub name: &'static str,
    /// Where it does not.
    pub faults: Vec<String>,
}

/// Checks the books against what the customers were told: whether the order of that number is on its way.
pub fn check(effects: &[Effect], answers: &BTreeMap<u32, bool>) -> [Check; 3] {
    let mut done: BTreeMap<(&str, &str), Vec<bool>> = BTreeMap::new();
    for Effect { key, effect, undone, .. } in effects {
        let order = key.split_once('/').map_or(key.as_str(), |(order, _)| order);
        done.entry((order, effect)).or_default().push(*undone);
    }
    let twice = done.iter().filter(|(_, times)| times.len() > 1);
    let twice = twice.map(|((order, effect), times)| format!("{effect} of {order}: {} times", times.len())).collect();
    let (mut halves, mut wrong) = (Vec::new(), Vec::new());
    for (number, is_placed) in answers {
        let order = format!("order-{number}");
        let stands = |effect: &str| done.get(&(&*order, effect)).is_some_and(|times| times.contains(&false));
        let status: Vec<_> = EFFECTS.into_iter().filter(|effect| stands(effect)).collect();
        let expected: &[&str] = if *is_placed { &EFFECTS } else { &[] };
        if status != expected {
            halves.push(format!("{order}: {status:?} stand, and not {expected:?}"));
        }
        if *is_placed != is_good(*number) {
            wrong.push(format!("{order}: placed: {is_placed}"));
        }
    }
    [
        Check { name: "nothing is charged, shipped or sent twice", faults: twice },
        Check { name: "an order is done whole, or taken back whole", faults: halves },
        Check { name: "every answer is right", faults: wrong },
    ]
}

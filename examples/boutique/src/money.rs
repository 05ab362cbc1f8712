//! Arithmetic of [`Money`]: units and nanos, carried right. Of one currency each; [`convert`] goes between two.

use crate::hipstershop::Money;

const NANOS: i128 = 1_000_000_000;
/// What one euro is, in millionths.
const RATES: [(&str, i128); 6] = [
    ("EUR", 1_000_000),
    ("USD", 1_130_500),
    ("JPY", 126_400_000),
    ("GBP", 859_700),
    ("CHF", 1_136_000),
    ("CAD", 1_512_800),
];

fn nanos(money: &Money) -> i128 {
    i128::from(money.units) * NANOS + i128::from(money.nanos)
}

fn of_nanos(currency_code: &str, nanos: i128) -> Money {
    let units = i64::try_from(nanos / NANOS).unwrap_or(i64::MAX);
    Money { currency_code: currency_code.into(), units, nanos: i32::try_from(nanos % NANOS).unwrap_or_default() }
}

/// So many dollars and cents.
pub fn dollars(units: i64, cents: i32) -> Money {
    Money { currency_code: "USD".into(), units, nanos: cents * 10_000_000 }
}

/// The sum.
pub fn sum(of: &Money, and: &Money) -> Money {
    of_nanos(&of.currency_code, nanos(of) + nanos(and))
}

/// So many times.
pub fn times(money: &Money, count: i32) -> Money {
    of_nanos(&money.currency_code, nanos(money) * i128::from(count))
}

/// The currencies that are known.
pub fn currencies() -> Vec<String> {
    RATES.iter().map(|(code, _)| (*code).to_owned()).collect()
}

/// In another currency, rounded down to a nano; `None` if one of the two is not known.
pub fn convert(money: &Money, to: &str) -> Option<Money> {
    let rate = |code: &str| RATES.iter().find(|(known, _)| *known == code).map(|(_, rate)| *rate);
    Some(of_nanos(to, nanos(money) * rate(to)? / rate(&money.currency_code)?))
}

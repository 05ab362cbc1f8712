//! What travels: readings, and what the gateway makes of them.

use serde::{Deserialize, Serialize};

/// One measurement of one sensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    pub sensor: String,
    /// Counted by the sensor, from 1.
    pub number: u32,
    /// In hundredths of a degree Celsius.
    pub centidegrees: i32,
}

/// A reading as the gateway passes it on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub reading: Reading,
    /// The sensor's moving average after this reading: wrong ever after, if one is handled twice, or not at all.
    pub smoothed: i32,
}

/// What the thermometer shows. No chance is in it, so that anybody can tell later what was measured.
pub fn measured(sensor: &str, number: u32) -> Reading {
    let place = sensor.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let mean = 1_400.0 + f64::from(place % 9) * 100.0;
    let swing = 300.0 + f64::from(place % 5) * 60.0;
    let day = f64::from(number) / (90.0 + f64::from(place % 60)) * std::f64::consts::TAU;
    let noise = f64::from(place.wrapping_add(number).wrapping_mul(2_654_435_761) >> 16) / 65_536.0 - 0.5;
    #[expect(clippy::cast_possible_truncation, reason = "some thousands at most")]
    let centidegrees = (mean + swing * day.sin() + 40.0 * noise).round() as i32;
    Reading { sensor: sensor.to_owned(), number, centidegrees }
}

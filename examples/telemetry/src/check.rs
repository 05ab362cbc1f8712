//! What has to hold at the end, whatever was killed.

use std::collections::BTreeMap;

use accompanist::{Abort, State};

use crate::gateway::smoothed;
use crate::model::{Report, measured};
use crate::site::ARRIVED;

/// What has arrived at the site, by sensor and in the order of arrival.
pub type Log = BTreeMap<String, Vec<Report>>;

/// Something that has to hold, and where it does not.
#[derive(Debug)]
pub struct Check {
    pub name: &'static str,
    pub violations: Vec<String>,
}

impl Check {
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}

pub fn read_log(site: &State<'_>) -> Result<Log, Abort> {
    let mut log = Log::new();
    for row in ARRIVED.range(site, ..) {
        let ((sensor, _), report) = row?;
        log.entry(sensor).or_default().push(report);
    }
    Ok(log)
}

/// Whether `log` is what these sensors have measured: each reading once, in order, and smoothed right.
pub fn check(log: &Log, sensors: &[&str], readings: u32) -> Vec<Check> {
    let (mut once, mut order, mut values, mut averages) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for sensor in sensors {
        let arrived = log.get(*sensor).map(Vec::as_slice).unwrap_or_default();
        let mut times: BTreeMap<u32, u32> = (1..=readings).map(|number| (number, 0)).collect();
        let (mut before, mut average) = (0, None);
        for Report { reading, smoothed: shown } in arrived {
            *times.entry(reading.number).or_default() += 1;
            if reading.number <= before {
                order.push(format!("{sensor}: reading {} came after reading {before}", reading.number));
            }
            before = reading.number;
            if *reading != measured(sensor, reading.number) {
                values.push(format!("{sensor}: reading {} is not what was measured", reading.number));
            }
            let expected = smoothed(average, reading.centidegrees);
            if *shown != expected {
                averages.push(format!("{sensor}: after reading {} {shown} instead of {expected}", reading.number));
            }
            average = Some(expected);
        }
        let wrong = times.into_iter().filter(|(_, times)| *times != 1);
        once.extend(wrong.map(|(number, times)| format!("{sensor}: reading {number} has arrived {times} times")));
    }
    let strangers = log.keys().filter(|sensor| !sensors.contains(&sensor.as_str()));
    once.extend(strangers.map(|sensor| format!("{sensor}: there is no such sensor")));
    vec![
        Check { name: "every reading exactly once", violations: once },
        Check { name: "in order, per sensor", violations: order },
        Check { name: "as it was measured", violations: values },
        Check { name: "the gateway's averages right", violations: averages },
    ]
}

//! The example's actors in simulated worlds, and its check on logs that are wrong.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "tests")]

use std::time::Duration;

use accompanist::testing::{Simulation, World};
use telemetry::site::COUNT;
use telemetry::{Check, Gateway, Log, Report, Site, check, measured, read_log, smoothed};

const SENSORS: [&str; 2] = ["attic", "cellar"];
const READINGS: u32 = 10;

/// Tells each reading under its key until it is taken in, over all crashes of the sensor's node.
async fn insist(world: World, sensor: &'static str) {
    let mut number = 1;
    while number <= READINGS {
        let node = world.running(sensor).await;
        let told = node.actor::<Gateway>().tell(&measured(sensor, number)).key(format!("reading {number}")).await;
        match told {
            Ok(()) => number += 1,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn chain(world: World) {
    for sensor in SENSORS {
        world.add_node(sensor, accompanist::NodeBuilder::talks_to::<Gateway>).await;
    }
    world.add_node("gateway", |node| node.actor(Gateway).talks_to::<Site>()).await;
    world.add_node("site", |node| node.actor(Site)).await;
    let told: Vec<_> = SENSORS.map(|sensor| tokio::spawn(insist(world.clone(), sensor))).into_iter().collect();
    for told in told {
        told.await.unwrap();
    }
    let all = u32::try_from(SENSORS.len()).unwrap() * READINGS;
    world
        .settle_when(async || {
            let site = world.running("site").await.actor::<Site>();
            let count = site.read(|state| COUNT.get(state, 0)).await;
            count.is_ok_and(|count| count.unwrap().unwrap_or_default() >= all)
        })
        .await;
    let log = world.running("site").await.actor::<Site>().read(read_log).await.unwrap().unwrap();
    for check in check(&log, &SENSORS, READINGS) {
        assert!(check.holds(), "{check:?}");
    }
}

#[test]
fn readings_arrive_once_and_in_order_in_rough_worlds() {
    println!("{}", Simulation::new().seeds(40).run(chain));
}

fn good() -> Log {
    let mut average = None;
    let reports = (1..=READINGS).map(|number| {
        let reading = measured("attic", number);
        let shown = smoothed(average, reading.centidegrees);
        average = Some(shown);
        Report { reading, smoothed: shown }
    });
    Log::from([("attic".to_owned(), reports.collect())])
}

fn failed(spoil: impl FnOnce(&mut Vec<Report>)) -> Vec<&'static str> {
    let mut log = good();
    spoil(log.get_mut("attic").unwrap());
    let checks = check(&log, &["attic"], READINGS);
    checks.iter().filter(|check| !check.holds()).map(|check: &Check| check.name).collect()
}

#[test]
fn the_check_finds_what_is_lost_doubled_out_of_order_or_changed() {
    let [once, order, values, averages] =
        ["every reading exactly once", "in order, per sensor", "as it was measured", "the gateway's averages right"];
    assert_eq!(failed(|_| {}), <[&str; 0]>::default());
    assert_eq!(failed(|log| drop(log.pop())), [once]);
    assert_eq!(failed(|log| log.push(log[9].clone()))[..2], [once, order]);
    assert_eq!(failed(|log| log.swap(3, 4))[0], order);
    assert!(failed(|log| log[9].reading.centidegrees += 1).contains(&values));
    assert_eq!(failed(|log| log[9].smoothed += 1), [averages]);
}

/// No reading, by the names of its fields: its numbers are any.
#[test]
fn nothing_of_what_it_works_with_is_logged() {
    let traced = fleet::Traced::run(env!("CARGO_BIN_EXE_telemetry"), &["--readings", "40"]).unwrap();
    // That there is something to find it in.
    assert!(traced.of("accompanist") > 0 && traced.of("zenoh") > 0, "nothing was logged");
    let found = traced.with(&["centidegrees", "smoothed:"], &[]);
    assert!(found.is_empty(), "{found:#?}");
}

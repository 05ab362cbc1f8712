//! A crash of each role at each point of a trip; the three programs side by side; the atlas; the check.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::testing::{Diagram, Ended, TestSetup, check_crashes, keep_diagram, lint};
use travel::atlas::{Atlas, SEED};
use travel::booking::FULL;
use travel::check::{Answer, Book, check};
use travel::model::{Booked, Itinerary, Point, Wish};
use travel::program::{BookTrip, BookTripCentrally, Client, Flight, Geo, Reservation};

fn services(atlas: &Atlas) -> Services {
    let atlas = Arc::new(atlas.clone());
    let services = Services::new().with(Client, Arc::new(())).with(Geo, atlas.clone());
    services.with(Flight, atlas.clone()).with(Reservation, atlas)
}

/// The first wish that needs flights, or that does not.
fn wish(atlas: &Atlas, local: bool) -> (u32, Wish) {
    let mut wishes = (1..).map(|number| (number, atlas.wish(number)));
    wishes.find(|(_, wish)| atlas.route(wish).is_local() == local).unwrap()
}

fn judge(atlas: &Atlas, number: u32, expected: &Answer, ended: &Ended<BookTrip>) {
    let answer = ended.output().as_ref().map_or_else(|abort| Answer::Refused(abort.code().into()), |_| Answer::Booked);
    assert_eq!(answer, *expected);
    let flight = ended.read_state(Flight, Book::read).unwrap();
    let reservation = ended.read_state(Reservation, Book::read).unwrap();
    let checks = check(atlas, &flight, &reservation, &BTreeMap::from([(number, answer)]));
    assert!(checks.iter().all(|check| check.faults.is_empty()), "{checks:?}");
}

#[tokio::test]
async fn a_trip_survives_each_crash_and_a_compensated_one_each_pair() {
    let full = Answer::Refused(FULL.into());
    let atlas = Atlas::new(SEED);
    for (atlas, local, expected, crashes) in [
        (atlas.clone(), false, Answer::Booked, 1),
        (atlas.clone(), true, Answer::Booked, 2),
        (atlas.with_rooms(0), false, full, 2),
    ] {
        let (number, wish) = wish(&atlas, local);
        let scene = || {
            let (services, atlas, expected) = (services(&atlas), atlas.clone(), expected.clone());
            TestSetup::new(services).judge(move |ended| judge(&atlas, number, &expected, ended))
        };
        let report = check_crashes(BookTrip, wish, crashes, scene).await.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.points > 20, "{report:?}");
    }
}

#[tokio::test]
async fn the_program_has_no_lint_findings() {
    let atlas = Atlas::new(SEED);
    let scene = TestSetup::new(services(&atlas)).deadline(Duration::from_hours(1));
    let findings = lint(BookTrip, wish(&atlas, false).1, scene).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(findings, []);
}

#[tokio::test]
async fn the_picture_in_the_readme_is_that_of_the_program() {
    let atlas = Atlas::new(SEED);
    let case = |label, atlas: &Atlas, local| (label, wish(atlas, local).1, TestSetup::new(services(atlas)));
    let full = atlas.clone().with_rooms(0);
    let cases = [
        case("the airports differ", &atlas, false),
        case("no room is left", &full, false),
        case("nobody has to fly", &atlas, true),
    ];
    let diagram = Diagram::of_cases(BookTrip, cases).await.unwrap_or_else(|failure| panic!("{failure}"));
    keep_diagram(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"), "trip", &diagram);
}

#[tokio::test]
async fn an_orchestrator_books_the_same() {
    let atlas = Atlas::new(SEED);
    for local in [false, true] {
        let (_, wish) = wish(&atlas, local);
        let ours: Itinerary = run_local(BookTrip, wish.clone(), &services(&atlas)).await.unwrap();
        assert_eq!(ours.flights.is_none(), local);
        assert_eq!(ours.hotel.days, (wish.leaves, wish.returns));
        let one_by_one = run_local(BookTripCentrally::<false>, wish.clone(), &services(&atlas)).await;
        let side_by_side = run_local(BookTripCentrally::<true>, wish, &services(&atlas)).await;
        assert_eq!((one_by_one, side_by_side), (Ok(ours.clone()), Ok(ours)));
    }
    let full = atlas.with_rooms(0);
    let refused = run_local(BookTripCentrally::<false>, wish(&full, false).1, &services(&full)).await.unwrap_err();
    assert_eq!(refused.code(), FULL);
}

#[test]
fn the_atlas_is_that_of_its_seed_and_knows_what_is_near() {
    let atlas = Atlas::new(SEED);
    assert_eq!(atlas, Atlas::new(SEED));
    assert_ne!(atlas, Atlas::new(SEED + 1));
    assert_eq!(atlas.wish(7), Atlas::new(SEED).wish(7));
    assert!(atlas.route(&atlas.wish(8)).is_local() && atlas.route(&atlas.wish(12)).is_local());
    let flying = (1..=100).filter(|number| !atlas.route(&atlas.wish(*number)).is_local()).count();
    assert!((50..=75).contains(&flying), "{flying}");
    assert_eq!(Point { x: 1, y: 2 }.square_to(Point { x: -2, y: 6 }), 25);
}

#[test]
fn the_check_finds_what_it_is_for() {
    let atlas = Atlas::new(SEED);
    let (number, wish) = wish(&atlas, false);
    let book = |parts: &[&str]| {
        let mut book = Book::default();
        for part in parts {
            let name = format!("the {part}");
            book.taken.insert((name.clone(), 1), 1);
            book.bookings.insert(format!("{} {part}", wish.trip), Booked { name, days: (1, 2) });
        }
        book
    };
    let (flights, stay, none) = (book(&["out", "back"]), book(&["stay"]), Book::default());
    let faults = |flight: &Book, reservation: &Book, answer: Answer| {
        check(&atlas, flight, reservation, &BTreeMap::from([(number, answer)])).map(|check| check.faults.len())
    };
    let refused = || Answer::Refused(FULL.into());
    assert_eq!(faults(&flights, &stay, Answer::Booked), [0, 0, 0]);
    assert_eq!(faults(&none, &none, refused()), [0, 0, 0]);
    assert_eq!(faults(&flights, &none, refused()), [0, 1, 0], "flights without a hotel");
    assert_eq!(faults(&flights, &stay, refused()), [0, 0, 1]);
    assert_eq!(faults(&none, &none, Answer::Booked), [0, 0, 1]);
    let mut lost = flights.clone();
    lost.taken.insert(("the out".into(), 1), 2);
    assert_eq!(faults(&lost, &stay, Answer::Booked), [1, 0, 0], "a seat that nobody has");
    let strange =
        Book { bookings: BTreeMap::from([("nobody out".into(), Booked { name: "x".into(), days: (1, 1) })]), ..none };
    assert_eq!(faults(&strange, &Book::default(), refused()), [0, 1, 0]);
}

/// Where somebody goes, and the names of fields.
#[test]
fn nothing_of_what_it_works_with_is_logged() {
    let traced = fleet::Traced::run(env!("CARGO_BIN_EXE_travel"), &["--trips", "20", "--kills", "1"]).unwrap();
    // That there is something to find it in.
    assert!(traced.of("accompanist") > 0 && traced.of("zenoh") > 0, "nothing was logged");
    let found = traced.with(&["airport-a", "airport-b", "airport-c", "hotel-1", "destination:", "places:"], &[]);
    assert!(found.is_empty(), "{found:#?}");
}

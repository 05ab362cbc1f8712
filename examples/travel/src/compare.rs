//! The choreography beside the orchestrator, with slow lines between all roles: one trip at a time, in turns.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use accompanist::Node;
use fleet::{Comparison, Kept, Sites, Turns};
use travel::atlas::{Atlas, SEED};
use travel::model::Wish;
use travel::program::{BookTrip, BookTripCentrally};

use crate::play::{ROLES, with_role};

/// How a trip is booked.
#[derive(Debug, Clone, Copy)]
enum Way {
    Choreography,
    Orchestrator,
    /// Asks side by side for what does not depend on another answer.
    ParallelOrchestrator,
}

const WAYS: [fleet::Way<Way>; 3] = [
    (Way::Choreography, "choreography"),
    (Way::Orchestrator, "orchestrator"),
    (Way::ParallelOrchestrator, "orchestrator, side by side"),
];

pub(crate) async fn run(comparison: Comparison) -> anyhow::Result<ExitCode> {
    comparison.run("Travel: a trip of two flights and a hotel", &WAYS, measure).await?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(delay: Duration, folder: &Path, turns: &mut Turns<Way>) -> anyhow::Result<()> {
    let atlas = Arc::new(Atlas::new(SEED));
    let play = |builder, place| with_role(builder, place, &atlas);
    let sites = Sites::start(&ROLES, folder, Kept::OverPower, |_, _| delay, play).await?;
    // Trips with flights, to places and on days that differ, so that nothing is full.
    let wishes = (1..).map(|number| atlas.wish(number)).filter(|wish| !atlas.route(wish).is_local());
    let wishes = wishes.flat_map(|wish| std::iter::repeat_n(wish, WAYS.len()));
    for (mut wish, leaves) in wishes.zip((10..).step_by(10)) {
        let Some((round, way)) = turns.next() else { break };
        (wish.leaves, wish.returns, wish.trip) = (leaves, leaves + 3, format!("{round} {way:?}"));
        let begun = Instant::now();
        book(way, sites.first()?, wish).await?;
        turns.took(begun.elapsed());
        sites.are_idle().await;
    }
    sites.end().await;
    Ok(())
}

async fn book(way: Way, client: &Node, wish: Wish) -> anyhow::Result<()> {
    match way {
        Way::Choreography => client.start(BookTrip, wish).await?.output().await?,
        Way::Orchestrator => client.start(BookTripCentrally::<false>, wish).await?.output().await?,
        Way::ParallelOrchestrator => client.start(BookTripCentrally::<true>, wish).await?.output().await?,
    };
    Ok(())
}

//! One session with many operations under way at the same time: what each costs must not grow with how many there are.
//!
//! What a session costs by itself, some syncs' waits, is in it: it is shared by all operations of one.
//!
//! Two nodes in this process, on a network of it and with stores in memory, so that it is about the instances.

use std::time::{Duration, Instant};

use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use anyhow::{Context as _, Result, ensure};
use futures_util::future::{try_join, try_join_all};
use serde::{Deserialize, Serialize};

use crate::report::Report;
use crate::scaling::{Bank, Shop};
use crate::{machine, scaling};

/// The width that the others are compared with.
const COMPARED_WITH: u32 = 100;

/// Options.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Operations that are under way at the same time in one session
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1_000, 10_000])]
    widths: Vec<u32>,
    /// Operations of each round, at least; a session more often is as good as a wider one
    #[arg(long, default_value_t = 2_000)]
    operations: u32,
    /// Rounds of each width, in turns; the fastest counts, as the others have waited for something else
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is done side by side.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum What {
    Messages,
    MessagesBothWays,
    LocalSteps,
}

const ALL: [(What, &str); 3] = [
    (What::Messages, "messages"),
    (What::MessagesBothWays, "messages, both ways"),
    (What::LocalSteps, "steps on the built-in state"),
];

struct Nothing;
impl LocalTransaction for Nothing {
    const NAME: &'static str = "nothing";
    type Role = Shop;
    type Input = u32;
    type Output = ();
    fn commit(&self, _: &mut State<'_>, _: &u32) -> Result<(), Abort> {
        Ok(())
    }
    fn compensate(&self, _: &mut State<'_>, _: &u32, (): &()) -> Result<(), Retry> {
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Wide;
impl Choreography for Wide {
    const NAME: &'static str = "wide";
    type Roles = (Shop, Bank);
    type Input = At<Shop, (What, u32)>;
    type Output = At<Shop, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, order: At<Shop, (What, u32)>) -> Result<Self::Output, Abort> {
        let (what, width) = ctx.broadcast(Shop, &order).await?;
        let numbers = || (0..width).map(|number| (number, ctx.locally(Shop, move |_| number)));
        let there = || try_join_all(numbers().map(|(_, number)| ctx.comm(Shop, Bank, &number)).collect::<Vec<_>>());
        match what {
            What::Messages => drop(there().await?),
            What::MessagesBothWays => {
                let back = (0..width).map(|number| ctx.comm(Bank, Shop, &ctx.locally(Bank, move |_| number)));
                let back = try_join_all(back.collect::<Vec<_>>());
                try_join(there(), back).await?;
            }
            What::LocalSteps => {
                let steps = numbers().map(|(_, number)| ctx.transact(Nothing, &number));
                try_join_all(steps.collect::<Vec<_>>()).await?;
            }
        }
        Ok(ctx.locally(Shop, |_| width))
    }
}

/// Runs the bench.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { widths, operations, rounds, json } = arguments;
    let mut report = Report::default();
    machine::describe(&mut report, &std::env::temp_dir());
    report.text("nodes", "2 in this process, with stores in memory");
    report.fact("operations of each round, at least", operations);
    report.fact("rounds of each, in turns", rounds);
    for (what, name) in ALL {
        let measure = async |width: u32| measure(what, width, operations.div_ceil(width).max(1)).await;
        let best = scaling::fastest(&widths, rounds, measure).await?;
        report.result_text(name, scaling::line(&best, Some(COMPARED_WITH)));
    }
    report.text("in brackets", format!("by that of {COMPARED_WITH}"));
    report.print(json)
}

/// The time of one operation.
async fn measure(what: What, width: u32, sessions: u32) -> Result<Duration> {
    let network = LocalNetwork::new();
    let node = |name: &str| -> Result<_> {
        let node = Node::builder(NodeId::new(name)?).store(MemoryDisk::default().open()?).transport(network.clone());
        Ok(node.choreography(Wide))
    };
    let shop = node("shop")?.role(Shop, ().into()).start().await?;
    let bank = node("bank")?.role(Bank, ().into()).start().await?;
    let one = async |width| -> Result<u32> { Ok(shop.start(Wide, (what, width)).await?.settled().await?) };
    one(1).await?; // They know each other from then on.
    let begun = Instant::now();
    for _ in 0..sessions {
        ensure!(one(width).await? == width, "another output");
    }
    let took = begun.elapsed();
    shop.shutdown().await;
    bank.shutdown().await;
    let operations = sessions.checked_mul(width).context("too many operations")?;
    Ok(took / operations.max(1))
}

//! What one thing costs while there are many of something beside it: sessions that wait, nodes, signals, keys,
//! versions.
//!
//! Nodes in this process, on a network of it and with stores in memory, so that it is about the runtime. What must not
//! grow is the time of one session, signal or start, compared with that at a size of a hundred (of ten where a thousand
//! are too many).

use std::ops::Range;
use std::time::{Duration, Instant};

use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use accompanist::{NodeBuilder, Session};
use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::report::Report;
use crate::scaling::{Bank, Shop};
use crate::{cluster, machine, scaling};

/// Options.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many there are of it
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 10_000])]
    sizes: Vec<u32>,
    /// How many nodes there are
    #[arg(long, value_delimiter = ',', default_values_t = [10, 30, 100])]
    nodes: Vec<u32>,
    /// How often each thing is done in a round
    #[arg(long, default_value_t = 1_000)]
    operations: u32,
    /// Rounds of each size, in turns; the fastest counts, as the others have waited for something else
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    WaitingSessions,
    Nodes,
    Signals,
    Keys,
    Versions,
}

/// What each measures, and what there are many of.
const KINDS: [(Kind, &str); 5] = [
    (Kind::WaitingSessions, "a session, beside sessions that wait at the same roles"),
    (Kind::Nodes, "a session, beside nodes that play one of its roles"),
    (Kind::Signals, "a signal, beside signals of its session that are not taken yet"),
    (Kind::Keys, "a start under a key, beside keys that are kept"),
    (Kind::Versions, "a session, beside versions of its choreography"),
];

/// Sessions and starts that are under way at the same time.
const AT_A_TIME: usize = 32;

/// The versions that a node can be given here.
const VERSIONS: [u32; 3] = [1, 10, 100];

/// There and back, in one version of many.
#[derive(Clone, Copy)]
struct Ping<const VERSION: u32>;
impl<const VERSION: u32> Choreography for Ping<VERSION> {
    const NAME: &'static str = "ping";
    const VERSION: u32 = VERSION;
    type Roles = (Shop, Bank);
    type Input = At<Shop, u32>;
    type Output = At<Shop, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, number: At<Shop, u32>) -> Result<Self::Output, Abort> {
        let there = ctx.comm(Shop, Bank, &number).await?;
        ctx.comm(Bank, Shop, &there).await
    }
}

/// Waits at both roles until the shop has had so many signals, which it takes one by one, and says how many there were.
#[derive(Clone, Copy)]
struct Wait;
const SIGNAL: &str = "go";
impl Choreography for Wait {
    const NAME: &'static str = "wait";
    type Roles = (Shop, Bank);
    type Input = At<Shop, u32>;
    type Output = At<Shop, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, signals: At<Shop, u32>) -> Result<Self::Output, Abort> {
        let signals = ctx.broadcast(Shop, &signals).await?;
        for _ in 0..signals {
            let _: At<Shop, ()> = ctx.signal(Shop, SIGNAL).await?;
        }
        let done = ctx.locally(Shop, |_| signals);
        let done = ctx.comm(Shop, Bank, &done).await?;
        ctx.comm(Bank, Shop, &done).await
    }
}

/// Runs the bench.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { sizes, nodes, operations, rounds, json } = arguments;
    let mut report = Report::default();
    machine::describe(&mut report, &std::env::temp_dir());
    report.text("nodes", "in this process, with stores in memory");
    report.fact("how often in each round", operations);
    report.fact("rounds of each, in turns", rounds);
    for (kind, name) in KINDS {
        let sizes = match kind {
            Kind::Nodes => nodes.as_slice(),
            Kind::Versions => VERSIONS.as_slice(),
            _ => sizes.as_slice(),
        };
        let best = scaling::fastest(sizes, rounds, async |size| measure(kind, size, operations).await).await?;
        report.result_text(name, scaling::line(&best, sizes.first().copied()));
    }
    report.text("in brackets", "by the first");
    report.print(json)
}

/// The nodes of one measurement: the shop, and those that play the bank.
struct Market {
    shop: Node,
    banks: Vec<Node>,
}

impl Market {
    async fn start(banks: u32, choreographies: impl Fn(NodeBuilder) -> NodeBuilder) -> Result<Self> {
        let network = LocalNetwork::new();
        let node = |name: String| -> Result<_> {
            let builder = Node::builder(NodeId::new(&name)?).store(MemoryDisk::default().open()?);
            Ok(choreographies(builder.transport(network.clone()).settings(cluster::settings())))
        };
        let shop = node("shop".to_owned())?.role(Shop, ().into()).start().await?;
        let starts = (0..banks).map(|number| Ok(node(format!("bank-{number}"))?.role(Bank, ().into()).start()));
        let banks = try_join_all(starts.collect::<Result<Vec<_>>>()?).await?;
        Ok(Self { shop, banks })
    }

    async fn pings(&self, count: u32) -> Result<Duration> {
        each(0..count, async |number| {
            ensure!(self.shop.start(Ping::<1>, number).await?.settled().await? == number, "another output");
            Ok(())
        })
        .await
    }

    async fn shut_down(self) {
        for node in self.banks.iter().chain([&self.shop]) {
            node.shutdown().await;
        }
    }
}

/// Does it for each number, some at a time so that what it costs is not hidden behind what it waits for, and gives the
/// time of one.
async fn each(numbers: Range<u32>, once: impl AsyncFn(u32) -> Result<()>) -> Result<Duration> {
    let (count, begun) = (numbers.len(), Instant::now());
    let once = &once;
    let all = stream::iter(numbers).map(|number| async move { once(number).await });
    all.buffer_unordered(AT_A_TIME).try_collect::<()>().await?;
    Ok(begun.elapsed() / u32::try_from(count.max(1))?)
}

/// The time of one operation beside `size` others.
async fn measure(kind: Kind, size: u32, operations: u32) -> Result<Duration> {
    let banks = if matches!(kind, Kind::Nodes) { size } else { 1 };
    let market = Market::start(banks, |builder| {
        let builder = builder.choreography(Wait).choreography(Ping::<1>);
        if matches!(kind, Kind::Versions) { further_versions(builder, size) } else { builder }
    })
    .await?;
    let shop = &market.shop;
    // All have heard of each other from then on, and memory is warm.
    market.pings(operations.max(2 * banks)).await?;
    let time = match kind {
        Kind::Nodes => market.pings(operations.max(2 * banks)).await?,
        Kind::Versions => market.pings(operations).await?,
        Kind::WaitingSessions => {
            let waiting = try_join_all((0..size).map(|_| shop.start(Wait, 1).into_future())).await?;
            let time = market.pings(operations).await?;
            try_join_all(waiting.iter().map(|session| session.initiator().signal(SIGNAL, "once", &()))).await?;
            try_join_all(waiting.iter().map(Session::settled)).await?;
            time
        }
        Kind::Signals => {
            let session = shop.start(Wait, size).await?;
            let initiator = session.initiator();
            let keys: Vec<String> = (0..size).map(|number| number.to_string()).collect();
            let begun = Instant::now();
            try_join_all(keys.iter().map(|key| initiator.signal(SIGNAL, key, &()))).await?;
            ensure!(session.settled().await? == size, "another output");
            begun.elapsed() / size.max(1)
        }
        Kind::Keys => {
            let start = |number: u32| shop.start(Ping::<1>, number).key(number.to_string());
            for session in try_join_all((0..size).map(|number| start(number).into_future())).await? {
                session.settled().await?;
            }
            each(size..size + operations, async |number| {
                let known = number % size.max(1);
                ensure!(start(number).await?.settled().await? == number, "another output");
                ensure!(start(known).await?.settled().await? == known, "another output");
                Ok(())
            })
            .await?
        }
    };
    market.shut_down().await;
    Ok(time)
}

/// Versions from 2 to `last`.
fn further_versions(mut builder: NodeBuilder, last: u32) -> NodeBuilder {
    macro_rules! versions {
        ($($version:literal)*) => { $( versions!(@ten $version 0 1 2 3 4 5 6 7 8 9); )* };
        (@ten $ten:literal $($one:literal)*) => {
            $(
                if (2..=last).contains(&($ten * 10 + $one)) {
                    builder = builder.choreography(Ping::<{ $ten * 10 + $one }>);
                }
            )*
        };
    }
    versions!(0 1 2 3 4 5 6 7 8 9);
    if last >= 100 { builder.choreography(Ping::<100>) } else { builder }
}

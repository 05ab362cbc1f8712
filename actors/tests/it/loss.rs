//! What lost packets cost, in simulated time: about a round trip each, and not the pause after which a node that
//! answers nothing is sent something again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::{Faults, FaultyNetwork};
use accompanist::{NodeBuilder, metric};
use tokio::time::Instant;

use crate::retention::Numbers;
use crate::support::{TestNode, node_id, within};
use crate::trade::{Back, Front, Outside};

/// There and back.
struct Echo;
impl Choreography for Echo {
    const NAME: &'static str = "echo";
    type Roles = (Front, Back);
    type Input = At<Front, u32>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, number: At<Front, u32>) -> Result<At<Front, u32>, Abort> {
        let heard = ctx.comm(Front, Back, &number).await?;
        ctx.comm(Back, Front, &heard).await
    }
}

const WAY: Duration = Duration::from_millis(10);
const SYNC: Duration = Duration::from_millis(1);
/// Simulated time goes on by whole ones.
const TICK: Duration = Duration::from_millis(1);
/// Packets there and back, and what is written before each is sent or acknowledged.
const ROUND_TRIP: Duration = Duration::from_millis(24);

fn builder(name: &str, network: &FaultyNetwork) -> NodeBuilder {
    let store = MemoryDisk::default().open().unwrap();
    let builder = Node::builder(node_id(name)).simulated_store(store, SYNC).transport(network.clone());
    builder.choreography(Echo)
}

/// How long `sessions` take until their output, so many at a time: the 99th percentile. With how many frames were sent
/// again.
async fn p99(loss: f64, in_flight: u32, sessions: u32) -> (Duration, u64) {
    let numbers = Numbers::default();
    let _recorder = metrics::set_default_local_recorder(&numbers);
    let faults = Faults { delay_min: WAY, delay_max: WAY, ..Faults::none() };
    let network = FaultyNetwork::new(7, faults);
    let front = TestNode::start(builder("front", &network).role(Front, Arc::new(()))).await;
    let back = TestNode::start(builder("back", &network).role(Back, Arc::new(Outside::default()))).await;
    for number in 0..20 {
        let session = within(front.start(Echo, number)).await.unwrap();
        within(session.settled()).await.unwrap();
    }
    network.set_faults(Faults { loss, ..faults });
    let next = Arc::new(AtomicU32::new(0));
    let lanes: Vec<_> = (0..in_flight)
        .map(|lane| {
            let (front, next) = (front.clone(), next.clone());
            tokio::spawn(async move {
                // So that not all of them share their packets.
                tokio::time::sleep(Duration::from_millis(lane.into())).await;
                let mut times = Vec::new();
                while next.fetch_add(1, Ordering::Relaxed) < sessions {
                    let start = Instant::now();
                    let session = front.start(Echo, 7).await.unwrap();
                    assert_eq!(session.output().await.unwrap(), 7);
                    times.push(start.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for lane in lanes {
        times.extend(lane.await.unwrap());
    }
    times.sort();
    let again = numbers.counter(metric::FRAMES_SENT_AGAIN);
    within(front.shutdown()).await;
    within(back.shutdown()).await;
    (times[times.len() * 99 / 100], again)
}

#[tokio::test(start_paused = true)]
async fn a_lost_packet_costs_about_a_round_trip() {
    for (in_flight, loss) in [(1, 0.01), (64, 0.05)] {
        let (without, again) = p99(0.0, in_flight, 200).await;
        assert_eq!(again, 0, "nothing was lost");
        let (with, again) = p99(loss, in_flight, 1_000).await;
        assert!(again > 10, "{again} frames sent again");
        assert!(with <= without + 3 * ROUND_TRIP, "{in_flight} in flight, {loss} lost: {without:?} to {with:?}");
    }
}

/// Ends and closes wait for company only where there is some: a session that is alone is settled two round trips after
/// its output, with the syncs of its two nodes.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_alone_waits_for_no_company() {
    let network = FaultyNetwork::new(7, Faults { delay_min: WAY, delay_max: WAY, ..Faults::none() });
    let front = TestNode::start(builder("front", &network).role(Front, Arc::new(()))).await;
    let _back = TestNode::start(builder("back", &network).role(Back, Arc::new(Outside::default()))).await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let session = within(front.start(Echo, 7)).await.unwrap();
        within(session.output()).await.unwrap();
        let output = Instant::now();
        within(session.settled()).await.unwrap();
        let behind = output.elapsed();
        assert!(behind <= 4 * (WAY + TICK) + 3 * SYNC, "{behind:?}");
    }
}

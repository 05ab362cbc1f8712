//! A network that is up and carries nothing in one direction, until something of it is made anew: noticed, healed
//! within bounds, and shown.

use std::sync::Arc;
use std::time::Duration;

use accompanist::contract::Heal;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::{Deafness, Faults, FaultyNetwork};
use accompanist::{Contact, metric};

use crate::retention::Numbers;
use crate::support::{TestNode, node_id, quick, until, within};
use crate::trade::{Back, Front, Outside, Side, Trade, deal};

const MINUTE: Duration = Duration::from_mins(1);

/// Three nodes that know each other, in paused time.
struct Three {
    network: FaultyNetwork,
    outside: Arc<Outside>,
    front: TestNode,
    back: TestNode,
    side: TestNode,
}

impl Three {
    async fn start() -> Self {
        Self::with(quick(), quick()).await
    }

    async fn with(fronts: Settings, backs: Settings) -> Self {
        let (network, outside) = (FaultyNetwork::new(1, Faults::none()), Arc::new(Outside::default()));
        let builder = |name, settings: &Settings| {
            let disk = MemoryDisk::default();
            let builder = Node::builder(node_id(name)).simulated_store(disk.open().unwrap(), Duration::from_millis(1));
            builder.transport(network.clone()).settings(settings.clone()).choreography(Trade)
        };
        let front = TestNode::start(builder("front", &fronts).role(Front, Arc::new(()))).await;
        let back = TestNode::start(builder("back", &backs).role(Back, outside.clone())).await;
        let side = TestNode::start(builder("side", &backs).role(Side, Arc::new(()))).await;
        let three = Self { network, outside, front, back, side };
        three.is_well().await;
        three
    }

    /// Waits until nobody complains.
    async fn is_well(&self) {
        let nodes = [&self.front, &self.back, &self.side];
        let is_well = |node: &&TestNode| {
            let peers = node.operator().peers();
            peers.len() == 2 && peers.iter().all(|peer| peer.contact == Contact::Good)
        };
        until("all to be in contact", || nodes.iter().all(is_well)).await;
    }

    async fn trades(&self, id: u32) {
        let session = within(self.front.start(Trade, deal(id))).await.unwrap();
        // Healing takes less than a minute with the usual periods.
        assert_eq!(within(session.settled()).await.unwrap(), id * 101);
    }
}

fn contact(node: &Node, peer: &str) -> Contact {
    node.operator().peers().into_iter().find(|known| known.node.as_str() == peer).unwrap().contact
}

fn is_deaf(node: &Node, peer: &str) -> bool {
    matches!(contact(node, peer), Contact::Deaf(_))
}

#[tokio::test(start_paused = true)]
async fn sessions_end_although_one_direction_carries_nothing_until_healed() {
    for level in [Heal::Publisher, Heal::Session] {
        for broadcasts_arrive in [true, false] {
            for way in [["front", "back"], ["back", "front"]] {
                let numbers = Numbers::default();
                let _recorder = metrics::set_default_local_recorder(&numbers);
                let three = Three::start().await;
                three.trades(1).await; // From now on each has the other one on disk.
                let [from, to] = way.map(node_id);
                three.network.deafen(&from, &to, Deafness { until: level, broadcasts_arrive });
                three.trades(2).await;
                assert!(!three.network.is_deaf(&from, &to), "{level:?}");
                three.is_well().await;
                let asked = if level == Heal::Publisher { 1 } else { 2 };
                assert_eq!(numbers.counter(metric::HEALS), asked, "{level:?} {broadcasts_arrive} {way:?}");
                until("nobody to be deaf", || numbers.gauge(metric::PEERS_DEAF).abs() < 0.1).await;
            }
        }
    }
}

/// Presence is enough to notice it: nobody has a session.
#[tokio::test(start_paused = true)]
async fn a_direction_that_carries_not_even_offers_is_healed_without_any_session() {
    let three = Three::start().await;
    let (back, side) = (three.back.name(), three.side.name());
    three.network.deafen(back, side, Deafness { until: Heal::Session, broadcasts_arrive: false });
    until("the side to be deaf to the back", || is_deaf(&three.back, "side")).await;
    assert_eq!(contact(&three.front, "side"), Contact::Good);
    until("the back to have healed it", || !three.network.is_deaf(back, side)).await;
    three.is_well().await;
}

#[tokio::test(start_paused = true)]
async fn a_deaf_peer_that_stays_deaf_is_listed_and_healed_at_growing_intervals() {
    let numbers = Numbers::default();
    let _recorder = metrics::set_default_local_recorder(&numbers);
    let three = Three::start().await;
    // A cable that is cut for one direction, which nothing heals.
    three.network.cut(three.side.name(), three.back.name());
    tokio::time::sleep(10 * MINUTE).await;
    let Contact::Deaf(time) = contact(&three.side, "back") else { panic!("{:?}", contact(&three.side, "back")) };
    assert!(time > 9 * MINUTE, "{time:?}");
    // Each node sets it, the side last.
    until("one to be deaf", || (numbers.gauge(metric::PEERS_DEAF) - 1.0).abs() < 0.1).await;
    let first = numbers.counter(metric::HEALS);
    assert!((5..=9).contains(&first), "{first}");
    tokio::time::sleep(60 * MINUTE).await;
    let next = numbers.counter(metric::HEALS) - first;
    assert!((5..=7).contains(&next), "about every ten minutes: {next}");
    three.network.heal();
    three.is_well().await;
    three.trades(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_goes_silent_and_returns_is_listed_and_counted_once_each() {
    let numbers = Numbers::default();
    let _recorder = metrics::set_default_local_recorder(&numbers);
    let three = Three::start().await;
    for times in 1..=3 {
        let start = tokio::time::Instant::now();
        three.network.isolate(three.back.name());
        until("silence", || matches!(contact(&three.front, "back"), Contact::Silent(_))).await;
        assert!((Duration::from_secs(6)..Duration::from_secs(10)).contains(&start.elapsed()), "three periods");
        assert_eq!(contact(&three.front, "side"), Contact::Good);
        tokio::time::sleep(MINUTE).await;
        // Each of the two sees the back go, and the back sees both.
        assert_eq!(numbers.counter(metric::PEERS_WENT_SILENT), 4 * times);
        assert_eq!(numbers.counter(metric::PEERS_CAME_BACK), 4 * (times - 1));
        let Contact::Silent(time) = contact(&three.side, "back") else { panic!("it is silent") };
        assert!(time > MINUTE && numbers.gauge(metric::PEERS_SILENT) > 0.1, "{time:?}");
        three.network.heal();
        three.is_well().await;
        until("all back", || numbers.counter(metric::PEERS_CAME_BACK) == 4 * times).await;
    }
    tokio::time::sleep(10 * MINUTE).await;
    assert!(numbers.gauge(metric::PEERS_SILENT).abs() < 0.1);
    assert_eq!(numbers.counter(metric::PEERS_WENT_SILENT), 12);
    assert_eq!(numbers.counter(metric::HEALS), 0, "who is silent is not deaf");
}

/// The back receives, and has reasons not to acknowledge: the message is too large for it.
#[tokio::test(start_paused = true)]
async fn one_that_acknowledges_nothing_for_long_is_not_deaf() {
    let numbers = Numbers::default();
    let _recorder = metrics::set_default_local_recorder(&numbers);
    let mut small = quick();
    small.limits.payload_bytes_max = 1;
    let three = Three::with(quick(), small).await;
    let session = within(three.front.start(Trade, deal(1))).await.unwrap();
    tokio::time::sleep(3 * MINUTE).await;
    assert!(numbers.counter(metric::FRAMES_SENT_AGAIN) > 100, "it is said again and again");
    assert_eq!(numbers.counter(metric::HEALS), 0);
    assert_eq!(contact(&three.front, "back"), Contact::Good);
    assert_eq!(three.outside.asked(), 0);
    drop(session);
}

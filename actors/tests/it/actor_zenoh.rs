//! Durable actors over Zenoh, with stores on disk: the receiver goes in the middle, and comes back.

use accompanist::prelude::*;
use accompanist::store::FjallStore;
use accompanist::transport::{ZenohConfig, ZenohTransport};

use crate::actor::{Note, Recorder, Relay, heard};
use crate::support::{TestNode, free_endpoint, node_id, quick, within};

struct Sites {
    folder: tempfile::TempDir,
    endpoints: [String; 3],
}

const NAMES: [&str; 3] = ["edge", "middle", "site"];

impl Sites {
    async fn start(&self, index: usize) -> (TestNode, ZenohTransport) {
        let mut config = ZenohConfig::new().listen(&self.endpoints[index]);
        for other in (0..3).filter(|other| *other != index) {
            config = config.connect(&self.endpoints[other]);
        }
        let network = within(ZenohTransport::open(config)).await.unwrap();
        let store = FjallStore::open(self.folder.path().join(NAMES[index])).unwrap();
        let builder = Node::builder(node_id(NAMES[index])).store(store).transport(network.clone()).settings(quick());
        let builder = match index {
            0 => builder.talks_to::<Relay>().talks_to::<Recorder>(),
            1 => builder.actor(Relay).talks_to::<Recorder>(),
            _ => builder.actor(Recorder),
        };
        (TestNode::start(builder).await, network)
    }
}

async fn stop((node, network): (TestNode, ZenohTransport)) {
    within(node.shutdown()).await;
    within(network.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_over_zenoh_arrive_once_and_in_order_despite_restarts() {
    let sites = Sites { folder: tempfile::tempdir().unwrap(), endpoints: [(); 3].map(|()| free_endpoint()) };
    let (edge, middle, site) = (sites.start(0).await, sites.start(1).await, sites.start(2).await);
    let tell = async |numbers: std::ops::Range<u32>| {
        for number in numbers {
            within(edge.0.actor::<Relay>().tell(&number)).await.unwrap();
        }
    };
    tell(0..100).await;
    assert!(within(edge.0.actor::<Recorder>().ask(&Note::Count)).await.unwrap() <= 100);
    stop(site).await;
    tell(100..200).await;
    stop(middle).await;
    tell(200..300).await;
    let (site, middle) = (sites.start(2).await, sites.start(1).await);
    tell(300..400).await;
    within(async {
        while heard(&site.0).await.len() < 400 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let expected: Vec<_> = (0..400).map(|number| ("edge".to_owned(), number)).collect();
    assert_eq!(heard(&site.0).await, expected);
    assert_eq!(within(edge.0.actor::<Recorder>().ask(&Note::Count)).await.unwrap(), 400);
    for node in [edge, middle, site] {
        stop(node).await;
    }
}

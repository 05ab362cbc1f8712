//! A rolling upgrade under load: nodes go and come back one by one with the next release, some of them by a power cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::transport::LocalNetwork;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::releases::Release::{Both, One, Two};
use crate::releases::{COMPENSATED, First, Release, Second, Sites, all_marks, open_everywhere};
use crate::support::{TestNode, within};
use crate::trade::{Deal, Tally};

/// A deal of the load; some are refused at their last step.
fn deal(id: u32) -> Deal {
    Deal { id, refused: id % 5 == 3 }
}

/// The front, as the load sees it: gone from time to time, and back with another release.
type Door = watch::Sender<Option<(Node, Release)>>;

/// Orders as fast as it goes, one after the other, until it is told to stop. Each is started until that succeeds.
struct Load {
    stop: Arc<AtomicBool>,
    started: watch::Receiver<u32>,
    task: JoinHandle<()>,
}

async fn start(node: &Node, release: Release, id: u32) -> Result<(), StartError> {
    let key = id.to_string();
    match release {
        One => node.start(First, deal(id)).key(&key).await.map(drop),
        _ => node.start(Second, deal(id)).key(&key).await.map(drop),
    }
}

impl Load {
    fn begin(door: &Door) -> Self {
        let (mut front, stop) = (door.subscribe(), Arc::new(AtomicBool::new(false)));
        let (started_sender, started) = watch::channel(0);
        let stopping = stop.clone();
        let task = tokio::spawn(async move {
            let mut id = 0;
            while !stopping.load(Ordering::SeqCst) {
                let (node, release) = front.wait_for(Option::is_some).await.unwrap().clone().unwrap();
                match start(&node, release, id).await {
                    Ok(()) => {
                        id += 1;
                        started_sender.send_replace(id);
                    }
                    Err(StartError::NodeStopped) => {} // It may have begun all the same: asked again, under its key.
                    Err(error) => panic!("{error}"),
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        Self { stop, started, task }
    }

    /// Waits until so many more have been started.
    async fn goes_on(&self, more: u32) {
        let mut started = self.started.clone();
        let so_far = *started.borrow();
        within(started.wait_for(|started| *started >= so_far + more)).await.unwrap();
    }

    /// Stops it, and says how many it has started.
    async fn end(self) -> u32 {
        self.stop.store(true, Ordering::SeqCst);
        within(self.task).await.unwrap();
        *self.started.borrow()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Leaves {
    Orderly,
    ByPowerCut,
}

struct System {
    sites: Sites<LocalNetwork>,
    nodes: [TestNode; 3],
    door: Door,
}

impl System {
    async fn start(release: Release) -> Self {
        let sites = Sites::default();
        let nodes = sites.start_all([release; 3]).await;
        let door = watch::channel(Some((Node::clone(&nodes[1]), release))).0;
        Self { sites, nodes, door }
    }

    async fn upgrade(&mut self, index: usize, leaves: Leaves, release: Release) {
        if index == 1 {
            self.door.send_replace(None);
        }
        if leaves == Leaves::ByPowerCut {
            self.sites.disks[index].crash(0);
            within(self.nodes[index].kill()).await;
        } else {
            within(self.nodes[index].shutdown()).await;
        }
        self.nodes[index] = self.sites.start(index, release).await;
        if index == 1 {
            self.door.send_replace(Some((Node::clone(&self.nodes[1]), release)));
        }
    }
}

/// Checks one deal in all books, and gives the version that it ran.
async fn check(nodes: [&Node; 3], id: u32) -> u32 {
    let session = within(nodes[1].start(Second, deal(id)).key(id.to_string())).await.unwrap();
    let told = within(session.settled()).await;
    let version = session.version().unwrap();
    match told {
        Ok(output) => assert_eq!((output, deal(id).refused), (version, false)),
        Err(SessionError::Aborted(abort)) => assert_eq!((abort.code(), deal(id).refused), ("no-truck", true)),
        Err(error) => panic!("deal {id}: {error}"),
    }
    let marks = all_marks(nodes, id).await;
    let taken_back = [version, version + COMPENSATED];
    assert_eq!(marks, if deal(id).refused { &taken_back[..] } else { &taken_back[..1] }, "deal {id}");
    version
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_upgraded_one_by_one_under_load() {
    use Leaves::{ByPowerCut, Orderly};
    let mut system = System::start(One).await;
    let load = Load::begin(&system.door);
    load.goes_on(20).await;
    // First all get the next version besides the present one. The front asks for the next one as soon as it knows it.
    for (index, leaves) in [(1, Orderly), (0, ByPowerCut), (2, Orderly)] {
        system.upgrade(index, leaves, Both).await;
        load.goes_on(20).await;
    }
    // From now on all that begins is of the next one; those of the present one end.
    open_everywhere(&system.nodes, |open| open[1][1] > 0).await;
    open_everywhere(&system.nodes, |open| open.iter().all(|open| open[0] == 0)).await;
    for (index, leaves) in [(2, ByPowerCut), (1, ByPowerCut), (0, Orderly)] {
        system.upgrade(index, leaves, Two).await;
        load.goes_on(20).await;
    }
    let started = load.end().await;

    let System { sites, nodes, .. } = system;
    let mut versions = Vec::new();
    for id in 0..started {
        versions.push(check([&nodes[0], &nodes[1], &nodes[2]], id).await);
    }
    for node in &nodes {
        node.is_idle().await;
    }
    let refused = (0..started).filter(|id| deal(*id).refused).count();
    assert_eq!(sites.outside.total(), Tally { done: started, undone: u32::try_from(refused).unwrap() });
    // Never back to a lower one.
    assert!(versions.is_sorted() && versions[0] == 1 && versions.last() == Some(&2), "{versions:?}");
}

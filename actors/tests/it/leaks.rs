//! A node that nobody shuts down: once its runtime and its handles are gone, nothing keeps its threads and its store.
//!
//! Threads are counted by name, so all of it is one test in a process of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use accompanist::contract::Transport;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::{Faults, FaultyNetwork, LocalNetwork};
use tokio::runtime::Runtime;

use crate::support::{node_id, quick, within};

/// The rest of the test is in a process of its own.
const ALONE: &str = "leaks::nothing_keeps_a_node_whose_runtime_and_handles_are_gone_alone";

#[test]
fn nothing_keeps_a_node_whose_runtime_and_handles_are_gone() {
    let own = std::env::current_exe().unwrap();
    let ran = Command::new(own).args([ALONE, "--exact", "--ignored", "--nocapture"]).output().unwrap();
    let text = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(ran.status.success() && text.contains("1 passed"), "{text}");
}

/// It may hold a handle on the node that it is the service of.
#[derive(Clone, Copy)]
struct Keeper;
impl Role for Keeper {
    const NAME: &'static str = "keeper";
    type Service = OnceLock<Node>;
}

struct Wait;
impl Choreography for Wait {
    const NAME: &'static str = "wait";
    type Roles = (Keeper,);
    type Input = At<Keeper, ()>;
    type Output = At<Keeper, u32>;
    async fn run(&self, ctx: &Context<(Keeper,)>, _: At<Keeper, ()>) -> Result<At<Keeper, u32>, Abort> {
        ctx.signal(Keeper, "go on").await
    }
}

/// How a node is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Handle and runtime are dropped, in this order.
    NodeFirst,
    /// The other way round.
    RuntimeFirst,
    /// What runs on the runtime panics with all of it in hand.
    Panic,
    /// The node is killed, and then dropped.
    Kill,
    /// Its own service has a handle on it.
    HeldByItself,
    /// The same, and the node was killed.
    KilledAndHeldByItself,
}

const ENDS: [End; 6] =
    [End::NodeFirst, End::RuntimeFirst, End::Panic, End::Kill, End::HeldByItself, End::KilledAndHeldByItself];

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Those of the node, of its store and of its network, by name.
fn threads() -> BTreeMap<String, usize> {
    let mut threads = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        // It may just have ended.
        let Ok(name) = std::fs::read_to_string(task.path().join("comm")) else { continue };
        if name.starts_with("accompanist") || name.starts_with("fjall") {
            *threads.entry(name.trim().to_owned()).or_default() += 1;
        }
    }
    threads
}

#[track_caller]
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let ended = std::time::Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(std::time::Instant::now() < ended, "it never came to: {what}; threads are {:?}", threads());
        std::thread::sleep(Duration::from_millis(1));
    }
}

enum Disk<'a> {
    Memory(MemoryDisk),
    Folder(&'a Path),
}

fn live(runtime: Runtime, network: impl Transport + Clone, disk: &Disk<'_>, end: End) {
    let service = Arc::new(OnceLock::new());
    let builder = Node::builder(node_id("one")).transport(network).settings(quick());
    let builder = builder.role(Keeper, service.clone()).choreography(Wait);
    let builder = match disk {
        Disk::Memory(disk) => builder.store(disk.open().unwrap()),
        Disk::Folder(folder) => builder.store(FjallStore::open(folder).unwrap()),
    };
    let (node, session) = runtime.block_on(async {
        let node = within(builder.start()).await.unwrap();
        let session = within(node.start(Wait, ())).await.unwrap();
        (node, session)
    });
    assert_eq!(threads().get("accompanist-wri"), Some(&1), "the writer's, whose name is cut off");
    if [End::HeldByItself, End::KilledAndHeldByItself].contains(&end) {
        service.set(node.clone()).unwrap();
    }
    drop(service);
    match end {
        End::NodeFirst | End::HeldByItself => drop((session, node, runtime)),
        End::RuntimeFirst => drop((runtime, node, session)),
        End::Panic => {
            let body = std::thread::spawn(move || {
                runtime.block_on(async move {
                    let _all = (node, session);
                    panic!("the body of a test panics, as the test wants");
                });
            });
            assert!(body.join().is_err());
        }
        End::Kill | End::KilledAndHeldByItself => {
            runtime.block_on(within(node.kill()));
            drop((node, session, runtime));
        }
    }
}

/// A network that stays open has so many threads of its own; one that has opened it may still be ending.
fn check(name: &str, network: &(impl Transport + Clone), own_threads: usize) {
    let folder = tempfile::tempdir().unwrap();
    for disk in [Disk::Memory(MemoryDisk::default()), Disk::Folder(folder.path())] {
        for end in ENDS {
            live(runtime(), network.clone(), &disk, end);
            let on_disk = matches!(disk, Disk::Folder(_));
            wait_until(&format!("no threads over {name}, on disk: {on_disk}, {end:?}"), || {
                threads().values().sum::<usize>() == own_threads
            });
            // The next turn of the loop opens the same store, and joins the same network under the same name.
        }
    }
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn nothing_keeps_a_node_whose_runtime_and_handles_are_gone_alone() {
    check("a local network", &LocalNetwork::new(), 0);
    check("a faulty network", &FaultyNetwork::new(7, Faults::rough()), 0);
    #[cfg(feature = "zenoh")]
    {
        use accompanist::transport::{ZenohConfig, ZenohTransport};
        let config = ZenohConfig::new().listen(crate::support::free_endpoint());
        let opener = runtime();
        let network = opener.block_on(within(ZenohTransport::open(config))).unwrap();
        check("Zenoh", &network, 1);
        opener.block_on(within(network.close()));
    }
}

//! Zenoh alone: a connection that is new at one end and old at the other one. Next: `zenoh_healing.rs`.
//!
//! To be reported upstream; seen with zenoh 1.10.2, and with peers only. Two peers connect to each other, or one of
//! them and gossip. The network is cut. The leases of the two ends run out at different times, so for a moment one
//! end (here `b`) has closed the transport and the other one (`a`) has not. If a connection that `b` opens arrives at
//! `a` in that moment, `a` takes it as one more link of the transport that it has
//! (`TransportManager::init_existing_transport_unicast`, `TransportUnicastUniversal::add_link`): what is compared, the
//! `TransportConfigUnicast`, says nothing of the transport's age (its initial sequence number comes of the two ids),
//! and the limit of links is one of *inbound* links only, while the old one is an outbound link. So `b` has a new
//! transport, and a new face with no mapping of key expressions; `a` goes on with its face of before:
//!
//! - `a` declares nothing anew, so `b` knows neither its key expressions nor its subscribers nor its tokens, and its
//!   initial interest is never final (which is why what `b` sends arrives: it sends everything to `a`);
//! - what `b` declares anew gets ids from 1 on, which at `a` stand for other key expressions of the face of before:
//!   "Resource 1 remapped. Remapping unsupported!", and the old one stays;
//! - so `a` sends under ids that `b` does not know: "Route data with unknown scope 11!", for each message, until one of
//!   the sessions ends. If the id happens to stand for something else at `b`, the message goes there.
//!
//! Nothing is seen at `a`: `put` is `Ok`, `peers_zid` has `b`, the matching status is true.

use std::time::Duration;

use tokio::time::timeout;
use zenoh::handlers::FifoChannelHandler;
use zenoh::pubsub::Subscriber;
use zenoh::sample::Sample;
use zenoh::{Config, Session};

use crate::log;
use crate::proxy::{Flow, Proxy};
use crate::zenoh::free_endpoint;

/// Ends a test that hangs.
const SAFETY: Duration = Duration::from_mins(1);
/// How long to wait before sending again what may have been lost.
const RESEND: Duration = Duration::from_millis(50);
/// The lease of the end that goes on with its transport, which is told to the other one: that gives up after it.
pub(crate) const LEASE_SHORT_MS: u32 = 1_500;
/// The lease of the other end: longer than the test takes.
pub(crate) const LEASE_LONG_MS: u32 = 120_000;

async fn open(listen: &str, connect: &str, lease_ms: u32) -> Session {
    let mut config = Config::default();
    for (key, value) in [
        ("mode", "\"peer\"".to_owned()),
        ("listen/endpoints", format!("[\"{listen}\"]")),
        ("connect/endpoints", format!("[\"{connect}\"]")),
        ("connect/timeout_ms", "-1".into()),
        ("connect/exit_on_failure", "false".into()),
        ("connect/retry", "{ period_init_ms: 50, period_max_ms: 100, period_increase_factor: 2 }".into()),
        ("scouting/multicast/enabled", "false".into()),
        ("scouting/gossip/enabled", "false".into()),
        ("transport/link/tx/lease", lease_ms.to_string()),
    ] {
        config.insert_json5(key, &value).unwrap();
    }
    zenoh::open(config).await.unwrap()
}

/// Puts `key` again and again until `subscriber` gets it.
async fn put_until_received(session: &Session, key: &str, subscriber: &Subscriber<FifoChannelHandler<Sample>>) {
    let repeated = async {
        loop {
            session.put(key, "hello").await.unwrap();
            if timeout(RESEND, subscriber.recv_async()).await.is_ok() {
                break;
            }
        }
    };
    timeout(SAFETY, repeated).await.unwrap_or_else(|_| panic!("`{key}` never arrives"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zenoh_takes_a_new_transport_of_its_peer_into_an_old_one_and_is_deaf() {
    let log = log::capture();
    let (of_a, of_b) = (free_endpoint(), free_endpoint());
    let mut to_b = Proxy::new(&of_b, Flow::Passing).await;
    let to_a = Proxy::new(&of_a, Flow::Refused).await;
    let a = open(&of_a, &to_b.endpoint, LEASE_SHORT_MS).await;
    let b = open(&of_b, &to_a.endpoint, LEASE_LONG_MS).await;

    // Ids 1 to 10 of what `b` declares are taken by others than those that get them after the cut.
    let mut others = Vec::new();
    for number in 0..10 {
        let key = format!("other/{number}");
        let other = b.declare_subscriber(&key).await.unwrap();
        put_until_received(&a, &key, &other).await;
        others.push(other);
    }
    drop(others);
    let publisher = a.declare_publisher("to/b").await.unwrap();
    let at_b = b.declare_subscriber("to/b").await.unwrap();
    let at_a = a.declare_subscriber("to/a").await.unwrap();
    put_until_received(&a, "to/b", &at_b).await;
    put_until_received(&b, "to/a", &at_a).await;

    // The cable is out until `b` has given up; it comes back before `a` has.
    to_b.set(Flow::Silent);
    to_b.far_end_closed(1).await;
    to_a.set(Flow::Passing);
    put_until_received(&b, "to/a", &at_a).await;
    to_b.set(Flow::Refused);

    let deaf = async {
        while !log.has(&a.zid().to_string()[..4], "Route data with unknown scope") {
            publisher.put("hello").await.unwrap();
            assert!(timeout(RESEND, at_b.recv_async()).await.is_err(), "zenoh does not need our cure any more");
        }
    };
    timeout(SAFETY, deaf).await.expect("`b` says why it is deaf");
    assert!(a.info().peers_zid().await.any(|zid| zid == b.zid()));
}

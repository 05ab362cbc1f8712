//! Wires that are up and carry nothing, and how they heal. Next: `zenoh_log.rs`.

use std::path::PathBuf;

use accompanist_core::contract::Heal;
use accompanist_transport::{ZenohConfig, ZenohTransport};

use crate::half_new::{LEASE_LONG_MS, LEASE_SHORT_MS};
use crate::log;
use crate::proxy::{Flow, Proxy};
use crate::recorder::Member;
use crate::zenoh::{free_endpoint, open};

/// A Zenoh configuration file with a lease; it is removed at the end of a test.
struct Lease(PathBuf);

impl Lease {
    fn new(milliseconds: u32) -> Self {
        let name = format!("accompanist-{}-{}.json5", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, format!("{{ transport: {{ link: {{ tx: {{ lease: {milliseconds} }} }} }} }}")).unwrap();
        Self(path)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Two sessions that are about to have a connection which is old at `patient` and new at `hasty`.
struct Pair {
    patient: ZenohTransport,
    hasty: ZenohTransport,
    to_patient: Proxy,
    to_hasty: Proxy,
}

impl Pair {
    async fn open() -> Self {
        let (of_patient, of_hasty) = (free_endpoint(), free_endpoint());
        let to_patient = Proxy::new(&of_patient, Flow::Refused).await;
        let to_hasty = Proxy::new(&of_hasty, Flow::Passing).await;
        // A lease is told to the other end, which waits for so long.
        let (of_one, of_other) = (Lease::new(LEASE_SHORT_MS), Lease::new(LEASE_LONG_MS));
        let config = || ZenohConfig::new().gossip(false);
        let patient = config().config_file(&of_one.0).listen(&of_patient).connect(&to_hasty.endpoint);
        let hasty = config().config_file(&of_other.0).listen(&of_hasty).connect(&to_patient.endpoint);
        let (patient, hasty) = (open(patient).await, open(hasty).await);
        Self { patient, hasty, to_patient, to_hasty }
    }

    /// A cable is out until `hasty` has given up, and comes back before `patient` has.
    async fn cut(&mut self, patient: &Member, hasty: &Member) {
        self.to_hasty.set(Flow::Silent);
        self.to_hasty.far_end_closed(1).await;
        self.to_patient.set(Flow::Passing);
        hasty.send_until_received(patient, b"over the new connection").await;
        self.to_hasty.set(Flow::Refused);
    }
}

/// Lets Zenoh give ids to names that it will give other ids to after a cut.
async fn take_ids(transport: &ZenohTransport, from: &Member) {
    for number in 0..10 {
        let other = Member::attach(transport, &format!("other-{number}")).await;
        from.send_until_received(&other, b"hello").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wire_receives_again_after_a_cut_unnoticed_by_one_end() {
    let mut pair = Pair::open().await;
    let a = Member::attach(&pair.patient, "a").await;
    take_ids(&pair.hasty, &a).await;
    let b = Member::attach(&pair.hasty, "b").await;
    a.send_until_received(&b, b"before").await;
    b.send_until_received(&a, b"before").await;

    pair.cut(&a, &b).await;
    a.send_until_received(&b, b"after").await;
    b.send_until_received(&a, b"after").await;
    a.broadcast_until_received(&b, b"to all").await;
}

/// As above, with more nodes on both sessions: all of them are there again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_of_a_session_receive_again() {
    let mut pair = Pair::open().await;
    let a = Member::attach(&pair.patient, "a").await;
    take_ids(&pair.hasty, &a).await;
    let mut others = Vec::new();
    for name in ["b", "c", "d"] {
        let other = Member::attach(&pair.hasty, name).await;
        a.send_until_received(&other, b"before").await;
        others.push(other);
    }
    let e = Member::attach(&pair.patient, "e").await;

    pair.cut(&a, &others[0]).await;
    for other in &others {
        a.send_until_received(other, b"after").await;
        e.send_until_received(other, b"after, too").await;
        other.send_until_received(&e, b"back").await;
    }
    others[1].send_until_received(&others[2], b"within the session").await;
}

/// Two nodes on one session, one on another: healed at each level, everybody hears everybody.
async fn heals(level: Heal) {
    let log = log::capture();
    let endpoint = free_endpoint();
    let one = open(ZenohConfig::new().listen(&endpoint)).await;
    let other = open(ZenohConfig::new().listen(free_endpoint()).connect(&endpoint)).await;
    let (a, b) = (Member::attach(&one, "a").await, Member::attach(&one, "b").await);
    let c = Member::attach(&other, "c").await;
    a.send_until_received(&c, b"before").await;
    c.send_until_received(&b, b"before").await;

    a.wire.heal(&c.id, level);
    if level == Heal::Session {
        log.wait_for("reason=\"asked\"", "opened anew").await;
    }
    for (from, to) in [(&a, &c), (&b, &c), (&c, &a), (&c, &b), (&a, &b)] {
        from.send_until_received(to, format!("{} after", from.id).as_bytes()).await;
        from.broadcast_until_received(to, format!("{} to all", from.id).as_bytes()).await;
    }
    let large = vec![7; a.wire.packet_bytes_max()];
    a.send_until_received(&c, &large).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_are_declared_anew() {
    heals(Heal::Publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_opened_anew_under_its_wires() {
    heals(Heal::Session).await;
}

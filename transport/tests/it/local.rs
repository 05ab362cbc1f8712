//! The local network. Next: `faulty.rs`.

use std::sync::{Arc, OnceLock};

use accompanist_core::contract::{Inbox, Transport, Wire};
use accompanist_core::id::NodeId;
use accompanist_transport::{Faults, FaultyNetwork, LocalNetwork};

use crate::contract::{Ends, keeps_the_contract};
use crate::recorder::{Member, node};

fn ends() -> Ends {
    let network = Arc::new(LocalNetwork::new());
    [network.clone(), network.clone(), network]
}

keeps_the_contract!(tokio::test, ends());

#[tokio::test]
async fn an_inbox_may_send_while_it_receives() {
    /// Sends each packet on.
    #[derive(Default)]
    struct Relay(OnceLock<Arc<dyn Wire>>);
    impl Inbox for Relay {
        fn receive(&self, _: &NodeId, packet: &[u8]) {
            self.0.get().unwrap().send(&node("end"), packet.to_vec());
        }
    }

    let network = LocalNetwork::new();
    let relay = Arc::new(Relay::default());
    let wire = network.attach(node("relay"), relay.clone()).await.unwrap();
    relay.0.set(wire).ok().unwrap();
    let start = Member::attach(&network, "start").await;
    let end = Member::attach(&network, "end").await;

    start.wire.send(&node("relay"), b"on".to_vec());
    assert_eq!(end.inbox.packets(), [b"on"], "delivery is done when `send` returns");
}

#[tokio::test]
async fn a_stranger_speaks_in_any_name() {
    let (network, faulty) = (LocalNetwork::new(), FaultyNetwork::new(1, Faults::rough()));
    let [a, b] = [Member::attach(&network, "a").await, Member::attach(&network, "b").await];
    network.inject(&node("nobody"), Some(&a.id), b"to a");
    // Two nodes may have one name: what the other one says to all comes to the first, too.
    network.inject(&a.id, None, b"to all");
    assert_eq!((a.inbox.packets().len(), b.inbox.packets().len()), (2, 1));
    assert_eq!(a.inbox.senders(b"to a"), [node("nobody")].into());
    assert_eq!(a.inbox.senders(b"to all"), [node("a")].into());

    let c = Member::attach(&faulty, "c").await;
    faulty.isolate(&c.id);
    faulty.inject(&node("nobody"), Some(&c.id), b"to c");
    faulty.inject(&c.id, None, b"to all");
    assert_eq!(c.inbox.packets(), [b"to c".to_vec(), b"to all".to_vec()], "no fault meets it");
}

//! The local network. Next: `faulty.rs`.

use std::sync::{Arc, OnceLock};

use accompanist_core::contract::{Inbox, Transport, Wire};
use accompanist_transport::LocalNetwork;

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
        fn receive(&self, packet: &[u8]) {
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

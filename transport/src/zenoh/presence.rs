//! Tracks which peers are connected, and from which of them nothing is received: see [`Presence::deaf_to`].
//!
//! Zenoh can be left with a connection that is new at one end only (`transport/tests/it/half_new.rs`). After a cut,
//! the end whose lease expires first opens a new connection, and the other end merges it into the connection that it
//! still has. The other end then repeats no declarations, and sends under ids that the first end does not know: the
//! first end stays deaf to it permanently.
//!
//! Each session therefore declares a liveliness token, which its peers receive with all other declarations when a
//! connection is made. If a peer is connected, and its token was here before but is not here now, the peer has
//! repeated no declarations: this end of the connection is the new one, and the other end the old one.
//!
//! This module must not know how the answer is used. Next: [`super::keeper`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::zenoh::liveliness::LivelinessToken;
use ::zenoh::pubsub::Subscriber;
use ::zenoh::sample::SampleKind;
use ::zenoh::{Session, Wait};

use super::keys::Keys;
use super::plain;

/// How many times in a row a peer must be found connected without its token. Declarations follow a connection within
/// milliseconds, or within hundreds of milliseconds on a busy machine.
const LOOKS_MISSED_MAX: u32 = 4;

/// The most peers that are remembered; further ones are not checked.
const PEERS_MAX: usize = 4_096;

/// The peers of one session. It ends with the session.
pub(super) struct Presence {
    peers: Arc<Peers>,
    // Both are undeclared when they are dropped.
    _token: LivelinessToken,
    _subscriber: Subscriber<()>,
}

/// The peers by their ids in Zenoh.
#[derive(Default)]
struct Peers(Mutex<BTreeMap<String, Peer>>);

#[derive(Default)]
struct Peer {
    has_token: bool,
    looks_missed: u32,
}

impl Presence {
    /// Declares the token and its subscriber at `session`; `None` when Zenoh refuses.
    pub(super) fn new(session: &Session, namespace: &str) -> Option<Self> {
        let peers = Arc::new(Peers::default());
        let seen = Arc::clone(&peers);
        let subscriber = session
            .liveliness()
            .declare_subscriber(Keys::new(namespace).here("*"))
            .history(true)
            .callback(move |sample| {
                if let Some((_, peer)) = sample.key_expr().as_str().rsplit_once('/') {
                    seen.token(peer, sample.kind() == SampleKind::Put);
                }
            })
            .wait();
        let key = Keys::new(namespace).here(&session.zid().to_string());
        match (subscriber, session.liveliness().declare_token(key).wait()) {
            (Ok(subscriber), Ok(token)) => Some(Self { peers, _token: token, _subscriber: subscriber }),
            (Err(error), _) | (_, Err(error)) => {
                tracing::debug!(error = plain(&error), "no zenoh liveliness token could be declared");
                None
            }
        }
    }

    /// Checks once, and returns a peer to which this end is deaf, if there is one.
    pub(super) fn deaf_to(&self, session: &Session) -> Option<String> {
        self.peers.look(&session.info().peers_zid().wait().map(|peer| peer.to_string()).collect())
    }
}

impl Peers {
    fn token(&self, peer: &str, has_token: bool) {
        let mut peers = self.lock();
        if let Some(peer) = peers.get_mut(peer) {
            peer.has_token = has_token;
        } else if has_token && peers.len() < PEERS_MAX {
            peers.insert(peer.to_owned(), Peer { has_token, looks_missed: 0 });
        }
    }

    fn look(&self, connected: &BTreeSet<String>) -> Option<String> {
        let mut deaf_to = None;
        for (name, peer) in &mut *self.lock() {
            let is_missed = !peer.has_token && connected.contains(name);
            peer.looks_missed = if is_missed { peer.looks_missed.saturating_add(1) } else { 0 };
            if peer.looks_missed >= LOOKS_MISSED_MAX {
                deaf_to = Some(name.clone());
            }
        }
        deaf_to
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Peer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn looks(peers: &Peers, connected: &[&str], times: u32) -> Vec<Option<String>> {
        let connected = connected.iter().map(|&peer| peer.to_owned()).collect();
        (0..times).map(|_| peers.look(&connected)).collect()
    }

    #[test]
    fn a_connected_peer_without_its_token_is_reported_as_not_received() {
        let peers = Peers::default();
        peers.token("a", true);
        assert!(looks(&peers, &["a"], 20).iter().all(Option::is_none), "it has a token");
        peers.token("a", false);
        assert!(looks(&peers, &[], 20).iter().all(Option::is_none), "it is not connected");
        let looks = looks(&peers, &["a"], LOOKS_MISSED_MAX);
        let (last, before) = looks.split_last().unwrap();
        assert!(before.iter().all(Option::is_none), "{before:?}");
        assert_eq!(last.as_deref(), Some("a"));
    }

    #[test]
    fn a_token_that_comes_late_is_in_time() {
        let peers = Peers::default();
        peers.token("a", true);
        peers.token("a", false);
        assert!(looks(&peers, &["a"], LOOKS_MISSED_MAX - 1).iter().all(Option::is_none));
        peers.token("a", true);
        assert!(looks(&peers, &["a"], 1).iter().all(Option::is_none));
        peers.token("a", false);
        assert!(looks(&peers, &["a"], LOOKS_MISSED_MAX - 1).iter().all(Option::is_none), "it counts anew");
        assert!(looks(&peers, &["b"], 1).iter().all(Option::is_none));
        assert!(looks(&peers, &["a"], LOOKS_MISSED_MAX - 1).iter().all(Option::is_none), "in a row");
    }

    /// Access control may block tokens, and a peer that is not one of our nodes has none.
    #[test]
    fn a_peer_that_never_had_a_token_is_let_be() {
        let peers = Peers::default();
        peers.token("a", false);
        assert!(looks(&peers, &["a", "b"], 20).iter().all(Option::is_none));
    }

    #[test]
    fn peers_are_bounded() {
        let peers = Peers::default();
        (0..PEERS_MAX + 10).for_each(|number| peers.token(&number.to_string(), true));
        assert_eq!(peers.lock().len(), PEERS_MAX);
    }
}

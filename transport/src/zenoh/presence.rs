//! Which peers are connected, and of which of them nothing was heard since: see [`Presence::deaf_to`].
//!
//! Zenoh can be left with a connection that is new at one end only (`transport/tests/it/half_new.rs`): after a cut, the end
//! whose lease ran out first opens a new one, and the other end takes it into the one that it still has. The latter then
//! declares nothing anew, and sends under ids that the former does not know: that is deaf to it, for good.
//!
//! So each session declares a liveliness token, which its peers get with all other declarations when a connection
//! is made. A peer that is connected, and whose token was here before and is not here now, has declared nothing: this
//! end of its connection is the new one, and the other end the old one.
//!
//! Must not know what is done about it. Next: [`super::keeper`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::zenoh::liveliness::LivelinessToken;
use ::zenoh::pubsub::Subscriber;
use ::zenoh::sample::SampleKind;
use ::zenoh::{Session, Wait};

use super::keys::Keys;
use super::plain;

/// How often in a row a peer has to be found connected and without its token. Declarations follow a connection within
/// milliseconds, on a busy machine within hundreds of them.
const LOOKS_MISSED_MAX: u32 = 4;

/// The most peers that are remembered; those above are not looked after.
const PEERS_MAX: usize = 4_096;

/// The peers of one session. Ends with it.
pub(super) struct Presence {
    peers: Arc<Peers>,
    // Both are undeclared when they are dropped.
    _token: LivelinessToken,
    _subscriber: Subscriber<()>,
}

/// Peers by their ids in Zenoh.
#[derive(Default)]
struct Peers(Mutex<BTreeMap<String, Peer>>);

#[derive(Default)]
struct Peer {
    has_token: bool,
    looks_missed: u32,
}

impl Presence {
    /// Declares what is needed at `session`; `None` when Zenoh refuses.
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

    /// Looks once, and gives a peer that this end is deaf to, if there is one.
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
    fn a_peer_that_is_connected_without_its_token_is_one_that_is_not_heard() {
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

    /// Access control may keep tokens away, and what is no node of ours has none.
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

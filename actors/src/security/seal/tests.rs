#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::security::members::{Member, Members};

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// Nodes and their keys.
struct System(BTreeMap<&'static str, SealSecrets>);

impl System {
    fn new(names: &[&'static str]) -> Self {
        Self(names.iter().map(|name| (*name, SealSecrets::generate().unwrap())).collect())
    }

    fn members(&self) -> Members {
        let table = |(name, secrets): (&&str, &SealSecrets)| {
            let keys: Vec<_> = secrets.public_keys().iter().map(|key| format!("\"{key}\"")).collect();
            format!("[nodes.{name}]\nseal_keys = [{}]\n", keys.join(", "))
        };
        let text: String = self.0.iter().map(table).collect();
        Members::from_toml("members.toml", &format!("system = \"test\"\n{text}")).unwrap()
    }

    fn seal(&self, name: &str) -> Seal {
        Seal::new(&node(name), &self.0[name], self.members().seal_keys()).unwrap()
    }
}

fn head(from: &str, to: &str) -> Head {
    Head::to_one(node(from), node(to), Epoch(3), Epoch(4), 5)
}

#[test]
fn a_sealed_packet_opens_at_its_receiver_and_shows_nothing() {
    let system = System::new(&["a", "b"]);
    let (a, b) = (system.seal("a"), system.seal("b"));
    for packet in [&b""[..], b"canary", &vec![7; 100_000]] {
        let sealed = a.seal(&head("a", "b"), packet).unwrap();
        assert!(is_sealed(&sealed) && sealed.len() <= packet.len() + SEAL_BYTES_MAX);
        assert!(packet.is_empty() || !sealed.windows(packet.len()).any(|window| window == packet));
        let opened = b.open(&node("a"), &sealed).unwrap();
        assert_eq!((&opened.head, opened.packet()), (&head("a", "b"), packet));
        assert_ne!(a.seal(&head("a", "b"), packet).unwrap(), sealed, "no nonce comes twice");
    }
}

#[test]
fn a_packet_with_any_one_bit_flipped_or_cut_does_not_open() {
    let system = System::new(&["a", "b"]);
    let (a, b) = (system.seal("a"), system.seal("b"));
    let sealed = a.seal(&head("a", "b"), b"a packet").unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut flipped = sealed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(b.open(&node("a"), &flipped).is_err(), "bit {bit}");
    }
    for length in 0..sealed.len() {
        assert!(b.open(&node("a"), &sealed[..length]).is_err(), "{length} bytes");
        assert!(b.open(&node("a"), &[&sealed[..], &sealed[..=length]].concat()).is_err());
    }
}

/// The keys of two nodes are the same in both directions, and a router may deliver a packet to any node.
#[test]
fn a_packet_counts_from_its_sender_to_its_receiver_alone() {
    let system = System::new(&["a", "b", "c"]);
    let [a, b, c] = ["a", "b", "c"].map(|name| system.seal(name));
    let sealed = a.seal(&head("a", "b"), b"a packet").unwrap();
    assert_eq!(a.open(&node("b"), &sealed).unwrap_err(), Refusal::Misdirected, "sent back");
    assert_eq!(a.open(&node("a"), &sealed).unwrap_err(), Refusal::Unopened);
    assert_eq!(b.open(&node("c"), &sealed).unwrap_err(), Refusal::Unopened);
    assert_eq!(c.open(&node("a"), &sealed).unwrap_err(), Refusal::Unopened);
    assert_eq!(b.open(&node("d"), &sealed).unwrap_err(), Refusal::Stranger);
    // A member that poses as another one, or that means another receiver.
    for (from, to) in [("c", "b"), ("a", "c")] {
        let forged = Head { to: node("b"), ..head(from, to) };
        let sealed = a.seal(&forged, b"a packet").unwrap();
        assert_eq!(b.open(&node("a"), &sealed).is_ok(), from == "a");
        assert!(b.open(&node("c"), &sealed).is_err());
    }
    assert_eq!(b.open(&node("a"), b"\x02 a packet that is not sealed").unwrap_err(), Refusal::NotSealed);
    assert!(a.seal(&head("a", "d"), b"a packet").is_none());
}

#[test]
fn a_packet_for_the_own_name_opens_only_there() {
    let system = System::new(&["a", "b"]);
    let [a, twin, b] = ["a", "a", "b"].map(|name| system.seal(name));
    let sealed = a.seal(&Head::to_own_name(node("a"), Epoch(4)), b"a packet").unwrap();
    assert!(is_for_own_name(&sealed));
    assert_eq!(twin.open(&node("a"), &sealed).unwrap().packet(), b"a packet");
    assert!(b.open(&node("a"), &sealed).is_err());
}

/// Files of a node before and after a renewal, at the node and at its peer, in each combination.
#[test]
fn a_renewal_may_reach_the_nodes_and_their_files_in_any_order() {
    let before = System::new(&["a", "b"]);
    let renewed = |system: &System| {
        let mut secrets = system.0.clone();
        secrets.insert("a", system.0["a"].renewed().unwrap());
        System(secrets)
    };
    let after = renewed(&before);
    let later = renewed(&renewed(&after));
    for (secrets, own, others) in (0..8).map(|bits| (bits & 1, bits & 2, bits & 4)) {
        let of = |bit: u8| if bit == 0 { &before } else { &after };
        let a = Seal::new(&node("a"), &of(secrets).0["a"], of(own).members().seal_keys()).unwrap();
        let b = Seal::new(&node("b"), &before.0["b"], of(others).members().seal_keys()).unwrap();
        for (one, other, from, to) in [(&a, &b, "a", "b"), (&b, &a, "b", "a")] {
            let sealed = one.seal(&head(from, to), b"a packet").unwrap();
            assert!(other.open(&node(from), &sealed).is_ok(), "{from} to {to}: {secrets} {own} {others}");
        }
    }
    // After three renewals, leaked keys are useless.
    let (thief, b) = (before.seal("a"), Seal::new(&node("b"), &before.0["b"], later.members().seal_keys()).unwrap());
    assert!(b.open(&node("a"), &thief.seal(&head("a", "b"), b"a packet").unwrap()).is_err());
    assert!(thief.open(&node("b"), &b.seal(&head("b", "a"), b"a packet").unwrap()).is_err());
}

#[test]
fn mismatched_keys_are_reported() {
    let system = System::new(&["a", "b"]);
    let (secrets, members) = (&system.0["a"], system.members());
    let error = |change: &dyn Fn(&mut Members)| {
        let mut members = members.clone();
        change(&mut members);
        Seal::new(&node("a"), secrets, members.seal_keys()).map(drop).map_err(|error| error.to_string())
    };
    let lacks = |name: &str| {
        error(&|members: &mut Members| drop(members.nodes.insert(name.into(), Member::default()))).unwrap_err()
    };
    for (name, text) in [("c", "`c`"), ("sensor-*", "`sensor-*`")] {
        let error = lacks(name);
        assert!(error.contains(text) && error.contains("security renew"), "{error}");
    }
    let with_keys = Member { seal_keys: secrets.public_keys(), ..Member::default() };
    let context =
        error(&|members: &mut Members| drop(members.nodes.insert("c".into(), with_keys.clone()))).unwrap_err();
    assert!(context.contains("`a` and `c`"), "{context}");
    let revoked = Member { revoked: true, ..Member::default() };
    assert_eq!(error(&|members: &mut Members| drop(members.nodes.insert("c".into(), revoked.clone()))), Ok(()));
    let other = SealSecrets::generate().unwrap();
    let not_own = Seal::new(&node("a"), &other, members.seal_keys()).unwrap_err();
    assert_eq!(not_own, SealError::NotOwn(node("a")));
    // A pattern stands for many nodes, and a key belongs to one.
    let pattern = Member { seal_keys: other.public_keys(), ..Member::default() };
    let error = error(&|members: &mut Members| drop(members.nodes.insert("s-*".into(), pattern.clone())));
    assert!(error.unwrap_err().contains("`s-*`"));
}

proptest! {
    #[test]
    fn opening_arbitrary_bytes_never_panics(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        first in proptest::sample::select(vec![TO_ONE, TO_OWN_NAME, 2]),
    ) {
        static SYSTEM: OnceLock<[Seal; 2]> = OnceLock::new();
        let [a, b] = SYSTEM.get_or_init(|| {
            let system = System::new(&["a", "b"]);
            ["a", "b"].map(|name| system.seal(name))
        });
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        prop_assert!(b.open(&node("a"), &bytes).is_err());
        // From a member that seals arbitrary bytes.
        let nonce = Nonce::default();
        let mut inner = bytes.clone();
        let tag = a.boxes(&node("b")).unwrap()[0].encrypt_in_place_detached(&nonce, &[], &mut inner).unwrap();
        let sealed = [&[first][..], &nonce[..], &inner, &tag[..]].concat();
        prop_assert!(b.open(&node("a"), &sealed).is_err());
    }
}

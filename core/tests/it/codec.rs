//! Bytes that are kept or sent: round trips, refusals, and golden bytes that hold the encoding.
//!
//! A golden test that fails means that old stores and other releases cannot be read any more: append variants and
//! fields, or raise the version byte; do not change the snapshots.

use std::fmt::Write as _;
use std::sync::Arc;

use accompanist_core::contract::{Space, StoreError};
use accompanist_core::frame::{
    ADVERTISEMENT_BYTES_MAX, ADVERTISEMENT_NODES_BYTES_MAX, Advertisement, AdvertisementError, Body, Dispute,
    DrainBlocker, Epoch, Frame, Generation, Header, Lacks, Left, Membership, NAME_BYTES_MAX,
    NODES_PER_ADVERTISEMENT_MAX, OfferedChoreography, Operation, Outcome, PATCHES_MAX, Packet, PacketError, Reception,
    RoleTrouble, Round, Traceparent, WIRE_VERSION,
};
use accompanist_core::id::RoleIndex;
use accompanist_core::message::Fingerprint;
use accompanist_core::record::{Closed, Opened, PassivatedState, Record, StepFailure, Task, read_value, value_bytes};
use accompanist_core::{Abort, NodeId, Path, Payload, SessionId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn node() -> impl Strategy<Value = NodeId> {
    "[a-z0-9][a-z0-9._-]{0,63}".prop_map(|name| NodeId::new(name).unwrap())
}

fn path() -> impl Strategy<Value = Path> {
    vec(any::<u32>(), 0..7)
        .prop_map(|counters| counters.iter().fold(Path::root(), |path, counter| path.child(*counter)))
}

fn payload() -> impl Strategy<Value = Payload> {
    vec(any::<u8>(), 0..200).prop_map(Payload::from)
}

fn role() -> impl Strategy<Value = RoleIndex> {
    any::<u8>().prop_map(RoleIndex)
}

fn abort() -> impl Strategy<Value = Abort> {
    (any::<String>(), any::<String>()).prop_map(|(code, message)| Abort::new(code, message))
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![Just(Outcome::Finished), abort().prop_map(Outcome::Compensated)]
}

fn header() -> impl Strategy<Value = Arc<Header>> {
    let names = || vec(any::<String>(), 0..3);
    (any::<String>(), any::<u32>(), role(), vec(node(), 0..5), any::<u64>(), names(), traceparent()).prop_map(
        |(choreography, version, initiator, cast, started_unix_ms, patches, traceparent)| {
            let deadline_unix_ms = started_unix_ms.is_multiple_of(2).then_some(started_unix_ms);
            Arc::new(Header {
                choreography,
                version,
                initiator,
                cast,
                started_unix_ms,
                deadline_unix_ms,
                patches,
                traceparent,
            })
        },
    )
}

fn traceparent() -> impl Strategy<Value = Option<Traceparent>> {
    (any::<[u8; 16]>(), any::<[u8; 8]>(), any::<u8>())
        .prop_map(|(trace, span, flags)| Traceparent::new(trace, span, flags))
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::{Broadcast, Comm, Gather, Multicast, Verdict, Vote};
    prop::sample::select(vec![Comm, Multicast, Broadcast, Gather, Vote, Verdict])
}

fn fingerprint() -> impl Strategy<Value = Fingerprint> {
    any::<u64>().prop_map(Fingerprint)
}

fn passivated() -> impl Strategy<Value = PassivatedState> {
    let acknowledged = vec((path(), role(), fingerprint()), 0..3);
    let done = vec((role(), outcome()), 0..3);
    let since = vec((path(), any::<u64>()), 0..3);
    (acknowledged, vec(role(), 0..3), done, option::of(outcome()), since).prop_map(
        |(acknowledged, acquainted, done, announced, since)| PassivatedState {
            acknowledged,
            acquainted,
            done,
            announced,
            since,
        },
    )
}

fn role_trouble() -> impl Strategy<Value = RoleTrouble> {
    prop_oneof![
        (any::<String>(), any::<String>(), any::<u32>())
            .prop_map(|(step, reason, steps)| RoleTrouble::needs_operator(step, reason, steps)),
        any::<String>().prop_map(RoleTrouble::stopped),
    ]
}

fn trouble() -> impl Strategy<Value = StepFailure> {
    let task = prop::sample::select(vec![Task::Commit, Task::Compensate, Task::FindOut, Task::Reconcile, Task::Record]);
    (any::<String>(), task, any::<String>(), any::<u32>(), any::<bool>())
        .prop_map(|(step, task, reason, tries, in_doubt)| StepFailure { step, task, reason, tries, in_doubt })
}

pub fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        (path(), operation(), payload()).prop_map(|(path, operation, payload)| Body::Deliver {
            path,
            operation,
            payload
        }),
        (vec((path(), any::<u32>()), 0..3), any::<bool>())
            .prop_map(|(finals, aborted)| Body::Turns { finals, aborted }),
        option::of(path()).prop_map(Body::Compensating),
        (vec(path(), 0..3), any::<bool>()).prop_map(|(awaits, aborted)| Body::Nudge(Lacks { awaits, aborted })),
        option::of(outcome()).prop_map(Body::Closed),
        path().prop_map(Body::Gone),
        option::of(role_trouble()).prop_map(Body::Trouble),
        Just(Body::TroubleAsked),
        abort().prop_map(Body::Abort),
        outcome().prop_map(Body::Done),
        outcome().prop_map(Body::Close),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    (any::<[u8; 16]>(), role(), role(), option::of(header()), body()).prop_map(|(session, from, to, header, body)| {
        Frame { session: SessionId::from_bytes(session), from, to, header, body }
    })
}

fn packet() -> impl Strategy<Value = Packet> {
    let names = || vec(any::<String>(), 0..4);
    let offered = (any::<String>(), any::<u32>(), names())
        .prop_map(|(choreography, version, patches)| OfferedChoreography { choreography, version, patches });
    let membership = || any::<u64>().prop_map(Membership);
    let left = (any::<u64>(), node(), membership()).prop_map(|(at_unix_ms, node, membership)| Left {
        at_unix_ms,
        node,
        membership,
    });
    let need = (node(), membership(), any::<u64>(), any::<u64>())
        .prop_map(|(node, membership, change, open)| DrainBlocker { node, membership, change, open });
    let reception = (node(), epoch(), any::<u64>(), any::<u64>())
        .prop_map(|(node, epoch, direct, broadcast)| Reception { node, epoch, direct, broadcast });
    let nodes = (vec(left, 0..4), vec(need, 0..4), vec(reception, 0..4));
    let says = (names(), any::<bool>(), vec(offered, 0..3));
    let stands = (membership(), any::<u64>(), any::<bool>(), any::<bool>());
    let generation = || {
        (any::<u64>(), any::<u64>(), any::<u128>(), any::<u64>(), any::<u64>())
            .prop_map(|(restores, number, id, opened, batch)| Generation { restores, number, id, opened, batch })
    };
    let dispute = (membership(), generation(), generation(), any::<bool>())
        .prop_map(|(membership, refused, known, both_live)| Dispute { membership, refused, known, both_live });
    let store = (generation(), option::of(dispute), option::of(any::<u128>()));
    let advertisement =
        (stands, says, option::of(membership()), nodes, store).prop_map(|(stands, says, knows, nodes, store)| {
            let (membership, change, draining, fresh) = stands;
            let ((roles, ask, choreographies), (left, needs, received)) = (says, nodes);
            let (generation, dispute, accepts) = store;
            let advertisement = Advertisement {
                membership,
                change,
                draining,
                fresh,
                roles,
                ask,
                choreographies,
                ..Advertisement::default()
            };
            Advertisement { knows, left, needs, received, generation, dispute, accepts, ..advertisement }
        });
    let round = prop_oneof![any::<u64>().prop_map(Round::Direct), any::<u64>().prop_map(Round::Broadcast)];
    let acks = vec((epoch(), vec(any::<u64>(), 0..9)), 0..3);
    (epoch(), round, any::<u64>(), vec((any::<u64>(), frame()), 0..4), acks, option::of(advertisement)).prop_map(
        |(epoch, round, queue_ms, frames, acks, advertisement)| Packet {
            epoch,
            round,
            queue_ms,
            frames,
            acks,
            advertisement,
        },
    )
}

fn epoch() -> impl Strategy<Value = Epoch> {
    any::<u128>().prop_map(Epoch)
}

fn named(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// From one node to another one.
pub fn to_bytes(packet: &Packet) -> Vec<u8> {
    packet.to_bytes(&named("n1"), Some(&named("n2"))).unwrap()
}

/// At the other one.
pub fn read(bytes: &[u8]) -> Result<Packet, PacketError> {
    Packet::from_bytes(bytes, &named("n1"), &named("n2"))
}

pub fn record() -> impl Strategy<Value = Record> {
    let result = prop_oneof![payload().prop_map(Ok), abort().prop_map(Err)];
    prop_oneof![
        (path(), role(), operation(), payload()).prop_map(|(path, from, operation, payload)| Record::Received {
            path,
            from,
            operation,
            payload,
        }),
        (path(), any::<String>(), payload()).prop_map(|(path, name, result)| Record::Observed { path, name, result }),
        (path(), any::<String>(), fingerprint()).prop_map(|(path, name, input)| Record::Intended { path, name, input }),
        (path(), any::<String>(), fingerprint(), any::<u32>(), result)
            .prop_map(|(path, name, input, order, result)| Record::Committed { input, path, name, order, result }),
        path().prop_map(|path| Record::Compensated { path }),
        (abort(), any::<bool>()).prop_map(|(abort, own)| Record::Aborted { abort, own }),
        (outcome(), option::of(payload())).prop_map(|(outcome, output)| Record::Ended { outcome, output }),
        (path(), any::<u32>(), payload()).prop_map(|(path, turn, state)| Record::Checkpoint { path, turn, state }),
        (path(), fingerprint(), trouble()).prop_map(|(path, input, trouble)| Record::Troubled { path, input, trouble }),
        (any::<u64>(), any::<String>(), any::<String>(), fingerprint(), option::of(payload())).prop_map(
            |(number, name, key, fingerprint, payload)| Record::Signalled { number, name, key, fingerprint, payload }
        ),
        (any::<String>(), any::<u32>()).prop_map(|(reason, failures)| Record::Quarantined { reason, failures }),
        Just(Record::Closing),
        passivated().prop_map(Record::Passivated),
        Just(Record::Terminated),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn packets_round_trip_and_truncated_ones_are_refused(packet in packet(), cut in any::<prop::sample::Index>(), more in 1usize..9) {
        let mut bytes = to_bytes(&packet);
        prop_assert_eq!(&read(&bytes).unwrap(), &packet);
        let cut = &bytes[..cut.index(bytes.len())];
        prop_assert!(read(cut).is_err() && Packet::peek(cut).is_err(), "truncated to {} bytes", cut.len());
        bytes.extend(std::iter::repeat_n(0, more));
        prop_assert!(matches!(read(&bytes), Err(PacketError::Checksum)), "extended by {}", more);
        prop_assert!(matches!(Packet::peek(&bytes), Err(PacketError::Garbled(_))), "extended by {}", more);
    }

    #[test]
    fn records_round_trip_and_truncated_ones_are_refused(record in record(), cut in any::<prop::sample::Index>(), more in 1usize..9) {
        let mut bytes = value_bytes(&record).unwrap();
        prop_assert_eq!(&read_value::<Record>(Space::Journal, &bytes).unwrap(), &record);
        let cut = &bytes[..cut.index(bytes.len())];
        prop_assert!(read_value::<Record>(Space::Journal, cut).is_err(), "truncated to {} bytes", cut.len());
        bytes.extend(std::iter::repeat_n(0, more));
        prop_assert!(read_value::<Record>(Space::Journal, &bytes).is_err(), "extended by {}", more);
    }

    #[test]
    fn openings_and_ends_round_trip(header in header(), input in option::of(payload()), outcome in outcome()) {
        let opened = Opened { header: header.clone(), input: input.clone() };
        let bytes = value_bytes(&opened).unwrap();
        prop_assert_eq!(read_value::<Opened>(Space::Open, &bytes).unwrap(), opened);
        let closed = Closed { header, outcome, output: input };
        let bytes = value_bytes(&closed).unwrap();
        prop_assert_eq!(read_value::<Closed>(Space::Closed, &bytes).unwrap(), closed);
    }

    #[test]
    fn keys_of_different_records_differ(one in record(), two in record()) {
        let id = crate::rig::id(3);
        let (key_one, key_two) = (one.key(id), two.key(id));
        prop_assert!(key_one.starts_with(&id.to_bytes()));
        let same_kind = std::mem::discriminant(&one) == std::mem::discriminant(&two);
        prop_assert!(same_kind || key_one != key_two);
    }

    /// Whatever a stranger sends is refused, or is a packet; it never panics.
    #[test]
    fn arbitrary_bytes_are_no_danger(mut bytes in vec(any::<u8>(), 0..400), version in any::<bool>()) {
        if let (true, Some(first)) = (version, bytes.first_mut()) {
            *first = WIRE_VERSION;
        }
        let _ = (read(&bytes), Packet::peek(&bytes));
        let _ = read_value::<Record>(Space::Journal, &bytes);
        let _ = read_value::<Opened>(Space::Open, &bytes);
        let _ = read_value::<Closed>(Space::Closed, &bytes);
    }

    /// As above, close to what is right: one byte of a packet is another, and its sender has computed the checksum so.
    #[test]
    fn a_flipped_byte_is_no_danger(packet in packet(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = to_bytes(&packet);
        let at = at.index(bytes.len());
        let is_other = bytes[at] != to;
        bytes[at] = to;
        prop_assert_eq!(read(&bytes).is_err(), is_other);
        let _ = Packet::peek(&bytes);
    }

    /// A packet is for one node, or for all, and from one.
    #[test]
    fn a_packet_that_goes_astray_is_refused(packet in packet(), others in vec(node(), 3)) {
        let [from, to, other] = others.try_into().unwrap();
        prop_assume!(from != to && to != other && other != from);
        let refused = |bytes: &[u8], from, to| matches!(Packet::from_bytes(bytes, from, to), Err(PacketError::Checksum));
        let bytes = packet.to_bytes(&from, Some(&to)).unwrap();
        prop_assert_eq!(&Packet::from_bytes(&bytes, &from, &to).unwrap(), &packet);
        prop_assert!(refused(&bytes, &from, &other) && refused(&bytes, &other, &to) && refused(&bytes, &to, &from));
        let bytes = packet.to_bytes(&from, None).unwrap();
        prop_assert_eq!(&Packet::from_bytes(&bytes, &from, &to).unwrap(), &packet);
        prop_assert_eq!(&Packet::from_bytes(&bytes, &from, &other).unwrap(), &packet);
        prop_assert!(refused(&bytes, &to, &other));
    }
}

/// As they are on the wire: messages, acknowledgements, ends, offers.
#[test]
fn a_packet_with_any_one_bit_flipped_is_refused() {
    for (what, packet) in golden_packets() {
        for to in [Some(named("n2")), None] {
            let mut bytes = packet.to_bytes(&named("n1"), to.as_ref()).unwrap();
            assert_eq!(read(&bytes).unwrap(), packet);
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(read(&bytes).is_err(), "bit {bit} of `{what}`");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}

#[test]
fn another_version_is_distinguished_from_garbage() {
    let mut bytes = to_bytes(&golden_packet());
    for version in (0..=u8::MAX).filter(|version| *version != WIRE_VERSION) {
        bytes[0] = version;
        assert!(matches!(read(&bytes), Err(PacketError::Version(found)) if found == version));
    }
    assert!(matches!(read(&[]), Err(PacketError::Empty)));
    assert!(matches!(read(&[WIRE_VERSION]), Err(PacketError::Checksum)));

    let corrupt = |bytes: &[u8]| match read_value::<Record>(Space::Journal, bytes) {
        Err(StoreError::Corrupt { space: Space::Journal, reason }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(corrupt(&[9, 1]), "it has record version 9");
    assert_eq!(corrupt(&[]), "it is empty");
}

#[test]
fn a_length_that_cannot_be_is_refused_without_a_try() {
    // 2^64 - 1 frames, a path of as many counters.
    let huge = [&[WIRE_VERSION][..], &[0; 8], &[7; 16], &[0, 0], &[0xff; 9], &[0x01]].concat();
    assert!(matches!(Packet::peek(&huge), Err(PacketError::Garbled(_))));
    let huge = [&[1u8, 4][..], &[0xff; 9], &[0x01]].concat();
    assert!(read_value::<Record>(Space::Journal, &huge).is_err());
}

#[test]
fn a_node_name_that_cannot_be_is_refused() {
    let mut packet = Packet::new(Epoch(0));
    packet.advertisement =
        Some(Advertisement { needs: vec![DrainBlocker { node: named("ok"), ..need() }], ..Advertisement::default() });
    let mut bytes = to_bytes(&packet);
    let at = bytes.windows(2).position(|bytes| bytes == b"ok").unwrap();
    bytes[at] = b'/';
    let refused = Packet::peek(&bytes).unwrap_err();
    assert!(matches!(refused, PacketError::Garbled(_)), "{refused}");
}

fn need() -> DrainBlocker {
    DrainBlocker { node: named("n2"), membership: Membership(300), change: 5, open: 6 }
}

fn advertisement(patches: usize, name: &str, versions: u32) -> Advertisement {
    let patches = || (0..patches).map(|number| number.to_string()).collect();
    let offered = |version| OfferedChoreography { choreography: name.into(), version, patches: patches() };
    let choreographies = (1..=versions).map(offered).collect();
    Advertisement { roles: vec!["buyer".into()], choreographies, ..Advertisement::default() }
}

#[test]
fn an_offer_has_bounds() {
    let longest = "é".repeat(NAME_BYTES_MAX / 2);
    assert_eq!(advertisement(PATCHES_MAX, &longest, 9).check(), Ok(()));
    assert!(matches!(advertisement(0, &format!("{longest}é"), 1).check(), Err(AdvertisementError::LongName(_))));
    assert!(matches!(
        advertisement(PATCHES_MAX + 1, "order", 3).check(),
        Err(AdvertisementError::ManyPatches { choreography, version: 1 }) if choreography == "order"
    ));
    assert!(
        matches!(advertisement(0, "order", 10_000).check(), Err(AdvertisementError::Large(size)) if size > ADVERTISEMENT_BYTES_MAX)
    );
    // Nothing is free: neither an empty name, nor a number without one.
    assert!(matches!(advertisement(0, "", 10_000).check(), Err(AdvertisementError::Large(_))));
    let roles = Advertisement { roles: vec![String::new(); 10_000], ..Advertisement::default() };
    assert!(matches!(roles.check(), Err(AdvertisementError::Large(_))));
}

#[test]
fn an_offer_speaks_of_so_many_nodes() {
    let node = NodeId::new("n".repeat(64)).unwrap();
    let membership = Membership(u64::MAX);
    let with = |left, needs, received| Advertisement {
        left: vec![Left { at_unix_ms: u64::MAX, node: node.clone(), membership }; left],
        needs: vec![DrainBlocker { node: node.clone(), membership, change: u64::MAX, open: u64::MAX }; needs],
        received: vec![
            Reception { node: node.clone(), epoch: Epoch(u128::MAX), direct: u64::MAX, broadcast: u64::MAX };
            received
        ],
        ..Advertisement::default()
    };
    let full = with(NODES_PER_ADVERTISEMENT_MAX, NODES_PER_ADVERTISEMENT_MAX, NODES_PER_ADVERTISEMENT_MAX);
    assert_eq!(full.check(), Ok(()));
    assert_eq!(full.size() - Advertisement::default().size(), ADVERTISEMENT_NODES_BYTES_MAX);
    let many = NODES_PER_ADVERTISEMENT_MAX + 1;
    for advertisement in [with(many, 0, 0), with(0, many, 0), with(0, 0, many)] {
        assert_eq!(advertisement.check(), Err(AdvertisementError::ManyNodes(many)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A node makes room in a packet by it.
    #[test]
    fn the_size_of_an_offer_is_enough(packet in packet()) {
        if let Some(advertisement) = packet.advertisement {
            let bare = Packet::new(packet.epoch);
            let empty = to_bytes(&bare).len();
            let full = to_bytes(&Packet { advertisement: Some(advertisement.clone()), ..bare }).len();
            prop_assert!(full - empty <= advertisement.size() + 3 + 8, "{} of {}", full - empty, advertisement.size());
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn golden_header() -> Arc<Header> {
    Arc::new(Header {
        choreography: "order".into(),
        version: 2,
        initiator: RoleIndex(1),
        cast: vec![NodeId::new("n1").unwrap(), NodeId::new("n2").unwrap()],
        started_unix_ms: 1_700_000_000_000,
        deadline_unix_ms: Some(5),
        patches: vec!["p".into()],
        traceparent: Traceparent::new([0xaa; 16], [0xbb; 8], 1),
    })
}

fn golden_path() -> Path {
    Path::root().child(3).child(300)
}

fn golden_abort() -> Abort {
    Abort::new("code", "why")
}

fn golden_packet() -> Packet {
    let session = SessionId::from_bytes(*b"0123456789abcdef");
    let bodies = [
        Body::Deliver { path: golden_path(), operation: Operation::Gather, payload: vec![0xde, 0xad].into() },
        Body::Nudge(Lacks { awaits: vec![golden_path()], aborted: true }),
        Body::Abort(golden_abort()),
        Body::Done(Outcome::Finished),
        Body::Done(Outcome::Compensated(golden_abort())),
        Body::Close(Outcome::Finished),
        Body::Close(Outcome::Compensated(golden_abort())),
        Body::Turns { finals: vec![(golden_path(), 300)], aborted: true },
        Body::Compensating(Some(golden_path())),
        Body::Compensating(None),
        Body::Closed(None),
        Body::Closed(Some(Outcome::Finished)),
        Body::Gone(golden_path()),
        Body::Trouble(Some(RoleTrouble::needs_operator("s", "why", 300))),
        Body::Trouble(Some(RoleTrouble::stopped("why"))),
        Body::Trouble(None),
        Body::TroubleAsked,
    ];
    let operations = [
        Operation::Comm,
        Operation::Multicast,
        Operation::Broadcast,
        Operation::Gather,
        Operation::Vote,
        Operation::Verdict,
    ];
    let delivered = |operation| Body::Deliver { path: golden_path(), operation, payload: vec![1].into() };
    let bodies = bodies.into_iter().chain(operations.map(delivered));
    let frames = (0u64..).zip(bodies).map(|(number, body)| {
        let header = (number == 0).then(golden_header);
        (number, Frame { session, from: RoleIndex(0), to: RoleIndex(1), header, body })
    });
    Packet {
        epoch: Epoch(500),
        round: Round::Broadcast(300),
        queue_ms: 700,
        frames: frames.collect(),
        acks: vec![(Epoch(7), vec![1, 128])],
        advertisement: Some(golden_offer()),
    }
}

fn golden_offer() -> Advertisement {
    let (node, membership) = (NodeId::new("n2").unwrap(), Membership(300));
    Advertisement {
        membership: Membership(0xbeef),
        change: 3,
        draining: true,
        roles: vec!["buyer".into()],
        ask: true,
        choreographies: vec![OfferedChoreography {
            choreography: "order".into(),
            version: 2,
            patches: vec!["p".into()],
        }],
        knows: Some(Membership(7)),
        left: vec![Left { at_unix_ms: 1_000, node: node.clone(), membership }],
        needs: vec![DrainBlocker { node: node.clone(), ..need() }],
        received: vec![Reception { node, epoch: Epoch(400), direct: 8, broadcast: 9 }],
        fresh: true,
        generation: golden_generation(),
        dispute: Some(Dispute {
            membership,
            refused: golden_generation(),
            known: Generation::default(),
            both_live: true,
        }),
        accepts: Some(300),
    }
}

fn golden_generation() -> Generation {
    Generation { restores: 1, number: 2, id: 300, opened: 4, batch: 5 }
}

#[test]
fn the_bytes_of_a_packet_stay() {
    let mut text = String::new();
    for (what, packet) in golden_packets() {
        writeln!(text, "{what}: {}", hex(&to_bytes(&packet))).unwrap();
    }
    insta::assert_snapshot!(text);
}

/// Packets with one frame, or with none.
pub fn golden_packets() -> Vec<(String, Packet)> {
    let Packet { epoch, round, queue_ms, frames, acks, advertisement } = golden_packet();
    let empty = || Packet::new(epoch);
    let to_all = Packet { round, queue_ms, acks, advertisement, ..empty() };
    let mut packets = vec![("empty".into(), empty()), ("acks and offer".into(), to_all)];
    for frame in frames {
        packets.push((format!("{:?}", frame.1.body), Packet { frames: vec![frame], ..empty() }));
    }
    packets
}

pub fn golden_records() -> Vec<Record> {
    let (path, name, payload) = (golden_path, || "name".to_owned(), || Payload::from(vec![0xde, 0xad]));
    let trouble = |task| StepFailure { step: name(), task, reason: "why".into(), tries: 7, in_doubt: false };
    let troubled = |task| Record::Troubled { path: path(), input: Fingerprint(9), trouble: trouble(task) };
    vec![
        Record::Received { path: path(), from: RoleIndex(1), operation: Operation::Gather, payload: payload() },
        Record::Observed { path: path(), name: name(), result: payload() },
        Record::Intended { path: path(), name: name(), input: Fingerprint(9) },
        Record::Committed { path: path(), name: name(), input: Fingerprint(9), order: 5, result: Ok(payload()) },
        Record::Committed { path: path(), name: name(), input: Fingerprint(9), order: 5, result: Err(golden_abort()) },
        Record::Compensated { path: path() },
        Record::Aborted { abort: golden_abort(), own: true },
        Record::Ended { outcome: Outcome::Finished, output: Some(payload()) },
        Record::Ended { outcome: Outcome::Compensated(golden_abort()), output: None },
        Record::Checkpoint { path: path(), turn: 300, state: payload() },
        troubled(Task::Commit),
        troubled(Task::Compensate),
        troubled(Task::FindOut),
        troubled(Task::Reconcile),
        troubled(Task::Record),
        Record::Signalled {
            number: 300,
            name: name(),
            key: "key".into(),
            fingerprint: Fingerprint(7),
            payload: Some(payload()),
        },
        Record::Signalled { number: 300, name: name(), key: "key".into(), fingerprint: Fingerprint(7), payload: None },
        Record::Quarantined { reason: "why".into(), failures: 5 },
        Record::Closing,
        Record::Passivated(PassivatedState {
            acknowledged: vec![(Path::root().child(3), RoleIndex(1), Fingerprint(7))],
            acquainted: vec![RoleIndex(1), RoleIndex(2)],
            done: vec![(RoleIndex(2), Outcome::Finished)],
            announced: Some(Outcome::Finished),
            since: vec![(golden_path(), 300)],
        }),
        Record::Terminated,
    ]
}

#[test]
fn the_bytes_of_records_stay() {
    let id = crate::rig::id(3);
    let mut text = String::new();
    for record in golden_records() {
        let key = record.key(id).split_off(id.to_bytes().len());
        writeln!(text, "{record:?}\n  {}\n  {}", hex(&key), hex(&value_bytes(&record).unwrap())).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn the_bytes_of_openings_and_ends_stay() {
    let opened = Opened { header: golden_header(), input: Some(vec![1, 2].into()) };
    let closed = Closed { header: golden_header(), outcome: Outcome::Compensated(golden_abort()), output: None };
    let bytes = [value_bytes(&opened), value_bytes(&closed)].map(|bytes| hex(&bytes.unwrap()));
    insta::assert_snapshot!(bytes.join("\n"));
}

#[test]
fn the_names_of_spaces_and_the_text_of_ids_stay() {
    let names: Vec<_> = Space::ALL.iter().map(|space| space.name()).collect();
    assert_eq!(names, ["meta", "open", "closed", "journal", "state", "ended", "keys", "dead"]);
    assert_eq!(hex(&crate::rig::id(3).to_bytes()), "f307ad8698655e4bb087596cdcd9563a03");
    let key = accompanist_core::IdempotencyKey { session: SessionId::keyed("order", "42"), path: golden_path() };
    assert_eq!(key.to_string(), "5dabc4c7-755b-5530-a863-3698cb24e93f/3.300");
}

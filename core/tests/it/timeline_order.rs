//! The order of timelines: that it has no cycle, is the same whenever it is made, and is true; and that nothing that
//! somebody puts into an export is a danger.

use std::collections::BTreeMap;
use std::sync::Arc;

use accompanist_core::id::RoleIndex;
use accompanist_core::machine::Status;
use accompanist_core::record::{Opened, Record, StepFailure, Task};
use accompanist_core::timeline::{
    Event, EventKind, KnownPart, SessionExport, SessionPart, TextStyle, Timeline, Values,
};
use accompanist_core::{Abort, At, Choreography, NodeId, Path, Service};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::codec::record;
use crate::harness::{Chance, Rough, Stage};
use crate::rig::{choreography, id, path, payload, session};
use crate::timeline::{
    Bank, Bill, Carrier, Charge, Filmed, Office, Order, Pack, Purchase, Rounds, Ship, Shop, known_mut,
};

// Forks at two roles whose steps end in any order, and messages between them.
choreography!(Forks: (Shop, Bank, Carrier), At<Shop, Purchase> => At<Shop, u32>, |ctx, purchase| {
    let price = ctx.locally(Shop, |shop| shop.get(&purchase).price);
    let (there, load) = ctx.multicast(Shop, (Bank, Carrier), &price).await?;
    let (left, right) = (ctx.fork(), ctx.fork());
    let (paid, ()) = tokio::try_join!(
        async {
            let paid = left.transact(Charge, &there).await?;
            let there = left.comm(Bank, Carrier, &paid).await?;
            left.transact(Ship, &there).await
        },
        async {
            let packed = right.transact(Pack, &load).await?;
            let there = right.comm(Carrier, Bank, &packed).await?;
            right.transact(Charge, &there).await.map(|_| ())
        },
    )?;
    let tried = ctx.saga((Carrier, Shop), async |ctx| {
        let (one, other) = (ctx.fork(), ctx.fork());
        let (two, three) = (ctx.locally(Shop, |_| 2), ctx.locally(Carrier, |_| 3));
        tokio::try_join!(one.transact(Bill, &two), other.transact(Pack, &three))?;
        ctx.conclave((Carrier,), async |ctx| ctx.transact(Ship, &three).await).await
    }).await?;
    if tried.is_err() {
        ctx.transact(Bill, &price).await?;
    }
    ctx.comm(Carrier, Shop, &paid).await
});

// Operations that are called one after the other and then awaited together, which overlap in any way.
choreography!(Joined: (Shop, Bank, Carrier), At<Shop, Purchase> => At<Shop, u32>, |ctx, purchase| {
    let price = ctx.locally(Shop, |shop| shop.get(&purchase).price);
    let (there, load) = ctx.multicast(Shop, (Bank, Carrier), &price).await?;
    let late = ctx.transact(Charge, &there);
    let also_late = ctx.transact(Ship, &load);
    let (from_bank, _from_carrier) = tokio::try_join!(ctx.comm(Bank, Carrier, &there), ctx.comm(Carrier, Bank, &load))?;
    let packed = ctx.transact(Pack, &from_bank);
    let charged = ctx.transact(Charge, &there);
    let (_, _, packed, _) = tokio::try_join!(late, also_late, packed, charged)?;
    ctx.comm(Carrier, Shop, &packed).await
});

/// The moment at which each record of each role was first on disk.
type FirstSeen = BTreeMap<(usize, Vec<u8>), usize>;

/// Plays a run with faults, and calls `check` with the session as it is on the disks at some moments, and at the end.
fn film<C: Choreography>(choreography: fn() -> C, seed: u64, mut check: impl FnMut(&SessionExport, &FirstSeen)) {
    let office = Office { refuses: ["", "ship", "bill", "pack"][usize::try_from(seed % 4).unwrap()], keeps: "" };
    let (purchase, rough) =
        (Purchase { book: "Sagas".into(), price: 75 }, Rough { crashes: 6, lost_in_ten: 2, forgotten: 1 });
    let mut stage = Stage::set(choreography, &purchase, Service::of::<Shop>(Arc::new(office)), seed, rough);
    let (mut first_seen, mut now, mut moments) = (FirstSeen::new(), 0, Vec::new());
    let filmed = Filmed::of(
        &mut stage,
        payload(&purchase),
        |_| false,
        |records| {
            now += 1;
            for (role, record) in
                records.iter().enumerate().flat_map(|(role, records)| records.iter().map(move |record| (role, record)))
            {
                first_seen.entry((role, key(role, record))).or_insert(now);
            }
            if now % 97 == 0 {
                moments.push(records.to_vec());
            }
        },
    );
    for records in &moments {
        let mut export = filmed.export_of(records);
        export.parts.iter_mut().for_each(|part| known_mut(part).status = Status::Running);
        check(&export, &first_seen);
    }
    check(&filmed.export(), &first_seen);
}

/// A record's key, in which a checkpoint has its turn, and an end its outcome: later ones take the place of earlier
/// ones.
fn key(role: usize, record: &Record) -> Vec<u8> {
    let mut key = record.key(id(u8::try_from(role).unwrap()));
    if let Record::Checkpoint { turn, .. } = record {
        key.extend(turn.to_be_bytes());
    }
    if let Record::Ended { outcome, .. } = record {
        key.extend(format!("{outcome:?}").bytes());
    }
    key
}

/// The key of the record that an event was made of.
fn key_of(event: &Event) -> Option<Vec<u8>> {
    let (path, name) = (event.path.clone().unwrap_or_default(), String::new());
    let (input, result) = (accompanist_core::message::Fingerprint(0), payload(&()));
    let record = match &event.kind {
        EventKind::Received { from, operation, .. } => {
            Record::Received { path, from: *from, operation: *operation, payload: result }
        }
        EventKind::Voted { .. } | EventKind::Observed { .. } | EventKind::Decided { .. } => {
            Record::Observed { path, name, result }
        }
        EventKind::Intended { .. } => Record::Intended { path, name, input },
        EventKind::Committed { .. } => Record::Committed { path, name, input, order: 0, result: Ok(result) },
        EventKind::Compensated { .. } => Record::Compensated { path },
        EventKind::Checkpoint { turn, .. } => Record::Checkpoint { path, turn: *turn, state: result },
        EventKind::Aborted { abort, own } => Record::Aborted { abort: abort.clone(), own: *own },
        EventKind::Ended { outcome, .. } => Record::Ended { outcome: outcome.clone(), output: None },
        EventKind::Closing => Record::Closing,
        _ => return None,
    };
    Some(key(usize::from(event.role.0), &record))
}

/// Whether everything that is sent after this waits until it is on disk.
fn is_durable_before_sends(event: &Event) -> bool {
    use EventKind::{Aborted, Committed, Compensated, Decided, Observed, Voted};
    matches!(
        event.kind,
        Committed { .. } | Compensated { .. } | Aborted { .. } | Decided { .. } | Voted { .. } | Observed { .. }
    )
}

/// Checks that whatever comes before an event was on disk before it.
fn check_truth(export: &SessionExport, first_seen: &FirstSeen) {
    let timeline = Timeline::of(export, Values::Hidden);
    let seen = |event: &Event| first_seen.get(&(usize::from(event.role.0), key_of(event)?)).copied();
    let mut compared = 0;
    for (later, event) in timeline.events.iter().enumerate() {
        let Some(after) = seen(event) else { continue };
        for (earlier, cause) in timeline.events.iter().enumerate().take(later) {
            let counts = cause.role == event.role || is_durable_before_sends(cause);
            let Some(before) = seen(cause).filter(|_| counts && timeline.precedes(earlier, later)) else { continue };
            compared += 1;
            assert!(
                before <= after,
                "{cause:?} was on disk at {before}, {event:?} at {after}:\n{}",
                timeline.text(TextStyle::default())
            );
        }
    }
    assert!(
        compared > 0 || timeline.events.len() < 8,
        "nothing was compared:\n{}",
        timeline.text(TextStyle::default())
    );
}

/// Checks that each event stands behind those that it comes after, and each message behind its sending.
fn check_order(timeline: &Timeline) {
    for (at, event) in timeline.events.iter().enumerate() {
        assert!(event.after.is_sorted() && event.after.iter().all(|before| *before < at), "{at}: {event:?}");
        assert!(at == 0 || !event.after.is_empty() || !matches!(timeline.events[0].kind, EventKind::Started { .. }));
        let EventKind::Received { from, .. } = event.kind else { continue };
        let sent = timeline.events.iter().position(|sent| {
            let is_to = matches!(sent.kind, EventKind::Sent { to, .. } if to == event.role);
            is_to && (sent.role, &sent.path) == (from, &event.path)
        });
        assert!(timeline.precedes(sent.unwrap(), at), "{event:?}");
    }
}

/// The same parts in another order, with their records in another order.
fn shuffled(export: &SessionExport, seed: u64) -> SessionExport {
    fn shuffle<T>(items: &mut [T], chance: &mut Chance) {
        for at in (1..items.len()).rev() {
            items.swap(at, chance.draw(at + 1));
        }
    }
    let (mut export, mut chance) = (export.clone(), Chance(seed));
    shuffle(&mut export.parts, &mut chance);
    export.parts.iter_mut().for_each(|part| shuffle(&mut known_mut(part).records, &mut chance));
    export
}

fn check_all(export: &SessionExport, seed: u64) {
    let timeline = Timeline::of(export, Values::Shown);
    check_order(&timeline);
    assert_eq!(timeline.contradictions, 0, "{}", timeline.text(TextStyle::default()));
    assert_eq!(
        Timeline::of(&shuffled(export, seed), Values::Shown),
        timeline,
        "the same in whatever order it is given"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 8, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_any_run_has_no_cycle_and_is_the_same_whenever_it_is_made(seed in any::<u64>()) {
        film(|| Order, seed, |export, _| check_all(export, seed));
        film(|| Rounds, seed, |export, _| check_all(export, seed));
        film(|| Forks, seed, |export, _| check_all(export, seed));
        film(|| Joined, seed, |export, _| check_all(export, seed));
    }

    #[test]
    fn what_comes_before_an_event_was_on_disk_before_it(seed in any::<u64>()) {
        film(|| Order, seed, check_truth);
        film(|| Rounds, seed, check_truth);
        film(|| Forks, seed, check_truth);
    }
}

/// What was recorded last counts more than the order of the calls: the step that was called first has ended last.
#[test]
fn the_order_of_commits_overrules_that_of_calls() {
    let committed = |counter: u32, order: u32, name: &str| Record::Committed {
        path: path(&[counter]),
        name: name.into(),
        input: accompanist_core::message::Fingerprint(0),
        order,
        result: Ok(payload(&counter)),
    };
    let timeline = Timeline::of(
        &alone(vec![committed(0, 1, "late"), committed(1, 0, "quick"), committed(2, 2, "last")]),
        Values::Shown,
    );
    let steps: Vec<&str> = timeline
        .events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Committed { step, .. } => Some(step.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!((steps, timeline.contradictions), (vec!["quick", "late", "last"], 0));
}

/// A session of one role with these records.
fn alone(records: Vec<Record>) -> SessionExport {
    let mut export = SessionExport::new(session());
    let node = NodeId::new("shop").unwrap();
    let header = accompanist_core::frame::Header {
        choreography: "alone".into(),
        version: 1,
        initiator: RoleIndex(0),
        cast: vec![node.clone()],
        started_unix_ms: 0,
        deadline_unix_ms: None,
        patches: Vec::new(),
        traceparent: None,
    };
    let status = Status::of(&records);
    let part = KnownPart::new(Opened { header: Arc::new(header), input: None }, records, status);
    export.parts.push(SessionPart::known(RoleIndex(0), "shop", node, part));
    export
}

/// Draws in every way, and returns the drawings.
fn drawn(export: &SessionExport) -> (Timeline, [String; 3]) {
    let timeline = Timeline::of(export, Values::Shown);
    let drawings = [timeline.text(TextStyle::default()), timeline.mermaid(), timeline.svg()];
    (timeline, drawings)
}

/// Records that lie close to each other, so that they collide and contradict each other.
fn colliding() -> impl Strategy<Value = Record> {
    let places = || vec(prop_oneof![0..3_u32, Just(u32::MAX)], 1..4).prop_map(|counters| path(&counters));
    let name = prop_oneof![Just("saga"), Just("vote"), Just("signal a"), Just("signals a"), Just("x")];
    let verdict = prop_oneof![Just(Ok(())), Just(Err(Abort::new("a", "b")))]
        .prop_map(|verdict: Result<(), Abort>| payload(&verdict));
    (record(), places(), name, verdict, 0..4_u32).prop_map(|(record, at, named, verdict, few)| match record {
        Record::Received { operation, .. } => {
            Record::Received { path: at, from: RoleIndex(u8::try_from(few).unwrap()), operation, payload: verdict }
        }
        Record::Observed { .. } => Record::Observed { path: at, name: named.into(), result: verdict },
        Record::Intended { input, .. } => Record::Intended { path: at, name: named.into(), input },
        Record::Committed { input, result, .. } => {
            Record::Committed { path: at, name: named.into(), input, order: few, result }
        }
        Record::Compensated { .. } => Record::Compensated { path: at },
        Record::Checkpoint { state, .. } => Record::Checkpoint { path: at, turn: few, state },
        Record::Troubled { input, trouble, .. } => Record::Troubled { path: at, input, trouble },
        record => record,
    })
}

proptest! {
    #[test]
    fn records_that_nobody_can_have_written_are_ordered_and_drawn(
        records in vec(vec(prop_oneof![colliding(), record()], 0..24), 1..4), seed in any::<u64>()
    ) {
        let mut export = alone(Vec::new());
        let first = export.parts[0].clone();
        export.parts.clear();
        for (role, records) in records.into_iter().enumerate() {
            let mut part = first.clone();
            part.role = RoleIndex(u8::try_from(role).unwrap());
            let known = known_mut(&mut part);
            (known.status, known.records) = (Status::of(&records), records);
            export.parts.push(part);
        }
        let (timeline, drawings) = drawn(&export);
        for (at, event) in timeline.events.iter().enumerate() {
            prop_assert!(event.after.iter().all(|before| *before < at));
        }
        prop_assert!(drawings.iter().all(|drawing| !drawing.is_empty()));
        prop_assert_eq!(drawn(&shuffled(&shuffled(&export, seed), seed)).0.events.len(), timeline.events.len());
    }

    #[test]
    fn bytes_that_are_no_export_are_refused_or_drawn(mut bytes in vec(any::<u8>(), 0..400), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let _ = SessionExport::from_bytes(&bytes).map(|export| drawn(&export));
        bytes = alone(vec![Record::Closing, Record::Compensated { path: path(&[1]) }]).to_bytes().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let _ = SessionExport::from_bytes(&bytes).map(|export| drawn(&export));
    }
}

#[test]
fn a_path_of_any_depth_is_drawn() {
    let deepest = (0..Path::DEPTH_MAX).fold(Path::root(), |path, _| path.child(1));
    let records = vec![
        Record::Compensated { path: deepest.clone() },
        Record::Intended { path: deepest, name: "deep".into(), input: accompanist_core::message::Fingerprint(0) },
    ];
    let (_, [text, ..]) = drawn(&alone(records));
    assert!(text.contains("..1.1.1.1.1.1.1.1 shop: intends deep"), "{text}");
}

#[test]
fn many_roles_and_many_events_are_drawn_within_bounds() {
    let mut export = alone(Vec::new());
    let first = export.parts[0].clone();
    let record = |counter: u32| Record::Received {
        path: path(&[counter / 300, counter % 300]),
        from: RoleIndex(u8::try_from(counter % 200).unwrap()),
        operation: accompanist_core::frame::Operation::Gather,
        payload: payload(&counter),
    };
    known_mut(&mut export.parts[0]).records = (0..20_000).map(record).collect();
    for role in 1..100 {
        let mut part = first.clone();
        part.role = RoleIndex(role);
        export.parts.push(part);
    }
    let (timeline, [text, mermaid, svg]) = drawn(&export);
    assert!(timeline.events.len() > 40_000 - 200 && timeline.lanes.len() == 200);
    assert!(text.contains(".. ") && text.contains("rows are left out") && text.lines().count() < 21_000);
    assert!(mermaid.lines().count() < 1_000 && svg.len() < 1_000_000, "{}", svg.len());
}

/// Text that would change what is around it, were it not escaped.
const HOSTILE: &str = "a\nb\r%%{init: {}}%%;#<script>alert(1)</script>&\"'`]]>\u{1b}[2J\u{202e}\u{0}\u{ffff}end";

#[test]
fn text_of_users_is_escaped_wherever_it_stands() {
    let failure =
        StepFailure { step: HOSTILE.into(), task: Task::Commit, reason: HOSTILE.into(), tries: 1, in_doubt: true };
    let input = accompanist_core::message::Fingerprint(0);
    let abort = Abort::new(HOSTILE, HOSTILE);
    let (name, message) = (HOSTILE.to_owned(), payload(&HOSTILE.to_owned()));
    let mut export = alone(vec![
        Record::Observed { path: path(&[0]), name: name.clone(), result: message.clone() },
        Record::Committed { path: path(&[1]), name: name.clone(), input, order: 0, result: Ok(message.clone()) },
        Record::Committed { path: path(&[2]), name: name.clone(), input, order: 1, result: Err(abort.clone()) },
        Record::Compensated { path: path(&[1]) },
        Record::Troubled { path: path(&[3]), input, trouble: failure },
        Record::Signalled {
            number: 0,
            name: name.clone(),
            key: name.clone(),
            fingerprint: input,
            payload: Some(message),
        },
        Record::Aborted { abort, own: true },
        Record::Quarantined { reason: name.clone(), failures: 3 },
    ]);
    export.attributes.insert(name.clone(), name.clone());
    export.parts[0].name.clone_from(&name);
    let known = known_mut(&mut export.parts[0]);
    known.stopped = Some(name.clone());
    known.waits_for.push((path(&[4]), name.clone()));
    Arc::make_mut(&mut known.opened.header).choreography.clone_from(&name);
    export.parts.push(SessionPart::away(RoleIndex(1), &name, NodeId::new("b").unwrap(), &name));
    let (timeline, [text, mermaid, svg]) = drawn(&export);

    let is_control = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{ffff}');
    assert!(![&text, &mermaid, &svg].iter().any(|drawing| drawing.contains(is_control)));
    let statements = mermaid
        .lines()
        .skip(1)
        .filter(|line| line.starts_with("    participant r") || line.starts_with("    Note over r"));
    assert_eq!(statements.count(), mermaid.lines().count() - 1, "{mermaid}");
    assert!(!mermaid.contains(['<', '%', '`', '&']), "{mermaid}");
    assert!(!svg.contains("<script") && !svg.contains("]]>"), "{svg}");
    assert_eq!(svg.matches("</text>").count(), svg.matches("<text ").count());
    assert!(timeline.events.len() > 10 && text.contains("<script>"), "{text}");
}

#[test]
fn an_instance_of_another_session_is_noticed() {
    let mut export = alone(Vec::new());
    let mut other = export.parts[0].clone();
    other.role = RoleIndex(1);
    Arc::make_mut(&mut known_mut(&mut other).opened.header).version = 2;
    export.parts.push(other);
    let timeline = Timeline::of(&export, Values::Shown);
    assert_eq!(timeline.contradictions, 1);
    assert!(timeline.text(TextStyle::default()).contains("contradict each other"));
}

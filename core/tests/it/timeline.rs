//! Timelines of sessions: what is drawn of a saga that commits, is compensated, is in trouble, or has a site away.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::Arc;

use accompanist_core::frame::Header;
use accompanist_core::id::RoleIndex;
use accompanist_core::machine::Status;
use accompanist_core::record::{Closed, Opened, Record};
use accompanist_core::testing::replay;
use accompanist_core::timeline::{
    Arrival, Colors, Event, EventKind, ExportError, KnownPart, SessionExport, SessionPart, TextStyle, Timeline, Values,
};
use accompanist_core::{
    Abort, At, Choreography, Known, Local, NodeId, Retry, RoleSet, Service, Services, SessionId, Transaction,
};
use serde::{Deserialize, Serialize};

use crate::harness::{Rough, Stage};
use crate::rig::{choreography, path, payload, roles, session};

/// What the services of a run do when they are asked.
#[derive(Debug, Default)]
pub struct Office {
    /// The step that is refused.
    pub refuses: &'static str,
    /// The step whose compensation needs an operator.
    pub keeps: &'static str,
}

roles! { pub Shop "shop" Office, pub Bank "bank" Office, pub Carrier "carrier" Office }

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Purchase {
    pub book: String,
    pub price: u32,
}

macro_rules! office_step {
    ($step:ident $name:literal $role:ty) => {
        pub struct $step;
        impl Transaction for $step {
            const NAME: &'static str = $name;
            type Role = $role;
            type Input = u32;
            type Output = u32;
            async fn commit(&self, here: &Local<$role>, amount: &u32) -> Result<u32, Abort> {
                if here.service().refuses == $name { Err(Abort::new("refused", "not today")) } else { Ok(amount + 1) }
            }
            async fn compensate(&self, here: &Local<$role>, _: &u32, _: &u32) -> Result<(), Retry> {
                if here.service().keeps == $name { Err(Retry::needs_operator("the books are closed")) } else { Ok(()) }
            }
        }
    };
}
office_step!(Charge "charge" Bank);
office_step!(Ship "ship" Carrier);
office_step!(Pack "pack" Carrier);
office_step!(Bill "bill" Shop);

// Paths: 0 and 1 are the order, 2 the charge, 3 the payment, 4 the parcel, 5 the answer.
choreography!(pub Order: (Shop, Bank, Carrier), At<Shop, Purchase> => At<Shop, u32>, |ctx, purchase| {
    let purchase = ctx.comm(Shop, Bank, &purchase).await?;
    let price = ctx.effect(Bank, "look up the price", async |_| 75_u32).await?;
    drop(purchase);
    let paid = ctx.transact(Charge, &price).await?;
    let load = ctx.comm(Bank, Carrier, &paid).await?;
    let shipped = ctx.transact(Ship, &load).await?;
    ctx.comm(Carrier, Shop, &shipped).await
});

pub const CALM: Rough = Rough { crashes: 0, lost_in_ten: 0, forgotten: 0 };

/// A run, and the latest records that each of its roles had on disk before it closed.
pub struct Filmed {
    pub header: Arc<Header>,
    pub input: accompanist_core::Payload,
    pub names: &'static [&'static str],
    pub records: Vec<Vec<Record>>,
    pub is_over: bool,
}

impl Filmed {
    /// Plays until `until` holds or the session is over. Shows `seen` what is on the disks after each step.
    pub fn of<C: Choreography>(
        stage: &mut Stage<C>,
        input: accompanist_core::Payload,
        until: impl Fn(&Stage<C>) -> bool,
        mut seen: impl FnMut(&[Vec<Record>]),
    ) -> Self {
        let names = C::Roles::NAMES;
        let film = RefCell::new((None, vec![Vec::new(); names.len()]));
        let seen = RefCell::new(&mut seen);
        let look = |stage: &Stage<C>| {
            let (header, records) = &mut *film.borrow_mut();
            for (role, records) in records.iter_mut().enumerate() {
                let now = stage.records(role);
                if !now.is_empty() {
                    *records = now;
                }
                if let Some(part) = stage.part(role) {
                    header.get_or_insert_with(|| part.header());
                }
            }
            (seen.borrow_mut())(records);
        };
        stage.play_until(|stage| {
            look(stage);
            until(stage)
        });
        look(stage);
        let is_over = stage.is_over();
        let (header, records) = film.into_inner();
        Self { header: header.unwrap(), input, names, records, is_over }
    }

    pub fn export(&self) -> SessionExport {
        self.export_of(&self.records)
    }

    /// The session with these records of its roles.
    pub fn export_of(&self, records: &[Vec<Record>]) -> SessionExport {
        let mut export = SessionExport::new(session());
        for (index, records) in records.iter().enumerate() {
            let input = (index == 0).then(|| self.input.clone());
            let status = if self.is_over { Status::Closed } else { Status::of(records) };
            let part = KnownPart::new(Opened { header: self.header.clone(), input }, records.clone(), status);
            let (role, node) = (RoleIndex(u8::try_from(index).unwrap()), self.header.cast[index].clone());
            export.parts.push(SessionPart::known(role, self.names[index], node, part));
        }
        export
    }
}

fn purchase() -> Purchase {
    Purchase { book: "Sagas".into(), price: 75 }
}

fn filmed<C: Choreography>(choreography: fn() -> C, office: Office, until: impl Fn(&Stage<C>) -> bool) -> Filmed {
    let service = Service::of::<Shop>(Arc::new(office));
    let mut stage = Stage::set(choreography, &purchase(), service, 7, CALM);
    Filmed::of(&mut stage, payload(&purchase()), until, |_| {})
}

fn ordered(office: Office) -> SessionExport {
    let mut export = filmed(|| Order, office, |_| false).export();
    export.attributes.insert("customer".into(), "c-17".into());
    export
}

pub fn known_mut(part: &mut SessionPart) -> &mut KnownPart {
    match &mut part.knowledge {
        accompanist_core::timeline::Knowledge::Known(known) => known,
        other => panic!("{other:?}"),
    }
}

fn text(export: &SessionExport) -> String {
    Timeline::of(export, Values::Shown).text(TextStyle::default())
}

#[test]
fn a_saga_that_commits() {
    let export = ordered(Office::default());
    let timeline = Timeline::of(&export, Values::Shown);
    insta::assert_snapshot!(timeline.text(TextStyle::default()), @r#"
    session f307ad86-9865-5e4b-b087-596cdcd9563a: Order version 1

      0  shop at shop: closed
      1  bank at bank: closed
      2  carrier at carrier: closed

    0   1   2
    ◆   │   │     shop: starts Order version 1 with Purchase {book: "Sagas", price:
    │   │   │     75} [customer=c-17] at 1970-01-01T00:00:00Z
    ├──▶│   │   0 comm from shop to bank: Purchase {book: "Sagas", price: 75}
    │   ○   │   1 bank: observes look up the price: 75
    │   ●   │   2 bank: commits charge: 76
    │   ├──▶│   3 comm from bank to carrier: 76
    │   │   ●   4 carrier: commits ship: 77
    │◀──┼───┤   5 comm from carrier to shop: 77
    ◆   │   │     shop: finishes with 77
    │   ◆   │     bank: finishes
    │   │   ◆     carrier: finishes
    ◆   │   │     shop: knows that all have ended alike
    ◆   │   │     shop: closes
    │   ◆   │     bank: closes
    │   │   ◆     carrier: closes
    "#);
    insta::assert_snapshot!(timeline.mermaid(), @r#"
    sequenceDiagram
        participant r0 as shop at shop
        participant r1 as bank at bank
        participant r2 as carrier at carrier
        Note over r0: starts Order version 1 with Purchase {book: "Sagas", price: 75} [custome..
        r0->>r1: 0 comm: Purchase {book: "Sagas", price: 75}
        Note over r1: 1 observes look up the price: 75
        Note over r1: 2 commits charge: 76
        r1->>r2: 3 comm: 76
        Note over r2: 4 commits ship: 77
        r2->>r0: 5 comm: 77
        Note over r0: finishes with 77
        Note over r1: finishes
        Note over r2: finishes
        Note over r0: knows that all have ended alike
        Note over r0: closes
        Note over r1: closes
        Note over r2: closes
    "#);
    assert_eq!(timeline.contradictions, 0);
}

#[test]
fn a_saga_that_is_compensated() {
    let export = ordered(Office { refuses: "ship", keeps: "" });
    let timeline = Timeline::of(&export, Values::Shown);
    insta::assert_snapshot!(timeline.text(TextStyle::default()), @r#"
    session f307ad86-9865-5e4b-b087-596cdcd9563a: Order version 1

      0  shop at shop: closed
      1  bank at bank: closed
      2  carrier at carrier: closed

    0   1   2
    ◆   │   │     shop: starts Order version 1 with Purchase {book: "Sagas", price:
    │   │   │     75} [customer=c-17] at 1970-01-01T00:00:00Z
    ├──▶│   │   0 comm from shop to bank: Purchase {book: "Sagas", price: 75}
    │   ○   │   1 bank: observes look up the price: 75
    │   ●   │   2 bank: commits charge: 76
    │   ├──▶│   3 comm from bank to carrier: 76
    │   │   ✗   4 carrier: ship refuses: not today (refused)
    │   │   ✗     carrier: aborts the session: not today (refused)
    ✗   │   │     shop: learns of the abort: not today (refused)
    │   ✗   │     bank: learns of the abort: not today (refused)
    │   ↺   │   2 bank: compensates charge
    ◆   │   │     shop: has compensated
    │   ◆   │     bank: has compensated
    │   │   ◆     carrier: has compensated
    ◆   │   │     shop: knows that all have ended alike
    ◆   │   │     shop: closes
    │   ◆   │     bank: closes
    │   │   ◆     carrier: closes
    "#);
    let svg = timeline.svg();
    let compensation = svg.lines().filter(|line| line.contains("class=\"compensation\""));
    assert_eq!(compensation.count(), 2, "a box and its text, in a colour of their own: {svg}");
    assert!(timeline.mermaid().contains("Note over r1: 2 compensates charge"));
}

fn in_trouble() -> SessionExport {
    let is_troubled = |record: &Record| matches!(record, Record::Troubled { .. });
    let is_in_trouble = |stage: &Stage<Order>| stage.records(1).iter().any(is_troubled);
    filmed(|| Order, Office { refuses: "ship", keeps: "charge" }, is_in_trouble).export()
}

#[test]
fn a_step_in_trouble() {
    insta::assert_snapshot!(text(&in_trouble()), @r#"
    session f307ad86-9865-5e4b-b087-596cdcd9563a: Order version 1

      0  shop at shop: compensated
      1  bank at bank: needs an operator
      2  carrier at carrier: compensating

    0   1   2
    ◆   │   │     shop: starts Order version 1 with Purchase {book: "Sagas", price:
    │   │   │     75} at 1970-01-01T00:00:00Z
    ├──▶│   │   0 comm from shop to bank: Purchase {book: "Sagas", price: 75}
    │   ○   │   1 bank: observes look up the price: 75
    │   ●   │   2 bank: commits charge: 76
    │   ├──▶│   3 comm from bank to carrier: 76
    │   │   ✗   4 carrier: ship refuses: not today (refused)
    │   ◆   │     bank: finishes
    │   │   ✗     carrier: aborts the session: not today (refused)
    ✗   │   │     shop: learns of the abort: not today (refused)
    │   ✗   │     bank: learns of the abort: not today (refused)
    │   !   │   2 bank: needs an operator: step `charge` has to be compensated,
    │   │   │     which failed 1 times, the last time with: the books are closed
    ◆   │   │     shop: has compensated
    "#);
}

#[test]
fn a_site_that_is_away() {
    let mut export = ordered(Office { refuses: "ship", keeps: "" });
    let node = export.parts[2].node.clone();
    export.parts[2] = SessionPart::away(RoleIndex(2), "carrier", node, "no answer for 12 s");
    // What the sites that answer know of the one that does not.
    let bank = known_mut(&mut export.parts[1]);
    bank.records.retain(|record| {
        matches!(record, Record::Received { .. } | Record::Observed { .. } | Record::Committed { .. })
    });
    bank.status = Status::Running;
    bank.unacknowledged.push((path(&[3]), RoleIndex(2)));
    let shop = known_mut(&mut export.parts[0]);
    shop.records.clear();
    shop.status = Status::Running;
    shop.waits_for.push((path(&[5]), "a comm from `carrier`".into()));
    let timeline = Timeline::of(&export, Values::Shown);
    insta::assert_snapshot!(timeline.text(TextStyle::default()), @r#"
    session f307ad86-9865-5e4b-b087-596cdcd9563a: Order version 1

      0  shop at shop: running
      1  bank at bank: running
      2  carrier at carrier: the node is away: no answer for 12 s

    0   1   2
    ◆   │   ┊     shop: starts Order version 1 with Purchase {book: "Sagas", price:
    │   │   ┊     75} [customer=c-17] at 1970-01-01T00:00:00Z
    ├──▶│   ┊   0 comm from shop to bank: Purchase {book: "Sagas", price: 75}
    │   ○   ┊   1 bank: observes look up the price: 75
    │   ●   ┊   2 bank: commits charge: 76
    │   ├┄┄?┊   3 message from bank to carrier, sent: it is not known whether it
    │   │   ┊     arrived
    │   │   ?     carrier: the node is away: no answer for 12 s; what it did is not
    │   │   ┊     known
    …   │   ┊   5 shop: waits for a comm from `carrier`
    "#);
    assert!(timeline.mermaid().contains("participant r2 as carrier at carrier (missing)\n"));
    assert!(timeline.mermaid().contains("r1--)r2: 3 message, sent: it is not known whether it arrived\n"));
    assert!(timeline.svg().contains("class=\"unknown\"") && timeline.svg().contains("class=\"missing\""));
}

/// What a site has received from one that is away was sent there, and its sender's lane shows it.
#[test]
fn a_message_of_a_site_that_is_away_was_sent() {
    let mut export = ordered(Office::default());
    let node = export.parts[0].node.clone();
    export.parts[0] = SessionPart::away(RoleIndex(0), "shop", node, "no answer");
    let timeline = Timeline::of(&export, Values::Shown);
    let sent =
        |event: &&Event| matches!(event.kind, EventKind::Sent { to: RoleIndex(1), arrival: Arrival::Received, .. });
    assert!(timeline.events.iter().filter(sent).any(|event| event.role == RoleIndex(0)));
    let started = &timeline.events[0];
    assert!(matches!(&started.kind, EventKind::Started { input: None, .. }) && started.role == RoleIndex(0));
}

#[test]
fn a_role_that_the_export_lacks_is_shown_as_missing() {
    let mut export = ordered(Office::default());
    export.parts.truncate(2);
    let drawn = text(&export);
    assert!(drawn.contains("role 2 at carrier: the node is away: the export has nothing of it"), "{drawn}");
}

// Two turns; a saga with another one in it, which is aborted; then a step of the session's own.
choreography!(pub Rounds: (Shop, Bank, Carrier), At<Shop, Purchase> => At<Shop, u32>, |ctx, purchase| {
    let start = ctx.locally(Shop, |shop| shop.get(&purchase).price);
    let sum = ctx.repeat((Known(0_u32), start), async |ctx, (Known(turn), sum)| {
        let there = ctx.comm(Shop, Bank, &sum).await?;
        let paid = ctx.transact(Charge, &there).await?;
        let sum = ctx.comm(Bank, Shop, &paid).await?;
        Ok(if turn < 2 { ControlFlow::Continue((Known(turn + 1), sum)) } else { ControlFlow::Break(sum) })
    }).await?;
    let tried = ctx.saga((Bank, Carrier), async |ctx| {
        let charged = ctx.transact(Charge, &ctx.locally(Bank, |_| 1)).await?;
        ctx.comm(Bank, Carrier, &charged).await?;
        let packed = ctx.saga((Carrier,), async |ctx| {
            ctx.transact(Pack, &ctx.locally(Carrier, |_| 2)).await
        }).await??;
        ctx.transact(Ship, &packed).await
    }).await?;
    if tried.is_err() {
        return ctx.transact(Bill, &sum).await;
    }
    Ok(sum)
});

#[test]
fn loops_and_nested_sagas() {
    let export = filmed(|| Rounds, Office { refuses: "ship", keeps: "" }, |_| false).export();
    insta::assert_snapshot!(text(&export), @r#"
    session f307ad86-9865-5e4b-b087-596cdcd9563a: Rounds version 1

      0  shop at shop: closed
      1  bank at bank: closed
      2  carrier at carrier: closed

    0   1   2
    ◆   │   │             shop: starts Rounds version 1 with Purchase {book:
    │   │   │             "Sagas", price: 75} at 1970-01-01T00:00:00Z
    ○   │   │   1         shop: turn 2 begins, those before it are final (9 bytes of
    │   │   │             state)
    │   ○   │   1         bank: turn 2 begins, those before it are final (7 bytes of
    │   │   │             state)
    │   │   ○   1         carrier: turn 2 begins, those before it are final (7 bytes
    │   │   │             of state)
    ├──▶│   │   1.2.0     comm from shop to bank: 77
    │   ●   │   1.2.1     bank: commits charge: 78
    │◀──┤   │   1.2.2     comm from bank to shop: 78
    │   ●   │   2.0.1     bank: commits charge: 2
    │   ├──▶│   2.0.2     comm from bank to carrier: 2
    │   │   ●   2.0.3.0.1 carrier: commits pack: 3
    │   │   ●   2.0.3     carrier: decides that saga 2.0.3 is committed
    │   │◀──┤   2.0.3.2   verdict from carrier to bank
    │   │   ✗   2.0.4     carrier: ship refuses: not today (refused)
    │   │   ✗   2.1       carrier: votes to abort the saga: not today (refused)
    │   │◀──┤   2.1       vote from carrier to bank
    │   ✗   │   2         bank: decides that saga 2 is aborted: not today (refused)
    │◀──┤   │   2.2       verdict from bank to shop
    │   ├──▶│   2.2       verdict from bank to carrier
    │   ↺   │   2.0.1     bank: compensates charge
    │   │   ↺   2.0.3.0.1 carrier: compensates pack
    ●   │   │   3         shop: commits bill: 79
    ◆   │   │             shop: finishes with 79
    │   ◆   │             bank: finishes
    │   │   ◆             carrier: finishes
    ◆   │   │             shop: knows that all have ended alike
    ◆   │   │             shop: closes
    │   ◆   │             bank: closes
    │   │   ◆             carrier: closes
    "#);
}

#[test]
fn a_terminal_of_another_width_and_colours() {
    let timeline = Timeline::of(&in_trouble(), Values::Shown);
    for width in [40, 60, 80, 200] {
        let drawn = timeline.text(TextStyle::default().width(width));
        let longest = drawn.lines().skip(1).map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= width, "{longest} of {width} columns:\n{drawn}");
    }
    let drawn = timeline.text(TextStyle::default().colors(Colors::Always));
    let is_red = |line: &str| line.starts_with("\u{1b}[1;31m") && line.ends_with("\u{1b}[0m");
    assert!(drawn.lines().any(|line| is_red(line) && line.contains("needs an operator")), "{drawn}");
    let plain: String = drawn
        .split('\u{1b}')
        .map(|part| part.split_once('m').filter(|(code, _)| code.starts_with('[')).map_or(part, |(_, rest)| rest))
        .collect();
    assert_eq!(plain, timeline.text(TextStyle::default()));
}

#[test]
fn values_are_shown_as_far_as_wanted() {
    let export = ordered(Office::default());
    let drawn = |values| Timeline::of(&export, values).text(TextStyle::default().width(200));
    assert!(drawn(Values::Shown).contains("comm from shop to bank: Purchase {book: \"Sagas\", price: 75}"));
    assert!(drawn(Values::Shapes).contains("comm from shop to bank: Purchase {book: text, price: number}"));
    let hidden = drawn(Values::Hidden);
    assert!(hidden.contains("comm from shop to bank: 30 bytes"), "{hidden}");
    assert!(!drawn(Values::Shapes).contains("Sagas") && !hidden.contains("Purchase"));
}

#[test]
fn a_closed_part_without_a_journal_shows_its_outcome() {
    let mut export = ordered(Office::default());
    for part in &mut export.parts {
        let known = known_mut(part);
        let ended = known.records.iter().find_map(|record| match record {
            Record::Ended { outcome, output } => Some((outcome.clone(), output.clone())),
            _ => None,
        });
        let (outcome, output) = ended.unwrap();
        *known = KnownPart::closed(Closed { header: known.opened.header.clone(), outcome, output });
    }
    assert_eq!(export.histories(), []);
    insta::assert_snapshot!(text(&export), @r"
    session f307ad86-9865-5e4b-b087-596cdcd9563a: Order version 1

      0  shop at shop: closed
      1  bank at bank: closed
      2  carrier at carrier: closed

    0   1   2
    ◆   │   │   shop: starts Order version 1 [customer=c-17] at 1970-01-01T00:00:00Z
    ◆   │   │   shop: finishes with 77
    │   ◆   │   bank: finishes
    │   │   ◆   carrier: finishes
    ◆   │   │   shop: closes
    │   ◆   │   bank: closes
    │   │   ◆   carrier: closes
    ");
}

#[test]
fn an_export_is_a_file_and_json() {
    let mut export = in_trouble();
    let node = export.parts[0].node.clone();
    export.parts.push(SessionPart::unknown(RoleIndex(7), "ghost", node));
    let file = export.to_bytes().unwrap();
    assert_eq!(SessionExport::from_bytes(&file).unwrap(), export);
    let json = serde_json::to_string(&export).unwrap();
    assert_eq!(serde_json::from_str::<SessionExport>(&json).unwrap(), export);
    let timeline = Timeline::of(&export, Values::Shown);
    let json = serde_json::to_string(&timeline).unwrap();
    assert_eq!(serde_json::from_str::<Timeline>(&json).unwrap(), timeline);

    assert_eq!(file[0], 1, "the version");
    assert!(matches!(SessionExport::from_bytes(&[2, 0]), Err(ExportError::Version(2))));
    assert!(matches!(SessionExport::from_bytes(&[]), Err(ExportError::Version(0))));
    assert!(matches!(SessionExport::from_bytes(&file[..file.len() - 1]), Err(ExportError::Codec(_))));
}

#[test]
fn the_bytes_of_an_export_stay_the_same() {
    let mut export = SessionExport::new(SessionId::from_bytes([7; 16]));
    export.attributes.insert("a".into(), "b".into());
    export.parts.push(SessionPart::away(RoleIndex(0), "shop", NodeId::new("n").unwrap(), "r"));
    export.parts.push(SessionPart::unknown(RoleIndex(1), "bank", NodeId::new("m").unwrap()));
    let session = [&[1, 16][..], &[7; 16]].concat();
    let attributes = b"\x01\x01a\x01b";
    let parts = b"\x02\x00\x04shop\x01n\x02\x01r\x01\x04bank\x01m\x01";
    assert_eq!(export.to_bytes().unwrap(), [&session[..], attributes, parts].concat());
}

/// What was exported at a site is replayed on a developer's machine.
#[test]
fn the_histories_of_an_export_replay() {
    let is_waiting = |stage: &Stage<Order>| stage.records(1).len() > 2;
    let export = filmed(|| Order, Office::default(), is_waiting).export();
    let histories = SessionExport::from_bytes(&export.to_bytes().unwrap()).unwrap().histories();
    assert_eq!(histories.len(), 3);
    let services = || {
        let office = Arc::new(Office::default());
        Services::new().with(Shop, office.clone()).with(Bank, office.clone()).with(Carrier, office)
    };
    for history in &histories {
        replay(history, Order, &services()).unwrap_or_else(|error| panic!("{error}\n{history}"));
    }
    let error = replay(&histories[1], Rounds, &services()).unwrap_err();
    assert!(error.to_string().contains("the history is of `Order` version 1"), "{error}");
}

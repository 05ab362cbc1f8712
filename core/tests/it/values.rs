//! Values as bytes: which types of serde travel, which changes of a type are read, and what is refused before it is
//! sent.

#![allow(
    clippy::trivially_copy_pass_by_ref,
    clippy::needless_pass_by_value,
    reason = "as serde asks for it, and as it reads better in a call"
)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use accompanist_core::message::{decode, encode, encode_repeatable};
use accompanist_core::{
    Abort, At, Choreography, Context, Local, LocalTransaction, Message, Retry, Role, Services, State, Table,
    Transaction, run_local,
};
use proptest::prelude::*;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;

use crate::rig::{Rig, payload};

#[derive(Clone, Copy)]
struct Shop;
impl Role for Shop {
    const NAME: &'static str = "shop";
    type Service = ();
}
#[derive(Clone, Copy)]
struct Bank;
impl Role for Bank {
    const NAME: &'static str = "bank";
    type Service = AtomicU32;
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum State5 {
    New,
    #[serde(skip)]
    #[expect(dead_code, reason = "it is never sent")]
    Internal,
    Paid,
    #[serde(alias = "returned", rename = "refunded")]
    Refunded {
        cents: u32,
    },
    Lost(String, u8),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by")]
enum Tagged {
    Card { digits: u32, from: IpAddr },
    Cash,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", content = "with")]
enum Adjacent {
    Card(u32, i64),
    Voucher { code: String },
    Cash,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u32),
    Text(String),
    Nested { inner: Box<Untagged>, state: State5 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lines: Vec<Tagged>,
    cents: u32,
    #[serde(flatten)]
    more: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::option_option, reason = "each depth of it has to come back as itself")]
struct Nested {
    options: Vec<Option<Option<Option<()>>>>,
    results: Vec<Result<Option<u8>, ()>>,
    unit: (),
    pair: (i8, [char; 2]),
    numbers: (u64, i64, u128, i128, u128, i128),
    floats: (f32, f64),
    keys: BTreeMap<(u8, Option<bool>), BTreeMap<State5Key, Vec<u8>>>,
    bytes: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum State5Key {
    One,
    Two(u8),
}

fn check<T: Message + PartialEq + std::fmt::Debug>(value: T) {
    let bytes = encode_repeatable(&value).unwrap();
    assert_eq!(bytes, encode(&value).unwrap());
    assert_eq!(decode::<T>(&bytes).unwrap(), value);
    for length in 0..bytes.len() {
        decode::<T>(&bytes[..length]).expect_err("a part of the bytes is no value");
    }
    decode::<T>(&[&bytes[..], &[0]].concat()).expect_err("nothing comes after a value");
}

fn note(text: Option<u32>) -> Note {
    let lines = vec![Tagged::Cash, Tagged::Card { digits: 4, from: "::1".parse().unwrap() }];
    let more = BTreeMap::from([("a".into(), json!(null)), ("b".into(), json!([1, -1, 1.5, { "c": "d" }]))]);
    Note { text, lines, cents: 2, more }
}

#[test]
fn every_serde_form_round_trips() {
    for state in [State5::New, State5::Paid, State5::Refunded { cents: 7 }, State5::Lost("x".repeat(40), 200)] {
        check(state);
    }
    check([Tagged::Card { digits: 300, from: "10.0.0.1".parse().unwrap() }, Tagged::Cash]);
    check((Adjacent::Card(1, i64::MIN), Adjacent::Voucher { code: "é".into() }, Adjacent::Cash));
    let inner = Box::new(Untagged::Text("t".into()));
    check(vec![Untagged::Number(1), Untagged::Nested { inner, state: State5::Lost(String::new(), 1) }]);
    check((note(None), note(Some(9)), Note { lines: Vec::new(), more: BTreeMap::new(), ..note(None) }));
    check(json!({ "free": "form", "list": [true, null, { "deep": [[]] }], "number": u64::MAX }));
    let key = |one| if one { State5Key::One } else { State5Key::Two(128) };
    check(Nested {
        options: vec![None, Some(None), Some(Some(None)), Some(Some(Some(())))],
        results: vec![Ok(None), Ok(Some(255)), Err(())],
        unit: (),
        pair: (-128, ['\0', '\u{10ffff}']),
        numbers: (u64::MAX, i64::MIN, u128::MAX, i128::MIN, 7, -7),
        floats: (f32::NEG_INFINITY, -0.0),
        keys: BTreeMap::from([
            ((0, None), BTreeMap::from([(key(true), vec![]), (key(false), vec![0, 127, 128, 255])])),
            ((9, Some(true)), BTreeMap::new()),
        ]),
        bytes: (0..=255).collect(),
    });
    check(payload(&7_u32));
    assert_eq!(
        decode::<f64>(&encode(&f64::from_bits(0x7ff8_dead_beef_0001)).unwrap()).unwrap().to_bits(),
        0x7ff8_dead_beef_0001
    );
}

/// Stores and other releases hold these bytes.
#[test]
fn the_bytes_of_values_stay() {
    let bytes = |value: Result<Vec<u8>, _>| -> String {
        let value: Vec<u8> = value.unwrap_or_else(|error: accompanist_core::message::CodecError| panic!("{error}"));
        value.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    };
    assert_eq!(
        bytes(encode(&(0_u8, 127_u64, 128_u32, -1_i8, u128::MAX, i128::MIN))),
        "ae06007fa58001a600a7ffffffffffffffffffffffffffffffffa800000000000000000000000000000080"
    );
    assert_eq!(bytes(encode(&((), false, true, 'a', 1.5_f32, 1.5_f64))), "ae06a0a3a4ad61a90000c03faa000000000000f83f");
    assert_eq!(bytes(encode(&("ab".to_owned(), "c".repeat(32)))), format!("ae02826162ab20{}", "63".repeat(32)));
    assert_eq!(
        bytes(encode(&(None::<u8>, Some(None::<u8>), vec![7_u8, 200], vec![7_u16, 200]))),
        "ae04a1a2a1b60207c8ae0207a5c801"
    );
    assert_eq!(
        bytes(encode(&(State5::New, State5::Refunded { cents: 1 }))),
        "ae02b706537461746535b1034e6577b706537461746535b208726566756e646564b0010563656e747301"
    );
    assert_eq!(bytes(encode(&(BTreeMap::from([(1_u8, "a".to_owned())]), payload(&1_u8)))), "ae02af01018161ac0101");
    assert_eq!(
        bytes(encode(&Note { text: None, lines: vec![], cents: 1, more: BTreeMap::new() })),
        "b48563656e747301b5"
    );
}

proptest! {
    #[test]
    fn bytes_from_strangers_are_a_value_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = decode::<serde_json::Value>(&bytes);
        let _ = decode::<(Vec<Note>, Option<Adjacent>)>(&bytes);
        let _ = decode::<Untagged>(&bytes);
    }

    #[test]
    fn a_changed_byte_is_a_value_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode(&(note(Some(1)), Adjacent::Card(1, 2), json!({ "a": [1] }))).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode::<(Note, Adjacent, serde_json::Value)>(&bytes);
    }
}

#[test]
fn a_value_nested_too_deep_or_with_a_false_length_is_refused() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Deep(Option<Box<Deep>>);
    let deep = |levels: usize| (0..levels).fold(Deep(None), |deep, _| Deep(Some(Box::new(deep))));
    encode(&deep(60)).unwrap();
    let error = encode(&deep(70)).unwrap_err().to_string();
    assert!(error.contains("nested deeper than 128 levels"), "{error}");
    for kind in [0xa2_u8, 0xae, 0xb3, 0xb4, 0xb2] {
        let bytes = [kind, 1].repeat(100_000);
        decode::<serde_json::Value>(&bytes).expect_err("nobody nests like that");
        decode::<Deep>(&bytes).expect_err("nobody nests like that");
    }
    for kind in [0xab_u8, 0xac, 0xae, 0xaf, 0xb0, 0xb6] {
        let bytes = [&[kind][..], &[0xff; 8], &[0x7f]].concat();
        decode::<Vec<serde_json::Value>>(&bytes).expect_err("there is no such room");
    }
}

mod before {
    use serde::{Deserialize, Serialize};
    #[derive(Serialize, Deserialize)]
    pub struct Order {
        pub item: String,
        pub count: u32,
        pub cents: u32,
    }
    #[derive(Serialize, Deserialize)]
    pub enum Way {
        Road,
        Rail(u8),
    }
}

#[test]
fn a_changed_type_reads_compatible_values_and_refuses_others() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename = "Order")]
    struct Moved {
        cents: u32,
        count: u32,
        item: String,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename = "Order")]
    struct More {
        item: String,
        count: u32,
        cents: u64,
        #[serde(default)]
        gift: bool,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename = "Order")]
    struct Renamed {
        item: String,
        pieces: u32,
        cents: u32,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename = "Order")]
    struct Swapped {
        item: u32,
        count: u32,
        cents: u32,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Way {
        Air,
        Rail(u8),
        Road,
    }
    let order = encode(&before::Order { item: "book".into(), count: 2, cents: 900 }).unwrap();
    assert_eq!(decode::<Moved>(&order), Ok(Moved { cents: 900, count: 2, item: "book".into() }));
    assert_eq!(decode::<More>(&order), Ok(More { item: "book".into(), count: 2, cents: 900, gift: false }));
    assert!(decode::<Renamed>(&order).unwrap_err().to_string().contains("missing field `pieces`"));
    decode::<Swapped>(&order).expect_err("a text is no number");
    decode::<(String, u32, u32)>(&order).expect_err("a struct is no tuple");
    decode::<Option<Moved>>(&order).expect_err("it was not optional");
    let ways = encode(&vec![before::Way::Road, before::Way::Rail(3)]).unwrap();
    assert_eq!(decode::<Vec<Way>>(&ways), Ok(vec![Way::Road, Way::Rail(3)]));
    let air = encode(&Way::Air).unwrap();
    assert!(
        decode::<before::Way>(&air)
            .is_err_and(|error| error.to_string().contains("unknown variant, expected one of `Road`, `Rail`"))
    );
    decode::<u8>(&encode(&300_u16).unwrap()).expect_err("it does not fit");
    decode::<u32>(&encode(&-1).unwrap()).expect_err("it is below zero");
}

/// Written in the order of chance, without a name that says so.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(transparent)]
struct Shuffled(HashMap<u32, u32>);
impl Serialize for Shuffled {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: u32,
    #[serde(flatten)]
    more: HashMap<String, u32>,
}

fn table<K: std::hash::Hash + Eq>(entries: u32, key: impl Fn(u32) -> K) -> HashMap<K, u32> {
    (0..entries).map(|number| (key(number), number)).collect()
}

fn check_refused<T: Message>(value: &T, reason: &str) {
    let error = encode_repeatable(value).unwrap_err().to_string();
    assert!(error.contains(reason) && error.contains("`BTreeMap`"), "{error}");
    assert!(error.contains(std::any::type_name::<T>()), "{error}");
    // What is recorded once has one order from then on.
    encode(value).unwrap();
}

#[test]
fn a_type_without_stable_bytes_is_refused_even_with_few_entries() {
    for entries in 0..3 {
        check_refused(&table(entries, |number| number), "a `HashMap` has another order");
        check_refused(&HashSet::from([entries]), "a `HashSet` has another order");
        check_refused(&Some(vec![(1, [table(entries, |number| number.to_string())])]), "a `HashMap` has another order");
    }
    for entries in 2..12 {
        check_refused(&Shuffled(table(entries, |number| number)), "collections without an order");
        let flat = Flat { id: 1, more: table(entries, |number| number.to_string()) };
        check_refused(&flat, "collections without an order");
    }
    encode_repeatable(&(Shuffled(table(1, |number| number)), note(None), json!({ "b": 1, "a": { "d": 2, "c": 3 } })))
        .unwrap();
}

/// Takes any value, and gives its length in bytes.
struct Weigh<T>(std::marker::PhantomData<fn() -> T>);
impl<T: Message> Transaction for Weigh<T> {
    const NAME: &'static str = "weigh";
    type Role = Bank;
    type Input = T;
    type Output = u32;
    async fn commit(&self, here: &Local<Bank>, _: &T) -> Result<u32, Abort> {
        Ok(here.service().fetch_add(1, Ordering::SeqCst))
    }
    async fn compensate(&self, here: &Local<Bank>, _: &T, _: &u32) -> Result<(), Retry> {
        here.service().fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

/// A value at the bank goes into a step, one at the shop to the bank.
struct Weighed<T> {
    sent: bool,
    make: fn() -> T,
}
impl<T: Message> Choreography for Weighed<T> {
    const NAME: &'static str = "weighed";
    type Roles = (Shop, Bank);
    type Input = At<Shop, u32>;
    type Output = At<Shop, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, n: At<Shop, u32>) -> Result<At<Shop, u32>, Abort> {
        let m = ctx.comm(Shop, Bank, &n).await?;
        ctx.transact(Weigh::<u32>(std::marker::PhantomData), &m).await?;
        let value = if self.sent {
            let value = ctx.locally(Shop, |_| (self.make)());
            ctx.comm(Shop, Bank, &value).await?
        } else {
            ctx.locally(Bank, |_| (self.make)())
        };
        let weight = ctx.transact(Weigh::<T>(std::marker::PhantomData), &value).await?;
        ctx.comm(Bank, Shop, &weight).await
    }
}

async fn check_aborts<T: Message>(make: fn() -> T, reason: &str) {
    for sent in [false, true] {
        let bank = Arc::new(AtomicU32::new(0));
        let services = Services::new().with(Bank, bank.clone());
        let abort = run_local(Weighed { sent, make }, 1, &services).await.unwrap_err();
        assert_eq!(abort.code(), Abort::NOT_ENCODABLE, "{abort}");
        assert!(abort.message().contains(reason), "{abort}");
        assert_eq!(bank.load(Ordering::SeqCst), 0, "the first step is compensated, the second was not taken");
    }
}

/// Reads back another thing than it writes.
#[derive(Debug, Serialize, Deserialize)]
struct Lopsided {
    #[serde(serialize_with = "as_text")]
    cents: u32,
}
fn as_text<S: Serializer>(cents: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(cents)
}

#[derive(Debug, Serialize, Deserialize)]
struct Panics(#[serde(serialize_with = "panics")] u32);
fn panics<S: Serializer>(_: &u32, _: S) -> Result<S::Ok, S::Error> {
    panic!("no bytes today")
}

#[derive(Debug, Serialize, Deserialize)]
struct Wide(#[serde(with = "wide")] u32);
mod wide {
    use super::{Deserialize, Serialize};
    #[derive(Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Number {
        Wide { number: u128 },
    }
    pub fn serialize<S: serde::Serializer>(_: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        Number::Wide { number: u128::MAX }.serialize(serializer)
    }
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        Number::deserialize(deserializer).map(|_| 0)
    }
}

#[tokio::test]
async fn an_unencodable_value_aborts_before_a_frame_is_sent_or_a_step_runs() {
    check_aborts(|| table(2, |number| number), "`HashMap`").await;
    check_aborts(|| Shuffled(table(3, |number| number)), "without an order").await;
    check_aborts(|| Lopsided { cents: 1 }, "expected u32").await;
    check_aborts(|| Panics(1), "no bytes today").await;
    check_aborts(|| Wide(1), "u128").await;
}

struct Broadcasts;
impl Choreography for Broadcasts {
    const NAME: &'static str = "broadcasts";
    type Roles = (Shop, Bank);
    type Input = At<Shop, u32>;
    type Output = At<Shop, Lopsided>;
    async fn run(&self, ctx: &Context<Self::Roles>, place: At<Shop, u32>) -> Result<Self::Output, Abort> {
        let lopsided = ctx.locally(Shop, |_| Lopsided { cents: 1 });
        match ctx.broadcast(Shop, &place).await? {
            0 => return ctx.broadcast(Shop, &lopsided).await.map(|_| lopsided),
            1 => drop(ctx.gather((Shop,), Bank, (&lopsided,)).await?),
            2 => drop(ctx.multicast(Shop, (Bank,), &lopsided).await?),
            3 => ctx.publish(Shop, &lopsided),
            4 => drop(ctx.effect(Shop, "lopsided", async |_| Lopsided { cents: 1 }).await?),
            5 => {
                let turn =
                    ctx.repeat((lopsided,), async |_, state| Ok(std::ops::ControlFlow::<(), _>::Continue(state)));
                turn.await?;
            }
            6 => drop(ctx.comm_within(Shop, Bank, &lopsided, std::time::Duration::from_secs(1)).await?),
            _ => return Ok(lopsided),
        }
        Ok(ctx.locally(Shop, |_| Lopsided { cents: 1 }))
    }
}

#[tokio::test]
async fn every_place_where_a_value_becomes_bytes_refuses_it() {
    let services = Services::new().with(Bank, Arc::new(AtomicU32::new(0)));
    for place in 0..8 {
        let abort = run_local(Broadcasts, place, &services).await.map(drop).unwrap_err();
        assert_eq!(abort.code(), Abort::NOT_ENCODABLE, "{place}: {abort}");
    }
}

const LOPSIDED: Table<u32, Lopsided> = Table::new("lopsided");
struct Put(fn(&mut State<'_>) -> Result<Lopsided, Abort>);
impl LocalTransaction for Put {
    const NAME: &'static str = "put";
    type Role = Shop;
    type Input = u32;
    type Output = Lopsided;
    fn commit(&self, state: &mut State<'_>, _: &u32) -> Result<Lopsided, Abort> {
        (self.0)(state)
    }
    fn compensate(&self, _: &mut State<'_>, _: &u32, _: &Lopsided) -> Result<(), Retry> {
        Ok(())
    }
}
struct Keeps(bool);
impl Choreography for Keeps {
    const NAME: &'static str = "keeps";
    type Roles = (Shop,);
    type Input = At<Shop, u32>;
    type Output = At<Shop, ()>;
    async fn run(&self, ctx: &Context<Self::Roles>, n: At<Shop, u32>) -> Result<Self::Output, Abort> {
        let put: fn(&mut State<'_>) -> Result<Lopsided, Abort> = if self.0 {
            |state| LOPSIDED.put(state, 1, &Lopsided { cents: 1 }).map(|()| Lopsided { cents: 1 })
        } else {
            |_| Ok(Lopsided { cents: 1 })
        };
        ctx.transact(Put(put), &n).await?;
        Ok(ctx.locally(Shop, |_| ()))
    }
}

#[tokio::test]
async fn a_local_step_with_an_unencodable_value_is_not_committed() {
    for table in [true, false] {
        let abort = run_local(Keeps(table), 1, &Services::new()).await.unwrap_err();
        assert!(abort.code() == "accompanist.stopped" && abort.message().contains("Lopsided"), "{abort}");
    }
}

/// The bank has a step on what it received, and sends it back; its effect and its step give tables, too.
struct Passed;
type Hashed = HashMap<String, u32>;
impl Choreography for Passed {
    const NAME: &'static str = "passed";
    type Roles = (Shop, Bank);
    type Input = At<Shop, Hashed>;
    type Output = At<Shop, Hashed>;
    async fn run(&self, ctx: &Context<Self::Roles>, table: At<Shop, Hashed>) -> Result<Self::Output, Abort> {
        let table = ctx.comm(Shop, Bank, &table).await?;
        ctx.transact(Weigh::<Hashed>(std::marker::PhantomData), &table).await?;
        let seen = ctx.effect(Bank, "look", async |_| table_of(8)).await?;
        let seen = ctx.transact(Echo, &seen).await?;
        ctx.comm(Bank, Shop, &seen).await?;
        ctx.comm(Bank, Shop, &table).await
    }
}
fn table_of(entries: u32) -> Hashed {
    table(entries, |number| number.to_string())
}
struct Echo;
impl Transaction for Echo {
    const NAME: &'static str = "echo";
    type Role = Bank;
    type Input = Hashed;
    type Output = Hashed;
    async fn commit(&self, _: &Local<Bank>, table: &Hashed) -> Result<Hashed, Abort> {
        Ok(table.clone())
    }
    async fn compensate(&self, _: &Local<Bank>, _: &Hashed, _: &Hashed) -> Result<(), Retry> {
        Ok(())
    }
}

#[tokio::test]
async fn a_received_value_is_forwarded_as_the_same_bytes() {
    let services = Services::new().with(Bank, Arc::new(AtomicU32::new(0)));
    assert_eq!(run_local(Passed, table_of(8), &services).await, Ok(table_of(8)));
    for _ in 0..20 {
        let service = || accompanist_core::Service::of::<Bank>(Arc::new(AtomicU32::new(0)));
        let mut bank = Rig::begin(Passed, 1, None, service());
        bank.hear_message(0, &[0], &table_of(8), 1);
        let effects = bank.turn_synced();
        assert_eq!((&effects.stopped, effects.frames.is_empty()), (&None, false));
        let sent = crate::rig::said(&effects);
        let mut bank = Rig::restore(Passed, 1, bank.disk, service());
        let effects = bank.turn_synced();
        assert_eq!(effects.stopped, None);
        assert_eq!(crate::rig::said(&effects), sent, "a replay sends the same bytes");
    }
}

/// They go to logs, and what programs work with does not.
#[test]
fn the_debug_output_of_a_payload_shows_no_content() {
    use std::collections::BTreeMap;
    const CANARY: &str = "canary-7f3a";
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        One { number: u64 },
    }
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        number: u64,
    }
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u64),
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        strict: Strict,
    }
    #[derive(Debug, Serialize, Deserialize)]
    enum Plain {
        One,
    }
    #[track_caller]
    fn check<T: serde::de::DeserializeOwned>(bytes: &[u8], expected: &str) {
        let Err(error) = decode::<T>(bytes) else { panic!("it was read") };
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(text.contains(expected), "`{expected}` is not in: {text}");
            for secret in [CANARY, "7373", "34028236692093846346", "-77", "73.5", "\\u{1f426}", "\u{1f426}", "99, 97"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }
    let of_text = |key: &str, value: &str| encode(&BTreeMap::from([(key.to_owned(), value.to_owned())])).unwrap();
    let text = encode(&CANARY.to_owned()).unwrap();
    check::<u64>(&text, "invalid type: a text, expected u64");
    check::<bool>(&text, "invalid type: a text, expected a boolean");
    check::<Vec<u8>>(&text, "a text");
    check::<Plain>(&text, "it was no named type when it was written, and is read as `Plain`");
    check::<Untagged>(&text, "did not match any variant");
    check::<String>(&encode(&7373_u64).unwrap(), "invalid type: an integer, expected a string");
    check::<u8>(&encode(&7373_u64).unwrap(), "an integer that is not shown, expected u8");
    check::<u64>(&encode(&-77_i64).unwrap(), "an integer that is not shown");
    check::<u64>(&encode(&73.5_f64).unwrap(), "a floating point number");
    check::<u64>(&encode(&'\u{1f426}').unwrap(), "a text");
    check::<String>(&encode(&(u128::MAX - 7373)).unwrap(), "invalid type: a u128");
    check::<u64>(&encode(&CANARY.as_bytes().to_vec()).unwrap(), "expected u64");
    check::<std::num::NonZeroU64>(&encode(&0_u64).unwrap(), "an integer that is not shown");
    check::<Tagged>(&of_text("kind", CANARY), "unknown variant, expected one of `One`");
    check::<Tagged>(&of_text(CANARY, "One"), "missing field `kind`");
    check::<Strict>(&of_text(CANARY, "1"), "is read as `Strict`");
    check::<Flat>(&of_text(CANARY, "1"), "missing field `number`");
    check::<Flat>(&of_text("number", CANARY), "a text");
    check::<BTreeMap<u64, u64>>(&of_text(CANARY, "1"), "a text");
    check::<std::net::IpAddr>(&text, "");
}

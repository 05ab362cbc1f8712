//! Types that have changed over an existing store. For each kind of value: the session stops with both shapes, nothing
//! is lost, and the former type resumes it. Which changes are read and which are refused is in the first test.

#![allow(
    clippy::type_complexity,
    clippy::items_after_statements,
    clippy::needless_pass_by_value,
    reason = "a type parameter for each kind of value, and as it reads better in a call"
)]

use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::ControlFlow;

use accompanist_core::frame::{Body, Operation};
use accompanist_core::message::{decode, encode, encode_repeatable};
use accompanist_core::state::{AsKey, Key, Writes};
use accompanist_core::{
    Abort, At, Choreography, Context, Known, LocalTransaction, LoopState, Message, Retry, Service, State, Table,
};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::rig::{Rig, path, payload, roles, value};

roles! { Shop "shop" (), Bank "bank" () }

/// An amount of money, of which the type says what it is counted in.
trait Money: Message + Debug + Clone {
    fn of(amount: u64) -> Self;
    fn amount(&self) -> u64;
}

macro_rules! money {
    ($($name:ident)*) => {$(
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        struct $name(u64);
        impl Money for $name {
            fn of(amount: u64) -> Self {
                Self(amount)
            }
            fn amount(&self) -> u64 {
                self.0
            }
        }
    )*};
}
money! { Cents Euros }

/// A change of a type: what was written, and what reads it.
#[track_caller]
fn check_read<W: Message, R: Message + PartialEq + Debug>(written: &W, read: R) {
    assert_eq!(decode::<R>(&encode(written).unwrap()), Ok(read));
}

#[track_caller]
fn check_refused<W: Message, R: Message>(written: &W, written_shape: &str, expected_shape: &str) {
    let Err(error) = decode::<R>(&encode(written).unwrap()).map(drop) else { panic!("it was misread") };
    let shapes = format!("written was `{written_shape}`, expected is `{expected_shape}`");
    assert!(error.to_string().contains(&shapes), "{shapes} is not in: {error}");
}

/// The types before and after, under the same names.
mod v1 {
    use super::{Deserialize, Serialize};
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Trade {
        pub count: u32,
        pub price: u32,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Point(pub u32, pub u32);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Ping;
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub enum Way {
        Road,
        Rail(u8),
        Ship { days: u32 },
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Account {
        pub cents: Option<u64>,
        pub owner: String,
    }
}

mod v2 {
    use super::{Deserialize, IgnoredAny, Serialize};
    /// The fields have changed places.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Trade {
        pub price: u32,
        pub count: u32,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Size(pub u32, pub u32);
    /// Has names instead of places.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Point {
        pub y: u32,
        pub x: u32,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Pong;
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub enum Way {
        Air,
        Ship { days: u64 },
        Rail { cars: u8 },
        Road,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub enum Route {
        Road,
    }
    /// `cents` has become `balance`.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Account {
        pub balance: Option<u64>,
        pub owner: String,
    }
    pub mod renamed {
        use super::{Deserialize, IgnoredAny, Serialize};
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        pub struct Account {
            #[serde(alias = "cents")]
            pub balance: Option<u64>,
            pub owner: String,
        }
        pub mod removed {
            use super::{Deserialize, IgnoredAny, Serialize};
            #[derive(Debug, PartialEq, Serialize, Deserialize)]
            pub struct Account {
                #[serde(default, skip_serializing)]
                pub cents: IgnoredAny,
                #[serde(default)]
                pub balance: Option<u64>,
                pub owner: String,
            }
        }
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename = "Trade")]
    pub struct Purchase {
        pub count: u32,
        pub price: u64,
        #[serde(default)]
        pub gift: bool,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename = "Trade")]
    pub struct Less {
        pub count: u32,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename = "Trade")]
    pub struct Demanding {
        pub count: u32,
        pub price: u32,
        pub gift: bool,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename = "Trade")]
    pub struct Deeper {
        pub count: u32,
        pub money: super::v1::Ping,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(transparent)]
    pub struct Plain(pub u64);
    /// What serde's attributes make of a newtype that checks its value.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(try_from = "u64")]
    pub struct Checked(pub u64);
    impl TryFrom<u64> for Checked {
        type Error = &'static str;
        fn try_from(number: u64) -> Result<Self, Self::Error> {
            if number < 100 { Ok(Self(number)) } else { Err("too large") }
        }
    }
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(into = "u64")]
    pub struct Bare(pub u64);
    impl From<Bare> for u64 {
        fn from(bare: Bare) -> Self {
            bare.0
        }
    }
}

#[test]
fn a_changed_type_is_read_right_or_refused_with_both_shapes() {
    let trade = v1::Trade { count: 1, price: 2 };
    let trade_shape = "Trade {count: number, price: number}";
    check_read(&trade, v2::Trade { price: 2, count: 1 });
    check_read(&trade, v2::Purchase { count: 1, price: 2, gift: false });
    check_read(&trade, v2::Less { count: 1 });
    check_refused::<_, v2::Demanding>(&trade, trade_shape, "Trade {count: u32, price: u32, gift: bool}");
    check_refused::<_, v2::Deeper>(&trade, trade_shape, "Trade {count: u32, money: Ping}");
    check_refused::<_, (u32, u32)>(&trade, trade_shape, "(u32, u32)");
    check_refused::<_, std::collections::BTreeMap<String, u32>>(&trade, trade_shape, "map of text to u32");
    check_refused::<_, v1::Trade>(&(1_u32, 2_u32), "(number, number)", "Trade {count: u32, price: u32}");
    check_refused::<_, v1::Way>(&trade, trade_shape, "Way::{Road | Rail | Ship}");

    check_refused::<_, Euros>(&Cents(1), "Cents(number)", "Euros(u64)");
    check_refused::<_, (u8, Option<Vec<Euros>>)>(
        &(1_u8, Some(vec![Cents(1)])),
        "(number, Some((Cents(number))))",
        "(u8, Option<[Euros(u64)]>)",
    );
    check_refused::<_, u64>(&Cents(1), "Cents(number)", "u64");
    check_refused::<_, Cents>(&1_u64, "number", "Cents(u64)");
    check_read(&1_u64, v2::Plain(1));
    check_read(&v2::Plain(1), 1_u64);
    check_refused::<_, v2::Size>(&v1::Point(1, 2), "Point(number, number)", "Size(u32, u32)");
    check_refused::<_, (u32, u32)>(&v1::Point(1, 2), "Point(number, number)", "(u32, u32)");
    check_refused::<_, v1::Point>(&(1_u32, 2_u32), "(number, number)", "Point(u32, u32)");
    check_refused::<_, v2::Point>(&v1::Point(1, 2), "Point(number, number)", "Point {y: u32, x: u32}");
    check_refused::<_, v2::Pong>(&v1::Ping, "Ping", "Pong");
    check_refused::<_, ()>(&v1::Ping, "Ping", "()");

    let ways = "Way::{Air | Ship | Rail | Road}";
    check_read(&v1::Way::Road, v2::Way::Road);
    check_read(&v1::Way::Ship { days: 3 }, v2::Way::Ship { days: 3 });
    check_refused::<_, v2::Way>(&v1::Way::Rail(3), "Way::Rail(number)", ways);
    check_refused::<_, v1::Way>(&v2::Way::Rail { cars: 3 }, "Way::Rail {cars: number}", "Way::{Road | Rail | Ship}");
    check_refused::<_, v1::Way>(&v2::Way::Air, "Way::Air", "Way::{Road | Rail | Ship}");
    check_refused::<_, v2::Route>(&v1::Way::Road, "Way::Road", "Route::{Road}");
    check_refused::<_, String>(&v1::Way::Road, "Way::Road", "text");

    check_read(&7_u64, 7_u8);
    check_read(&7_u8, 7_i128);
    check_read(&1.5_f32, 1.5_f64);
    check_refused::<_, u8>(&300_u16, "number", "u8");
    check_refused::<_, u64>(&-1_i8, "number", "u64");
    check_refused::<_, f64>(&7_u64, "number", "f64");
    check_refused::<_, f32>(&1.5_f64, "f64", "f32");
    check_refused::<_, u64>(&7.0_f64, "f64", "u64");
    check_read(&'a', "a".to_owned());
    check_refused::<_, char>(&"ab".to_owned(), "text", "char");
    check_refused::<_, bool>(&1_u8, "number", "bool");
    check_refused::<_, String>(&payload(&1_u8), "bytes", "text");
    check_refused::<_, Option<u32>>(&1_u32, "number", "Option<u32>");
    check_refused::<_, u32>(&Some(1_u32), "Some(number)", "u32");
}

#[test]
fn a_field_that_may_have_been_renamed_is_not_replaced_by_its_default() {
    let account = v1::Account { cents: Some(7), owner: "Ada".into() };
    let error = decode::<v2::Account>(&encode(&account).unwrap()).unwrap_err().to_string();
    for part in ["field `cents` was written and is unknown", "`balance` is known and was not written", "`alias`"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    check_read(&account, v2::renamed::Account { balance: Some(7), owner: "Ada".into() });
    let removed = v2::renamed::removed::Account { cents: IgnoredAny, balance: None, owner: "Ada".into() };
    check_read(&account, removed);
}

/// `try_from` reads another name than is written, `into` writes another than is read.
#[test]
fn names_are_those_that_the_reading_type_asks_for() {
    let checked = encode_repeatable(&vec![v2::Checked(7), v2::Checked(8)]).unwrap();
    assert_eq!(decode::<Vec<v2::Checked>>(&checked), Ok(vec![v2::Checked(7), v2::Checked(8)]));
    assert_eq!(checked, encode(&vec![7_u16, 8]).unwrap(), "`u64` is what it is read from");
    let bare = encode_repeatable(&(v2::Bare(7), 1_u8, v2::Bare(8))).unwrap();
    assert_eq!(decode(&bare), Ok((v2::Bare(7), 1_u8, v2::Bare(8))));
    assert!(decode::<(u64, u8, u64)>(&bare).is_err(), "it is read as `Bare`");
    assert!(encode(&v2::Checked(100)).unwrap_err().to_string().contains("does not read what"));
}

/// A shape is for logs: it is bounded, shows no content, and also exists for types without an end.
#[test]
fn shapes_are_bounded_and_show_no_content() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Tree {
        name: String,
        children: Vec<Tree>,
        parent: Option<Box<Tree>>,
    }
    #[derive(Debug, Serialize, Deserialize)]
    enum Endless {
        More(Box<Endless>),
        Less,
    }
    let canary = "canary-7f3a".to_owned();
    let maps = std::collections::BTreeMap::from([(canary.clone(), vec![canary.clone(); 5_000])]);
    for text in [
        decode::<Tree>(&encode(&maps).unwrap()).unwrap_err().to_string(),
        decode::<(Endless, u8)>(&encode(&(Endless::Less, canary.clone())).unwrap()).unwrap_err().to_string(),
        decode::<Vec<Tree>>(&encode(&Cents(1)).unwrap()).unwrap_err().to_string(),
        decode::<u8>(&[0xb7, 4, b'a', 0x1b, b'\n', b'b', 0xb7, 1, b'c']).unwrap_err().to_string(),
    ] {
        assert!(text.contains("written was") && text.contains("expected is"), "{text}");
        assert!(text.chars().count() < 1_000 && !text.contains("canary"), "{text}");
        assert!(!text.contains(char::is_control), "{text}");
    }
}

const PRICE: &str = "price";

/// Puts a row of type `R`. Its input is `N`, its output `O`.
struct Sell<N, O, R>(PhantomData<fn() -> (N, O, R)>);
impl<N: Money, O: Money, R: Money> LocalTransaction for Sell<N, O, R> {
    const NAME: &'static str = "sell";
    type Role = Shop;
    type Input = N;
    type Output = O;
    fn commit(&self, state: &mut State<'_>, input: &N) -> Result<O, Abort> {
        Table::<u32, R>::new(PRICE).put(state, 1, &R::of(input.amount()))?;
        Ok(O::of(input.amount()))
    }
    fn compensate(&self, _: &mut State<'_>, _: &N, _: &O) -> Result<(), Retry> {
        Ok(())
    }
}

/// Reads the row as type `R`, under keys of type `K`.
struct Look<R, K>(PhantomData<fn() -> (R, K)>);
impl<R: Money, K: Key + From<u32> + 'static> LocalTransaction for Look<R, K> {
    const NAME: &'static str = "look";
    type Role = Shop;
    type Input = u32;
    type Output = u64;
    fn commit(&self, state: &mut State<'_>, _: &u32) -> Result<u64, Abort> {
        Ok(Table::<K, R>::new(PRICE).get(state, K::from(1))?.map_or(0, |price| price.amount()))
    }
    fn compensate(&self, _: &mut State<'_>, _: &u32, _: &u64) -> Result<(), Retry> {
        Ok(())
    }
}

/// A program with a type of its own for each kind of value: input, effect, signal, input of a step, its output, row,
/// key, state of a loop, message.
struct Sale<I, E, G, N, O, R, K, L, M>(PhantomData<fn() -> (I, E, G, N, O, R, K, L, M)>);
impl<I, E, G, N, O, R, K, L, M> Choreography for Sale<I, E, G, N, O, R, K, L, M>
where
    I: Money,
    E: Money,
    G: Money,
    N: Money,
    O: Money,
    R: Money,
    K: Key + From<u32> + 'static,
    L: Money,
    M: Money,
{
    const NAME: &'static str = "sale";
    type Roles = (Shop, Bank);
    type Input = At<Shop, I>;
    type Output = At<Shop, u64>;
    async fn run(&self, ctx: &Context<Self::Roles>, input: At<Shop, I>) -> Result<Self::Output, Abort> {
        let mut seen = vec![ctx.locally(Shop, |here| here.get(&input).amount())];
        let effect: At<Shop, E> = ctx.effect(Shop, "rate", async |_| E::of(2)).await?;
        seen.push(ctx.locally(Shop, |here| here.get(&effect).amount()));
        let signal: At<Shop, G> = ctx.signal(Shop, "approved").await?;
        seen.push(ctx.locally(Shop, |here| here.get(&signal).amount()));
        let amount = ctx.locally(Shop, |_| N::of(4));
        let sold = ctx.transact(Sell::<N, O, R>(PhantomData), &amount).await?;
        seen.push(ctx.locally(Shop, |here| here.get(&sold).amount()));
        let state = ctx.conclave((Shop,), async |ctx| {
            let state = (Known(0_u32), ctx.locally(Shop, |_| L::of(5)));
            ctx.repeat(state, async |ctx, (Known(turn), state)| {
                if turn == 0 {
                    return Ok(ControlFlow::Continue((Known(1), state)));
                }
                let _: At<Shop, u32> = ctx.signal(Shop, "go").await?;
                Ok(ControlFlow::Break(state))
            })
            .await
        });
        let state = state.await?;
        seen.push(ctx.locally(Shop, |here| here.get(&state).amount()));
        let one = ctx.locally(Shop, |_| 1_u32);
        seen.push(ctx.transact(Look::<R, K>(PhantomData), &one).await?);
        let message = ctx.locally(Bank, |_| M::of(6));
        let message = ctx.comm(Bank, Shop, &message).await?;
        seen.push(ctx.locally(Shop, |here| here.get(&message).amount()));
        let last = ctx.locally(Bank, |_| 7_u64);
        seen.push(ctx.comm(Bank, Shop, &last).await?);
        Ok(ctx.locally(Shop, |here| seen.iter().fold(0, |all, next| all * 10 + here.get(next))))
    }
}

type C = Cents;
type Old = Sale<C, C, C, C, C, C, u32, C, C>;

fn old() -> Old {
    Sale(PhantomData)
}

/// The shop with all that it has recorded, once before the loop ends and once before the last message.
fn recorded() -> [Rig; 2] {
    let rig = |ends: bool| {
        let mut shop = Rig::begin(old(), 0, Some(payload(&Cents(1))), Service::none());
        shop.turn_synced();
        shop.part.signal("approved", "1", payload(&Cents(3))).unwrap();
        shop.turn_synced();
        if ends {
            shop.part.signal("go", "2", payload(&1_u32)).unwrap();
            shop.hear_message(1, &[13], &Cents(6), 1);
        }
        assert_eq!(shop.turn_synced().stopped, None);
        shop
    };
    [rig(false), rig(true)]
}

/// Restarts what is recorded as `New`, which stops with these parts in its reason; then as `Old`, which ends.
#[track_caller]
fn check_stops<New: Choreography<Roles = (Shop, Bank)>>(new: fn() -> New, ends: bool, parts: &[&str]) {
    let [before, after] = recorded();
    let mut changed = Rig::restore(new(), 0, if ends { after.disk } else { before.disk }, Service::none());
    if !ends {
        changed.part.signal("go", "2", payload(&1_u32)).unwrap();
        changed.hear_message(1, &[13], &Cents(6), 1);
    }
    let effects = changed.turn_synced();
    let reason = effects.stopped.expect("a value is misread").to_string();
    for part in parts {
        assert!(reason.contains(part), "{part} is not in: {reason}");
    }
    let mut resumed = Rig::restore(old(), 0, changed.disk, Service::none());
    resumed.hear_message(1, &[16], &7_u64, 2);
    let effects = resumed.turn_synced();
    assert_eq!(effects.stopped, None);
    assert_eq!(effects.output.map(|output| value::<u64>(&output.unwrap())), Some(12_345_467));
}

const SHAPES: &str = "written was `Cents(number)`, expected is `Euros(u64)`";

#[test]
fn a_session_whose_type_has_changed_stops_at_the_value_and_goes_on_with_the_former_type() {
    let at = |what: &'static str| [what, SHAPES, "Euros` cannot be decoded", "Nothing is lost"];
    type E = Euros;
    check_stops::<Sale<E, C, C, C, C, C, u32, C, C>>(
        || Sale(PhantomData),
        true,
        &at("the input of the session cannot be read at role `shop` ("),
    );
    check_stops::<Sale<C, E, C, C, C, C, u32, C, C>>(
        || Sale(PhantomData),
        true,
        &at("the result of effect `rate` cannot be read at role `shop`, operation 1 ("),
    );
    check_stops::<Sale<C, C, E, C, C, C, u32, C, C>>(
        || Sale(PhantomData),
        true,
        &at("signal `approved` cannot be read at role `shop`, operation 3 ("),
    );
    check_stops::<Sale<C, C, C, C, E, C, u32, C, C>>(
        || Sale(PhantomData),
        true,
        &at("the output of step `sell` cannot be read at role `shop`, operation 6 ("),
    );
    check_stops::<Sale<C, C, C, C, C, C, u32, E, C>>(
        || Sale(PhantomData),
        true,
        &at("the state of the loop cannot be read at role `shop`, operation 8.1 ("),
    );
    check_stops::<Sale<C, C, C, C, C, C, u32, C, E>>(
        || Sale(PhantomData),
        true,
        &at("the message of comm from `bank` cannot be read at role `shop`, operation 13 ("),
    );
    // What a replay computes is compared with a fingerprint, which has no shape.
    check_stops::<Sale<C, C, C, E, C, C, u32, C, C>>(
        || Sale(PhantomData),
        true,
        &[" at 6", "recorded was step `sell` with input", "the program did step `sell` with input"],
    );
}

#[test]
fn a_row_or_key_of_another_type_stops_the_step_and_is_not_changed() {
    let of = "step `look` at 11 cannot be run (table `price` of role `shop`: ";
    check_stops::<Sale<C, C, C, C, C, Euros, u32, C, C>>(
        || Sale(PhantomData),
        false,
        &[of, "the value under a key of 4 bytes", SHAPES, "nothing was changed"],
    );
    check_stops::<Sale<C, C, C, C, C, C, u64, C, C>>(
        || Sale(PhantomData),
        false,
        &[of, "it has a key of another type", "written was `u32`, expected is `u64`", "nothing was changed"],
    );
}

/// A number of a shelf, as a key.
macro_rules! shelf {
    ($($name:ident)*) => {$(
        #[derive(Debug, Clone, Copy, PartialEq)]
        struct $name(u32);
        impl AsKey<$name> for $name {
            fn encode(&self, bytes: &mut Vec<u8>) {
                AsKey::<u32>::encode(&self.0, bytes);
            }
        }
        impl Key for $name {
            fn decode(bytes: &mut &[u8]) -> Option<Self> {
                u32::decode(bytes).map(Self)
            }
        }
    )*};
}
shelf! { Shelf Rack }

#[test]
fn a_key_is_of_the_type_that_the_tables_first_row_had() {
    #[track_caller]
    fn check<K: Key, Other: Key>(key: K, other: Other, written: &str, expected: &str) {
        let (before, after) = (Table::<K, u8>::new("rows"), Table::<Other, u8>::new("rows"));
        let base = Writes::default();
        let mut state = State::new(&base, "shop");
        after.get(&state, &other).unwrap();
        before.put(&mut state, &key, &1).unwrap();
        let stored = state.into_writes();
        let mut state = State::new(&stored, "shop");
        for refused in [
            after.get(&state, &other).map(drop),
            after.contains(&state, &other).map(drop),
            after.first(&state, ..).map(drop),
            after.count(&state, ..).map(drop),
            after.put(&mut state, &other, &2),
            after.remove(&mut state, &other).map(drop),
        ] {
            let refused = refused.unwrap_err();
            assert!(refused.is_failure());
            let shapes = format!("written was `{written}`, expected is `{expected}`");
            assert!(refused.message().contains(&shapes), "{shapes} is not in: {refused}");
        }
        assert_eq!(before.get(&state, &key), Ok(Some(1)));
        assert_eq!(before.count(&state, ..), Ok(1), "what is recorded of the keys is no row");
        // Another role's table of this name is another table.
        assert_eq!(after.get(&State::new(&stored, "bank"), &other), Ok(None));
    }
    check((1_u32, 2_u32), 1_u64, "(u32, u32)", "u64");
    check(1_u64, -1_i64, "u64", "i64");
    check([0_u8; 4], 7_u32, "[u8; 4]", "u32");
    check(Shelf(1), Rack(1), "Shelf", "Rack");
    check((Shelf(1), String::new()), (Rack(1), String::new()), "(Shelf, String)", "(Rack, String)");
    // All instances of a durable actor have the same tables.
    let (numbers, texts) = (Table::<u32, u8>::new("rows"), Table::<String, u8>::new("rows"));
    let base = Writes::default();
    let mut north = State::new(&base, "sensor\0north");
    numbers.put(&mut north, 1, &1).unwrap();
    let stored = north.into_writes();
    assert!(texts.get(&State::new(&stored, "sensor\0south"), "a").is_err());
}

/// What a role hears from another one, by each operation that sends.
#[derive(Clone, Copy)]
struct Hears<M>(Operation, PhantomData<fn() -> M>);
impl<M: Money> Choreography for Hears<M> {
    const NAME: &'static str = "hears";
    type Roles = (Shop, Bank);
    type Input = At<Shop, u32>;
    type Output = At<Shop, u64>;
    async fn run(&self, ctx: &Context<Self::Roles>, _: At<Shop, u32>) -> Result<Self::Output, Abort> {
        let money = ctx.locally(Shop, |_| M::of(9));
        let heard = match self.0 {
            Operation::Comm => ctx.comm(Shop, Bank, &money).await?,
            Operation::Multicast => ctx.multicast(Shop, (Bank,), &money).await?.0,
            Operation::Broadcast => {
                let heard = ctx.broadcast(Shop, &money).await?;
                ctx.locally(Bank, |_| heard.clone())
            }
            _ => {
                let heard = ctx.gather((Shop,), Bank, (&money,)).await?;
                ctx.locally(Bank, |here| here.get(&heard).0.clone())
            }
        };
        let heard = ctx.locally(Bank, |here| here.get(&heard).amount());
        ctx.comm(Bank, Shop, &heard).await
    }
}

#[test]
fn a_message_of_another_type_waits_for_the_former_type() {
    for operation in [Operation::Comm, Operation::Multicast, Operation::Broadcast, Operation::Gather] {
        let mut bank = Rig::begin(Hears::<Euros>(operation, PhantomData), 1, None, Service::none());
        bank.hear(0, Body::Deliver { path: path(&[1]), operation, payload: payload(&Cents(9)) }, 1);
        let reason = bank.turn_synced().stopped.expect("a message is misread").to_string();
        let text = format!("the message of {operation} from `shop` cannot be read at role `bank`, operation 1 (");
        assert!(reason.contains(&text) && reason.contains(SHAPES), "{reason}");
        let mut bank = Rig::restore(Hears::<Cents>(operation, PhantomData), 1, bank.disk, Service::none());
        let effects = bank.turn_synced();
        let sent = crate::rig::said(&effects).into_iter().find_map(|(_, body)| match body {
            Body::Deliver { payload, .. } => Some(value::<u64>(&payload)),
            _ => None,
        });
        assert_eq!((effects.stopped, sent), (None, Some(9)), "{operation}");
    }
}

/// The state of a loop whose parts have changed: fewer, more, or of another kind.
#[test]
fn a_loop_state_has_the_parts_it_was_written_with() {
    #[track_caller]
    fn check<Before: LoopState + Sync + 'static, After: LoopState + Sync + 'static>(
        first: fn(At<Shop, u32>) -> Before,
        then: fn(At<Shop, u32>) -> After,
        reason: &str,
    ) {
        let mut shop = Rig::begin(Loops(first), 0, Some(payload(&1_u32)), Service::none());
        shop.turn_synced();
        shop.part.signal("go", "0", payload(&0_u32)).unwrap();
        shop.turn_synced();
        let mut changed = Rig::restore(Loops(then), 0, shop.disk, Service::none());
        let stopped = changed.turn_synced().stopped.expect("a state is misread").to_string();
        assert!(stopped.contains("the state of the loop cannot be read") && stopped.contains(reason), "{stopped}");
        let mut resumed = Rig::restore(Loops(first), 0, changed.disk, Service::none());
        resumed.part.signal("go", "1", payload(&1_u32)).unwrap();
        let effects = resumed.turn_synced();
        assert!(effects.stopped.is_none() && effects.output.is_some());
    }
    fn located(input: At<Shop, u32>) -> At<Shop, u32> {
        input
    }
    check(|_| Known(0_u32), located, "written was a value that all roles know");
    check(located, |_| Known(0_u32), "written was a located value");
    check(|_| (Known(1_u32), Known(2_u32)), |_| Known(1_u32), "written was a state of 2 parts, expected is one of 1");
    check(|_| Known(1_u32), |_| (Known(1_u32), Known(2_u32)), "written was a state of fewer parts");
}

/// Carries a state through a turn, and waits in the next.
struct Loops<S>(fn(At<Shop, u32>) -> S);
impl<S: LoopState + Sync + 'static> Choreography for Loops<S> {
    const NAME: &'static str = "loops";
    type Roles = (Shop,);
    type Input = At<Shop, u32>;
    type Output = At<Shop, u32>;
    async fn run(&self, ctx: &Context<(Shop,)>, input: At<Shop, u32>) -> Result<Self::Output, Abort> {
        let state = ctx.repeat((self.0)(input.clone()), async |ctx, state| {
            let more: At<Shop, u32> = ctx.signal(Shop, "go").await?;
            if ctx.broadcast(Shop, &more).await? == 0 {
                return Ok(ControlFlow::Continue(state));
            }
            Ok(ControlFlow::Break(()))
        });
        state.await?;
        Ok(input)
    }
}

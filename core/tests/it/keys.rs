//! Keys of tables as bytes: in order, given back whole, and none the beginning of another. Next: `tables`.

use std::cmp::Ordering;
use std::fmt::Debug;

use accompanist_core::SessionId;
use accompanist_core::state::{AsKey, Key};
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

fn bytes<K>(key: &impl AsKey<K>) -> Vec<u8> {
    let mut bytes = Vec::new();
    key.encode(&mut bytes);
    bytes
}

/// Order, prefix, and the way back, for two keys that are often close to each other.
fn check<K: Key + Ord + Debug>(one: &K, two: &K) -> Result<(), TestCaseError> {
    let (bytes_one, bytes_two) = (bytes(one), bytes(two));
    prop_assert_eq!(bytes_one.cmp(&bytes_two), one.cmp(two), "{:?} {:?}", bytes_one, bytes_two);
    if one.cmp(two) != Ordering::Equal {
        prop_assert!(!bytes_one.starts_with(&bytes_two), "{:?} begins {:?}", two, one);
    }
    let followed = [bytes_one.as_slice(), &bytes_two].concat();
    let mut left = followed.as_slice();
    let decoded = K::decode(&mut left);
    prop_assert_eq!(decoded.as_ref(), Some(one));
    prop_assert_eq!(left, bytes_two.as_slice(), "the rest is left for the next key");
    for cut in 0..bytes_one.len() {
        prop_assert_eq!(K::decode(&mut &bytes_one[..cut]), None, "cut to {} bytes", cut);
    }
    Ok(())
}

/// Texts that begin alike, and have all that could be mistaken for an end.
fn text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec!["\0", "\0\0", "\u{1}", "a", "b", "ab", "\u{ff}", "\u{10ffff}", "~"]);
    vec(pieces, 0..5).prop_map(|pieces| pieces.concat())
}

/// Bytes at the ends of their range more often than others.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0), Just(1), Just(127), Just(128), Just(255), any::<u8>()]
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![-3..4_i64, Just(i64::MIN), Just(i64::MAX), any::<i64>()]
}

/// Numbers of one type, their neighbours, and the ends of the type.
macro_rules! numbers {
    ($($name:ident $number:ident),*) => {$(
        proptest! {
            #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
            #[test]
            fn $name(one in any::<$number>(), two in any::<$number>()) {
                for other in [two, one.wrapping_add(1), one.wrapping_neg(), 0, $number::MIN, $number::MAX] {
                    check(&one, &other)?;
                }
            }
        }
    )*};
}
numbers!(
    bytes_without_sign u8, bytes_with_sign i8, short_without_sign u16, short_with_sign i16, without_sign u32, with_sign i32,
    long_without_sign u64, long_with_sign i64, longest_without_sign u128, longest_with_sign i128
);

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn texts(one in text(), two in text(), any in any::<String>()) {
        check(&one, &two)?;
        check(&one, &any)?;
        prop_assert_eq!(bytes::<String>(&one), bytes::<String>(&one.as_str()), "borrowed text is the same key");
    }

    #[test]
    fn fixed_bytes_and_ids(one in prop::array::uniform3(byte()), two in prop::array::uniform3(byte()), ids: (u128, u128)) {
        check(&one, &two)?;
        check(&Uuid::from_u128(ids.0), &Uuid::from_u128(ids.1))?;
        let session = |id: u128| SessionId::from_bytes(id.to_be_bytes());
        check(&session(ids.0), &session(ids.1))?;
    }

    #[test]
    fn pairs(one in (text(), byte()), two in (text(), byte())) {
        check(&one, &two)?;
        prop_assert_eq!(bytes::<(String, u8)>(&one), bytes::<(String, u8)>(&(one.0.as_str(), &one.1)));
    }

    #[test]
    fn pairs_of_texts(one in (text(), text()), two in (text(), text())) {
        check(&one, &two)?;
    }

    #[test]
    fn triples(one in (byte(), text(), number()), two in (byte(), text(), number())) {
        check(&one, &two)?;
    }

    #[test]
    fn fours(one in (text(), number(), text(), byte()), two in (text(), number(), text(), byte())) {
        check(&one, &two)?;
        check(&(one.0, one.1, (one.2, one.3), ()), &(two.0, two.1, (two.2, two.3), ()))?;
    }

    /// Bytes that are no key are refused, and each key has one form only.
    #[test]
    fn other_bytes(bytes_of_something in vec(byte(), 0..12)) {
        let mut left = bytes_of_something.as_slice();
        if let Some(key) = <(String, i16)>::decode(&mut left) {
            let read = bytes_of_something.len() - left.len();
            prop_assert_eq!(bytes::<(String, i16)>(&key), &bytes_of_something[..read]);
        }
    }
}

/// What is in stores stays readable.
#[test]
fn the_bytes_of_keys_stay() {
    assert_eq!(bytes::<String>(&"a\0b"), [b'a', 0, 255, b'b', 0, 0]);
    assert_eq!(bytes::<(u16, i16)>(&(258_u16, -2_i16)), [1, 2, 127, 254]);
    assert_eq!(bytes::<(String, [u8; 2])>(&("", [7, 8])), [0, 0, 7, 8]);
    assert_eq!(bytes::<i64>(&0_i64), [128, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes::<()>(&()), [0; 0]);
}

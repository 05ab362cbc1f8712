//! What the example works with is in none of its processes' logs.

use warehouse::model::{CARD_DECLINED, CARD_GOOD};

#[test]
fn no_card_is_logged() {
    for ledger in ["built-in", "sqlite"] {
        let arguments = ["--orders", "20", "--kills", "1", "--ledger", ledger];
        let traced = fleet::Traced::run(env!("CARGO_BIN_EXE_warehouse"), &arguments).unwrap();
        // That there is something to find it in.
        assert!(traced.of("accompanist") > 0 && traced.of("zenoh") > 0, "nothing was logged");
        let found = traced.with(&[CARD_GOOD, CARD_DECLINED, "card:"], &[]);
        assert!(found.is_empty(), "{found:#?}");
    }
}

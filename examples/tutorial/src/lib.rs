//! The tutorial's program: a shop sells books, and a bank pays for them. `docs/tutorial` explains it chapter by
//! chapter, and shows the parts of these files between `ANCHOR` and `ANCHOR_END`.
//!
//! | chapter | file |
//! |---|---|
//! | 1, hello | `src/bin/ask.rs` |
//! | 2, a saga | `src/sale.rs`, `src/bin/saga.rs` |
//! | 3, two machines | `src/bin/bank.rs`, `bank.toml`, `src/bin/shop.rs`, `shop.toml` |
//! | 4, crash it | `tests/it/crash_it.rs` |
//! | 5, test it | `tests/it/test_it.rs` |
//! | 6, ship it | `accompanist.toml`, `ship-it` |

pub mod sale;

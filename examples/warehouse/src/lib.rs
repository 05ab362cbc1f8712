//! The warehouse saga: reserve, charge, award, ship, and how each is compensated.
//!
//! Start with [`program`] for the choreography. Its steps come in two forms, [`built_in`] and [`services`]
//! (over [`sqlite`]), which keep the same [`ledger`]; [`check()`] judges the ledgers afterwards.
//! The binary beside this library runs the roles as processes and kills them.

pub mod built_in;
pub mod check;
pub mod ledger;
pub mod model;
pub mod program;
pub mod roles;
pub mod services;
pub mod sqlite;

pub use check::{Check, Placed, check};
pub use ledger::{Book, Effect, Entry, Posting};
pub use model::{Bill, Order, Outcome, Points, Receipt, Reservation, Shipment};
pub use program::{WarehouseOrder, WarehouseOrderSqlite};
pub use roles::{Loyalty, LoyaltyApi, NoService, Payment, PaymentApi, Warehouse, WarehouseApi};

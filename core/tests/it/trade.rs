//! The trade: the smallest choreography with a message, a step and an answer, for tests of one instance.

use std::sync::Arc;

use accompanist_core::{At, Service};

use crate::rig::{Bank, bank_step, choreography, roles};

roles! { pub Buyer "buyer" (), pub Seller "seller" Bank }

pub const BUYER: u8 = 0;
pub const SELLER: u8 = 1;

bank_step!(pub Charge "charge" Seller);

// Paths: 0 is the order, 1 the charge, 2 the answer.
choreography!(pub Trade: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let n = ctx.comm(Buyer, Seller, &n).await?;
    let paid = ctx.transact(Charge, &n).await?;
    ctx.comm(Seller, Buyer, &paid).await
});

/// The seller's service.
pub fn service(bank: &Arc<Bank>) -> Service {
    Service::of::<Seller>(bank.clone())
}

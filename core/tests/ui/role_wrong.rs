//! What `#[derive(Role)]` refuses.

use accompanist_core::Role;

#[derive(Role)]
enum Party {
    Shop,
    Bank,
}

#[derive(Role)]
union Bits {
    bits: u32,
}

#[derive(Role)]
struct Shop {
    name: String,
}

#[derive(Role)]
struct Bank(u32);

#[derive(Role)]
struct Backup<T>;

#[derive(Role)]
#[role(name = "carrier", name = "courier")]
struct Carrier;

#[derive(Role)]
#[role(service = u32)]
#[role(service = u64)]
struct Clerk;

#[derive(Role)]
#[role(name = "")]
struct Nobody;

#[derive(Role)]
#[role(name = " shop ")]
struct Spaced;

#[derive(Role)]
#[role(name = "a-name-that-is-far-too-long-for-any-advertisement-of-any-node-in-any-system")]
struct Long;

#[derive(Role)]
#[role(nam = "buyer")]
struct Buyer;

#[derive(Role)]
#[role(name = seller)]
struct Seller;

#[derive(Clone, Copy, Role)]
struct Twice;

fn main() {}

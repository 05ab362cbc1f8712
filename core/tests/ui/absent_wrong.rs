//! What `#[derive(Absent)]` refuses.

use accompanist_core::{Absent, At, Role};

#[derive(Role)]
struct Shop;

#[derive(Absent)]
enum Offer {
    Price(At<Shop, u32>),
    Nothing,
}

#[derive(Absent)]
struct Leaks {
    price: At<Shop, u32>,
    name: String,
}

#[derive(Absent)]
#[absent(krate = accompanist_core)]
struct Misspelt(At<Shop, u32>);

fn main() {}

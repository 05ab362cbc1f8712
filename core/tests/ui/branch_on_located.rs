//! Not all roles know a located value, so none may branch on it.

use accompanist_core::{Abort, At, Choreography, Context, Role};

#[derive(Clone, Copy)]
struct Buyer;
impl Role for Buyer {
    const NAME: &'static str = "buyer";
    type Service = ();
}
#[derive(Clone, Copy)]
struct Seller;
impl Role for Seller {
    const NAME: &'static str = "seller";
    type Service = ();
}
#[derive(Clone, Copy)]
struct Courier;
impl Role for Courier {
    const NAME: &'static str = "courier";
    type Service = ();
}

struct Program;
impl Choreography for Program {
    const NAME: &'static str = "program";
    type Roles = (Buyer, Seller);
    type Input = At<Buyer, u32>;
    type Output = At<Buyer, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, input: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
        if input { return Ok(input); }
        Ok(input)
    }
}

fn main() {}

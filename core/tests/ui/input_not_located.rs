//! The input is located at the role that starts the choreography.

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
    type Input = u32;
    type Output = At<Buyer, u32>;
    async fn run(&self, _ctx: &Context<Self::Roles>, _input: u32) -> Result<At<Buyer, u32>, Abort> {
        unreachable!()
    }
}

fn main() {
    let _ = Courier;
}

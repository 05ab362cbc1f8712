//! Not all roles know a located value, so none may compare it in order to branch.

use accompanist_core::{Abort, At, Choreography, Context, Role};

#[derive(Role)]
struct Buyer;
#[derive(Role)]
struct Seller;

struct Program;
impl Choreography for Program {
    const NAME: &'static str = "program";
    type Roles = (Buyer, Seller);
    type Input = At<Buyer, u32>;
    type Output = At<Buyer, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, input: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
        let price = ctx.comm(Buyer, Seller, &input).await?;
        if price > 10 { return Ok(input); }
        if input == 10 { return Ok(input); }
        if input < input { return Ok(input); }
        let pays = ctx.locally(Buyer, |buyer| *buyer.get(&input) > 10);
        if !pays { return Ok(input); }
        if pays == true { return Ok(input); }
        Ok(input)
    }
}

fn main() {}

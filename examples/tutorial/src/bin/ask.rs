//! Chapter 1: two roles, a message, and a branch that both take alike.

// ANCHOR: roles
use accompanist::prelude::*;

#[derive(Role)]
struct Shop;

#[derive(Role)]
struct Bank;
// ANCHOR_END: roles

// ANCHOR: choreography
struct Ask;
impl Choreography for Ask {
    const NAME: &'static str = "ask";
    type Roles = (Shop, Bank);
    type Input = At<Shop, u32>; // The shop has the price,
    type Output = At<Shop, String>; // and wants an answer.

    async fn run(&self, ctx: &Context<Self::Roles>, price: At<Shop, u32>) -> Result<At<Shop, String>, Abort> {
        let price = ctx.comm(Shop, Bank, &price).await?; // Now At<Bank, u32>.
        let pays = ctx.locally(Bank, |bank| *bank.get(&price) <= 100); // At<Bank, bool>
        let answer = if ctx.broadcast(Bank, &pays).await? { "the bank pays" } else { "the bank does not pay" };
        Ok(ctx.locally(Shop, |_| answer.to_owned()))
    }
}
// ANCHOR_END: choreography

// ANCHOR: main
#[tokio::main]
async fn main() {
    for price in [75, 125] {
        let answer = run_local(Ask, price, &Services::new()).await;
        println!("{price}: {}", answer.unwrap_or_else(|abort| abort.to_string()));
    }
}
// ANCHOR_END: main

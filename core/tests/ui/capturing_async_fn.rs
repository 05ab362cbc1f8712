//! A part of a program as an `AsyncFn` cannot borrow what it captures; as an `AsyncFnOnce + Clone` it can.

use accompanist_core::{Abort, At, Choreography, Context, Role};

#[derive(Role)]
struct Buyer;
#[derive(Role)]
struct Seller;

type Roles = (Buyer, Seller);

async fn twice<F: AsyncFn(&Context<Roles>) -> Result<(), Abort>>(ctx: &Context<Roles>, part: F) -> Result<(), Abort> {
    part(ctx).await?;
    part(ctx).await
}

async fn twice_cloned<F>(ctx: &Context<Roles>, part: F) -> Result<(), Abort>
where
    F: AsyncFnOnce(&Context<Roles>) -> Result<(), Abort> + Clone,
{
    part.clone()(ctx).await?;
    part(ctx).await
}

struct Refused;
impl Choreography for Refused {
    const NAME: &'static str = "refused";
    type Roles = Roles;
    type Input = At<Buyer, u32>;
    type Output = At<Buyer, u32>;
    async fn run(&self, ctx: &Context<Roles>, input: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
        twice(ctx, async |ctx| ctx.comm(Buyer, Seller, &input).await.map(|_| ())).await?;
        Ok(input)
    }
}

struct Accepted;
impl Choreography for Accepted {
    const NAME: &'static str = "accepted";
    type Roles = Roles;
    type Input = At<Buyer, u32>;
    type Output = At<Buyer, u32>;
    async fn run(&self, ctx: &Context<Roles>, input: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
        twice_cloned(ctx, async |ctx| ctx.comm(Buyer, Seller, &input).await.map(|_| ())).await?;
        Ok(input)
    }
}

fn main() {}

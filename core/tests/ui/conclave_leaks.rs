//! A plain value leaves a conclave, whose other roles would not have it.

use accompanist_core::{Abort, At, Choreography, Context, Role};

#[derive(Clone, Copy)]
struct Buyer;
#[derive(Clone, Copy)]
struct Seller;
#[derive(Clone, Copy)]
struct Courier;

impl Role for Buyer {
    const NAME: &'static str = "buyer";
    type Service = ();
}
impl Role for Seller {
    const NAME: &'static str = "seller";
    type Service = ();
}
impl Role for Courier {
    const NAME: &'static str = "courier";
    type Service = ();
}

struct Order;

impl Choreography for Order {
    const NAME: &'static str = "order";
    type Roles = (Buyer, Seller);
    type Input = At<Buyer, String>;
    type Output = At<Buyer, String>;

    async fn run(&self, ctx: &Context<Self::Roles>, book: Self::Input) -> Result<Self::Output, Abort> {
        let length = ctx.conclave((Buyer,), async |ctx| ctx.broadcast(Buyer, &book).await).await?;
        let _: String = length;
        Ok(book)
    }
}

fn main() {}

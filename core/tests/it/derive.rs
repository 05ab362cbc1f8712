//! What the derives and `name!` make of a type.

use std::sync::Arc;

use accompanist_core::{
    Abort, Absent, At, Choreography, Context, Local, Retry, Role, Services, Transaction, name, run_local,
};

/// Another name for the crate, as a renamed dependency has.
mod renamed {
    pub use accompanist_core as choreo;
}

trait Rates: Send + Sync {
    fn per_book(&self) -> u32;
}
struct Fixed(u32);
impl Rates for Fixed {
    fn per_book(&self) -> u32 {
        self.0
    }
}

#[derive(Role)]
struct HttpShopFront;
#[derive(Role)]
#[role(name = "bank", service = dyn Rates)]
struct SavingsBank;
#[derive(Role)]
#[role(crate = crate::derive::renamed::choreo, service = Vec<Option<u32>>)]
struct Carrier2;
#[derive(Role)]
struct r#Loop;

const fn is_copy<R: Role + Copy + Clone>(_: R) -> &'static str {
    R::NAME
}

#[test]
fn a_role_is_named_after_its_type_unless_the_attribute_says_otherwise() {
    assert_eq!(is_copy(HttpShopFront), "http-shop-front");
    assert_eq!(is_copy(SavingsBank), "bank");
    assert_eq!(is_copy(Carrier2), "carrier2");
    assert_eq!(is_copy(Loop), "loop");
    let service: &<Carrier2 as Role>::Service = &vec![Some(3)];
    let service: &Vec<Option<u32>> = service;
    assert_eq!(service.len(), 1);
    let (): <HttpShopFront as Role>::Service = ();
}

/// What a conclave of three returns: more than a tuple may have, of several forms.
#[derive(Absent)]
struct Offer<T> {
    prices: Prices<T>,
    nothing: (),
    days: At<Carrier2, u32>,
}
#[derive(Absent)]
struct Prices<T>(
    At<SavingsBank, T>,
    At<SavingsBank, T>,
    At<SavingsBank, T>,
    At<SavingsBank, T>,
    (At<Loop, T>,),
    At<Loop, T>,
    Empty,
);
#[derive(Absent)]
struct Empty;

struct Ask;
impl Choreography for Ask {
    const NAME: &'static str = "ask";
    type Roles = (HttpShopFront, SavingsBank, Carrier2, Loop);
    type Input = At<HttpShopFront, u32>;
    type Output = At<HttpShopFront, (u32, u32, u32)>;
    async fn run(&self, ctx: &Context<Self::Roles>, books: Self::Input) -> Result<Self::Output, Abort> {
        let asked = ctx.comm(HttpShopFront, SavingsBank, &books).await?;
        // The shop front takes no part in this, and has an empty offer.
        let offer = ctx.conclave((SavingsBank, Carrier2, Loop), async |ctx| {
            let price = ctx.locally(SavingsBank, |bank| bank.get(&asked) * bank.service().per_book());
            let seen = ctx.comm(SavingsBank, Loop, &price).await?;
            let prices = Prices(price.clone(), price.clone(), price.clone(), price, (seen.clone(),), seen, Empty);
            Ok(Offer { prices, nothing: (), days: ctx.locally(Carrier2, |_| 2) })
        });
        let Offer { prices: Prices(a, b, c, d, (seen,), again, Empty), nothing: (), days } = offer.await?;
        let price = ctx.locally(SavingsBank, |bank| [&a, &b, &c, &d].map(|price| *bank.get(price)).iter().sum::<u32>());
        let seen = ctx.locally(Loop, |here| here.get(&seen) + here.get(&again));
        ctx.gather((SavingsBank, Loop, Carrier2), HttpShopFront, (&price, &seen, &days)).await
    }
}

#[tokio::test]
async fn a_struct_of_located_values_leaves_a_conclave() {
    let services = Services::new().with(SavingsBank, Arc::new(Fixed(25))).with(Carrier2, Arc::new(Vec::new()));
    assert_eq!(run_local(Ask, 3, &services).await, Ok((300, 150, 2)));
}

/// A step at either role, with a name for each.
struct Keep<R>(R);
impl<R: Role> Transaction for Keep<R> {
    const NAME: &'static str = name!("keep-", R::NAME);
    type Role = R;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, _: &Local<R>, kept: &u32) -> Result<u32, Abort> {
        Ok(*kept)
    }
    async fn compensate(&self, _: &Local<R>, _: &u32, _: &u32) -> Result<(), Retry> {
        Ok(())
    }
}

/// A choreography of any two roles: what one keeps, the other returns.
struct Echo<A, B>(A, B);
impl<A: Role, B: Role> Choreography for Echo<A, B> {
    const NAME: &'static str = name!("echo-", A::NAME, "-", B::NAME,);
    type Roles = (A, B);
    type Input = At<A, u32>;
    type Output = At<A, u32>;
    async fn run(&self, ctx: &Context<(A, B)>, input: At<A, u32>) -> Result<At<A, u32>, Abort> {
        let Self(one, other) = *self;
        let kept = ctx.transact(Keep(one), &input).await?;
        ctx.comm(other, one, &ctx.comm(one, other, &kept).await?).await
    }
}

/// 255 bytes, which is the limit of `name!`.
trait Long {
    const NAME: &'static str;
}
impl<R: Role> Long for Keep<R> {
    const NAME: &'static str = name!(TEN, TEN, TEN, TEN, TEN, TEN, TEN, TEN, TEN, TEN, TEN, TEN, "ééééé", "12345");
}
const TEN: &str = "12345678901234567890";

#[tokio::test]
async fn a_generic_choreography_has_a_name_for_each_of_its_parameters() {
    assert_eq!(Echo::<HttpShopFront, Loop>::NAME, "echo-http-shop-front-loop");
    assert_eq!(Echo::<Loop, HttpShopFront>::NAME, "echo-loop-http-shop-front");
    assert_eq!(<Keep<Loop> as Transaction>::NAME, "keep-loop");
    assert_eq!(run_local(Echo(Loop, HttpShopFront), 3, &Services::new()).await, Ok(3));
    let long = <Keep<Loop> as Long>::NAME;
    assert_eq!((long.len(), &long[235..]), (255, "67890ééééé12345"));
}

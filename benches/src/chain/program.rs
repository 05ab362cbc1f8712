//! The chains: a client, and services that each do one step, one after the other.
//!
//! As a choreography a service hands on to the next; with a coordinator each answers the client, which asks the next.

use std::marker::PhantomData;

use accompanist::prelude::*;
use accompanist::{Node, NodeBuilder};
use anyhow::Result;

macro_rules! roles {
    ($($(#[$doc:meta])* $role:ident $name:literal)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $role;
        impl Role for $role {
            const NAME: &'static str = $name;
            type Service = ();
        }
    )*};
}

roles! {
    /// Starts all.
    Client "client"
    First "first"
    Second "second"
    Third "third"
    Fourth "fourth"
    Fifth "fifth"
}

/// A number that each service adds to, in its own state.
const SUMS: Table<String, u64> = Table::new("sums");

/// The step of a service.
struct Work<R>(PhantomData<fn() -> R>);

impl<R: Role> Work<R> {
    const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<R: Role + Copy + Send + Sync + 'static> LocalTransaction for Work<R> {
    const NAME: &'static str = "work";
    type Role = R;
    type Input = u64;
    type Output = u64;
    fn commit(&self, state: &mut State<'_>, number: &u64) -> Result<u64, Abort> {
        SUMS.update(state, format!("of {}", number % 100), |sum| Ok(sum.unwrap_or_default() + number))?;
        Ok(number + 1)
    }
    fn compensate(&self, state: &mut State<'_>, number: &u64, _: &u64) -> Result<(), Retry> {
        SUMS.update(state, format!("of {}", number % 100), |sum| Ok(sum.unwrap_or_default() - number))?;
        Ok(())
    }
}

macro_rules! chain {
    ($chain:ident $chain_name:literal, $central:ident $central_name:literal, $($service:ident)+) => {
        /// Each service hands on to the next, and the last one to the client.
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $chain;
        impl Choreography for $chain {
            const NAME: &'static str = $chain_name;
            type Roles = (Client, $($service),+);
            type Input = At<Client, u64>;
            type Output = At<Client, u64>;
            async fn run(&self, ctx: &Context<Self::Roles>, input: At<Client, u64>) -> Result<At<Client, u64>, Abort> {
                chain!(@hand_on ctx, input, Client, $($service)+)
            }
        }

        /// The client asks one service after the other.
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $central;
        impl Choreography for $central {
            const NAME: &'static str = $central_name;
            type Roles = (Client, $($service),+);
            type Input = At<Client, u64>;
            type Output = At<Client, u64>;
            async fn run(&self, ctx: &Context<Self::Roles>, input: At<Client, u64>) -> Result<At<Client, u64>, Abort> {
                let number = input;
                $(
                    let asked = ctx.comm(Client, $service, &number).await?;
                    let done = ctx.transact(Work::<$service>::new(), &asked).await?;
                    let number = ctx.comm($service, Client, &done).await?;
                )+
                Ok(number)
            }
        }
    };
    (@hand_on $ctx:ident, $number:ident, $from:ident, $next:ident $($rest:ident)*) => {{
        let asked = $ctx.comm($from, $next, &$number).await?;
        let done = $ctx.transact(Work::<$next>::new(), &asked).await?;
        chain!(@hand_on $ctx, done, $next, $($rest)*)
    }};
    (@hand_on $ctx:ident, $number:ident, $from:ident,) => {
        $ctx.comm($from, Client, &$number).await
    };
}

chain!(Chain1 "bench-chain-1", Central1 "bench-central-1", First);
chain!(Chain3 "bench-chain-3", Central3 "bench-central-3", First Second Third);
chain!(Chain5 "bench-chain-5", Central5 "bench-central-5", First Second Third Fourth Fifth);

/// The client and the services, in the order of the chain.
pub(crate) const ROLES: [&str; 6] = [Client::NAME, First::NAME, Second::NAME, Third::NAME, Fourth::NAME, Fifth::NAME];

/// Gives a node the role at that place of [`ROLES`], and all choreographies.
pub(crate) fn play(builder: NodeBuilder, place: usize) -> NodeBuilder {
    let builder = builder
        .choreography(Chain1)
        .choreography(Chain3)
        .choreography(Chain5)
        .choreography(Central1)
        .choreography(Central3)
        .choreography(Central5);
    match place {
        0 => builder.role(Client, ().into()),
        1 => builder.role(First, ().into()),
        2 => builder.role(Second, ().into()),
        3 => builder.role(Third, ().into()),
        4 => builder.role(Fourth, ().into()),
        _ => builder.role(Fifth, ().into()),
    }
}

/// Runs a chain of so many services, with the client in the middle or not, and gives what comes out.
pub(crate) async fn run(client: &Node, services: usize, central: bool, number: u64) -> Result<u64> {
    Ok(match (services, central) {
        (1, false) => client.start(Chain1, number).await?.output().await?,
        (1, true) => client.start(Central1, number).await?.output().await?,
        (3, false) => client.start(Chain3, number).await?.output().await?,
        (3, true) => client.start(Central3, number).await?.output().await?,
        (5, false) => client.start(Chain5, number).await?.output().await?,
        (5, true) => client.start(Central5, number).await?.output().await?,
        _ => anyhow::bail!("there are chains of 1, 3 and 5 services, not of {services}"),
    })
}

//! The sessions that are checked: small, since every interleaving of them is.

use std::sync::Arc;

use accompanist_core::frame::Header;
use accompanist_core::id::RoleIndex;
use accompanist_core::{
    Abort, At, Choreography, LocalTransaction, NodeId, Retry, RoleSet, Service, State, Table, Transaction,
};

use crate::life::Play;
use crate::rig::{choreography, path, payload, roles};
use crate::service::Desk;

roles! { A "a" Desk, B "b" Desk, C "c" Desk }

/// A step on the service of a role, which may refuse it.
macro_rules! steps {
    ($($step:ident $role:ident),+) => {$(
        struct $step {
            may_refuse: bool,
        }
        impl Transaction for $step {
            const NAME: &'static str = "step";
            type Role = $role;
            type Input = u32;
            type Output = u32;
            async fn commit(&self, here: &accompanist_core::Local<$role>, _: &u32) -> Result<u32, Abort> {
                here.service().commit(here.key(), self.may_refuse).await
            }
            async fn compensate(&self, here: &accompanist_core::Local<$role>, _: &u32, _: &u32) -> Result<(), Retry> {
                here.service().compensate(here.key()).await
            }
        }
    )+};
}
steps!(AtA A, AtB B, AtC C);

/// A step on the built-in state: one up.
struct Count;

const COUNTS: Table<u32, u8> = Table::new("counts");

impl LocalTransaction for Count {
    const NAME: &'static str = "count";
    type Role = B;
    type Input = u32;
    type Output = u8;
    fn commit(&self, state: &mut State<'_>, n: &u32) -> Result<u8, Abort> {
        COUNTS.update(state, n, |count| Ok(count.unwrap_or_default() + 1))
    }
    fn compensate(&self, state: &mut State<'_>, n: &u32, _: &u8) -> Result<(), Retry> {
        COUNTS.remove(state, n)?;
        Ok(())
    }
}

// A message there, a step, a message back.
choreography!(There: (A, B), At<A, u32> => At<A, u32>, |ctx, n| {
    let n = ctx.comm(A, B, &n).await?;
    let n = ctx.transact(AtB { may_refuse: false }, &n).await?;
    ctx.comm(B, A, &n).await
});

// A message there, and a step.
choreography!(Lone: (A, B), At<A, u32> => At<A, u32>, |ctx, n| {
    let n = ctx.comm(A, B, &n).await?;
    ctx.transact(AtB { may_refuse: false }, &n).await?;
    Ok(ctx.locally(A, |_| 0))
});

// A step at the second role, and one at the third, which may refuse.
choreography!(Chain: (A, B, C), At<A, u32> => At<A, u32>, |ctx, n| {
    let n = ctx.comm(A, B, &n).await?;
    let n = ctx.transact(AtB { may_refuse: false }, &n).await?;
    let n = ctx.comm(B, C, &n).await?;
    let n = ctx.transact(AtC { may_refuse: true }, &n).await?;
    ctx.comm(C, A, &n).await
});

// Two steps at one role; the second may refuse.
choreography!(Pair: (A, B), At<A, u32> => At<A, u32>, |ctx, n| {
    let n = ctx.comm(A, B, &n).await?;
    let n = ctx.transact(AtB { may_refuse: false }, &n).await?;
    ctx.transact(AtB { may_refuse: true }, &n).await?;
    Ok(ctx.locally(A, |_| 0))
});

// Three steps at one role; the last may refuse.
choreography!(Thrice: (A, B), At<A, u32> => At<A, u32>, |ctx, n| {
    let n = ctx.comm(A, B, &n).await?;
    ctx.transact(AtB { may_refuse: false }, &n).await?;
    ctx.transact(AtB { may_refuse: false }, &n).await?;
    ctx.transact(AtB { may_refuse: true }, &n).await?;
    Ok(ctx.locally(A, |_| 0))
});

// A step on the built-in state.
choreography!(Local: (A, B), At<A, u32> => At<A, u32>, |ctx, n| {
    let n = ctx.comm(A, B, &n).await?;
    ctx.transact(Count, &n).await?;
    ctx.comm(B, A, &n).await
});

// A saga within, whose last step may refuse.
choreography!(Within: (A, B), At<A, u32> => At<A, bool>, |ctx, n| {
    let tried = ctx.saga((A, B), async |ctx| {
        ctx.transact(AtA { may_refuse: false }, &n).await?;
        let n = ctx.comm(A, B, &n).await?;
        ctx.transact(AtB { may_refuse: true }, &n).await?;
        Ok(())
    }).await?;
    Ok(ctx.locally(A, |_| tried.is_ok()))
});

// Something that is another one in each life, unless it is recorded.
choreography!(Draw: (A, B), At<A, u32> => At<A, u64>, |ctx, n| {
    ctx.comm(A, B, &n).await?;
    let drawn = ctx.random(B).await?;
    ctx.comm(B, A, &drawn).await
});

// Two messages one way.
choreography!(Twice: (A, B), At<A, u32> => At<A, u32>, |ctx, n| {
    ctx.comm(A, B, &n).await?;
    let more = ctx.locally(A, |here| here.get(&n) + 1);
    let more = ctx.comm(A, B, &more).await?;
    ctx.comm(B, A, &more).await
});

fn play<Ch: Choreography>(choreography: Ch) -> Play {
    let header = Arc::new(Header {
        choreography: Ch::NAME.into(),
        version: Ch::VERSION,
        initiator: RoleIndex(0),
        cast: Ch::Roles::NAMES.iter().map(|name| NodeId::new(name).unwrap()).collect(),
        started_unix_ms: 1,
        deadline_unix_ms: None,
        patches: Vec::new(),
        traceparent: None,
    });
    // All roles have services of one type, so one serves for any.
    let service = |desk| Service::of::<A>(desk);
    Play { choreography: Arc::new(choreography), service, header, input: payload(&1u32), saga: None }
}

pub fn there() -> Play {
    play(There)
}
pub fn lone() -> Play {
    play(Lone)
}
pub fn chain() -> Play {
    play(Chain)
}
pub fn pair() -> Play {
    play(Pair)
}
pub fn thrice() -> Play {
    play(Thrice)
}
pub fn local() -> Play {
    play(Local)
}
pub fn within() -> Play {
    Play { saga: Some(path(&[0])), ..play(Within) }
}
pub fn draw() -> Play {
    play(Draw)
}
pub fn twice() -> Play {
    play(Twice)
}

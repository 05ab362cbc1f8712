//! Operations that contain others: sagas within the session, inner choreographies, and loops of checkpoints.

use std::future::{Future, poll_fn};
use std::ops::ControlFlow;
use std::pin::pin;
use std::task::Poll;

use super::Context;
use crate::base::abort::Abort;
use crate::base::id::{Path, RoleIndex};
use crate::base::located::{Absent, Located};
use crate::base::message::{Payload, pack, unpack};
use crate::base::role::{Includes, RoleSet, names_of};
use crate::frame::Operation;
use crate::language::call::{self, Call, Scope};
use crate::language::choreography::Choreography;
use crate::language::engine::Engine;
use crate::language::loop_state::{LoopState, put_together};
use crate::language::value_of::ValueOf;
use crate::machine::{SagaPaths, TURN_VOTE, Verdict};

impl<Roles: RoleSet> Context<Roles> {
    /// Runs a saga within the session, with some of its roles. An abort of the saga compensates only the saga's own
    /// steps, in reverse order at each role, and is a value that all roles of this context know. They may all branch
    /// on it: try something else, or continue without.
    ///
    /// A refusal, [`Context::abort`] or an `Err` of `part`, at any role of the saga, aborts it for all its roles. The
    /// saga ends when all its roles have voted, and each role continues once its own steps are compensated. The steps
    /// of a saga that succeeded belong to the scope around it: they are compensated if that scope is aborted.
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Carrier;
    /// # impl Role for Carrier { const NAME: &'static str = "carrier"; type Service = (); }
    /// # struct Book(&'static str);
    /// # impl LocalTransaction for Book {
    /// #     const NAME: &'static str = "book"; type Role = Carrier; type Input = (); type Output = String;
    /// #     fn commit(&self, _: &mut State<'_>, (): &()) -> Result<String, Abort> {
    /// #         if self.0 == "plane" { Err(Abort::new("full", "no room")) } else { Ok(self.0.into()) }
    /// #     }
    /// #     fn compensate(&self, _: &mut State<'_>, (): &(), _: &String) -> Result<(), Retry> { Ok(()) }
    /// # }
    /// # struct Parcel;
    /// # impl Choreography for Parcel {
    /// #     const NAME: &'static str = "parcel"; type Roles = (Carrier,);
    /// #     type Input = At<Carrier, ()>; type Output = At<Carrier, String>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, parcel: At<Carrier, ()>) -> Result<At<Carrier, String>, Abort> {
    ///     let fast = ctx.saga((Carrier,), async |ctx| {
    ///         ctx.transact(Book("van"), &parcel).await?;
    ///         ctx.transact(Book("plane"), &parcel).await // Refused: the van is given back.
    ///     });
    ///     match fast.await? {
    ///         Ok(booked) => Ok(booked),
    ///         Err(_) => ctx.transact(Book("train"), &parcel).await, // All roles know, so all of them come here.
    ///     }
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Parcel, (), &Services::new()).await, Ok("train".to_owned()));
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`]. The saga's own abort is in the inner result.
    pub fn saga<Sub: RoleSet, T: Absent, F, I>(
        &self,
        _roles: Sub,
        part: F,
    ) -> impl Future<Output = Result<Result<T, Abort>, Abort>> + use<Sub, T, F, I, Roles>
    where
        Roles: Includes<Sub, I>,
        F: AsyncFnOnce(&Context<Sub>) -> Result<T, Abort>,
    {
        let (engine, paths) = (self.engine.clone(), SagaPaths::of(self.called(Call::scoped::<Sub>(Scope::Saga))));
        let (member, roles, all) = (self.member, self.indices_of::<Sub>(), self.indices_of::<Roles>());
        async move {
            let Some(decider) = roles.first().copied() else { return Ok(Ok(T::absent())) };
            if !roles.contains(&engine.role()) {
                let verdict: Verdict = engine.hear(&paths.verdict, Operation::Verdict, decider).await;
                return Ok(verdict.map(|()| T::absent()));
            }
            engine.instance().enter_saga(&paths.saga, decider, &roles);
            let ctx = Context::<Sub>::within(engine.clone(), paths.body.clone(), member);
            let ended = {
                let mut body = pin!(part(&ctx));
                poll_fn(|cx| match body.as_mut().poll(cx) {
                    Poll::Ready(ended) => Poll::Ready(Some(ended)),
                    // An aborted saga's body is dropped where it waits.
                    Poll::Pending => engine.instance().poll_spent(cx, &paths.body).map(|()| None),
                })
                .await
            };
            if let Some(Err(abort)) = &ended {
                engine.instance().abort_saga(&paths.body, abort.clone());
            }
            let verdict = engine.settle_saga(&paths, decider, &roles, &all).await;
            Ok(verdict.map(|()| ended.and_then(Result::ok).unwrap_or_else(T::absent)))
        }
    }

    /// Runs another choreography as a part of this one. Its roles must be among the roles of this context. An abort
    /// inside it aborts the whole session, or the [`Context::saga`] around the call.
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Carrier;
    /// # impl Role for Carrier { const NAME: &'static str = "carrier"; type Service = (); }
    /// /// A choreography of two, which others can use.
    /// struct Quote;
    /// impl Choreography for Quote {
    ///     const NAME: &'static str = "quote";
    ///     type Roles = (Buyer, Seller);
    ///     // ..
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
    /// #     async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
    /// #         let books = ctx.comm(Buyer, Seller, &books).await?;
    /// #         ctx.comm(Seller, Buyer, &ctx.locally(Seller, |seller| seller.get(&books) * 25)).await
    /// #     }
    /// }
    ///
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller, Carrier);
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
    ///     let price = ctx.perform(&Quote, books).await?; // The carrier goes on at once.
    ///     let fee = ctx.comm(Carrier, Buyer, &ctx.locally(Carrier, |_| 4)).await?;
    ///     Ok(ctx.locally(Buyer, |buyer| buyer.get(&price) + buyer.get(&fee)))
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Sale, 3, &Services::new()).await, Ok(79));
    /// # }
    /// ```
    ///
    /// # Errors
    /// Whatever the inner choreography returns, at the roles that take part in it.
    pub fn perform<'a, C: Choreography, I>(
        &self,
        choreography: &'a C,
        input: C::Input,
    ) -> impl Future<Output = Result<C::Output, Abort>> + Send + use<'a, C, I, Roles>
    where
        Roles: Includes<C::Roles, I>,
    {
        let (engine, path) = (
            self.engine.clone(),
            self.called(Call::Scoped { scope: Scope::Perform, roles: names_of::<C::Roles>(), name: C::NAME }),
        );
        let member = self.member;
        let part = self
            .indices_of::<C::Roles>()
            .contains(&engine.role())
            .then(|| (choreography, Context::<C::Roles>::within(engine, path, member), input));
        async move {
            match part {
                Some((choreography, ctx, input)) => choreography.run(&ctx, input).await,
                None => Ok(C::Output::place(None)),
            }
        }
    }

    /// Runs a loop in which every turn is a checkpoint. Recovery starts at the last checkpoint and the journal before
    /// it is dropped, so a loop may run for ever. `turn` receives the state and returns the next state
    /// ([`ControlFlow::Continue`]) or the loop's result ([`ControlFlow::Break`]). All roles must agree on which of
    /// the two it is, so the choice must depend on a value that was broadcast or is [`Known`](crate::Known).
    ///
    /// A turn ends for all roles together. This costs a vote from each role to the first role of the choreography (or
    /// conclave), and that role's answer. The steps of an ended turn are final: a later abort compensates the steps
    /// before the loop and those of the current turn, but not those of ended turns. The turn that breaks does not end
    /// in this sense: its steps belong to whatever follows the loop. Within a [`Context::saga`], `repeat` is a plain
    /// loop without checkpoints, which the saga can compensate as a whole. See `docs/language/loops.md` for more.
    ///
    /// ```
    /// # use std::ops::ControlFlow;
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Buyer;
    /// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Seller;
    /// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
    /// # struct Standing;
    /// # impl Choreography for Standing {
    /// #     const NAME: &'static str = "standing-order"; type Roles = (Buyer, Seller);
    /// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
    /// /// The same order in each of ten weeks. Returns what the seller was asked for in all of them.
    /// async fn run(&self, ctx: &Context<Self::Roles>, order: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
    ///     let sum = ctx.locally(Seller, |_| 0);
    ///     let (_, sum) = ctx.repeat((Known(1), (order, sum)), async |ctx, (Known(week), (order, sum))| {
    ///         let books = ctx.comm(Buyer, Seller, &order).await?;
    ///         let sum = ctx.locally(Seller, |seller| seller.get(&sum) + seller.get(&books));
    ///         let state = (Known(week + 1), (order, sum));
    ///         Ok(if week < 10 { ControlFlow::Continue(state) } else { ControlFlow::Break(state.1) })
    ///     }).await?;
    ///     ctx.comm(Seller, Buyer, &sum).await
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Standing, 7, &Services::new()).await, Ok(70));
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn repeat<S: LoopState, T, F>(
        &self,
        state: S,
        turn: F,
    ) -> impl Future<Output = Result<T, Abort>> + use<S, T, F, Roles>
    where
        F: AsyncFnOnce(&Self, S) -> Result<ControlFlow<T, S>, Abort> + Clone,
    {
        let (engine, path) = (self.engine.clone(), self.called(Call::scoped::<Roles>(Scope::Repeat)));
        let (member, roles) = (self.member, self.indices_of::<Roles>());
        async move {
            let checkpoints = !engine.instance().is_in_saga(&path);
            let (mut number, mut state) =
                if checkpoints { engine.enter_loop(&path, &roles, state).await } else { (0, state) };
            loop {
                let ctx = Self::within(engine.clone(), path.child(number), member);
                state = match turn.clone()(&ctx, state).await? {
                    ControlFlow::Break(result) => return Ok(result),
                    ControlFlow::Continue(next) if checkpoints => engine.end_turn(&path, number, &roles, &next).await,
                    ControlFlow::Continue(next) => next,
                };
                number += 1;
            }
        }
    }
}

impl Engine {
    /// Votes, waits for the verdict, and waits for the compensation if the verdict demands it.
    async fn settle_saga(
        &self,
        paths: &SagaPaths,
        decider: RoleIndex,
        members: &[RoleIndex],
        all: &[RoleIndex],
    ) -> Verdict {
        let verdict = if self.plays(decider) {
            let verdict = self.poll(|instance, cx| instance.poll_verdict(cx, &paths.body, members)).await;
            let payload = self.encoded(&paths.verdict, &verdict).await;
            self.send(&paths.verdict, Operation::Verdict, all, &payload).await;
            verdict
        } else {
            let vote = self.instance().vote(paths, decider);
            if let Some(vote) = vote {
                self.send(&paths.vote, Operation::Vote, &[decider], &vote).await;
            }
            let verdict = self.hear(&paths.verdict, Operation::Verdict, decider).await;
            self.instance().take_verdict(&paths.body, &verdict);
            verdict
        };
        call::saga_ended(&paths.saga, verdict.as_ref().err());
        if verdict.is_err() {
            self.poll(|instance, cx| instance.poll_compensated(cx, &paths.body)).await;
        }
        verdict
    }

    async fn enter_loop<S: LoopState>(&self, path: &Path, members: &[RoleIndex], first: S) -> (u32, S) {
        let decider = members.first().copied().unwrap_or_default();
        let (turn, state) = self.instance().enter_loop(path, decider);
        let Some(state) = state else { return (turn, first) };
        match unpack(state.as_slice()).and_then(put_together) {
            Ok(state) => (turn, state),
            Err(error) => self.cannot_read(path, ValueOf::LoopState, &error).await,
        }
    }

    /// This role's part of a turn is over: goes on when that of all members is, with what a replay would read.
    async fn end_turn<S: LoopState>(&self, path: &Path, turn: u32, members: &[RoleIndex], next: &S) -> S {
        let mut parts = Vec::new();
        let taken = next.take_apart(&mut parts).and_then(|()| pack(&parts));
        let read = taken.and_then(|state| Ok((Payload::from(state), put_together(parts)?)));
        let (state, next) = match read {
            Ok(read) => read,
            Err(error) => return self.cannot_write(path, &error).await,
        };
        let vote = path.child(turn).child(TURN_VOTE);
        let nothing = self.encoded(path, &()).await;
        self.send(&vote, Operation::Vote, members.get(..1).unwrap_or_default(), &nothing).await;
        self.poll(|instance, cx| instance.poll_turn_over(cx, path, turn, members)).await;
        self.instance().checkpoint(path, turn + 1, state, members);
        next
    }
}

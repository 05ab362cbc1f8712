//! Operations on role families: on all members at once, on one member, and between members.
//!
//! A step or an effect of a member has a path of its own, because the key that its service gets is session and path.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::join_all;

use super::Context;
use crate::base::abort::Abort;
use crate::base::id::Path;
use crate::base::located::{Absent, At, Held, Local};
use crate::base::message::Message;
use crate::base::role::{Has, Includes, Many, Role, RoleSet, names_of};
use crate::frame::Operation;
use crate::language::call::{Call, Scope, single};
use crate::language::engine::Engine;
use crate::language::family::{Beside, Each, FamilyMember, FamilyMembers};
use crate::step::Step;

impl<Roles: RoleSet> Context<Roles> {
    /// The members of a role family. All roles know them, so all may loop over them and branch on their number. The
    /// call takes no path.
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Client;
    /// # impl Role for Client { const NAME: &'static str = "client"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Worker;
    /// # impl Role for Worker { const NAME: &'static str = "worker"; type Service = (); }
    /// # struct Pass;
    /// # impl Choreography for Pass {
    /// #     const NAME: &'static str = "pass"; type Roles = (Client, Many<Worker>);
    /// #     type Input = At<Client, u32>; type Output = At<Client, u32>;
    /// /// The client asks one worker after the other; each adds its number.
    /// async fn run(&self, ctx: &Context<Self::Roles>, mut sum: At<Client, u32>) -> Result<At<Client, u32>, Abort> {
    ///     for member in ctx.members(Worker) {
    ///         sum = ctx.with_member(member, (Client,), async |ctx| {
    ///             let asked = ctx.comm(Client, Worker, &sum).await?;
    ///             let more = ctx.locally(Worker, |worker| worker.get(&asked) + member.number() as u32);
    ///             ctx.comm(Worker, Client, &more).await
    ///         }).await?;
    ///     }
    ///     Ok(sum)
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Pass, 10, &Services::new().members(Worker, 4)).await, Ok(10 + 1 + 2 + 3));
    /// # }
    /// ```
    pub fn members<R: Role, I>(&self, _role: R) -> FamilyMembers<R>
    where
        Roles: Has<Many<R>, I>,
    {
        FamilyMembers::new(self.engine.members())
    }

    /// Computes a value at each member. Like [`Context::locally`], it records and sends nothing.
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Client;
    /// # impl Role for Client { const NAME: &'static str = "client"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Worker;
    /// # impl Role for Worker { const NAME: &'static str = "worker"; type Service = (); }
    /// # struct Squares;
    /// # impl Choreography for Squares {
    /// #     const NAME: &'static str = "squares"; type Roles = (Client, Many<Worker>);
    /// #     type Input = At<Client, u32>; type Output = At<Client, Vec<u32>>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, number: At<Client, u32>) -> Result<Self::Output, Abort> {
    ///     let each: Each<Worker, u32> = ctx.multicast_each(Client, Worker, &number).await?;
    ///     let each = ctx.each(Worker, |worker, member| worker.get(each.at(member)) * member.number() as u32);
    ///     ctx.gather_each(Worker, Client, &each).await
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Squares, 7, &Services::new().members(Worker, 3)).await, Ok(vec![0, 7, 14]));
    /// # }
    /// ```
    pub fn each<R: Role, T, I>(&self, _role: R, compute: impl Fn(&Local<R>, FamilyMember<R>) -> T) -> Each<R, T>
    where
        Roles: Has<Many<R>, I>,
    {
        let path = self.called(Call::own(R::NAME, "each"));
        self.engine.at_own_member(|number| {
            let here = self.engine.local::<R>(&path.child(u32::from(number)), self.engine.role())?;
            Some(Held::new(compute(&here, FamilyMember::new(number))))
        })
    }

    /// Sends the first value to the first member, the second one to the second, and so on. See
    /// [`Many`] for an example.
    ///
    /// # Errors
    /// As [`Context::comm`]. If there is not exactly one value for each member, the session is aborted with the code
    /// [`Abort::SCATTER`].
    pub fn scatter<A: Role, R: Role, T: Message, I, J>(
        &self,
        _from: A,
        _to: R,
        values: &At<A, Vec<T>>,
    ) -> impl Future<Output = Result<Each<R, T>, Abort>> + Send + use<A, R, T, I, J, Roles>
    where
        Roles: Has<A, I> + Has<Many<R>, J>,
    {
        let (engine, path, values) = (
            self.engine.clone(),
            self.called(Call::message::<T>(Operation::Multicast, single::<A>(), single::<R>())),
            values.share(),
        );
        let from = self.index_of::<A>();
        async move {
            let mut own = None;
            if let Some(values) = values.filter(|_| engine.plays(from)) {
                let (given, members) = (values.value.len(), usize::from(engine.members()));
                if given != members {
                    let message = format!("{given} values for {members} members of `{}`", R::NAME);
                    return engine.abort(&path, &Abort::new(Abort::SCATTER, message)).await;
                }
                for (member, value) in engine.family().zip(values.value.iter()) {
                    let payload = engine.encoded_repeatably(&path, value).await;
                    engine.send(&path, Operation::Multicast, &[member], &payload).await;
                    if engine.plays(member) {
                        own = Some(engine.held(&path, engine.message_of(Operation::Multicast, from), payload).await);
                    }
                }
            } else if engine.number().is_some() {
                own = Some(engine.receive(&path, Operation::Multicast, from).await);
            }
            Ok(engine.at_own_member(|_| own))
        }
    }

    /// Sends the same value to each member. Other roles do not get it; [`Context::broadcast`] sends to all of them.
    /// [`Context::each`] has an example.
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn multicast_each<A: Role, R: Role, T: Message, I, J>(
        &self,
        _from: A,
        _to: R,
        value: &At<A, T>,
    ) -> impl Future<Output = Result<Each<R, T>, Abort>> + Send + use<A, R, T, I, J, Roles>
    where
        Roles: Has<A, I> + Has<Many<R>, J>,
    {
        let (engine, path, value) = (
            self.engine.clone(),
            self.called(Call::message::<T>(Operation::Multicast, single::<A>(), single::<R>())),
            value.share(),
        );
        let from = self.index_of::<A>();
        async move {
            let members: Vec<_> = engine.family().collect();
            let value = engine.distribute(&path, Operation::Multicast, from, &members, value).await;
            Ok(engine.at_own_member(|_| value))
        }
    }

    /// Sends the value of each member to `to`, which receives them in the order of the members, whatever the order of
    /// arrival. [`Many`] has an example. A fold over the members is a [`Context::locally`] over what they sent.
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn gather_each<R: Role, C: Role, T: Message, I, J>(
        &self,
        _from: R,
        _to: C,
        values: &Each<R, T>,
    ) -> impl Future<Output = Result<At<C, Vec<T>>, Abort>> + Send + use<R, C, T, I, J, Roles>
    where
        Roles: Has<Many<R>, I> + Has<C, J>,
    {
        let (engine, path, value) = (
            self.engine.clone(),
            self.called(Call::message::<(T,)>(Operation::Gather, single::<R>(), single::<C>())),
            values.own().share(),
        );
        let to = self.index_of::<C>();
        async move {
            if engine.number().is_some() {
                engine.contribute(&path, engine.role(), to, value.as_ref()).await;
            }
            if !engine.plays(to) {
                return Ok(At::held(None));
            }
            let mut values = Vec::with_capacity(usize::from(engine.members()));
            for member in engine.family() {
                values.push(engine.collect(&path, member, value.as_ref()).await);
            }
            Ok(At::here(values))
        }
    }

    /// Sends the value of one member to all roles of this context, the other members among them, so that all of them
    /// may branch on it.
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Client;
    /// # impl Role for Client { const NAME: &'static str = "client"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Worker;
    /// # impl Role for Worker { const NAME: &'static str = "worker"; type Service = (); }
    /// # struct First;
    /// # impl Choreography for First {
    /// #     const NAME: &'static str = "first"; type Roles = (Client, Many<Worker>);
    /// #     type Input = At<Client, ()>; type Output = At<Client, Option<usize>>;
    /// /// The first worker that is free.
    /// async fn run(&self, ctx: &Context<Self::Roles>, _: At<Client, ()>) -> Result<Self::Output, Abort> {
    ///     let is_free = ctx.each(Worker, |_, member| member.number() >= 2);
    ///     for member in ctx.members(Worker) {
    ///         if ctx.broadcast_from(member, &is_free).await? {
    ///             return Ok(ctx.locally(Client, |_| Some(member.number())));
    ///         }
    ///     }
    ///     Ok(ctx.locally(Client, |_| None))
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(First, (), &Services::new().members(Worker, 4)).await, Ok(Some(2)));
    /// assert_eq!(run_local(First, (), &Services::new().members(Worker, 1)).await, Ok(None));
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn broadcast_from<R: Role, T: Message, I>(
        &self,
        from: FamilyMember<R>,
        values: &Each<R, T>,
    ) -> impl Future<Output = Result<T, Abort>> + Send + use<R, T, I, Roles>
    where
        Roles: Has<Many<R>, I>,
    {
        let (engine, path, value) = (
            self.engine.clone(),
            self.called(Call::message::<T>(Operation::Broadcast, single::<R>(), Roles::NAMES)),
            values.at(from).share(),
        );
        let to = self.indices_of::<Roles>();
        async move {
            engine.require_member(&path, from).await;
            Ok(engine.broadcast(&path, engine.member(from.index()), &to, value).await)
        }
    }

    /// Sends the value of each member to the member that `route` names, or to nobody. Each member receives the values
    /// that were sent to it, in the order of their senders. Every role calls `route` for every member, so it must be
    /// a pure function of what all roles know.
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Client;
    /// # impl Role for Client { const NAME: &'static str = "client"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Worker;
    /// # impl Role for Worker { const NAME: &'static str = "worker"; type Service = (); }
    /// # struct Ring;
    /// # impl Choreography for Ring {
    /// #     const NAME: &'static str = "ring"; type Roles = (Client, Many<Worker>);
    /// #     type Input = At<Client, ()>; type Output = At<Client, Vec<usize>>;
    /// async fn run(&self, ctx: &Context<Self::Roles>, _: At<Client, ()>) -> Result<At<Client, Vec<usize>>, Abort> {
    ///     let all = ctx.members(Worker);
    ///     let own = ctx.each(Worker, |_, member| member.number());
    ///     let from_left = ctx.exchange(Worker, &own, |member| all.get((member.number() + 1) % all.len())).await?;
    ///     let sums = ctx.each(Worker, |worker, member| worker.get(from_left.at(member)).iter().sum());
    ///     ctx.gather_each(Worker, Client, &sums).await
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Ring, (), &Services::new().members(Worker, 4)).await, Ok(vec![3, 0, 1, 2]));
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn exchange<R: Role, T: Message, F, I>(
        &self,
        _role: R,
        values: &Each<R, T>,
        route: F,
    ) -> impl Future<Output = Result<Each<R, Vec<T>>, Abort>> + Send + use<R, T, F, I, Roles>
    where
        F: Fn(FamilyMember<R>) -> Option<FamilyMember<R>>,
        Roles: Has<Many<R>, I>,
    {
        let (engine, path, value) = (
            self.engine.clone(),
            self.called(Call::message::<(T,)>(Operation::Gather, single::<R>(), single::<R>())),
            values.own().share(),
        );
        let routes: Vec<_> = FamilyMembers::new(engine.members()).map(|from| (from, route(from))).collect();
        async move {
            let mut received = Vec::new();
            // Each sender has a path of its own, because a member sends and receives here.
            let of = |from: FamilyMember<R>| (path.child(u32::from(from.index())), engine.member(from.index()));
            for (from, to) in &routes {
                let Some(to) = to else { continue };
                engine.require_member(&path, *to).await;
                let (path, sender) = of(*from);
                engine.contribute(&path, sender, engine.member(to.index()), value.as_ref()).await;
            }
            let to_here = routes.iter().filter(|(_, to)| to.is_some_and(|to| engine.number() == Some(to.index())));
            for (from, _) in to_here {
                let (path, sender) = of(*from);
                received.push(engine.collect(&path, sender, value.as_ref()).await);
            }
            Ok(engine.at_own_member(|_| Some(Held::new(received))))
        }
    }

    /// Runs a saga step at each member. A refusal of one aborts the session, or the [`Context::saga`] around the
    /// call, and what the other members have committed is compensated.
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Client;
    /// # impl Role for Client { const NAME: &'static str = "client"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Store;
    /// # impl Role for Store { const NAME: &'static str = "store"; type Service = (); }
    /// # struct Reserve;
    /// # impl LocalTransaction for Reserve {
    /// #     const NAME: &'static str = "reserve"; type Role = Store; type Input = u32; type Output = u32;
    /// #     fn commit(&self, _: &mut State<'_>, books: &u32) -> Result<u32, Abort> {
    /// #         (*books <= 10).then_some(books * 25).ok_or(Abort::new("sold-out", "there are ten"))
    /// #     }
    /// #     fn compensate(&self, _: &mut State<'_>, _: &u32, _: &u32) -> Result<(), Retry> { Ok(()) }
    /// # }
    /// # struct Sale;
    /// # impl Choreography for Sale {
    /// #     const NAME: &'static str = "sale"; type Roles = (Client, Many<Store>);
    /// #     type Input = At<Client, Vec<u32>>; type Output = At<Client, u32>;
    /// /// Buys some books at each store, or none at all.
    /// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Client, Vec<u32>>) -> Result<At<Client, u32>, Abort> {
    ///     let books = ctx.scatter(Client, Store, &books).await?;
    ///     let prices = ctx.transact_each(Reserve, &books).await?; // `Reserve` refuses more than ten books.
    ///     let prices = ctx.gather_each(Store, Client, &prices).await?;
    ///     Ok(ctx.locally(Client, |client| client.get(&prices).iter().sum()))
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let two = Services::new().members(Store, 2);
    /// assert_eq!(run_local(Sale, vec![3, 1], &two).await, Ok(100));
    /// assert_eq!(run_local(Sale, vec![3, 11], &two).await.unwrap_err().code(), "sold-out");
    /// assert_eq!(run_local(Sale, vec![3], &two).await.unwrap_err().code(), Abort::SCATTER);
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn transact_each<S: Step<M>, M, I>(
        &self,
        step: S,
        inputs: &Each<S::Role, S::Input>,
    ) -> impl Future<Output = Result<Each<S::Role, S::Output>, Abort>> + Send + use<S, M, I, Roles>
    where
        Roles: Has<Many<S::Role>, I>,
    {
        let (engine, path, input) = (
            self.engine.clone(),
            self.called(Call::Step { role: S::Role::NAME, name: step.name() }),
            inputs.own().share(),
        );
        async move {
            let Some(number) = engine.number() else { return Ok(Each::absent()) };
            let path = path.child(u32::from(number));
            match engine.step(&path, engine.role(), step, input).await {
                Some(Err(refusal)) => engine.abort(&path, &refusal).await,
                Some(Ok((output, bytes))) => Ok(engine.at_own_member(|_| Some(Held::read(output, bytes)))),
                None => Ok(Each::absent()),
            }
        }
    }

    /// Runs a part that one member of a role family takes, together with the single roles of `beside`. In it the
    /// member is the single role `R`, so everything that can be said about a role can be said about the member. The
    /// other roles continue at once. Otherwise it is a [`Context::conclave`].
    ///
    /// [`Context::members`] has an example. A part for all members at once is [`Context::for_each`].
    ///
    /// # Errors
    /// Whatever `part` returns, at the roles that take it.
    pub fn with_member<R: Role, Sub: Beside, T: Absent, F, I, J>(
        &self,
        member: FamilyMember<R>,
        _beside: Sub,
        part: F,
    ) -> impl Future<Output = Result<T, Abort>> + use<R, Sub, T, F, I, J, Roles>
    where
        Roles: Has<Many<R>, I> + Includes<Sub, J>,
        F: AsyncFnOnce(&Context<Sub::With<R>>) -> Result<T, Abort>,
    {
        let (engine, path) =
            (self.engine.clone(), self.called(Call::scoped::<Sub::With<R>>(Scope::Member(member.index()))));
        async move {
            engine.require_member(&path, member).await;
            match part_of::<Sub::With<R>, R>(&engine, path, member) {
                Some(ctx) => part(&ctx).await,
                None => Ok(T::absent()),
            }
        }
    }

    /// Runs a part for each member of a role family, side by side: a [`Context::with_member`] for each of them. The
    /// part's result is located at the member; an `Err` aborts the session, or the [`Context::saga`] around the call,
    /// at once.
    ///
    /// ```
    /// # use accompanist_core::*;
    /// # #[derive(Clone, Copy)] struct Client;
    /// # impl Role for Client { const NAME: &'static str = "client"; type Service = (); }
    /// # #[derive(Clone, Copy)] struct Worker;
    /// # impl Role for Worker { const NAME: &'static str = "worker"; type Service = (); }
    /// # struct Ask;
    /// # impl Choreography for Ask {
    /// #     const NAME: &'static str = "ask"; type Roles = (Client, Many<Worker>);
    /// #     type Input = At<Client, u32>; type Output = At<Client, Vec<u32>>;
    /// /// Each worker asks the client for more while it has less than its number.
    /// async fn run(&self, ctx: &Context<Self::Roles>, gift: At<Client, u32>) -> Result<At<Client, Vec<u32>>, Abort> {
    ///     let each = ctx.for_each(Worker, (Client,), async |ctx, member| {
    ///         let mut has = ctx.locally(Worker, |_| 0);
    ///         loop {
    ///             let needs = ctx.locally(Worker, |worker| (*worker.get(&has) as usize) < member.number());
    ///             if !ctx.broadcast(Worker, &needs).await? { // The client and this worker know it.
    ///                 return Ok(has);
    ///             }
    ///             let more = ctx.comm(Client, Worker, &gift).await?;
    ///             has = ctx.locally(Worker, |worker| worker.get(&has) + worker.get(&more));
    ///         }
    ///     });
    ///     ctx.gather_each(Worker, Client, &each.await?).await
    /// }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// assert_eq!(run_local(Ask, 2, &Services::new().members(Worker, 4)).await, Ok(vec![0, 2, 2, 4]));
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn for_each<R: Role, Sub: Beside, T, F, I, J>(
        &self,
        _role: R,
        _beside: Sub,
        part: F,
    ) -> impl Future<Output = Result<Each<R, T>, Abort>> + use<R, Sub, T, F, I, J, Roles>
    where
        Roles: Has<Many<R>, I> + Includes<Sub, J>,
        // Not an `AsyncFn`: the future of a capturing one could not be proved `Send` for the program's.
        F: AsyncFnOnce(&Context<Sub::With<R>>, FamilyMember<R>) -> Result<At<R, T>, Abort> + Clone,
    {
        let (engine, path) = (self.engine.clone(), self.called(Call::scoped::<Sub::With<R>>(Scope::EachMember)));
        async move {
            let parts = FamilyMembers::<R>::new(engine.members()).filter_map(|member| {
                let path = path.child(u32::from(member.index()));
                let ctx = part_of::<Sub::With<R>, R>(&engine, path.clone(), member)?;
                let (part, engine) = (part.clone(), &engine);
                Some(async move {
                    let value = match part(&ctx, member).await {
                        Ok(value) => value,
                        Err(abort) => engine.abort(&path, &abort).await,
                    };
                    (engine.number() == Some(member.index())).then_some(value)
                })
            });
            let own = join_all(parts).await.into_iter().flatten().next();
            Ok(own.map_or_else(Each::absent, |own| Each::new(engine.number(), own)))
        }
    }
}

impl Engine {
    /// Returns the value at each member, of which `value` makes the one of the member played here.
    fn at_own_member<R: Role, T>(&self, value: impl FnOnce(u8) -> Option<Held<T>>) -> Each<R, T> {
        let number = self.number();
        Each::new(number, At::held(number.and_then(value)))
    }

    /// Stops the instance if the session has no such member: then the handle is of another session.
    async fn require_member<R: Role>(&self, path: &Path, member: FamilyMember<R>) {
        if member.index() >= self.members() {
            let members = self.members();
            self.instance().has_no_member(path.clone(), member.to_string(), members);
            std::future::pending::<()>().await;
        }
    }
}

/// Returns the context of a part that `member` takes as a single role, if this role takes part in it.
fn part_of<Roles: RoleSet, R: Role>(
    engine: &Arc<Engine>,
    path: Path,
    member: FamilyMember<R>,
) -> Option<Context<Roles>> {
    let member = engine.member(member.index());
    let roles = engine.indices_of(names_of::<Roles>(), Some(member));
    roles.contains(&engine.role()).then(|| Context::within(engine.clone(), path, Some(member)))
}

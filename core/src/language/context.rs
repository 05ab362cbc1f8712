//! The operations of a choreography, as the program calls them.
//!
//! Each operation takes its path when it is called, and then performs the part of this role. This module says what
//! each part is; [`crate::machine`] says how it is recorded and sent. Tuple operations are in [`crate::language::group`];
//! `scopes` has sagas and loops; `signals` has time, signals and views.

mod scopes;
mod signals;

#[cfg(feature = "testing")]
pub(crate) use signals::is_timer;

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::base::abort::Abort;
use crate::base::id::{Path, SessionId};
use crate::base::located::{Absent, At, Held, Local};
use crate::base::message::Message;
use crate::base::role::{Has, Includes, Role, RoleSet};
use crate::frame::Operation;
use crate::language::engine::Engine;
use crate::language::group::{Gather, Targets};
use crate::step::Step;

/// Counts the operations of one scope.
struct Scope {
    path: Path,
    next: AtomicU32,
}

/// The interface that a choreography runs against. The roles that take part are its type parameter.
///
/// A context is one scope of operations. Operations that run side by side (in `tokio::try_join!`) within `async`
/// blocks take a [`Context::fork`] each. Never `select!` over operations, because which one wins is chance.
pub struct Context<Roles> {
    engine: Arc<Engine>,
    scope: Scope,
    roles: PhantomData<fn() -> Roles>,
}

impl<Roles> std::fmt::Debug for Context<Roles> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context({} at {:?})", self.engine.session(), self.scope.path)
    }
}

impl<Roles: RoleSet> Context<Roles> {
    pub(crate) fn new(engine: Arc<Engine>, path: Path) -> Self {
        Self { engine, scope: Scope { path, next: AtomicU32::new(0) }, roles: PhantomData }
    }

    /// Takes the next path, for the operation that is being called. Every role counts every operation, so all roles
    /// assign the same path.
    fn take_path(&self) -> Path {
        let path = self.scope.path.child(self.scope.next.fetch_add(1, Ordering::Relaxed));
        if path.depth() > Path::DEPTH_MAX {
            self.engine.instance().is_too_deep();
        }
        self.engine.note_call(&path);
        path
    }

    /// The session id, the same at every role.
    pub fn session(&self) -> SessionId {
        self.engine.session()
    }

    /// Whether this session runs with `patch`, one of [`Choreography::PATCHES`]. A session runs with a patch if every
    /// node of its cast advertised the patch when the session was started, so the answer is the same at every role
    /// and on every replay. The call takes no path: it may be made anywhere, any number of times.
    ///
    /// ```
    /// # use accompanist_core::{Abort, At, Choreography, Context, Role, Services, run_local};
    /// # #[derive(Clone, Copy)] struct Asker;
    /// # #[derive(Clone, Copy)] struct Doubler;
    /// # impl Role for Asker { const NAME: &'static str = "asker"; type Service = (); }
    /// # impl Role for Doubler { const NAME: &'static str = "doubler"; type Service = (); }
    /// struct Double;
    /// impl Choreography for Double {
    ///     const NAME: &'static str = "double";
    ///     const PATCHES: &'static [&'static str] = &["check-first"];
    /// #   type Roles = (Asker, Doubler);
    /// #   type Input = At<Asker, u32>;
    /// #   type Output = At<Asker, u32>;
    ///     // ..
    ///     async fn run(&self, ctx: &Context<Self::Roles>, n: At<Asker, u32>) -> Result<At<Asker, u32>, Abort> {
    ///         if ctx.patched("check-first") {
    ///             let small = ctx.locally(Asker, |here| *here.get(&n) < 1_000);
    ///             if !ctx.broadcast(Asker, &small).await? {
    ///                 return ctx.abort(Abort::new("too-large", "1000 or more")).await;
    ///             }
    ///         }
    ///         // ..
    /// #       let n = ctx.comm(Asker, Doubler, &n).await?;
    /// #       let doubled = ctx.locally(Doubler, |here| here.get(&n) * 2);
    /// #       ctx.comm(Doubler, Asker, &doubled).await
    ///     }
    /// }
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// # assert_eq!(run_local(Double, 1_000, &Services::new()).await.unwrap_err().code(), "too-large");
    /// # });
    /// ```
    ///
    /// To retire a patch, raise [`Choreography::VERSION`]. The new version has only the new branch, and its PATCHES
    /// are empty again; the old version stays unchanged, with both branches, until its sessions have ended. Removing
    /// a patch from the PATCHES of its own version stops the sessions that run with it.
    ///
    /// Asking for a `patch` that is not among the PATCHES is a mistake, and stops the instance.
    ///
    /// [`Choreography::PATCHES`]: crate::Choreography::PATCHES
    /// [`Choreography::VERSION`]: crate::Choreography::VERSION
    pub fn patched(&self, patch: &str) -> bool {
        self.engine.patched(patch)
    }

    /// Sends a value from `from` to `to`.
    ///
    /// # Errors
    /// Returns an [`Abort`] that a part of the program returned. When the session itself is aborted (by another role,
    /// a refused step, or a message over the size limit), no operation returns any more: the program is dropped where
    /// it waits, and its committed steps are compensated.
    pub fn comm<A: Role, B: Role, T: Message, I, J>(
        &self,
        _from: A,
        _to: B,
        value: &At<A, T>,
    ) -> impl Future<Output = Result<At<B, T>, Abort>> + Send + use<A, B, T, I, J, Roles>
    where
        Roles: Has<A, I> + Has<B, J>,
    {
        let (engine, path, value) = (self.engine.clone(), self.take_path(), value.share());
        async move {
            if A::NAME == B::NAME {
                return Ok(At::held(value));
            }
            let value = engine.distribute(&path, Operation::Comm, A::NAME, &[B::NAME], value).await;
            Ok(At::held(value.filter(|_| engine.plays(B::NAME))))
        }
    }

    /// Sends a value from `from` to each role of `to`.
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn multicast<A: Role, To: Targets, T: Message, I, J>(
        &self,
        _from: A,
        _to: To,
        value: &At<A, T>,
    ) -> impl Future<Output = Result<To::Located<T>, Abort>> + Send + use<A, To, T, I, J, Roles>
    where
        Roles: Has<A, I> + Includes<To, J>,
    {
        let (engine, path, value) = (self.engine.clone(), self.take_path(), value.share());
        async move {
            let value = engine.distribute(&path, Operation::Multicast, A::NAME, To::NAMES, value).await;
            Ok(To::locate(value, engine.role()))
        }
    }

    /// Sends a value from `from` to all roles of this context, so that all of them may branch on it.
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn broadcast<A: Role, T: Message, I>(
        &self,
        _from: A,
        value: &At<A, T>,
    ) -> impl Future<Output = Result<T, Abort>> + Send + use<A, T, I, Roles>
    where
        Roles: Has<A, I>,
    {
        let (engine, path, value) = (self.engine.clone(), self.take_path(), value.share());
        async move { Ok(engine.broadcast(&path, A::NAME, Roles::NAMES, value).await) }
    }

    /// Sends the value of each role of `from` to `to`, which receives them in the order of the roles, whatever the
    /// order of arrival.
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn gather<From: RoleSet, C: Role, V: Gather<From>, I, J>(
        &self,
        _from: From,
        _to: C,
        values: V,
    ) -> impl Future<Output = Result<At<C, V::Values>, Abort>> + Send + use<From, C, V, I, J, Roles>
    where
        Roles: Includes<From, I> + Has<C, J>,
    {
        let (engine, path, values) = (self.engine.clone(), self.take_path(), values.share());
        async move { Ok(At::held(V::gather(&engine, &path, C::NAME, values).await.map(Held::new))) }
    }

    /// Computes a value at `role`. The closure runs again on replay, so it must be a pure function.
    pub fn locally<R: Role, T, I>(&self, _role: R, compute: impl Fn(&Local<R>) -> T) -> At<R, T>
    where
        Roles: Has<R, I>,
    {
        let path = self.take_path();
        At::held(self.engine.local::<R>(&path).map(|here| Held::new(compute(&here))))
    }

    /// Runs something non-deterministic at `role` (reading a clock, an HTTP request) and records the result; a replay
    /// uses the record. The closure may run more than once if a crash comes before the record is written, so it must
    /// change nothing outside. For changes outside, use [`Context::transact`].
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn effect<R: Role, T: Message, F, I>(
        &self,
        _role: R,
        name: &'static str,
        observe: F,
    ) -> impl Future<Output = Result<At<R, T>, Abort>> + use<R, T, F, I, Roles>
    where
        Roles: Has<R, I>,
        F: AsyncFnOnce(&Local<R>) -> T,
    {
        let (engine, path) = (self.engine.clone(), self.take_path());
        async move {
            let Some(here) = engine.local::<R>(&path) else { return Ok(At::held(None)) };
            if let Some(recorded) = engine.observed(&path, name).await {
                return Ok(At::held(Some(recorded)));
            }
            let value = engine.as_effect(observe(&here)).await;
            Ok(At::held(Some(engine.observe(&path, name, &value).await)))
        }
    }

    /// Runs a saga step at its role. A refusal aborts the session, or the [`Context::saga`] around the call.
    ///
    /// # Errors
    /// As [`Context::comm`].
    pub fn transact<S: Step<M>, M, I>(
        &self,
        step: S,
        input: &At<S::Role, S::Input>,
    ) -> impl Future<Output = Result<At<S::Role, S::Output>, Abort>> + Send + use<S, M, I, Roles>
    where
        Roles: Has<S::Role, I>,
    {
        let (engine, path, input) = (self.engine.clone(), self.take_path(), input.share());
        async move {
            match engine.step(&path, step, input).await {
                Some(Err(refusal)) => engine.abort(&path, &refusal).await,
                Some(Ok((output, bytes))) => Ok(At::held(Some(Held::read(output, bytes)))),
                None => Ok(At::held(None)),
            }
        }
    }

    /// Runs a saga step whose refusal is a value. Broadcast that value to branch on it.
    ///
    /// # Errors
    /// As [`Context::comm`].
    #[expect(clippy::type_complexity, reason = "it is what the step gives, located")]
    pub fn try_transact<S: Step<M>, M, I>(
        &self,
        step: S,
        input: &At<S::Role, S::Input>,
    ) -> impl Future<Output = Result<At<S::Role, Result<S::Output, Abort>>, Abort>> + Send + use<S, M, I, Roles>
    where
        Roles: Has<S::Role, I>,
    {
        let (engine, path, input) = (self.engine.clone(), self.take_path(), input.share());
        async move {
            let Some(ended) = engine.step(&path, step, input).await else { return Ok(At::held(None)) };
            // The recorded bytes are those of the output alone, not of the enclosing `Result`, so they are not passed
            // on.
            Ok(At::here(ended.map(|(output, _)| output)))
        }
    }

    /// Runs a part that only some roles take. The other roles continue at once.
    ///
    /// # Errors
    /// Whatever `part` returns, at the roles that take it.
    pub fn conclave<Sub: RoleSet, T: Absent, F, I>(
        &self,
        _roles: Sub,
        part: F,
    ) -> impl Future<Output = Result<T, Abort>> + use<Sub, T, F, I, Roles>
    where
        Roles: Includes<Sub, I>,
        F: AsyncFnOnce(&Context<Sub>) -> Result<T, Abort>,
    {
        let (engine, path) = (self.engine.clone(), self.take_path());
        async move {
            if !Sub::NAMES.contains(&engine.role()) {
                return Ok(T::absent());
            }
            let ctx = Context::<Sub>::new(engine, path);
            part(&ctx).await
        }
    }

    /// Returns a separate scope, for operations that run side by side.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::new(self.engine.clone(), self.take_path())
    }

    /// Aborts the session for all roles, or the [`Context::saga`] that the call is made in. The committed steps are
    /// compensated. Every role that reaches the call aborts, so branch on a broadcast value first.
    ///
    /// # Errors
    /// The returned future never completes, so that chance does not decide where branches that run beside it are cut
    /// off; the program is dropped where it waits. The result type allows `return ctx.abort(..).await`.
    pub fn abort<T>(&self, abort: Abort) -> impl Future<Output = Result<T, Abort>> + Send + use<T, Roles> {
        let (engine, path) = (self.engine.clone(), self.take_path());
        async move { engine.abort(&path, &abort).await }
    }
}

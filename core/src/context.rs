//! The operations of a choreography, as the program calls them.
//!
//! Each takes its path when it is called, and then does this role's part of it. What a part is, is said here;
//! how it is recorded and sent, in [`crate::instance`]. Tuple operations are in [`crate::group`]; `scopes` has
//! sagas and loops, `outside` time, signals and views.

mod outside;
mod scopes;

#[cfg(feature = "testing")]
pub(crate) use outside::is_timer;

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::abort::Abort;
use crate::choreography::Step;
use crate::engine::Engine;
use crate::frame::Operation;
use crate::group::{Gather, Targets};
use crate::id::{Path, SessionId};
use crate::located::{Absent, At, Held, Local};
use crate::message::Message;
use crate::role::{Has, Includes, Role, RoleSet};

/// Counts the operations of one scope.
struct Scope {
    path: Path,
    next: AtomicU32,
}

/// What a choreography runs against, with the roles that take part as a type.
///
/// A context is one scope of operations. Operations that run side by side (in `tokio::try_join!`) within `async`
/// blocks take a [`Context::fork`] each; never `select!` over operations, since which one wins is chance.
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

    /// The path of the operation that is being called. All roles count alike.
    fn take_path(&self) -> Path {
        let path = self.scope.path.child(self.scope.next.fetch_add(1, Ordering::Relaxed));
        if path.depth() > Path::DEPTH_MAX {
            self.engine.instance().is_too_deep();
        }
        self.engine.note_call(&path);
        path
    }

    /// The session, the same at every role.
    pub fn session(&self) -> SessionId {
        self.engine.session()
    }

    /// Whether this session runs with the small change `patch`, one of [`Choreography::PATCHES`]. It does if every node
    /// of its cast offered the patch when it was started; so the answer is the same at every role, and on every replay.
    /// Takes no path: it may be asked anywhere, any number of times.
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
    /// To retire a patch, raise [`Choreography::VERSION`]: the new version has the new branch alone, and its PATCHES are
    /// empty again; the old one stays as it is, with both branches, until its sessions have ended. A patch that is
    /// taken out of the PATCHES of its own version makes the sessions that run with it stand still.
    ///
    /// A `patch` that is not among the PATCHES is a mistake, and makes the instance stand still.
    ///
    /// [`Choreography::PATCHES`]: crate::Choreography::PATCHES
    /// [`Choreography::VERSION`]: crate::Choreography::VERSION
    pub fn patched(&self, patch: &str) -> bool {
        self.engine.patched(patch)
    }

    /// `from` sends a value, `to` receives it.
    ///
    /// # Errors
    /// An [`Abort`] that a part of the program returned. When the session itself is aborted (by another role, a
    /// refused step, a message over the size limit), no operation returns any more: the program is dropped where
    /// it waits, and what it committed is compensated.
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

    /// `from` sends a value to each role of `to`.
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

    /// `from` tells a value to all roles here, so that all may branch on it.
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

    /// Each role of `from` sends its value to `to`, which gets them in the order of the roles, whichever
    /// arrives first.
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

    /// Computes at `role`. Runs again on replay, so it has to be a pure function.
    pub fn locally<R: Role, T, I>(&self, _role: R, compute: impl Fn(&Local<R>) -> T) -> At<R, T>
    where
        Roles: Has<R, I>,
    {
        let path = self.take_path();
        At::held(self.engine.local::<R>(&path).map(|here| Held::new(compute(&here))))
    }

    /// Does something that is not deterministic at `role` (asks a clock, reads over HTTP) and records what came
    /// out; a replay takes the record. It may run more than once when a crash comes before the record, so it
    /// must change nothing outside: that is what [`Context::transact`] is for.
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

    /// A saga step at its role. A refusal aborts the session.
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

    /// A saga step whose refusal is a value: broadcast it to branch on it.
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
            // The bytes are those of the output alone, not of the result that it is in.
            Ok(At::here(ended.map(|(output, _)| output)))
        }
    }

    /// A part that only some roles take; the others go on at once.
    ///
    /// # Errors
    /// What `part` returns, at the roles that take it.
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

    /// A scope of its own, for operations that run side by side.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::new(self.engine.clone(), self.take_path())
    }

    /// Ends the session for all roles, or the [`Context::saga`] that it is called in: what was committed is
    /// compensated. Every role that comes by aborts, so branch on a broadcast value before.
    ///
    /// # Errors
    /// Its future never ends, so that branches which run beside it are not cut off at chance; the program is
    /// dropped where it waits. The result's type is for `return ctx.abort(..).await`.
    pub fn abort<T>(&self, abort: Abort) -> impl Future<Output = Result<T, Abort>> + Send + use<T, Roles> {
        let (engine, path) = (self.engine.clone(), self.take_path());
        async move { engine.abort(&path, &abort).await }
    }
}

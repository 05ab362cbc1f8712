//! The engine behind a context: the instance under a lock, and the facts about its role.
//!
//! The engine turns typed values into bytes and names into indices. No lock is held across an await, and no user code
//! runs under a lock.

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll};

use smallvec::SmallVec;

use crate::base::abort::Abort;
use crate::base::id::{IdempotencyKey, InstanceId, Path, RoleIndex, SessionId};
use crate::base::located::{Held, Local, Service};
use crate::base::message::{
    CodecError, Fingerprint, Message, Payload, decode, encode, encode_and_read, encode_repeatable,
};
use crate::base::role::Role;
use crate::base::role_names::{RoleNames, role_name};
use crate::base::uses;
use crate::contract::Environment;
use crate::frame::Operation;
use crate::language::call::{self, Call};
use crate::language::value_of::ValueOf;
use crate::machine::Machine;
use crate::step::Step;

/// Indices of roles, in the order of their names.
pub(crate) type Indices = SmallVec<[RoleIndex; 12]>;

/// One role's end of a session, shared between its program and the driver.
#[doc(hidden)]
pub struct Engine {
    role: RoleIndex,
    names: RoleNames,
    /// The number of members of the role family.
    members: u8,
    patches: &'static [&'static str],
    session: SessionId,
    service: Service,
    environment: Arc<dyn Environment>,
    instance: Mutex<Machine>,
    /// The number of running effects.
    effects: AtomicUsize,
    /// The operation that the program has called last.
    latest: Mutex<Option<(Path, Call)>>,
    /// The first operation that the program has dropped while it waited, although what it is a part of goes on.
    abandoned: Mutex<Option<Path>>,
}

/// The wait of an operation. Dropping it removes the wait, so that no role is asked for what the operation waited
/// for.
struct Waits<'a> {
    engine: &'a Engine,
    at: Option<Path>,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.at.take() {
            self.engine.instance().forget_waiting(&path);
            self.engine.abandoned.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(path);
        }
    }
}

impl Engine {
    pub(crate) fn new(
        names: RoleNames,
        patches: &'static [&'static str],
        service: Service,
        environment: Arc<dyn Environment>,
        instance: Machine,
    ) -> Self {
        let InstanceId { session, role } = instance.id();
        Self {
            role,
            names,
            members: names.members_in(instance.header().cast.len()).unwrap_or_default(),
            patches,
            session,
            service,
            environment,
            instance: Mutex::new(instance),
            effects: AtomicUsize::new(0),
            latest: Mutex::default(),
            abandoned: Mutex::default(),
        }
    }

    pub(crate) fn instance(&self) -> MutexGuard<'_, Machine> {
        // A panic under the lock can only come from the layers below; the actor it belongs to is restarted from its
        // records.
        self.instance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the program calls the operation `path`.
    pub(crate) fn note_call(&self, path: &Path, called: Call) {
        call::called(self.role, path, &called);
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some((path.clone(), called));
    }

    /// The operation that the program has called last.
    pub(crate) fn latest_call(&self) -> Option<(Path, Call)> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the operation that was dropped while it waited, if there was one since the last call.
    pub(crate) fn take_abandoned(&self) -> Option<Path> {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns the text that reports a panic of the program.
    pub(crate) fn program_panicked(&self, panic: &str) -> String {
        let role = role_name(self.names, self.role);
        match self.latest_call() {
            None => format!("the program panicked at role {role}, before its first operation: {panic}"),
            Some((path, _)) => {
                format!("the program panicked at role {role}, in or after its operation {path}: {panic}")
            }
        }
    }

    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    /// The role that is played here.
    pub(crate) fn role(&self) -> RoleIndex {
        self.role
    }

    pub(crate) fn plays(&self, role: RoleIndex) -> bool {
        self.role == role
    }

    /// The number of the role played here among the members of the family, if it is one of them.
    pub(crate) fn number(&self) -> Option<u8> {
        self.names.number_of(self.role)
    }

    /// The number of members of the role family.
    pub(crate) fn members(&self) -> u8 {
        self.members
    }

    /// The index of a member of the role family.
    pub(crate) fn member(&self, number: u8) -> RoleIndex {
        self.names.member(number)
    }

    /// The indices of all members of the role family.
    pub(crate) fn family(&self) -> impl Iterator<Item = RoleIndex> + use<> {
        let names = self.names;
        (0..self.members).map(move |number| names.member(number))
    }

    pub(crate) fn environment(&self) -> &dyn Environment {
        self.environment.as_ref()
    }

    /// Whether the session runs with `patch`.
    pub(crate) fn patched(&self, patch: &str) -> bool {
        self.instance().is_patched(patch, self.patches)
    }

    /// The index of the single role of this name. In a context in which one `member` of the family is the only one,
    /// the name of the family stands for that member.
    pub(crate) fn index_of(&self, role: &str, member: Option<RoleIndex>) -> RoleIndex {
        // The compiler has checked that the role is among the names.
        self.names.index_of(role).or(member).unwrap_or(RoleIndex(u8::MAX))
    }

    /// The indices of the roles of these names: of the single roles, then of the members of the family.
    pub(crate) fn indices_of(&self, names: RoleNames, member: Option<RoleIndex>) -> Indices {
        let single = names.single().iter().map(|name| self.index_of(name, member));
        single.chain(names.family().into_iter().flat_map(|_| self.family())).collect()
    }

    /// Returns access to `role`, which is of kind `R`, if it is played here.
    pub(crate) fn local<R: Role>(&self, path: &Path, role: RoleIndex) -> Option<Local<R>> {
        if !self.plays(role) {
            return None;
        }
        let Some(service) = self.service.get::<R>() else {
            self.instance().lacks_service(R::NAME);
            return None;
        };
        Some(Local::new(service, IdempotencyKey { session: self.session, path: path.clone() }))
    }

    pub(crate) fn poll<'a, T: Send + 'a>(
        &'a self,
        mut ask: impl FnMut(&mut Machine, &TaskContext<'_>) -> Poll<T> + Send + 'a,
    ) -> impl Future<Output = T> + Send + 'a {
        let mut waits = Waits { engine: self, at: None };
        poll_fn(move |cx| {
            let mut instance = self.instance();
            let answer = ask(&mut instance, cx);
            // An operation whose limit is over has begun to wait once more before it was answered.
            let (over, at) = match (&answer, instance.take_waits_at()) {
                (Poll::Ready(_), over) => (over, None),
                (Poll::Pending, at) => (None, at),
            };
            if let Some(path) = &over {
                instance.forget_waiting(path);
            }
            let before = std::mem::replace(&mut waits.at, at);
            before.filter(|before| waits.at.as_ref() != Some(before)).inspect(|before| instance.forget_waiting(before));
            answer
        })
    }

    /// Stops the instance, because a recorded or received value cannot be decoded. Never returns.
    pub(crate) async fn cannot_read<T>(&self, path: &Path, of: ValueOf<'_>, error: &CodecError) -> T {
        self.instance().cannot_use(path.clone(), of.to_string(), error.to_string());
        std::future::pending().await
    }

    /// Aborts, because a value cannot be sent or recorded. Nothing has been done with it yet. Never returns.
    pub(crate) async fn cannot_write<T>(&self, path: &Path, error: &CodecError) -> T {
        self.instance().refuse_value(path, error);
        std::future::pending().await
    }

    /// Encodes a value that is encoded only once.
    pub(crate) async fn encoded<T: Message>(&self, path: &Path, value: &T) -> Payload {
        match encode(value) {
            Ok(bytes) => bytes.into(),
            Err(error) => self.cannot_write(path, &error).await,
        }
    }

    /// Encodes a value for which every replay must produce the same bytes: with the bytes it was received in, or else
    /// with an encoding that is the same each time.
    async fn repeatable<T: Message>(&self, path: &Path, held: &Held<T>) -> Payload {
        match &held.bytes {
            Some(bytes) => bytes.clone(),
            None => self.encoded_repeatably(path, &*held.value).await,
        }
    }

    /// What a message is for errors: a value of `operation` that `from` sends.
    pub(crate) fn message_of(&self, operation: Operation, from: RoleIndex) -> ValueOf<'static> {
        ValueOf::Message(operation, from, self.names)
    }

    /// Encodes a part of a value that is encoded again on every replay.
    pub(crate) async fn encoded_repeatably<T: Message>(&self, path: &Path, value: &T) -> Payload {
        match encode_repeatable(value) {
            Ok(bytes) => bytes.into(),
            Err(error) => self.cannot_write(path, &error).await,
        }
    }

    pub(crate) async fn decoded<T: Message>(&self, path: &Path, of: ValueOf<'_>, payload: &Payload) -> T {
        match decode(payload.as_slice()) {
            Ok(value) => value,
            Err(error) => self.cannot_read(path, of, &error).await,
        }
    }

    pub(crate) async fn held<T: Message>(&self, path: &Path, of: ValueOf<'_>, payload: Payload) -> Held<T> {
        Held::read(self.decoded(path, of, &payload).await, payload)
    }

    /// Whether effects are running, which the instance does not know of.
    pub(crate) fn has_effects(&self) -> bool {
        self.effects.load(Ordering::SeqCst) > 0
    }

    /// Counts `future` as a running effect until it completes or is dropped.
    pub(crate) async fn as_effect<T>(&self, future: impl Future<Output = T>) -> T {
        struct UnderWay<'a>(&'a AtomicUsize);
        impl Drop for UnderWay<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.effects.fetch_add(1, Ordering::SeqCst);
        let _under_way = UnderWay(&self.effects);
        future.await
    }

    /// Sends to each of `to` except this role.
    pub(crate) async fn send(&self, path: &Path, operation: Operation, to: &[RoleIndex], payload: &Payload) {
        for to in to.iter().copied().filter(|role| !self.plays(*role)) {
            self.poll(|instance, cx| instance.poll_send(cx, path, operation, to, payload)).await;
        }
    }

    pub(crate) async fn receive<T: Message>(&self, path: &Path, operation: Operation, from: RoleIndex) -> Held<T> {
        let of = self.message_of(operation, from);
        let payload = self.poll(|instance, cx| instance.poll_receive(cx, path, operation, from)).await;
        self.held(path, of, payload).await
    }

    /// Like [`Engine::receive`], for a value that the program gets without its bytes.
    pub(crate) async fn hear<T: Message>(&self, path: &Path, operation: Operation, from: RoleIndex) -> T {
        let of = self.message_of(operation, from);
        let payload = self.poll(|instance, cx| instance.poll_receive(cx, path, operation, from)).await;
        self.decoded(path, of, &payload).await
    }

    /// Sends a value from `from` to all of `to`. Returns it at these roles.
    pub(crate) async fn distribute<T: Message>(
        &self,
        path: &Path,
        operation: Operation,
        from: RoleIndex,
        to: &[RoleIndex],
        held: Option<Held<T>>,
    ) -> Option<Held<T>> {
        match held.filter(|_| self.plays(from)) {
            Some(held) => {
                let payload = self.repeatable(path, &held).await;
                self.send(path, operation, to, &payload).await;
                Some(held)
            }
            None if to.contains(&self.role) => {
                let held = self.receive(path, operation, from).await;
                uses::received(path, self.names.provided_as(from).unwrap_or_default(), &held.value);
                Some(held)
            }
            None => None,
        }
    }

    pub(crate) async fn broadcast<T: Message>(
        &self,
        path: &Path,
        from: RoleIndex,
        to: &[RoleIndex],
        held: Option<Held<T>>,
    ) -> T {
        let Some(held) = held.filter(|_| self.plays(from)) else {
            return self.hear(path, Operation::Broadcast, from).await;
        };
        let payload = self.repeatable(path, &held).await;
        self.send(path, Operation::Broadcast, to, &payload).await;
        // The sender reads the value back, so that it continues with exactly what the others receive.
        self.decoded(path, self.message_of(Operation::Broadcast, from), &payload).await
    }

    pub(crate) async fn contribute<T: Message>(
        &self,
        path: &Path,
        from: RoleIndex,
        to: RoleIndex,
        held: Option<&Held<T>>,
    ) {
        if let Some(held) = held.filter(|_| self.plays(from)) {
            let payload = self.repeatable(path, held).await;
            self.send(path, Operation::Gather, &[to], &payload).await;
        }
    }

    pub(crate) async fn collect<T: Message>(&self, path: &Path, from: RoleIndex, own: Option<&Held<T>>) -> T {
        match own.filter(|_| self.plays(from)) {
            Some(held) => {
                let payload = self.repeatable(path, held).await;
                self.decoded(path, self.message_of(Operation::Gather, from), &payload).await
            }
            None => self.hear(path, Operation::Gather, from).await,
        }
    }

    pub(crate) async fn observed<T: Message>(&self, path: &Path, name: &str) -> Option<Held<T>> {
        match self.poll(|instance, cx| instance.poll_observed(cx, path, name)).await {
            Some(payload) => Some(self.held(path, ValueOf::Effect(name), payload).await),
            None => None,
        }
    }

    /// Records `value`, and returns it as a replay will read it.
    pub(crate) async fn observe<T: Message>(&self, path: &Path, name: &str, value: &T) -> Held<T> {
        match encode_and_read(value) {
            Ok((bytes, value)) => {
                let payload = Payload::from(bytes);
                self.instance().observe(path, name, payload.clone());
                Held::read(value, payload)
            }
            Err(error) => self.cannot_write(path, &error).await,
        }
    }

    /// Runs a saga step at its role. Returns `None` at the other roles.
    pub(crate) async fn step<S: Step<M>, M>(
        &self,
        path: &Path,
        role: RoleIndex,
        step: S,
        input: Option<Held<S::Input>>,
    ) -> Option<Result<(S::Output, Payload), Abort>> {
        let (Some(here), Some(input)) = (self.local::<S::Role>(path, role), input) else { return None };
        let fingerprint = Fingerprint::of(&self.repeatable(path, &input).await);
        let (name, step) = (step.name(), step.erase(here, input.value));
        self.instance().begin_step(path, name, fingerprint, step);
        match self.poll(|instance, cx| instance.poll_step(cx, path)).await {
            Ok(payload) => Some(Ok((self.decoded(path, ValueOf::Step(name), &payload).await, payload))),
            Err(refusal) => Some(Err(refusal)),
        }
    }

    /// Aborts the saga around `path`, or else the session. Never returns: the program is dropped here.
    pub(crate) async fn abort<T>(&self, path: &Path, abort: &Abort) -> T {
        self.instance().abort_at(path, abort);
        std::future::pending().await
    }
}

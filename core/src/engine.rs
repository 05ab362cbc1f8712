//! What a context talks to: the instance behind a lock, and the facts of its role.
//!
//! Turns typed values into bytes and names into indices. No lock is held across an await, and no code of the
//! user runs under one.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll};

use crate::abort::Abort;
use crate::choreography::Step;
use crate::contract::Environment;
use crate::id::{IdempotencyKey, Path, RoleIndex, SessionId};
use crate::instance::Instance;
use crate::located::{Local, Service};
use crate::message::{Message, Payload, decode, encode};
use crate::role::Role;

/// One role's end of a session, shared between its program and whoever drives it.
#[doc(hidden)]
pub struct Engine {
    role: &'static str,
    roles: &'static [&'static str],
    patches: &'static [&'static str],
    session: SessionId,
    service: Service,
    environment: Arc<dyn Environment>,
    instance: Mutex<Instance>,
}

impl Engine {
    pub(crate) fn new(
        role: &'static str,
        roles: &'static [&'static str],
        patches: &'static [&'static str],
        service: Service,
        environment: Arc<dyn Environment>,
        instance: Instance,
    ) -> Self {
        let session = instance.id().session;
        Self { role, roles, patches, session, service, environment, instance: Mutex::new(instance) }
    }

    pub(crate) fn instance(&self) -> MutexGuard<'_, Instance> {
        // A panic under the lock can only come from below; the actor it belongs to is restarted from its records.
        self.instance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    pub(crate) fn role(&self) -> &'static str {
        self.role
    }

    pub(crate) fn plays(&self, role: &str) -> bool {
        self.role == role
    }

    pub(crate) fn environment(&self) -> &dyn Environment {
        self.environment.as_ref()
    }

    /// Whether the session runs with `patch`.
    pub(crate) fn patched(&self, patch: &str) -> bool {
        self.instance().is_patched(patch, self.patches)
    }

    fn index_of(&self, role: &str) -> RoleIndex {
        // At most twelve names; the compiler has checked that the role is among them.
        let index = self.roles.iter().position(|name| *name == role).unwrap_or(usize::from(u8::MAX));
        RoleIndex(u8::try_from(index).unwrap_or(u8::MAX))
    }

    /// The right to act as `R`, if that is played here.
    pub(crate) fn local<R: Role>(&self, path: &Path) -> Option<Local<R>> {
        if !self.plays(R::NAME) {
            return None;
        }
        let Some(service) = self.service.get::<R>() else {
            self.instance().lacks_service(R::NAME);
            return None;
        };
        Some(Local::new(service, IdempotencyKey { session: self.session, path: path.clone() }))
    }

    fn poll<'a, T: Send + 'a>(
        &'a self,
        mut ask: impl FnMut(&mut Instance, &TaskContext<'_>) -> Poll<T> + Send + 'a,
    ) -> impl Future<Output = T> + Send + 'a {
        poll_fn(move |cx| ask(&mut self.instance(), cx))
    }

    /// Stands still, since `reason` makes it impossible to go on.
    async fn cannot_use<T>(&self, path: &Path, reason: String) -> T {
        self.instance().cannot_use(path.clone(), reason);
        std::future::pending().await
    }

    async fn encoded<T: Message>(&self, path: &Path, value: &T) -> Payload {
        match encode(value) {
            Ok(bytes) => bytes.into(),
            Err(error) => self.cannot_use(path, error.to_string()).await,
        }
    }

    async fn decoded<T: Message>(&self, path: &Path, payload: &Payload) -> T {
        match decode(payload.as_slice()) {
            Ok(value) => value,
            Err(error) => self.cannot_use(path, error.to_string()).await,
        }
    }

    pub(crate) async fn send<T: Message>(&self, path: &Path, to: &[&'static str], value: &T) -> Result<(), Abort> {
        let payload = self.encoded(path, value).await;
        self.send_payload(path, to, &payload).await
    }

    async fn send_payload(&self, path: &Path, to: &[&'static str], payload: &Payload) -> Result<(), Abort> {
        for role in to.iter().filter(|role| !self.plays(role)) {
            let to = self.index_of(role);
            self.poll(|instance, cx| instance.poll_send(cx, path, to, payload)).await?;
        }
        Ok(())
    }

    pub(crate) async fn receive<T: Message>(&self, path: &Path, from: &'static str) -> Result<T, Abort> {
        let from = self.index_of(from);
        let payload = self.poll(|instance, cx| instance.poll_receive(cx, path, from)).await?;
        Ok(self.decoded(path, &payload).await)
    }

    /// `from` sends to all of `to`; gives the value where it is to be.
    pub(crate) async fn distribute<T: Message>(
        &self,
        path: &Path,
        from: &'static str,
        to: &[&'static str],
        value: Option<Arc<T>>,
    ) -> Result<Option<Arc<T>>, Abort> {
        match value.filter(|_| self.plays(from)) {
            Some(value) => {
                self.send(path, to, &*value).await?;
                Ok(Some(value))
            }
            None if to.contains(&self.role) => Ok(Some(Arc::new(self.receive(path, from).await?))),
            None => Ok(None),
        }
    }

    pub(crate) async fn broadcast<T: Message>(
        &self,
        path: &Path,
        from: &'static str,
        to: &[&'static str],
        value: Option<Arc<T>>,
    ) -> Result<T, Abort> {
        let Some(value) = value.filter(|_| self.plays(from)) else { return self.receive(path, from).await };
        let payload = self.encoded(path, &*value).await;
        self.send_payload(path, to, &payload).await?;
        // Read back, so that the sender goes on with what the others got, to the bit.
        Ok(self.decoded(path, &payload).await)
    }

    pub(crate) async fn contribute<T: Message>(
        &self,
        path: &Path,
        from: &'static str,
        to: &'static str,
        value: Option<&T>,
    ) -> Result<(), Abort> {
        match value.filter(|_| self.plays(from)) {
            Some(value) => self.send(path, &[to], value).await,
            None => Ok(()),
        }
    }

    pub(crate) async fn collect<T: Message>(
        &self,
        path: &Path,
        from: &'static str,
        own: Option<&T>,
    ) -> Result<T, Abort> {
        match own.filter(|_| self.plays(from)) {
            Some(value) => {
                let payload = self.encoded(path, value).await;
                Ok(self.decoded(path, &payload).await)
            }
            None => self.receive(path, from).await,
        }
    }

    pub(crate) async fn observed<T: Message>(&self, path: &Path, name: &'static str) -> Result<Option<T>, Abort> {
        match self.poll(|instance, _| instance.poll_observed(path, name)).await? {
            Some(payload) => Ok(Some(self.decoded(path, &payload).await)),
            None => Ok(None),
        }
    }

    pub(crate) async fn observe<T: Message>(&self, path: &Path, name: &'static str, value: &T) -> Result<(), Abort> {
        let payload = self.encoded(path, value).await;
        self.instance().observe(path.clone(), name, payload);
        Ok(())
    }

    /// Records what `make` gives at `role`.
    pub(crate) async fn note<T: Message>(
        &self,
        path: &Path,
        role: &'static str,
        name: &'static str,
        make: impl Fn(&Self) -> T + Send,
    ) -> Result<Option<T>, Abort> {
        if !self.plays(role) {
            return Ok(None);
        }
        if let Some(recorded) = self.observed(path, name).await? {
            return Ok(Some(recorded));
        }
        let value = make(self);
        self.observe(path, name, &value).await?;
        Ok(Some(value))
    }

    /// Runs a saga step where it is played; `None` elsewhere.
    pub(crate) async fn step<S: Step<M>, M>(
        &self,
        path: &Path,
        step: S,
        input: Option<Arc<S::Input>>,
    ) -> Result<Option<Result<S::Output, Abort>>, Abort> {
        let (Some(here), Some(input)) = (self.local::<S::Role>(path), input) else { return Ok(None) };
        let step = step.erase(here, input);
        self.instance().begin_step(path, S::NAME, step);
        match self.poll(|instance, cx| instance.poll_step(cx, path)).await? {
            Ok(payload) => Ok(Some(Ok(self.decoded(path, &payload).await))),
            Err(refusal) => Ok(Some(Err(refusal))),
        }
    }

    /// Aborts the session. Does not return: the program is dropped here.
    pub(crate) async fn abort<T>(&self, abort: &Abort) -> Result<T, Abort> {
        self.instance().decide_abort(abort);
        std::future::pending().await
    }
}

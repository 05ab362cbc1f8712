//! Values that are at one role only, and the place where that role opens them.
//!
//! Knows nothing of how a value travels; see [`crate::Context`] for that.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::id::IdempotencyKey;
use crate::message::{CodecError, Message, Payload, encode};
use crate::role::Role;
use crate::uses;

/// A value of type `T` at role `R`, and nothing at all at every other role.
///
/// Only `R` can look inside, with [`Local::get`]. That is what keeps the roles in step: no role can branch
/// on what it does not have.
pub struct At<R, T> {
    value: Option<Held<T>>,
    role: PhantomData<fn() -> R>,
}

/// A value where it is, and the bytes that it was read from, if it was: sent on, it is sent as it came.
#[doc(hidden)]
pub struct Held<T> {
    pub(crate) value: Arc<T>,
    pub(crate) bytes: Option<Payload>,
}

impl<T> Held<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Arc::new(value), bytes: None }
    }

    pub(crate) fn read(value: T, bytes: Payload) -> Self {
        Self { value: Arc::new(value), bytes: Some(bytes) }
    }
}

impl<T> Clone for Held<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), bytes: self.bytes.clone() }
    }
}

impl<R: Role, T> At<R, T> {
    pub(crate) fn here(value: T) -> Self {
        Self::held(Some(Held::new(value)))
    }

    pub(crate) fn held(value: Option<Held<T>>) -> Self {
        Self { value, role: PhantomData }
    }

    pub(crate) fn share(&self) -> Option<Held<T>> {
        self.value.clone().inspect(|held| uses::used(&held.value))
    }
}

impl<R, T> Clone for At<R, T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), role: PhantomData }
    }
}

impl<R: Role, T> fmt::Debug for At<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "At<{}, {}>", R::NAME, std::any::type_name::<T>())
    }
}

/// A located value of any role: what a choreography takes and gives.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not located at a role",
    label = "expected `At<SomeRole, SomeType>`",
    note = "a choreography takes its input and gives its output at the role that starts it"
)]
pub trait Located: Sized + Send + 'static {
    /// Where it is.
    type Role: Role;
    /// What it is.
    type Value: Message;

    #[doc(hidden)]
    fn place(value: Option<(Self::Value, Payload)>) -> Self;
    #[doc(hidden)]
    fn bytes(&self) -> Result<Option<Payload>, CodecError>;
}

impl<R: Role, T: Message> Located for At<R, T> {
    type Role = R;
    type Value = T;

    fn place(value: Option<(T, Payload)>) -> Self {
        Self::held(value.map(|(value, bytes)| Held::read(value, bytes)))
    }

    fn bytes(&self) -> Result<Option<Payload>, CodecError> {
        let Some(Held { value, bytes }) = self.share() else { return Ok(None) };
        match bytes {
            Some(bytes) => Ok(Some(bytes)),
            None => Ok(Some(encode(&*value)?.into())),
        }
    }
}

/// Being at role `R`: the right to open its values and to use its service.
pub struct Local<R: Role> {
    service: Arc<R::Service>,
    key: IdempotencyKey,
}

impl<R: Role> Local<R> {
    pub(crate) fn new(service: Arc<R::Service>, key: IdempotencyKey) -> Self {
        Self { service, key }
    }

    /// The value, which is here.
    ///
    /// # Panics
    /// Never with values of this run of this choreography. One that was smuggled in from another run (kept in a
    /// static, say) may be absent; its program is stopped, as any panicking program is.
    #[expect(clippy::expect_used, reason = "documented: only a value from outside of the program can be absent")]
    pub fn get<'a, T>(&self, value: &'a At<R, T>) -> &'a T {
        let held = value.value.as_ref().expect("a value located here is present here");
        uses::used(&held.value);
        &held.value
    }

    /// The service this role works with.
    pub fn service(&self) -> &R::Service {
        &self.service
    }

    /// The idempotency key of the operation that is running: the same on every try and on replay.
    pub fn key(&self) -> &IdempotencyKey {
        &self.key
    }
}

impl<R: Role> fmt::Debug for Local<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Local<{}>({})", R::NAME, self.key)
    }
}

/// What a conclave gives to the roles outside of it: the same type with nothing in it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot leave a conclave, since the roles outside would not have it",
    label = "must be `()`, an `At<Role, Value>`, or a tuple of those",
    note = "what all roles have to know is broadcast after the conclave, from a role that is in it"
)]
pub trait Absent {
    /// Nothing, in this type.
    fn absent() -> Self;
}

impl Absent for () {
    fn absent() -> Self {}
}

impl<R: Role, T> Absent for At<R, T> {
    fn absent() -> Self {
        Self::held(None)
    }
}

macro_rules! absent_tuples {
    ($(($($item:ident),+))+) => {$(
        impl<$($item: Absent),+> Absent for ($($item,)+) {
            fn absent() -> Self { ($($item::absent(),)+) }
        }
    )+};
}
absent_tuples! { (A) (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F) }

/// A role's service as the runtime carries it, before the program asks for it by type.
#[derive(Clone)]
pub struct Service(Arc<dyn Any + Send + Sync>);

impl Service {
    /// Wraps the service of role `R`.
    pub fn of<R: Role>(service: Arc<R::Service>) -> Self {
        Self(Arc::new(service))
    }

    /// The service of a role that needs nothing.
    pub fn none() -> Self {
        Self(Arc::new(Arc::new(())))
    }

    pub(crate) fn get<R: Role>(&self) -> Option<Arc<R::Service>> {
        self.0.downcast_ref::<Arc<R::Service>>().cloned()
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

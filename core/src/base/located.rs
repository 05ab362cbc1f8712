//! Values located at one role, and [`Local`], with which that role reads them.
//!
//! This module does not know how values travel; see [`crate::Context`] for that.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::base::id::IdempotencyKey;
use crate::base::message::{CodecError, Message, Payload, encode};
use crate::base::role::Role;
use crate::base::uses;

/// A value of type `T` at role `R`. At every other role it holds nothing.
///
/// Only `R` can read the value, with [`Local::get`]. This keeps the roles consistent: a role cannot branch on a value
/// it does not have.
///
/// ```
/// # use accompanist_core::*;
/// # #[derive(Role)] struct Buyer;
/// # #[derive(Role)] struct Seller;
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
/// #     type Input = At<Buyer, u32>; type Output = At<Buyer, bool>;
/// async fn run(&self, ctx: &Context<Self::Roles>, budget: At<Buyer, u32>) -> Result<At<Buyer, bool>, Abort> {
///     let price: At<Seller, u32> = ctx.locally(Seller, |_| 75);
///     // `buyer.get(&price)` does not compile before the seller has sent it.
///     let price: At<Buyer, u32> = ctx.comm(Seller, Buyer, &price).await?;
///     Ok(ctx.locally(Buyer, |buyer| buyer.get(&price) <= buyer.get(&budget)))
/// }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert_eq!(run_local(Sale, 100, &Services::new()).await, Ok(true));
/// # }
/// ```
pub struct At<R, T> {
    value: Option<Held<T>>,
    role: PhantomData<fn() -> R>,
}

/// A value at the role where it is located, together with the bytes it was read from, if any. When the value is sent
/// on, those bytes are sent unchanged.
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

/// A located value of any role. Inputs and outputs of choreographies are located values.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not located at a role",
    label = "expected `At<SomeRole, SomeType>`",
    note = "a choreography takes its input and gives its output at the role that starts it"
)]
pub trait Located: Sized + Send + 'static {
    /// The role that has the value.
    type Role: Role;
    /// The type of the value.
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

/// Access to role `R`: the right to read its values and to use its service.
///
/// The closures of [`Context::locally`](crate::Context::locally) and [`Context::effect`](crate::Context::effect) get
/// one, and so do the methods of a [`Transaction`](crate::Transaction):
///
/// ```
/// # use std::sync::Arc;
/// # use accompanist_core::*;
/// # #[derive(Role)] struct Buyer;
/// # #[derive(Role)] #[role(service = Prices)] struct Seller;
/// /// The seller's service.
/// struct Prices { per_book: u32 }
///
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
/// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
/// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
///     let books = ctx.comm(Buyer, Seller, &books).await?;
///     let price = ctx.locally(Seller, |seller| seller.get(&books) * seller.service().per_book);
///     ctx.comm(Seller, Buyer, &price).await
/// }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let services = Services::new().with(Seller, Arc::new(Prices { per_book: 25 }));
/// assert_eq!(run_local(Sale, 3, &services).await, Ok(75));
/// # }
/// ```
pub struct Local<R: Role> {
    service: Arc<R::Service>,
    key: IdempotencyKey,
}

impl<R: Role> Local<R> {
    pub(crate) fn new(service: Arc<R::Service>, key: IdempotencyKey) -> Self {
        Self { service, key }
    }

    /// Returns the value, which is present at this role.
    ///
    /// # Panics
    /// Never panics on values of this run of this choreography, except on the value of one member of a role family
    /// that another member reads. A value taken from another run (through a static, say) may be absent as well. The
    /// program is then stopped, like any panicking program.
    #[expect(clippy::expect_used, reason = "documented: only a value of another member, or of another run, is absent")]
    pub fn get<'a, T>(&self, value: &'a At<R, T>) -> &'a T {
        let held = value
            .value
            .as_ref()
            .expect("a value is read where it is located, by the member of a role family that it belongs to");
        uses::used(&held.value);
        &held.value
    }

    /// The service that this role works with.
    pub fn service(&self) -> &R::Service {
        &self.service
    }

    /// The idempotency key of the running operation. The key is the same on every try and on replay. Its text form is
    /// what an HTTP service gets in a header such as `Idempotency-Key`. [`Transaction`](crate::Transaction) has an
    /// example of a service that honours it.
    pub fn key(&self) -> &IdempotencyKey {
        &self.key
    }
}

impl<R: Role> fmt::Debug for Local<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Local<{}>({})", R::NAME, self.key)
    }
}

/// Types that a conclave can return: at the roles outside of the conclave, the same type with nothing in it. These are
/// `()`, [`At`], tuples of up to six of them, and structs of any number of them with `#[derive(Absent)]`.
///
/// ```
/// # use accompanist_core::*;
/// # #[derive(Role)] struct Buyer;
/// # #[derive(Role)] struct Seller;
/// # #[derive(Role)] struct Carrier;
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller, Carrier);
/// #     type Input = At<Buyer, ()>; type Output = At<Buyer, (u32, u32)>;
/// async fn run(&self, ctx: &Context<Self::Roles>, _: At<Buyer, ()>) -> Result<At<Buyer, (u32, u32)>, Abort> {
///     // A tuple of values at two roles. At the buyer it is empty, and of the same type.
///     let (price, fee) = ctx.conclave((Seller, Carrier), async |ctx| {
///         let price = ctx.locally(Seller, |_| 75);
///         let insured = ctx.comm(Seller, Carrier, &price).await?;
///         let fee = ctx.locally(Carrier, |carrier| carrier.get(&insured) / 25);
///         Ok((price, fee))
///     }).await?;
///     ctx.gather((Seller, Carrier), Buyer, (&price, &fee)).await
/// }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert_eq!(run_local(Sale, (), &Services::new()).await, Ok((75, 3)));
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot leave a conclave, since the roles outside would not have it",
    label = "must be `()`, an `At<Role, Value>`, a tuple of those, or a struct of those with `#[derive(Absent)]`",
    note = "what all roles have to know is broadcast after the conclave, from a role that is in it"
)]
pub trait Absent {
    /// Returns an empty value of this type.
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

/// A role's service as the runtime carries it, with its type erased.
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

    /// Returns the service, if it is one of role `R`.
    pub fn get<R: Role>(&self) -> Option<Arc<R::Service>> {
        self.0.downcast_ref::<Arc<R::Service>>().cloned()
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

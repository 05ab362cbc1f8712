//! Roles, and tuples of roles as types.
//!
//! The roles of a choreography are a tuple type such as `(Buyer, Seller)`. [`Has`] and [`Includes`] let the compiler
//! check that an operation names only roles that take part. This module does not know values or messages.

use std::any::Any;

use crate::base::id::RoleIndex;

/// A party in a choreography, as a zero-sized type.
///
/// ```
/// # use std::sync::Arc;
/// use accompanist_core::Role;
///
/// /// What the carrier works with. A node that does not play the carrier needs the trait only.
/// pub trait Tariff: Send + Sync {
///     fn fee(&self, books: u32) -> u32;
/// }
///
/// #[derive(Clone, Copy)]
/// pub struct Carrier;
/// impl Role for Carrier {
///     const NAME: &'static str = "carrier";
///     type Service = dyn Tariff;
/// }
///
/// # use accompanist_core::*;
/// # struct Parcel;
/// # impl Choreography for Parcel {
/// #     const NAME: &'static str = "parcel"; type Roles = (Carrier,);
/// #     type Input = At<Carrier, u32>; type Output = At<Carrier, u32>;
/// #     async fn run(&self, ctx: &Context<Self::Roles>, books: At<Carrier, u32>) -> Result<Self::Output, Abort> {
/// #         Ok(ctx.locally(Carrier, |carrier| carrier.service().fee(*carrier.get(&books))))
/// #     }
/// # }
/// /// The implementation, at the node that plays the carrier.
/// struct Flat;
/// impl Tariff for Flat {
///     fn fee(&self, _books: u32) -> u32 { 4 }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let services = Services::new().with(Carrier, Arc::new(Flat));
/// assert_eq!(run_local(Parcel, 3, &services).await, Ok(4)); // `Parcel` returns the fee for three books.
/// # }
/// ```
pub trait Role: Copy + Send + Sync + 'static {
    /// The role's name, unique in its choreography and the same in every release.
    const NAME: &'static str;

    /// The service that the role works with: a trait object, so that only the node that plays the role links the
    /// implementation. `()` for a role without a service.
    type Service: ?Sized + Send + Sync + 'static;
}

/// Returns a role's name for texts read by people: from `names`, or, if it is not there, by its index.
pub(crate) fn role_name(names: &[&str], role: RoleIndex) -> String {
    names.get(usize::from(role.0)).map_or_else(|| format!("role {}", role.0), |name| format!("`{name}`"))
}

/// A tuple of one to twelve roles.
///
/// ```
/// # use accompanist_core::*;
/// # #[derive(Clone, Copy)] struct Buyer;
/// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
/// assert_eq!(<(Buyer, Seller)>::NAMES, ["buyer", "seller"]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a set of roles",
    label = "expected a tuple of roles, such as `(Buyer, Seller)` or `(Buyer,)`",
    note = "a set of roles is a tuple of 1 to 12 types that implement `Role`"
)]
pub trait RoleSet: Any + Send + Sync {
    /// The names of the roles, in the order of the tuple.
    const NAMES: &'static [&'static str];
}

/// Implemented by sets of roles that contain `R`. `Index` is inferred.
///
/// A part that works in any choreography with a buyer and a seller says so in a bound:
///
/// ```
/// # use accompanist_core::*;
/// # #[derive(Clone, Copy)] struct Buyer;
/// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Carrier;
/// # impl Role for Carrier { const NAME: &'static str = "carrier"; type Service = (); }
/// async fn ask<All, I, J>(ctx: &Context<All>, books: &At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort>
/// where
///     All: RoleSet + Has<Buyer, I> + Has<Seller, J>,
/// {
///     let books = ctx.comm(Buyer, Seller, books).await?;
///     let price = ctx.locally(Seller, |seller| seller.get(&books) * 25);
///     ctx.comm(Seller, Buyer, &price).await
/// }
///
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Carrier, Seller, Buyer);
/// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
/// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
///     ask(ctx, &books).await
/// }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert_eq!(run_local(Sale, 3, &Services::new()).await, Ok(75));
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "role `{R}` does not take part in this choreography",
    label = "the roles here are `{Self}`",
    note = "add the role to `type Roles` (or to the conclave's roles), or use one of the roles that take part"
)]
pub trait Has<R, Index> {}

/// Implemented by sets of roles that contain every role of `Sub`. `Indices` is inferred. Like [`Has`], it is a bound of
/// parts that work in any choreography with these roles:
///
/// ```
/// # use accompanist_core::*;
/// # #[derive(Clone, Copy)] struct Buyer;
/// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Carrier;
/// # impl Role for Carrier { const NAME: &'static str = "carrier"; type Service = (); }
/// /// The seller and the carrier agree on a fee. The other roles take no part.
/// async fn fee<All, I>(ctx: &Context<All>) -> Result<At<Carrier, u32>, Abort>
/// where
///     All: RoleSet + Includes<(Seller, Carrier), I>,
/// {
///     ctx.conclave((Seller, Carrier), async |ctx| {
///         let books = ctx.comm(Seller, Carrier, &ctx.locally(Seller, |_| 3)).await?;
///         Ok(ctx.locally(Carrier, |carrier| 4 + carrier.get(&books)))
///     }).await
/// }
///
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller, Carrier);
/// #     type Input = At<Buyer, ()>; type Output = At<Buyer, u32>;
/// async fn run(&self, ctx: &Context<Self::Roles>, _: At<Buyer, ()>) -> Result<At<Buyer, u32>, Abort> {
///     ctx.comm(Carrier, Buyer, &fee(ctx).await?).await
/// }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert_eq!(run_local(Sale, (), &Services::new()).await, Ok(7));
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "the roles `{Sub}` are not all among the roles `{Self}`",
    label = "a part of a choreography can only have roles of the whole"
)]
pub trait Includes<Sub, Indices> {}

/// The position of a role in a tuple, for type inference only.
#[doc(hidden)]
#[derive(Debug)]
pub struct Place<const I: usize>;

macro_rules! role_sets {
    ($( ($($role:ident $index:literal $place:ident),+) )+) => {$(
        impl<$($role: Role),+> RoleSet for ($($role,)+) {
            const NAMES: &'static [&'static str] = &[$($role::NAME),+];
        }
        #[diagnostic::do_not_recommend]
        impl<Whole, $($role: Role, $place),+> Includes<($($role,)+), ($($place,)+)> for Whole
        where $(Whole: Has<$role, $place>),+ {}
        role_sets!(@has [$($role),+] $($role $index),+);
    )+};
    (@has $all:tt $($role:ident $index:literal),+) => {$( role_sets!(@one $all $role $index); )+};
    (@one [$($all:ident),+] $role:ident $index:literal) => {
        #[diagnostic::do_not_recommend]
        impl<$($all: Role),+> Has<$role, Place<$index>> for ($($all,)+) {}
    };
}

role_sets! {
    (A 0 I)
    (A 0 I, B 1 J)
    (A 0 I, B 1 J, C 2 K)
    (A 0 I, B 1 J, C 2 K, D 3 L)
    (A 0 I, B 1 J, C 2 K, D 3 L, E 4 M)
    (A 0 I, B 1 J, C 2 K, D 3 L, E 4 M, F 5 N)
    (A 0 I, B 1 J, C 2 K, D 3 L, E 4 M, F 5 N, G 6 O)
    (A 0 I, B 1 J, C 2 K, D 3 L, E 4 M, F 5 N, G 6 O, H 7 P)
    (A 0 I, B 1 J, C 2 K, D 3 L, E 4 M, F 5 N, G 6 O, H 7 P, Q 8 S)
    (A 0 I, B 1 J, C 2 K, D 3 L, E 4 M, F 5 N, G 6 O, H 7 P, Q 8 S, R 9 T)
    (A 0 I, B 1 J, C 2 K, D 3 L, E 4 M, F 5 N, G 6 O, H 7 P, Q 8 S, R 9 T, U 10 V)
    (A 0 I, B 1 J, C 2 K, D 3 L, E 4 M, F 5 N, G 6 O, H 7 P, Q 8 S, R 9 T, U 10 V, W 11 X)
}

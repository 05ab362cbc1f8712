//! Roles, and tuples of roles as types.
//!
//! The roles of a choreography are a tuple type such as `(Buyer, Seller)`. [`Has`] and [`Includes`] let the compiler
//! check that an operation names only roles that take part. This module does not know values or messages.

use std::any::Any;

use crate::base::role_names::RoleNames;

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

/// A role family: any number of roles of one kind, such as the workers of a session. It is an entry of `type Roles`;
/// the number of its members is given when a session is started, and all roles know it.
///
/// A tuple of roles has at most one family. Its members are reached by the operations that name it, such as
/// [`Context::each`](crate::Context::each), [`Context::scatter`](crate::Context::scatter) and
/// [`Context::with_member`](crate::Context::with_member). A node that plays the role may play any number of members.
///
/// ```
/// # use accompanist_core::*;
/// # #[derive(Clone, Copy)] struct Client;
/// # impl Role for Client { const NAME: &'static str = "client"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Worker;
/// # impl Role for Worker { const NAME: &'static str = "worker"; type Service = (); }
/// struct Squares;
/// impl Choreography for Squares {
///     const NAME: &'static str = "squares";
///     type Roles = (Client, Many<Worker>);
///     type Input = At<Client, Vec<u32>>;
///     type Output = At<Client, Vec<u32>>;
///     async fn run(&self, ctx: &Context<Self::Roles>, numbers: At<Client, Vec<u32>>) -> Result<Self::Output, Abort> {
///         let each = ctx.scatter(Client, Worker, &numbers).await?; // One number to each worker.
///         let each = ctx.each(Worker, |worker, member| worker.get(each.at(member)).pow(2));
///         ctx.gather_each(Worker, Client, &each).await
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let three = Services::new().members(Worker, 3);
/// assert_eq!(run_local(Squares, vec![1, 2, 3], &three).await, Ok(vec![1, 4, 9]));
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Many<R>(pub R);

/// An entry of a tuple of roles: a [`Role`], or a role family ([`Many`]).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a role",
    label = "expected a type that implements `Role`, or `Many<SomeRole>`"
)]
pub trait Participant: Send + Sync + 'static {
    /// The name of the role, or of each role of the family. It is not called `NAME`, because a role has that as well.
    #[doc(hidden)]
    const ENTRY: &'static str;
    #[doc(hidden)]
    const IS_FAMILY: bool;
}

impl<R: Role> Participant for R {
    const ENTRY: &'static str = R::NAME;
    const IS_FAMILY: bool = false;
}

impl<R: Role> Participant for Many<R> {
    const ENTRY: &'static str = R::NAME;
    const IS_FAMILY: bool = true;
}

/// A tuple of one to twelve roles, of which one may be a role family ([`Many`]).
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
    /// The names of the single roles, in the order of the tuple. The name of a role family is not among them.
    const NAMES: &'static [&'static str];
    /// The name of the role family, if there is one.
    const FAMILY: Option<&'static str>;
    #[doc(hidden)]
    const SORTED: &'static [&'static str];
}

/// All names of a set of roles.
pub(crate) const fn names_of<Roles: RoleSet>() -> RoleNames {
    RoleNames::new(Roles::NAMES, Roles::FAMILY)
}

/// Sorts the names of single roles before those of families, and keeps their order otherwise.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which reports an index out of bounds")]
const fn sorted<const N: usize>(entries: [(&'static str, bool); N]) -> [&'static str; N] {
    let mut names = [""; N];
    let (mut next, mut entry) = (0, 0);
    while entry < 2 * N {
        let (name, is_family) = entries[entry % N];
        if is_family == (entry >= N) {
            names[next] = name;
            next += 1;
        }
        entry += 1;
    }
    names
}

/// The number of families.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which reports an index out of bounds")]
const fn families(are_families: &[bool]) -> usize {
    let (mut count, mut entry) = (0, 0);
    while entry < are_families.len() {
        count += are_families[entry] as usize;
        entry += 1;
    }
    assert!(count <= 1, "a tuple of roles has at most one role family (`Many<..>`): leave only one of them");
    count
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
///
/// A bound `Has<Many<R>, I>` demands a role family instead.
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
        impl<$($role: Participant),+> RoleSet for ($($role,)+) {
            const NAMES: &'static [&'static str] =
                Self::SORTED.split_at(Self::SORTED.len() - families(&[$($role::IS_FAMILY),+])).0;
            const FAMILY: Option<&'static str> = match families(&[$($role::IS_FAMILY),+]) {
                0 => None,
                _ => Self::SORTED.last().copied(),
            };
            const SORTED: &'static [&'static str] = &sorted([$(($role::ENTRY, $role::IS_FAMILY)),+]);
        }
        #[diagnostic::do_not_recommend]
        impl<Whole, $($role: Participant, $place),+> Includes<($($role,)+), ($($place,)+)> for Whole
        where $(Whole: Has<$role, $place>),+ {}
        role_sets!(@has [$($role),+] $($role $index),+);
    )+};
    (@has $all:tt $($role:ident $index:literal),+) => {$( role_sets!(@one $all $role $index); )+};
    (@one [$($all:ident),+] $role:ident $index:literal) => {
        #[diagnostic::do_not_recommend]
        impl<$($all: Participant),+> Has<$role, Place<$index>> for ($($all,)+) {}
    };
}

/// No role is a part of any set.
#[diagnostic::do_not_recommend]
impl<Whole> Includes<(), ()> for Whole {}

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

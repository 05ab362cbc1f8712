//! Roles, and tuples of roles as types.
//!
//! The roles of a choreography are a tuple type such as `(Buyer, Seller)`. [`Has`] and [`Includes`] let the compiler
//! check that an operation names only roles that take part. This module does not know values or messages.

use std::any::Any;

use crate::id::RoleIndex;

/// A party in a choreography, as a zero-sized type.
///
/// ```
/// use accompanist_core::Role;
///
/// pub trait CardTerminal: Send + Sync {
///     fn charge(&self, cents: u64) -> bool;
/// }
///
/// #[derive(Clone, Copy)]
/// pub struct Payment;
/// impl Role for Payment {
///     const NAME: &'static str = "payment";
///     type Service = dyn CardTerminal;
/// }
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
#[diagnostic::on_unimplemented(
    message = "role `{R}` does not take part in this choreography",
    label = "the roles here are `{Self}`",
    note = "add the role to `type Roles` (or to the conclave's roles), or use one of the roles that take part"
)]
pub trait Has<R, Index> {}

/// Implemented by sets of roles that contain every role of `Sub`. `Indices` is inferred.
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

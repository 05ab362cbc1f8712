//! One-to-many and many-to-one communication over tuples of roles.
//!
//! This module only handles the tuples; the operations are on [`crate::Context`].

use std::future::Future;

use crate::base::id::{Path, RoleIndex};
use crate::base::located::{At, Held};
use crate::base::message::Message;
use crate::base::role::{Role, RoleSet};
use crate::language::engine::Engine;

/// The roles that a value is multicast to; [`Context::multicast`](crate::Context::multicast) has an example.
pub trait Targets: RoleSet {
    /// The value at each of these roles: `(At<A, T>, At<B, T>)`.
    type Located<T: Message>: Send;
    #[doc(hidden)]
    fn locate<T: Message>(value: Option<Held<T>>, is_here: &[bool]) -> Self::Located<T>;
}

/// Values at the roles `From`, such as `(&at_buyer, &at_seller)`; [`Context::gather`](crate::Context::gather) has an
/// example.
#[diagnostic::on_unimplemented(
    message = "`{Self}` are not values at the roles `{From}`",
    label = "expected one `&At<Role, Value>` for each role, in the same order"
)]
pub trait Gather<From> {
    /// All the values together.
    type Values: Send + Sync + 'static;
    #[doc(hidden)]
    type Shared: Send;
    #[doc(hidden)]
    fn share(self) -> Self::Shared;
    #[doc(hidden)]
    fn gather(
        engine: &Engine,
        path: &Path,
        from: &[RoleIndex],
        to: RoleIndex,
        values: Self::Shared,
    ) -> impl Future<Output = Option<Self::Values>> + Send;
}

macro_rules! groups {
    ($( ($($role:ident $value:ident $item:ident $index:tt),+) )+) => {$(
        impl<$($role: Role),+> Targets for ($($role,)+) {
            type Located<T: Message> = ($(At<$role, T>,)+);
            fn locate<T: Message>(value: Option<Held<T>>, is_here: &[bool]) -> Self::Located<T> {
                ($(At::held(value.clone().filter(|_| is_here.get($index).is_some_and(|is_here| *is_here))),)+)
            }
        }

        #[diagnostic::do_not_recommend]
        impl<$($role: Role, $value: Message),+> Gather<($($role,)+)> for ($(&At<$role, $value>,)+) {
            type Values = ($($value,)+);
            type Shared = ($(Option<Held<$value>>,)+);
            fn share(self) -> Self::Shared {
                ($(self.$index.share(),)+)
            }
            async fn gather(
                engine: &Engine,
                path: &Path,
                from: &[RoleIndex],
                to: RoleIndex,
                values: Self::Shared,
            ) -> Option<Self::Values> {
                let from = |index: usize| from.get(index).copied().unwrap_or(RoleIndex(u8::MAX));
                $(engine.contribute(path, from($index), to, values.$index.as_ref()).await;)+
                if !engine.plays(to) {
                    return None;
                }
                // Collecting one after the other works for any arrival order, because all messages wait in the
                // mailbox.
                $(let $item: $value = engine.collect(path, from($index), values.$index.as_ref()).await;)+
                Some(($($item,)+))
            }
        }
    )+};
}

groups! {
    (A V a 0)
    (A V a 0, B W b 1)
    (A V a 0, B W b 1, C X c 2)
    (A V a 0, B W b 1, C X c 2, D Y d 3)
    (A V a 0, B W b 1, C X c 2, D Y d 3, E Z e 4)
    (A V a 0, B W b 1, C X c 2, D Y d 3, E Z e 4, F V5 f 5)
    (A V a 0, B W b 1, C X c 2, D Y d 3, E Z e 4, F V5 f 5, G V6 g 6)
    (A V a 0, B W b 1, C X c 2, D Y d 3, E Z e 4, F V5 f 5, G V6 g 6, H V7 h 7)
    (A V a 0, B W b 1, C X c 2, D Y d 3, E Z e 4, F V5 f 5, G V6 g 6, H V7 h 7, I V8 i 8)
    (A V a 0, B W b 1, C X c 2, D Y d 3, E Z e 4, F V5 f 5, G V6 g 6, H V7 h 7, I V8 i 8, J V9 j 9)
    (A V a 0, B W b 1, C X c 2, D Y d 3, E Z e 4, F V5 f 5, G V6 g 6, H V7 h 7, I V8 i 8, J V9 j 9, K V10 k 10)
    (A V a 0, B W b 1, C X c 2, D Y d 3, E Z e 4, F V5 f 5, G V6 g 6, H V7 h 7, I V8 i 8, J V9 j 9, K V10 k 10, L V11 l 11)
}

//! What the compiler says where a program branches on a located value: the comparisons that no value at a role has.
//!
//! An impl of `PartialEq` whose condition never holds leads to an error with a text of ours; without it, the error is
//! only that `==` cannot be applied. Nothing else uses this module. What `if value` says is beyond a library: it is a
//! mismatch of types, for which there is no text of ours.

use std::cmp::Ordering;
use std::convert::Infallible;
use std::ops::Not;

use crate::base::located::At;

/// Holds for no value at a role: what only one role has, the others cannot branch on.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Value}` is a value that only one role has, so the roles cannot branch on it",
    label = "compare it within `ctx.locally(..)`, and `ctx.broadcast(..)` the result",
    note = "the role compares: `let is_more = ctx.locally(Bank, |bank| *bank.get(&value) > 10);`",
    note = "then all roles know: `if ctx.broadcast(Bank, &is_more).await? {{ .. }}`"
)]
pub trait KnownAfterBroadcast<Value> {}

// There is one implementation, so that the compiler does not suggest to write the first.
#[diagnostic::do_not_recommend]
impl KnownAfterBroadcast<Infallible> for Infallible {}

#[doc(hidden)]
impl<R, T, Other: KnownAfterBroadcast<Self>> PartialEq<Other> for At<R, T> {
    fn eq(&self, _: &Other) -> bool {
        false
    }
}

#[doc(hidden)]
impl<R, T, Other: KnownAfterBroadcast<Self>> PartialOrd<Other> for At<R, T> {
    fn partial_cmp(&self, _: &Other) -> Option<Ordering> {
        None
    }
}

#[doc(hidden)]
impl<R, T> Not for At<R, T>
where
    Self: KnownAfterBroadcast<Self>,
{
    type Output = bool;
    fn not(self) -> bool {
        false
    }
}

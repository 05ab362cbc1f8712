//! The trait that users implement for a program. Programs run against [`crate::Context`].
//!
//! This module does not know how a choreography is run. The steps of its sagas are in [`crate::Transaction`] and
//! [`crate::LocalTransaction`].

use std::future::Future;

use super::context::Context;
use crate::base::abort::Abort;
use crate::base::located::Located;
use crate::base::role::RoleSet;
use crate::step::Compensation;

/// A choreography: one program for all roles.
///
/// Every role runs [`Choreography::run`], and each operation on the context performs that role's part of the
/// operation. The program must be deterministic: its behaviour may depend on its input, on messages and on recorded
/// results (`effect`, `now`, `random`, ..), never on a clock, on chance or on a global.
///
/// ```
/// use accompanist_core::{Abort, At, Choreography, Context, Role, Services, run_local};
/// # #[derive(Role)] struct Buyer;
/// # #[derive(Role)] struct Seller;
///
/// /// The buyer asks what its books cost.
/// struct Quote;
/// impl Choreography for Quote {
///     const NAME: &'static str = "quote";
///     type Roles = (Buyer, Seller);
///     type Input = At<Buyer, u32>; // The buyer starts the session ..
///     type Output = At<Buyer, u32>; // .. and has its output.
///     async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
///         let books = ctx.comm(Buyer, Seller, &books).await?;
///         let price = ctx.locally(Seller, |seller| seller.get(&books) * 25);
///         ctx.comm(Seller, Buyer, &price).await
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert_eq!(run_local(Quote, 3, &Services::new()).await, Ok(75));
/// # }
/// ```
pub trait Choreography: Send + Sync + 'static {
    /// The name of the choreography, unique in a system.
    const NAME: &'static str;
    /// The version of the program. Raise it when a change would make open sessions replay differently. Keep the
    /// previous version in the binary until its sessions have ended, together with the types of the messages it
    /// sends: open sessions are decoded with the types they were written with.
    const VERSION: u32 = 1;
    /// The patches (small changes) that the code of this version knows, in addition to its first form; see
    /// [`Context::patched`].
    const PATCHES: &'static [&'static str] = &[];
    /// The roles, as a tuple such as `(Buyer, Seller)`.
    type Roles: RoleSet;
    /// The input of a session, located at the role that starts it.
    type Input: Located;
    /// The output of a session, located at the same role.
    type Output: Located<Role = <Self::Input as Located>::Role>;
    /// The order in which the roles compensate their steps when the session is aborted.
    const COMPENSATION: Compensation = Compensation::SideBySide;
    /// Whether the session holds messages that exist nowhere else. If so, a message over the size limit stops the
    /// session instead of aborting it.
    #[doc(hidden)]
    const STOPS_ON_OVERSIZE: bool = false;

    /// Runs the program.
    ///
    /// # Errors
    /// Returning an [`Abort`] ends the session for all roles and compensates the committed steps.
    fn run(
        &self,
        ctx: &Context<Self::Roles>,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output, Abort>> + Send;
}

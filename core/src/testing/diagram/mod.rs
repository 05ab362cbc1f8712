//! A choreography as a sequence diagram, drawn from runs of it: [`Diagram`].
//!
//! `run` is one run, `build` and `scopes` make items of it, `merge` joins the items of several runs; `mermaid` and `svg`
//! write it.

mod build;
mod item;
mod merge;
mod mermaid;
mod run;
mod scopes;
mod svg;

use std::sync::Arc;

use crate::base::located::Located;
use crate::base::role::RoleSet;
use crate::language::choreography::Choreography;

use self::item::{Item, Part};
use self::run::Run;
use super::crashes::RunFailure;
use super::setup::TestSetup;

/// A sequence diagram of a choreography, from runs without faults: messages with their types, steps, refusals, aborts,
/// compensations, effects, sleeps and signals; scopes, forks and loops as frames. Operations are in the order of the
/// program, whichever happened first. A role family has a line for each member, as many as
/// [`Services::members`](crate::Services::members) says.
///
/// It shows what the given inputs lead to, and no branch that none of them takes. A test can keep a picture in a
/// document from going stale; `accompanist::testing::keep_diagram` does.
///
/// ```
/// use accompanist_core::testing::{Diagram, TestSetup};
/// # use accompanist_core::*;
/// # #[derive(Clone, Copy)] struct Buyer;
/// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
/// # struct Reserve;
/// # impl LocalTransaction for Reserve {
/// #     const NAME: &'static str = "reserve"; type Role = Seller; type Input = u32; type Output = u32;
/// #     fn commit(&self, _: &mut State<'_>, books: &u32) -> Result<u32, Abort> {
/// #         (*books <= 10).then_some(books * 25).ok_or(Abort::new("sold-out", "there are ten"))
/// #     }
/// #     fn compensate(&self, _: &mut State<'_>, _: &u32, _: &u32) -> Result<(), Retry> { Ok(()) }
/// # }
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
/// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u64>;
/// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u64>, Abort> {
///     let books = ctx.comm(Buyer, Seller, &books).await?;
///     let price = ctx.transact(Reserve, &books).await?; // Refuses more than ten books.
///     ctx.comm(Seller, Buyer, &ctx.locally(Seller, |seller| u64::from(*seller.get(&price)))).await
/// }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let setup = || TestSetup::new(Services::new());
/// let diagram = Diagram::of_cases(Sale, [("there are enough", 3, setup()), ("sold out", 11, setup())]).await.unwrap();
/// assert_eq!(diagram.mermaid(), "\
/// sequenceDiagram
///     participant r0 as buyer
///     participant r1 as seller
///     Note over r0: starts with u32
///     r0->>r1: u32
///     alt there are enough
///         Note over r1: reserve
///         r1->>r0: u64
///         Note over r0: ends with u64
///     else sold out
///         Note over r1: reserve refuses: sold-out
///         r1--xr0: abort: sold-out
///         Note over r0: aborted: sold-out
///     end
/// ");
/// assert!(diagram.svg().starts_with("<svg"));
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagram {
    title: &'static str,
    /// The names of the roles, by index.
    names: Vec<String>,
    items: Vec<Item>,
}

impl Diagram {
    /// Runs `choreography` once, and draws that run.
    ///
    /// # Errors
    /// [`RunFailure`] if the run does not end for all roles. One that is aborted does.
    pub async fn of<C: Choreography>(
        choreography: C,
        input: <C::Input as Located>::Value,
        setup: TestSetup<C>,
    ) -> Result<Self, RunFailure> {
        Self::of_cases(choreography, [("", input, setup)]).await
    }

    /// Runs `choreography` once for each input, and draws what the runs have in common once, and where they differ as
    /// alternatives with these labels.
    ///
    /// # Errors
    /// [`RunFailure`] if one of the runs does not end for all roles.
    pub async fn of_cases<C: Choreography>(
        choreography: C,
        cases: impl IntoIterator<Item = (&str, <C::Input as Located>::Value, TestSetup<C>)>,
    ) -> Result<Self, RunFailure> {
        let choreography = Arc::new(choreography);
        let mut names: Vec<String> = C::Roles::NAMES.iter().map(ToString::to_string).collect();
        let mut parts = Vec::new();
        for (label, input, setup) in cases {
            let run = Run::of(&choreography, input, setup).await?;
            parts.push(Part { label: label.to_owned(), items: build::items::<C>(&run) });
            // A role family may have more members in one run than in another; an index means the same role in all.
            names = if run.names.len() > names.len() { run.names } else { names };
        }
        Ok(Self { title: C::NAME, names, items: merge::merged(&parts) })
    }

    /// The diagram in the language of [Mermaid](https://mermaid.js.org), for a fenced block of a document.
    pub fn mermaid(&self) -> String {
        mermaid::text(&self.names(), &self.items)
    }

    /// The diagram as an SVG image, with colours for light and for dark surroundings.
    pub fn svg(&self) -> String {
        svg::image(self.title, &self.names(), &self.items)
    }

    fn names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }
}

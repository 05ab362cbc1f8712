//! The derives of Accompanist.
//!
//! Use them through `accompanist` or `accompanist-core`, which export them beside the traits of the same names:
//! `#[derive(Role)]` and `#[derive(Absent)]`. Each derive is there twice, because its code has to name the crate that
//! the user depends on: `accompanist` exports the one that names `::accompanist`, `accompanist-core` the one that names
//! `::accompanist_core`. For a renamed dependency, `crate = ..` gives the path.
//!
//! This crate knows no protocol and no runtime: [`role`] and [`absent`] turn a type into the code of its impls.

mod absent;
mod options;
mod role;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Code;
use quote::quote;
use syn::{DeriveInput, parse_macro_input};

/// Makes a unit struct a role: `Clone`, `Copy` and `Role` in one line.
///
/// ```
/// # mod used_as { // `accompanist` and `accompanist-core` export the derive; this crate cannot depend on them.
/// # pub trait Role: Copy { const NAME: &'static str; type Service: ?Sized; }
/// # }
/// # use accompanist_macros::CoreRole as Role;
/// # trait Rates {}
/// #[derive(Role)]
/// # #[role(crate = crate::used_as)]
/// struct Shop; // The role "shop", which has no service.
///
/// #[derive(Role)]
/// # #[role(crate = crate::used_as)]
/// #[role(name = "bank", service = dyn Rates)]
/// struct SavingsBank;
/// # use used_as::Role as _;
/// # fn main() { assert_eq!((Shop::NAME, SavingsBank::NAME), ("shop", "bank")); }
/// ```
///
/// | `#[role(..)]` | what it is | if it is not given |
/// |---|---|---|
/// | `name = "bank"` | `Role::NAME`, 1 to 64 bytes, the same in every release | the type's name in kebab case: `savings-bank` |
/// | `service = dyn Rates` | `Role::Service` | `()` |
/// | `crate = choreo` | the path of the Accompanist crate, for a renamed dependency | the crate whose derive it is |
///
/// Before you rename a type, give it its present `name`: open sessions know the role by it.
#[proc_macro_derive(CoreRole, attributes(role))]
pub fn core_role(input: TokenStream) -> TokenStream {
    expand(parse_macro_input!(input), &quote!(::accompanist_core), role::derive)
}

/// The same for users of `accompanist`.
#[doc(hidden)]
#[proc_macro_derive(AccompanistRole, attributes(role))]
pub fn accompanist_role(input: TokenStream) -> TokenStream {
    expand(parse_macro_input!(input), &quote!(::accompanist), role::derive)
}

/// Lets a struct of located values leave a conclave or a saga.
///
/// Each field is an `At<Role, Value>`, `()`, or something else that is `Absent`. At the roles outside of the conclave,
/// each field is empty. `#[absent(crate = ..)]` gives the path of a renamed dependency.
///
/// ```
/// # mod used_as {
/// # pub trait Absent { fn absent() -> Self; }
/// # impl<R, T> Absent for super::At<R, T> { fn absent() -> Self { Self(None, std::marker::PhantomData) } }
/// # }
/// # struct At<R, T>(Option<T>, std::marker::PhantomData<R>);
/// # struct Bank;
/// # struct Carrier;
/// # use accompanist_macros::CoreAbsent as Absent;
/// #[derive(Absent)]
/// # #[absent(crate = crate::used_as)]
/// struct Offer {
///     price: At<Bank, u32>,
///     fee: At<Carrier, u32>,
/// }
/// # use used_as::Absent as _;
/// # fn main() { let offer = Offer::absent(); assert!(offer.price.0.is_none() && offer.fee.0.is_none()); }
/// ```
#[proc_macro_derive(CoreAbsent, attributes(absent))]
pub fn core_absent(input: TokenStream) -> TokenStream {
    expand(parse_macro_input!(input), &quote!(::accompanist_core), absent::derive)
}

/// The same for users of `accompanist`.
#[doc(hidden)]
#[proc_macro_derive(AccompanistAbsent, attributes(absent))]
pub fn accompanist_absent(input: TokenStream) -> TokenStream {
    expand(parse_macro_input!(input), &quote!(::accompanist), absent::derive)
}

/// Returns the code of the impls, or the mistakes as compile errors where they were made.
fn expand(input: DeriveInput, home: &Code, derive: fn(&DeriveInput, &Code) -> syn::Result<Code>) -> TokenStream {
    derive(&input, home).unwrap_or_else(|mistakes| mistakes.into_compile_error()).into()
}

//! The derives of Accompanist.
//!
//! Use them through `accompanist` or `accompanist-core`, which export them beside the traits of the same names:
//! `#[derive(Role)]` and `#[derive(Absent)]`. Each derive is there twice, because its code has to name the crate that
//! the user depends on: `accompanist` exports the one that names `::accompanist`, `accompanist-core` the one that names
//! `::accompanist_core`. For a renamed dependency, `crate = ..` gives the path.
//!
//! This crate knows no protocol and no runtime: `role` and `absent` turn a type into the code of its impls.

mod absent;
mod options;
mod role;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Code;
use quote::quote;
use syn::{DeriveInput, parse_macro_input};

#[doc = include_str!("role.md")]
#[proc_macro_derive(CoreRole, attributes(role))]
pub fn core_role(input: TokenStream) -> TokenStream {
    expand(&parse_macro_input!(input as DeriveInput), &quote!(::accompanist_core), role::derive)
}

#[doc = include_str!("role.md")]
#[proc_macro_derive(AccompanistRole, attributes(role))]
pub fn accompanist_role(input: TokenStream) -> TokenStream {
    expand(&parse_macro_input!(input as DeriveInput), &quote!(::accompanist), role::derive)
}

#[doc = include_str!("absent.md")]
#[proc_macro_derive(CoreAbsent, attributes(absent))]
pub fn core_absent(input: TokenStream) -> TokenStream {
    expand(&parse_macro_input!(input as DeriveInput), &quote!(::accompanist_core), absent::derive)
}

#[doc = include_str!("absent.md")]
#[proc_macro_derive(AccompanistAbsent, attributes(absent))]
pub fn accompanist_absent(input: TokenStream) -> TokenStream {
    expand(&parse_macro_input!(input as DeriveInput), &quote!(::accompanist), absent::derive)
}

/// Returns the code of the impls, or the mistakes as compile errors where they were made.
fn expand(input: &DeriveInput, home: &Code, derive: fn(&DeriveInput, &Code) -> syn::Result<Code>) -> TokenStream {
    derive(input, home).unwrap_or_else(syn::Error::into_compile_error).into()
}

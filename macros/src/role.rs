//! `#[derive(Role)]`: the impls of a role, out of a unit struct.

use heck::ToKebabCase;
use proc_macro2::TokenStream as Code;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::{Data, DeriveInput, Fields, LitStr, Path, Type};

use crate::options;

/// The maximum length of a role's name, which advertisements contain: `NAME_BYTES_MAX` of `accompanist-core`.
const NAME_BYTES_MAX: usize = 64;

#[derive(Default)]
struct Options {
    name: Option<LitStr>,
    service: Option<Type>,
    home: Option<Path>,
}

/// Returns the impls of `Clone`, `Copy` and `Role`. `home` is the path of the Accompanist crate, unless the attribute
/// has another one.
pub(crate) fn derive(input: &DeriveInput, home: &Code) -> syn::Result<Code> {
    check_shape(input)?;
    let Options { name, service, home: renamed } = options(input)?;
    let role = &input.ident;
    let name = name.unwrap_or_else(|| LitStr::new(&role.unraw().to_string().to_kebab_case(), role.span()));
    check_name(&name)?;
    let service = service.map_or_else(|| quote!(()), ToTokens::into_token_stream);
    let home = renamed.map_or_else(|| home.clone(), ToTokens::into_token_stream);
    Ok(quote! {
        #[automatically_derived]
        impl ::core::clone::Clone for #role {
            fn clone(&self) -> Self {
                *self
            }
        }
        #[automatically_derived]
        impl ::core::marker::Copy for #role {}
        #[automatically_derived]
        impl #home::Role for #role {
            const NAME: &'static str = #name;
            type Service = #service;
        }
    })
}

/// Refuses whatever is no value of its own: only a unit struct can be named as a role in `ctx.comm(Shop, Bank, ..)`.
fn check_shape(input: &DeriveInput) -> syn::Result<()> {
    let shape = format!("`struct {};`", input.ident);
    let fields = match &input.data {
        Data::Struct(data) => &data.fields,
        Data::Enum(data) => {
            let text = format!("a role is a struct, not an enum: write {shape}, one for each role");
            return Err(syn::Error::new(data.enum_token.span, text));
        }
        Data::Union(data) => {
            let text = format!("a role is a struct, not a union: write {shape}");
            return Err(syn::Error::new(data.union_token.span, text));
        }
    };
    if !matches!(fields, Fields::Unit) {
        let text = format!("a role has no fields: write {shape}, and put data into the role's service");
        return Err(syn::Error::new_spanned(fields, text));
    }
    if !input.generics.params.is_empty() {
        let text = format!(
            "a role with parameters implements `Clone`, `Copy` and `Role` by hand, since its name has to differ for each of its parameters: `accompanist` has `name!` for that; or write {shape}"
        );
        return Err(syn::Error::new_spanned(&input.generics.params, text));
    }
    Ok(())
}

fn options(input: &DeriveInput) -> syn::Result<Options> {
    let mut found = Options::default();
    options::read(&input.attrs, "role", "`name = \"..\"`, `service = ..` and `crate = ..`", |option| {
        if option.path.is_ident("name") {
            options::once(option, &mut found.name)?;
        } else if option.path.is_ident("service") {
            options::once(option, &mut found.service)?;
        } else {
            return options::home(option, &mut found.home);
        }
        Ok(true)
    })?;
    Ok(found)
}

/// Refuses names that the runtime refuses, and those that two people would not type alike.
fn check_name(name: &LitStr) -> syn::Result<()> {
    let text = name.value();
    let mistake = if text.is_empty() {
        "a role's name must not be empty: other nodes know the role by it".to_owned()
    } else if text.len() > NAME_BYTES_MAX {
        format!("a role's name has at most {NAME_BYTES_MAX} bytes, and this one has {}: shorten it", text.len())
    } else if text.trim() != text || text.chars().any(char::is_control) {
        "a role's name must not begin or end with a space, or contain control characters: remove them".to_owned()
    } else {
        return Ok(());
    };
    Err(syn::Error::new(name.span(), mistake))
}

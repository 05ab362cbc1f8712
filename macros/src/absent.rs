//! `#[derive(Absent)]`: a struct of located values, with nothing in it.

use proc_macro2::TokenStream as Code;
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Member, Path, parse_quote};

use crate::options;

/// Returns the impl of `Absent`. `home` is the path of the Accompanist crate, unless the attribute has another one.
pub(crate) fn derive(input: &DeriveInput, home: &Code) -> syn::Result<Code> {
    let fields = match &input.data {
        Data::Struct(data) => &data.fields,
        Data::Enum(data) => {
            let text = "an enum cannot leave a conclave: the roles outside would not know its variant; broadcast the variant after the conclave, or make this a struct";
            return Err(syn::Error::new(data.enum_token.span, text));
        }
        Data::Union(data) => {
            return Err(syn::Error::new(data.union_token.span, "a union cannot leave a conclave: make it a struct"));
        }
    };
    let mut renamed: Option<Path> = None;
    options::read(&input.attrs, "absent", "`crate = ..`", |option| options::home(option, &mut renamed))?;
    let home = renamed.map_or_else(|| home.clone(), ToTokens::into_token_stream);

    // At the field's type, so that the compiler points there if the type is not located.
    let members: Vec<Member> = fields.members().collect();
    let values = fields.iter().map(|field| {
        let of = &field.ty;
        quote_spanned!(of.span()=> <#of as #home::Absent>::absent())
    });
    let mut generics = input.generics.clone();
    if generics.type_params().next().is_some() {
        let bounds = generics.make_where_clause();
        for field in fields {
            let of = &field.ty;
            bounds.predicates.push(parse_quote!(#of: #home::Absent));
        }
    }
    let (name, (params, arguments, bounds)) = (&input.ident, generics.split_for_impl());
    Ok(quote! {
        #[automatically_derived]
        impl #params #home::Absent for #name #arguments #bounds {
            fn absent() -> Self {
                Self { #(#members: #values),* }
            }
        }
    })
}

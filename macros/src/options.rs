//! The options of a derive's attribute, such as `#[role(name = "bank")]`: each at most once.

use syn::meta::ParseNestedMeta;
use syn::parse::Parse;
use syn::{Attribute, Path};

/// Reads the options of all attributes `#[name(..)]` with `read`, which returns whether it knows the option. `known`
/// lists the options for the error text. Returns all mistakes together.
pub(crate) fn read(
    attributes: &[Attribute],
    name: &str,
    known: &str,
    mut read: impl FnMut(&ParseNestedMeta<'_>) -> syn::Result<bool>,
) -> syn::Result<()> {
    let mut mistakes: Option<syn::Error> = None;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(name)) {
        let result = attribute.parse_nested_meta(|option| {
            if read(&option)? { Ok(()) } else { Err(option.error(format!("unknown option: `{name}` takes {known}"))) }
        });
        if let Err(mistake) = result {
            match &mut mistakes {
                Some(mistakes) => mistakes.combine(mistake),
                None => mistakes = Some(mistake),
            }
        }
    }
    mistakes.map_or(Ok(()), Err)
}

/// Reads the value of an option into `place`, unless the option was given before.
pub(crate) fn once<T: Parse>(option: &ParseNestedMeta<'_>, place: &mut Option<T>) -> syn::Result<()> {
    let value = option.value()?.parse()?;
    if place.is_some() {
        return Err(option.error("this option is given twice: remove one of the two"));
    }
    *place = Some(value);
    Ok(())
}

/// Whether the option is `crate`, the path of the Accompanist crate. If so, reads it.
pub(crate) fn home(option: &ParseNestedMeta<'_>, place: &mut Option<Path>) -> syn::Result<bool> {
    if !option.path.is_ident("crate") {
        return Ok(false);
    }
    let path = option.value()?.call(Path::parse_mod_style)?;
    if place.is_some() {
        return Err(option.error("this option is given twice: remove one of the two"));
    }
    *place = Some(path);
    Ok(true)
}

//! How types are named in a diagram.
//!
//! This module knows no diagram. Next: `build`, which puts the names there.

/// A type's name without the modules around it, from [`std::any::type_name`].
pub(super) fn short_type(name: &str) -> String {
    let (mut short, mut word) = (String::new(), 0);
    for c in name.chars() {
        match c {
            ':' => short.truncate(word),
            c if c.is_alphanumeric() || c == '_' => short.push(c),
            c => {
                short.push(c);
                word = short.len();
            }
        }
    }
    short
}

/// The names of the types in the name of a tuple type.
pub(super) fn tuple_types(name: &str) -> Vec<String> {
    let inner = name.strip_prefix('(').and_then(|name| name.strip_suffix(')')).unwrap_or(name);
    let (mut types, mut depth) = (vec![String::new()], 0_usize);
    for c in inner.chars() {
        match c {
            '(' | '<' | '[' => depth += 1,
            ')' | '>' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match types.last_mut() {
            Some(last) if c != ',' || depth > 0 => last.push(c),
            _ => types.push(String::new()),
        }
    }
    let named = types.iter().map(|name| short_type(name.trim()));
    named.filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_named_without_their_modules() {
        assert_eq!(short_type("alloc::string::String"), "String");
        assert_eq!(short_type("core::result::Result<u32, my::Abort>"), "Result<u32, Abort>");
        assert_eq!(short_type("(&str, [a::B; 3])"), "(&str, [B; 3])");
        assert_eq!(tuple_types("(u32,)"), ["u32"]);
        assert_eq!(tuple_types("(alloc::vec::Vec<(a::B, u8)>, (), c::D)"), ["Vec<(B, u8)>", "()", "D"]);
    }
}

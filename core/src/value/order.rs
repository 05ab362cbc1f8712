//! Whether a collection is written in the same order each time, as the name of its type says.
//!
//! A `HashMap` that is computed or read again has another order. With one entry it never shows, with two it shows every
//! other time; so the type is asked, not the value. Names of types are for people, and tests hold those that count here.

/// What is known of the order of a value's collections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// All of them have one.
    #[default]
    Fixed,
    /// One of a type that is not known here, with so many entries, two or more (the fewest, where there are several).
    Unknown(usize),
    /// One is a hash table.
    Hashed(&'static str),
}

impl Order {
    /// That of what serde is given as a collection or an iterator, with `entries`.
    pub(super) fn of<I>(entries: usize) -> Self {
        let name = std::any::type_name::<I>();
        let outer = name.trim_start_matches('&');
        let outer = outer.split('<').next().unwrap_or(outer);
        if outer.starts_with('[') || outer.starts_with("alloc::vec::") || outer.starts_with("alloc::collections::") {
            return Self::Fixed;
        }
        let last = outer.rsplit("::").next().unwrap_or(outer);
        if matches!(last, "HashMap" | "HashSet") || name.contains("::hash::map::") || name.contains("::hash::set::") {
            return Self::Hashed(last);
        }
        Self::unknown(entries)
    }

    pub(super) fn unknown(entries: usize) -> Self {
        if entries < 2 { Self::Fixed } else { Self::Unknown(entries) }
    }

    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Hashed(name), _) | (_, Self::Hashed(name)) => Self::Hashed(name),
            (Self::Unknown(one), Self::Unknown(two)) => Self::Unknown(one.min(two)),
            (Self::Fixed, order) | (order, Self::Fixed) => order,
        }
    }
}

//! Determines from the name of a collection's type whether it is encoded in the same order each time.
//!
//! A `HashMap` that is computed or decoded again has another order. With one entry this never shows, with two entries
//! it shows every other time; therefore the type is examined, not the value. Rust does not guarantee type names, so
//! tests pin those that matter here.

/// The known facts about the order of a value's collections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// All collections have a fixed order.
    #[default]
    Fixed,
    /// A collection is of an unknown type and has this number of entries, at least two (the smallest number, if there
    /// are several).
    Unknown(usize),
    /// A collection is a hash table.
    Hashed(&'static str),
}

impl Order {
    /// Returns the order of a collection or iterator of type `I` with `entries`, as passed to serde.
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

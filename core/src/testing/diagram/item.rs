//! What a diagram shows, from top to bottom, and how types are named in it.
//!
//! Items know neither paths nor runs, so that equal parts of different runs are equal. Roles are named by their index.

/// A thing that a diagram shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Arrow {
        from: usize,
        to: usize,
        text: String,
        is_abort: bool,
    },
    /// Something that happens at a role, or at all roles from `from` to `to`.
    Note {
        from: usize,
        to: usize,
        text: String,
        kind: NoteKind,
    },
    Block(Block),
}

/// What a note stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoteKind {
    Step,
    Refusal,
    Compensation,
    /// An effect, a sleep, a signal.
    Own,
    Abort,
    /// The start or the end of the session.
    Edge,
}

/// A part of a diagram in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) frame: Frame,
    /// The roles that take part, if the frame says so.
    pub(super) roles: Vec<usize>,
    pub(super) parts: Vec<Part>,
}

/// The kind of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// Some roles among themselves, with a title.
    Scope(String),
    /// Turns of a loop, with a title.
    Loop(String),
    /// The parts run side by side.
    Par,
    /// One part happens, depending on the input.
    Alt,
}

/// A part of a block, with a label for [`Frame::Alt`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) label: String,
    pub(super) items: Vec<Item>,
}

impl Item {
    pub(super) fn note(role: usize, kind: NoteKind, text: impl Into<String>) -> Self {
        Self::Note { from: role, to: role, text: text.into(), kind }
    }

    /// A block with one part. `None` if that part is empty.
    pub(super) fn block(frame: Frame, roles: Vec<usize>, items: Vec<Self>) -> Option<Self> {
        let part = Part { label: String::new(), items };
        (!part.items.is_empty()).then(|| Self::Block(Block { frame, roles, parts: vec![part] }))
    }
}

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

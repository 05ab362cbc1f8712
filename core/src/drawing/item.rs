//! What a picture shows, from top to bottom.
//!
//! Items know neither paths nor runs, so that equal parts of different runs are equal. Roles are named by their index
//! among the names of the picture.

/// A thing that a picture shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Arrow {
        from: usize,
        to: usize,
        text: String,
        kind: ArrowKind,
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

/// What an arrow stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArrowKind {
    Message,
    Abort,
    /// A message of which nothing says whether it was received.
    Unknown,
}

/// What a note stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoteKind {
    Step,
    Refusal,
    Compensation,
    /// An effect, a sleep, a signal.
    Own,
    Abort,
    /// The start or the end of the session.
    Edge,
    /// Something that needs an operator.
    Trouble,
    /// Something that is not known, because a site does not answer.
    Missing,
}

/// A part of a picture in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) frame: Frame,
    /// The roles that take part, if the frame says so.
    pub(crate) roles: Vec<usize>,
    pub(crate) parts: Vec<Part>,
}

/// The kind of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
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
pub(crate) struct Part {
    pub(crate) label: String,
    pub(crate) items: Vec<Item>,
}

impl Item {
    pub(crate) fn note(role: usize, kind: NoteKind, text: impl Into<String>) -> Self {
        Self::Note { from: role, to: role, text: text.into(), kind }
    }

    /// A block with one part. `None` if that part is empty.
    pub(crate) fn block(frame: Frame, roles: Vec<usize>, items: Vec<Self>) -> Option<Self> {
        let part = Part { label: String::new(), items };
        (!part.items.is_empty()).then(|| Self::Block(Block { frame, roles, parts: vec![part] }))
    }
}

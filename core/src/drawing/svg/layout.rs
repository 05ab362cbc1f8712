//! Where the columns of a picture are, how wide its notes are, and where its frames begin and end.

use super::super::item::{Block, Item};
use super::title_of;

/// The space around a text in a box, and at the edges of the image.
pub(super) const PAD: i64 = 12;
/// The least distance between two columns.
const COLUMN_MIN: i64 = 100;
/// How far a frame reaches beyond what is in it.
const FRAME: i64 = 10;
/// The space on both sides of an arrow's text.
const ARROW_PAD: i64 = 18;

/// The width of a text in a font of 13 pixels, rather too much than too little.
pub(super) fn text_width(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX / 16) * 15 / 2
}

/// See the module's documentation.
pub(super) struct Layout {
    /// The middle of each role's column.
    pub(super) columns: Vec<i64>,
    pub(super) width: i64,
}

/// The widths that the items ask for.
struct Wanted {
    /// Half of what a column has beside its middle.
    halves: Vec<i64>,
    /// The distances between columns.
    spans: Vec<(usize, usize, i64)>,
}

impl Wanted {
    fn note(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::Arrow { from, to, text, .. } => {
                    self.spans.push((*from.min(to), *from.max(to), text_width(text) + 2 * ARROW_PAD));
                }
                Item::Note { from, to, text, .. } if from == to => {
                    if let Some(half) = self.halves.get_mut(*from) {
                        *half = (*half).max(text_width(text) / 2 + PAD);
                    }
                }
                Item::Note { from, to, text, .. } => self.spans.push((*from, *to, text_width(text))),
                Item::Block(block) => block.parts.iter().for_each(|part| self.note(&part.items)),
            }
        }
    }
}

impl Layout {
    pub(super) fn of(names: &[&str], items: &[Item]) -> Self {
        let halves = names.iter().map(|name| text_width(name) / 2 + PAD).collect();
        let mut wanted = Wanted { halves, spans: Vec::new() };
        wanted.note(items);
        let beside = wanted.halves.iter().zip(wanted.halves.iter().skip(1));
        let mut gaps: Vec<i64> = beside.map(|(one, other)| (one + other + PAD).max(COLUMN_MIN)).collect();
        wanted.spans.sort_by_key(|(from, to, _)| to - from);
        for (from, to, width) in wanted.spans {
            let Some(between) = gaps.get_mut(from..to).filter(|between| !between.is_empty()) else { continue };
            let lacking = width - between.iter().sum::<i64>();
            let share = lacking / i64::try_from(between.len()).unwrap_or(1) + 1;
            for gap in between.iter_mut().filter(|_| lacking > 0) {
                *gap += share;
            }
        }
        let columns = std::iter::once(0).chain(gaps.into_iter().scan(0, |x, gap| {
            *x += gap;
            Some(*x)
        }));
        let layout = Self { columns: columns.take(names.len()).collect(), width: 0 };
        layout.shifted(&wanted.halves, items)
    }

    /// Moves everything to the right until it begins at the image's edge.
    fn shifted(mut self, halves: &[i64], items: &[Item]) -> Self {
        let heads = self.columns.iter().zip(halves).map(|(x, half)| (x - half, x + half));
        let (left, right) = heads.chain(self.extent(items)).reduce(wider).unwrap_or_default();
        self.columns.iter_mut().for_each(|x| *x += PAD - left);
        self.width = right - left + 2 * PAD;
        self
    }

    pub(super) fn column(&self, role: usize) -> i64 {
        self.columns.get(role).copied().unwrap_or_default()
    }

    /// The left and the right edge of a note.
    pub(super) fn note(&self, from: usize, to: usize, text: &str) -> (i64, i64) {
        let (left, right) = (self.column(from.min(to)), self.column(from.max(to)));
        let half = text_width(text) / 2 + PAD;
        let middle = i64::midpoint(left, right);
        (
            if from == to { middle - half } else { left.min(middle - half) - PAD },
            if from == to { middle + half } else { right.max(middle + half) + PAD },
        )
    }

    /// The left and the right edge of a frame.
    pub(super) fn frame(&self, block: &Block) -> (i64, i64) {
        let within = block.parts.iter().filter_map(|part| self.extent(&part.items));
        let roles = block.roles.iter().map(|role| (self.column(*role), self.column(*role)));
        let (left, right) = within.chain(roles).reduce(wider).unwrap_or_default();
        let labels = block.parts.iter().map(|part| text_width(&part.label));
        let title = labels.chain([text_width(&title_of(&block.frame))]).max().unwrap_or_default() + 2 * PAD;
        let left = left - FRAME;
        (left, (right + FRAME).max(left + title))
    }

    fn extent(&self, items: &[Item]) -> Option<(i64, i64)> {
        let extents = items.iter().map(|item| match item {
            Item::Arrow { from, to, .. } => (self.column(*from.min(to)), self.column(*from.max(to))),
            Item::Note { from, to, text, .. } => self.note(*from, *to, text),
            Item::Block(block) => self.frame(block),
        });
        extents.reduce(wider)
    }
}

fn wider((left, right): (i64, i64), (also_left, also_right): (i64, i64)) -> (i64, i64) {
    (left.min(also_left), right.max(also_right))
}

//! Sequence diagrams as pictures: what one shows (`item`), in the language of Mermaid and as an SVG image.
//!
//! This room knows no choreography, no run and no record: a picture is a list of items between named columns. Next:
//! `timeline`, which draws the records of a session, and `testing::diagram`, which draws runs of a choreography.

pub(crate) mod item;
pub(crate) mod mermaid;
pub(crate) mod svg;

/// Returns a text in one line, without the characters that would change how the text around it is read: control
/// characters, separators of lines, marks of direction, and those that no XML may have.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if is_plain(c) { c } else { ' ' }).collect()
}

fn is_plain(c: char) -> bool {
    let is_mark = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_separator = matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    let is_no_character = u32::from(c) & 0xfffe == 0xfffe || matches!(c, '\u{fdd0}'..='\u{fdef}');
    !(c.is_control() || is_mark || is_separator || is_no_character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_one_line_that_reads_from_left_to_right() {
        assert_eq!(plain("a\nb\u{1b}[31mc\u{202e}d\u{0}\u{ffff}"), "a b [31mc d  ");
        assert_eq!(plain("gr\u{fc}n \u{4e2d} \u{1f389} <&>"), "gr\u{fc}n \u{4e2d} \u{1f389} <&>");
    }
}

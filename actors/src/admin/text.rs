//! Texts of bounded length.

/// Cuts a text that is longer than `bytes_max`, and shows that.
pub(super) fn cut(mut text: String, bytes_max: usize) -> String {
    let end = text.floor_char_boundary(bytes_max);
    if end < text.len() {
        text.truncate(end);
        text.push('…');
    }
    text
}

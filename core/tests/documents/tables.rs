//! The parts of documents that are made from the code.

use std::fs;

use crate::{Page, root};

/// Checks that `path` has `table` between the comments that name it; writes it there if `UPDATE_DOCUMENTS` is set.
pub(crate) fn check(path: &str, name: &str, table: &str) {
    let page = Page::read(path);
    let [begin, end] = ["<!-- made from the code: ", "<!-- end of "].map(|mark| format!("{mark}{name} -->\n"));
    let parts = page.text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?)));
    let (before, (present, after)) = parts.unwrap_or_else(|| panic!("{path} has no part `{name}`"));
    let table = format!("\n{}\n\n", table.trim());
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        fs::write(root().join(path), format!("{before}{begin}{table}{end}{after}")).unwrap();
    } else {
        let advice = "UPDATE_DOCUMENTS=1 cargo test -p accompanist-core --test documents";
        assert!(present == table, "{path}: `{name}` is not what the code has; write it anew with {advice}");
    }
}

/// A text as a cell of a table.
pub(crate) fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

//! The book's summary has every page, and the decisions are listed.

use std::fmt::Write;

use crate::{Page, book, files, tables};

#[test]
fn every_page_is_in_the_summary() {
    let summary = Page::read("docs/SUMMARY.md");
    for page in book().iter().filter(|page| page.path != summary.path) {
        let link = format!("]({})", page.path.strip_prefix("docs").unwrap().display());
        assert!(summary.text.contains(&link), "docs/SUMMARY.md lacks {link}");
    }
}

#[test]
fn every_decision_is_listed() {
    let (mut summary, mut index) = (String::new(), String::new());
    for page in files("docs/decisions", "md").into_iter().map(Page::read) {
        let file = page.path.file_name().unwrap().to_str().unwrap();
        if file != "README.md" {
            writeln!(summary, "  - [{}](decisions/{file})", page.title()).unwrap();
            writeln!(index, "- [{}]({file})", page.title()).unwrap();
        }
    }
    tables::check("docs/decisions/README.md", "decisions", &index);
    // Part of a nested list, which a comment would end.
    let present = Page::read("docs/SUMMARY.md");
    assert!(present.text.contains(&summary), "docs/SUMMARY.md has to list the decisions so:\n{summary}");
}

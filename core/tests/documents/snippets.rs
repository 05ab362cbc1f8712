//! Every Rust snippet is compiled: by rustdoc, or where the file is from which it is shown.

use std::fs;

use crate::{Page, book, root};

/// The fenced blocks of a page: what stands behind the fence, and the lines.
fn blocks(page: &Page) -> Vec<(&str, Vec<&str>)> {
    let (mut blocks, mut open) = (Vec::new(), None);
    for line in page.text.lines().map(str::trim) {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some((info, Vec::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a block is not closed", page.path.display());
    blocks
}

/// Whether rustdoc compiles the block.
fn is_compiled(info: &str) -> bool {
    let mut words = info.split(',');
    words.next() == Some("rust") && !words.any(|word| word == "ignore")
}

#[test]
fn rust_that_rustdoc_does_not_compile_is_shown_from_a_file_that_is_compiled() {
    for page in book() {
        for (info, lines) in
            blocks(&page).into_iter().filter(|(info, _)| info.starts_with("rust") && !is_compiled(info))
        {
            let shown = lines.iter().all(|line| line.starts_with("{{#include ") && line.contains(".rs:"));
            assert!(shown, "{}: a block `{info}` is not compiled:\n{}", page.path.display(), lines.join("\n"));
        }
    }
}

#[test]
fn pages_with_rust_are_doc_tests() {
    let doc_tests = fs::read_to_string(root().join("actors/src/lib.rs")).unwrap();
    let mut pages = 0;
    for page in book().iter().filter(|page| blocks(page).iter().any(|(info, _)| is_compiled(info))) {
        let included = format!("include_str!(\"../../{}\")", page.path.display());
        assert!(doc_tests.contains(&included), "add {included} to the doc tests in actors/src/lib.rs");
        pages += 1;
    }
    assert!(pages > 2, "the snippets were not found");
}

/// mdBook only logs what it cannot include.
#[test]
fn what_is_included_exists() {
    let mut included = 0;
    for page in book() {
        for (_, rest) in page.text.match_indices("{{#include ").map(|(at, found)| page.text.split_at(at + found.len()))
        {
            let what = rest.split("}}").next().unwrap();
            let (file, part) = what.split_once(':').map_or((what, None), |(file, part)| (file, Some(part)));
            let path = root().join(page.folder()).join(file);
            let text =
                fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {what}: {error}", page.path.display()));
            let marks = |part| ["ANCHOR", "ANCHOR_END"].map(|mark| format!("{mark}: {part}\n"));
            let missing = part.into_iter().flat_map(marks).find(|mark| !text.contains(mark));
            assert_eq!(missing, None, "{}: {what}", page.path.display());
            included += 1;
        }
    }
    assert!(included > 10, "the included parts were not found");
}

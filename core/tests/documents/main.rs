//! The book in `docs`, and the documents beside it: links, snippets, and the tables that are made from the code.
//!
//! `UPDATE_DOCUMENTS=1 cargo test -p accompanist-core --test documents` writes the tables anew.
//!
//! A binary of its own: who writes a page does not want to build the tests of the protocol.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod errors;
mod links;
mod metrics;
mod snippets;
mod summary;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into()
}

/// A Markdown file, by its path below the workspace's folder.
struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    fn read(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let text = fs::read_to_string(root().join(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path, text }
    }

    /// The page's folder, to which its links are relative.
    fn folder(&self) -> &Path {
        self.path.parent().unwrap()
    }

    /// The text of its first heading.
    fn title(&self) -> &str {
        self.text
            .lines()
            .find_map(|line| line.strip_prefix("# "))
            .unwrap_or_else(|| panic!("{} has no title", self.path.display()))
    }
}

/// The files with that extension below a folder of the workspace, in order.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    fn below(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap();
            if path.is_dir() && name != "target" {
                below(&path, extension, found);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path.strip_prefix(root()).unwrap().into());
            }
        }
    }
    let mut found = Vec::new();
    below(&root().join(folder), extension, &mut found);
    found.sort();
    found
}

/// The pages of the book.
fn book() -> Vec<Page> {
    let pages: Vec<_> = files("docs", "md").into_iter().map(Page::read).collect();
    assert!(pages.len() > 60, "the book was not found");
    pages
}

/// The book, and the documents of the folders.
fn documents() -> Vec<Page> {
    let beside = ["README.md", "CONTRIBUTING.md"].map(PathBuf::from).into_iter();
    let of_folders = ["examples", "benches", "chaos", "deploy"].into_iter().flat_map(|folder| files(folder, "md"));
    book().into_iter().chain(beside.chain(of_folders).map(Page::read)).collect()
}

//! Where the numbers come from, as all benches say it.

use std::path::{Path, PathBuf};

use fleet::machine;

use crate::report::Report;

/// Says where the numbers of `report` come from; the stores are in `folder`.
pub(crate) fn describe(report: &mut Report, folder: &Path) {
    report.text("machine", machine::machine());
    report.text("file system", format!("{} (kind of the stores' file system)", machine::file_system(folder)));
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    report.text("command", format!("cargo run --release -p accompanist-benches -- {}", arguments.join(" ")));
    report.text("commit", machine::commit());
}

/// Where the stores go unless an option says otherwise.
pub(crate) fn base(folder: Option<PathBuf>) -> PathBuf {
    folder.unwrap_or_else(std::env::temp_dir)
}

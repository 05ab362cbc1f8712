//! Where numbers come from: machine, file system, commit. A bench states them beside what it has measured.

use std::fs::{canonicalize, read_to_string};
use std::path::Path;
use std::process::Command;

/// The processors and the kernel of this machine.
pub fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{processors} processors ({}), kernel {}", model(), kernel())
}

/// The kind of the file system that `folder` is on: that of the longest mount point above it.
pub fn file_system(folder: &Path) -> String {
    let folder = canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let mounts = read_to_string("/proc/self/mounts").unwrap_or_default();
    let kinds = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        folder.starts_with(point).then(|| (point.len(), kind.to_owned()))
    });
    kinds.max_by_key(|(length, _)| *length).map_or_else(|| "unknown".to_owned(), |(_, kind)| kind)
}

/// The commit of the folder that the program was started in, and whether there is more than that.
pub fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let known = output.ok().filter(|output| output.status.success());
    known.map_or_else(|| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn model() -> String {
    let text = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let model = line.and_then(|line| line.split_once(':')).map(|(_, model)| model.trim().to_owned());
    model.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn kernel() -> String {
    let text = read_to_string("/proc/version").unwrap_or_default();
    text.split_whitespace().nth(2).unwrap_or("unknown").to_owned()
}

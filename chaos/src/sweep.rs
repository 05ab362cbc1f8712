//! Takes away what runs have left that were killed themselves: everything else is taken away by its owner.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// What the namespaces and folders of a run begin with.
pub(crate) fn own_name(process: u32) -> String {
    format!("chaos-{process}")
}

/// Whether something is named for a run that is over.
fn is_left_over(name: &str) -> bool {
    let process = name.strip_prefix("chaos-").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
    process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists())
}

fn run(program: &str, arguments: &[&str]) {
    // Who may not do it has not done the rest either.
    let _ = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).status();
}

/// Takes away namespaces and mounts of runs that are over.
pub(crate) fn sweep() {
    let namespaces = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for name in namespaces.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_left_over(name)) {
        run("ip", &["netns", "del", &name]);
    }
    let temporary = std::env::temp_dir();
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for at in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        let inside = Path::new(at).strip_prefix(&temporary).ok().and_then(|path| path.iter().next()?.to_str());
        if inside.is_some_and(is_left_over) {
            run("umount", &[at]);
        }
    }
    let folders = fs::read_dir(&temporary).into_iter().flatten().flatten();
    for folder in folders.filter(|entry| entry.file_name().to_str().is_some_and(is_left_over)) {
        let images = fs::read_dir(folder.path()).into_iter().flatten().flatten().map(|entry| entry.path());
        for image in images.filter(|path| path.extension().is_some_and(|extension| extension == "image")) {
            let _ = fs::remove_file(image); // Large, and of no use: its stores are lost with it.
        }
    }
}

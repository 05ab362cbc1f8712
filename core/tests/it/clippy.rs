//! The clippy configuration for users' crates, `docs/clippy.toml`: every path of the standard library in it exists, and
//! what a program must not use is found.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const PROGRAM: &str = r"
use std::sync::atomic::{AtomicU32, Ordering};

pub fn program() -> u32 {
    let leak = AtomicU32::new(0);
    let _ = std::time::SystemTime::now();
    let _ = std::env::var_os(stringify!(HOME));
    std::thread::sleep(std::time::Duration::ZERO);
    leak.load(Ordering::Relaxed)
}
";

/// What clippy says about [`PROGRAM`], in a crate with this configuration.
fn findings(configuration: &str) -> String {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("src")).unwrap();
    write("Cargo.toml", "[package]\nname = \"program\"\nedition = \"2024\"\n[workspace]\n");
    write("clippy.toml", configuration);
    write("src/lib.rs", PROGRAM);
    let mut clippy = Command::new(env!("CARGO"));
    clippy.args(["clippy", "--offline", "--quiet"]).current_dir(&folder);
    clippy.env("CARGO_TARGET_DIR", folder.path().join("target")).env_remove("CLIPPY_CONF_DIR");
    let ended = clippy.output().unwrap();
    let text = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success(), "{text}");
    text
}

#[test]
fn what_a_program_must_not_use_is_found_and_every_path_exists() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/clippy.toml");
    let configuration = std::fs::read_to_string(file).unwrap();
    let text = findings(&configuration);
    for used in
        ["`std::time::SystemTime::now`", "`std::env::var_os`", "`std::thread::sleep`", "`std::sync::atomic::AtomicU32`"]
    {
        assert!(text.contains("use of a disallowed") && text.contains(used), "{used} is not found:\n{text}");
    }
    assert!(text.contains("use `ctx.now(role)`"), "{text}");
    assert!(!text.contains("does not refer to"), "{text}");

    let wrong = configuration.replace("std::thread::scope", "std::thread::no_such");
    let text = findings(&wrong);
    assert!(
        text.contains("`std::thread::no_such` does not refer to"),
        "a path that does not exist goes unnoticed:\n{text}"
    );
}

//! Arrows run one way: who must not know whom, proved from the manifests for crates and from the sources for the rooms
//! within a crate.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::rooms::refused_arrows;

/// The names under `[dependencies]` (and `[dependencies.x]`, `[target.'..'.dependencies]`) of a package's manifest.
fn dependencies(package: &str) -> BTreeSet<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(package).join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap_or_else(|error| panic!("{}: {error}", manifest.display()));
    dependencies_in(&text)
}

fn dependencies_in(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section == "dependencies" || section.ends_with(".dependencies");
            if let Some((table, name)) = section.rsplit_once("dependencies.")
                && !table.ends_with('-')
            {
                names.insert(name.to_owned());
            }
        } else if inside {
            names.extend(line.split(['.', '=', ' ']).next().map(|name| name.trim_matches('"').to_owned()));
            // A renamed package is what it is, not what it is called.
            if let Some((_, package)) = line.split_once("package = \"") {
                names.extend(package.split('"').next().map(str::to_owned));
            }
        }
    }
    names
}

fn check_absent(package: &str, knows: &[&str], absent: &[&str]) {
    let names = dependencies(package);
    for name in knows {
        assert!(names.contains(*name), "{package} is expected to depend on {name}, found {names:?}");
    }
    for name in absent {
        assert!(!names.contains(*name), "{package} must not depend on {name}: see docs/architecture.md");
    }
}

#[test]
fn dependencies_are_found_however_they_are_written() {
    let manifest = r#"
        [features]
        zenoh = ["accompanist-transport/zenoh"]
        [dependencies]
        serde.workspace = true
        fjall = "3"
        database = { version = "1", package = "sqlx" } # a comment
        [dependencies.ractor]
        version = "1"
        [dev-dependencies]
        tokio = "1"
        [dev-dependencies.trybuild]
        version = "1"
        [target.'cfg(unix)'.dependencies]
        rustix = "1"
    "#;
    let found: Vec<_> = dependencies_in(manifest).into_iter().collect();
    assert_eq!(found, ["database", "fjall", "ractor", "rustix", "serde", "sqlx"]);
}

#[test]
fn core_knows_no_runtime_no_database_no_network_and_no_actors() {
    let above = ["accompanist-transport", "accompanist"];
    check_absent("core", &["serde", "postcard"], &["tokio", "fjall", "zenoh", "ractor", "async-std", "metrics"]);
    check_absent("core", &[], &above);
}

#[test]
fn macros_know_no_other_crate_of_the_project() {
    let above = ["accompanist-core", "accompanist-transport", "accompanist"];
    check_absent("macros", &["syn", "quote"], &above);
    check_absent("core", &["accompanist-macros"], &[]);
}

#[test]
fn transport_knows_no_actors_and_no_database() {
    check_absent(
        "transport",
        &["accompanist-core", "zenoh"],
        &["ractor", "fjall", "accompanist", "accompanist-macros"],
    );
}

#[test]
fn actors_know_zenoh_only_through_the_transport() {
    check_absent("actors", &["accompanist-core", "accompanist-transport", "ractor"], &["zenoh"]);
}

#[test]
fn rooms_of_core_use_only_rooms_below_them() {
    check_rooms("core");
}

#[test]
fn rooms_of_actors_use_only_rooms_below_them() {
    check_rooms("actors");
}

fn check_rooms(package: &str) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(package).join("src");
    let refused: Vec<String> = refused_arrows(&sources).iter().map(ToString::to_string).collect();
    assert!(refused.is_empty(), "against the table in {package}/src/lib.rs:\n{}", refused.join("\n"));
}

/// A payload that nobody holds cannot panic when it is dropped.
#[test]
fn panics_are_caught_in_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut sources = Vec::new();
    for folder in ["macros/src", "core/src", "transport/src", "actors/src"] {
        files(&root.join(folder), &mut sources);
    }
    assert!(sources.len() > 100, "the sources were not found");
    sources.retain(|file| fs::read_to_string(file).unwrap().contains("catch_unwind"));
    assert_eq!(sources, [root.join("core/src/base/panics.rs")]);
}

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Not even by name: a comment or a doc link may speak of them, code may not.
#[test]
fn no_code_of_core_names_what_it_must_not_know() {
    let mut sources = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    assert!(sources.len() > 10, "the sources were not found");
    for source in sources {
        let text = fs::read_to_string(&source).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            for name in ["tokio::", "fjall::", "zenoh::", "ractor::", "std::fs", "std::net", "std::thread"] {
                // The harness names a test's thread after it.
                let asks_for_its_test = source.ends_with("testing/again.rs") && line.contains("std::thread::current()");
                assert!(!line.contains(name) || asks_for_its_test, "{}: {line}", source.display());
            }
        }
    }
}

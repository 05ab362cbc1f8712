//! The rooms of a crate, and the arrows between them: which room's code uses which other room, read from the sources.
//!
//! The list of rooms is the table in the documentation of the crate's `lib.rs`, so that what readers see is what is
//! proved. Next: `layers`, which checks the crates with it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};

/// A row of the table: a room, and the rooms it may use.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Room {
    name: String,
    may_use: Vec<String>,
}

/// A use of one room by another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrow {
    pub file: PathBuf,
    pub from: String,
    pub to: String,
}

impl fmt::Display for Arrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}` uses `{}`", self.file.display(), self.from, self.to)
    }
}

/// The words of the table for all rooms in the rows above.
const ALL_ABOVE: &str = "all of the above";

/// Reads the table `| room | what it holds | may use |` in the documentation of a `lib.rs`.
fn rooms(documentation: &str) -> Vec<Room> {
    let rows = documentation.lines().filter_map(|line| line.strip_prefix("//! |"));
    let mut rooms: Vec<Room> = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
        let [name, _, may_use] = cells[..] else { panic!("a row of the rooms has three cells, not {row}") };
        let Some(name) = quoted(name).into_iter().next() else { continue }; // The head of the table.
        let above =
            if may_use.contains(ALL_ABOVE) { rooms.iter().map(|room| room.name.clone()).collect() } else { vec![] };
        let may_use: Vec<String> = above.into_iter().chain(quoted(may_use)).collect();
        for used in &may_use {
            assert!(rooms.iter().any(|room| room.name == *used), "`{name}` may use `{used}`, which is not above it");
        }
        rooms.push(Room { name, may_use });
    }
    rooms
}

/// The words of `text` between backquotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The arrows that the sources under `root`, which is a crate's `src`, draw against the table of its `lib.rs`, and
/// against the table that a room may have for the rooms within it.
pub fn refused_arrows(root: &Path) -> Vec<Arrow> {
    let mut files = Vec::new();
    sources(root, &mut files);
    let outer = rooms(&fs::read_to_string(root.join("lib.rs")).unwrap());
    assert!(outer.len() > 3 && files.len() > 10, "the rooms or the sources were not found in {}", root.display());
    let within = |room: &Room| {
        let inner = rooms(&fs::read_to_string(root.join(&room.name).join("mod.rs")).unwrap_or_default());
        (vec![room.name.clone()], inner)
    };
    let tables = iter::once((Vec::new(), outer.clone())).chain(outer.iter().map(within));
    let mut found = Vec::new();
    for (place, rooms) in tables.filter(|(_, rooms)| !rooms.is_empty()) {
        for file in &files {
            let name = file.strip_prefix(root).unwrap();
            found.extend(refused(arrows(name, &fs::read_to_string(file).unwrap(), &place, &rooms), &rooms));
        }
    }
    found
}

/// The arrows from the room of `file` (relative to `src`) to other rooms of the same place: the crate, or a room with
/// rooms of its own. A name that is in none of them is an arrow, too: a re-export is for users.
fn arrows(file: &Path, source: &str, place: &[String], rooms: &[Room]) -> Vec<Arrow> {
    let module = module_of(file);
    let Some(inside) = module.strip_prefix(place).filter(|inside| !inside.is_empty()) else {
        return Vec::new(); // The file is elsewhere, or declares the rooms.
    };
    let from = room_of(inside, rooms);
    let from = from.unwrap_or_else(|| panic!("{} is in no room: give it a row in the table", file.display()));
    let used = used_paths(&code_of(source), &module);
    let to = used.iter().filter_map(|path| path.strip_prefix(place));
    let to = to.map(|path| room_of(path, rooms).unwrap_or_else(|| path.join("::")));
    let arrows = to.map(|to| Arrow { file: file.to_owned(), from: from.clone(), to });
    arrows.filter(|arrow| arrow.to != arrow.from).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The arrows that the table does not allow.
fn refused(arrows: Vec<Arrow>, rooms: &[Room]) -> Vec<Arrow> {
    let is_allowed =
        |arrow: &Arrow| rooms.iter().any(|room| room.name == arrow.from && room.may_use.contains(&arrow.to));
    arrows.into_iter().filter(|arrow| !is_allowed(arrow)).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_test = path.file_name().is_some_and(|name| name == "tests.rs");
        if path.is_dir() && !path.ends_with("bin") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
            found.push(path);
        }
    }
}

/// The module that a file (relative to `src`) holds.
fn module_of(file: &Path) -> Vec<String> {
    let names = file.with_extension("");
    let names = names.iter().map(|name| name.to_str().unwrap().to_owned());
    names.filter(|name| name != "mod" && name != "lib").collect()
}

/// The room that a path of modules is in.
fn room_of(path: &[String], rooms: &[Room]) -> Option<String> {
    let first = path.first()?;
    rooms.iter().map(|room| &room.name).find(|name| *name == first).cloned()
}

/// The code of a source: without comments, and without the unit tests at its end.
fn code_of(source: &str) -> String {
    let tests = source.find("#[cfg(test)]\n").filter(|at| source[*at..].contains("mod tests {"));
    let source = &source[..tests.unwrap_or(source.len())];
    let lines = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The paths of this crate that `code` names, beginning at the crate's root.
fn used_paths(code: &str, module: &[String]) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            // `$crate::` is a macro's; `super::super::` is handled at its first `super`.
            let begins = !before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == '$');
            if !begins || (start == "super::" && code[..at].ends_with("super::")) {
                continue;
            }
            let mut rest = &code[at..];
            let mut base = if start == "crate::" { Vec::new() } else { module.to_vec() };
            if let Some(after) = rest.strip_prefix("crate::") {
                rest = after;
            }
            while let Some(after) = rest.strip_prefix("super::") {
                rest = after;
                base.pop();
            }
            if start == "super::" && base.is_empty() && module.is_empty() {
                continue;
            }
            expand(&base, rest, &mut paths);
        }
    }
    paths
}

/// Adds the paths of the use tree at the beginning of `text`, each under `base`. Returns what follows the tree.
fn expand<'a>(base: &[String], text: &'a str, paths: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = expand(base, rest, paths).trim_start();
            rest = rest.strip_prefix(',').map_or(rest, str::trim_start);
            if rest.is_empty() || rest.starts_with('}') {
                return rest.strip_prefix('}').unwrap_or_default();
            }
        }
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let mut path = base.to_vec();
    if name != "self" && !name.is_empty() {
        path.push(name.to_owned());
    }
    if let Some(rest) = rest.strip_prefix("::") {
        return expand(&path, rest, paths);
    }
    paths.push(path);
    // What follows a renamed or starred name is not a path.
    let end = rest.find([',', '}', ';', '\n']).unwrap_or(rest.len());
    &rest[end..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(code: &str) -> Vec<String> {
        let module = ["runtime".to_owned(), "link".to_owned()];
        let mut paths: Vec<String> =
            used_paths(&code_of(code), &module).into_iter().map(|path| path.join("/")).collect();
        paths.sort();
        paths
    }

    #[test]
    fn paths_are_found_however_they_are_written() {
        assert_eq!(paths("use crate::base::id;"), ["base/id"]);
        assert_eq!(paths("use crate::{base::{id, role::Role}, store as s};"), ["base/id", "base/role/Role", "store"]);
        assert_eq!(paths("use crate::frame::{self, Body};"), ["frame", "frame/Body"]);
        assert_eq!(paths("let x = f(crate::state::get(1), 2);"), ["state/get"]);
        assert_eq!(paths("use super::super::node::Node; use super::directory;"), ["node/Node", "runtime/directory"]);
        assert_eq!(paths("pub(crate) use crate::wire::*;"), ["wire"]);
        assert_eq!(paths("// crate::base\n/// [`crate::base`]\n$crate::base::id"), Vec::<String>::new());
        assert_eq!(paths("fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::base::id;\n}"), Vec::<String>::new());
    }

    const TABLE: &str = "//! | room | what | may use |\n//! |---|---|---|\n//! | `base` | ids | |\n\
                         //! | `store` | a store | `base` |\n//! | `node` | a node | all of the above |\n";
    const TABLE_WITHIN: &str = "//! | `context` | what is shared | |\n//! | `link` | a link | `context` |\n";

    #[test]
    fn a_table_is_read_from_the_top_to_the_bottom() {
        let found = rooms(TABLE);
        assert_eq!(found.iter().map(|room| room.name.as_str()).collect::<Vec<_>>(), ["base", "store", "node"]);
        assert_eq!(found[1].may_use, ["base"]);
        assert_eq!(found[2].may_use, ["base", "store"]);
    }

    #[test]
    #[should_panic(expected = "which is not above it")]
    fn a_table_with_an_arrow_upwards_is_refused() {
        rooms("//! | `base` | ids | `node` |\n//! | `node` | a node | |\n");
    }

    #[test]
    #[should_panic(expected = "is in no room")]
    fn a_file_in_no_room_is_refused() {
        arrows(Path::new("attic/chest.rs"), "", &[], &rooms(TABLE));
    }

    /// A planted import makes the check fail, also through a re-export at the crate's root.
    #[test]
    fn an_arrow_that_the_table_does_not_list_is_refused() {
        let check = |place: &[String], table: &str, file: &str, source: &str| {
            let rooms = rooms(table);
            let refused = refused(arrows(Path::new(file), source, place, &rooms), &rooms);
            refused.into_iter().map(|arrow| arrow.to).collect::<Vec<_>>()
        };
        let planted: [(&str, &str, &[&str]); 6] = [
            ("node/builder.rs", "use crate::base::Id;\nuse super::Node;", &[]),
            ("node/builder.rs", "use crate::{base::Id, store::{Store, fjall}};", &[]),
            ("base/id.rs", "use crate::node::Node;", &["node"]),
            ("base/mod.rs", "use super::{node::Node, store};", &["node", "store"]),
            ("base/id.rs", "fn f(at: crate::Node) {}", &["Node"]),
            ("store/mod.rs", "mod x { use crate::base::Id; }\nuse crate::node;", &["node"]),
        ];
        for (file, source, refused) in planted {
            assert_eq!(check(&[], TABLE, file, source), refused);
        }
        let within = ["node".to_owned()];
        let planted: [(&str, &str, &[&str]); 4] = [
            ("node/link/queue.rs", "use crate::node::context::Context;\nuse crate::base::Id;", &[]),
            ("node/context.rs", "use super::link::Link;", &["link"]),
            ("node/context.rs", "use crate::node::Node;", &["Node"]),
            ("base/id.rs", "use crate::node::link::Link;", &[]),
        ];
        for (file, source, refused) in planted {
            assert_eq!(check(&within, TABLE_WITHIN, file, source), refused);
        }
    }
}

//! The page of errors has each error that a caller can get, with its text, and each code of an abort by the runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Page, files, root, tables};

/// Texts that begin alike and are no codes: names of a role and a table of the runtime, and of the settings' file.
const NO_CODES: [&str; 3] = ["accompanist.sender", "accompanist.actors", "accompanist.toml"];
/// Of tests and simulated worlds.
const OF_TESTS: &str = "/testing/";

/// A type of errors: what it says of itself, and its texts, each with the name of its variant.
struct ErrorType {
    meaning: String,
    texts: Vec<(String, String)>,
}

/// The error types by name and file: two have one name.
type ErrorTypes = BTreeMap<(String, PathBuf), ErrorType>;

/// The source files of the three crates.
fn sources() -> Vec<(PathBuf, String)> {
    let files = ["core/src", "transport/src", "actors/src"].into_iter().flat_map(|folder| files(folder, "rs"));
    let files = files.filter(|file| !file.to_string_lossy().contains(OF_TESTS));
    files.map(|file| (file.clone(), fs::read_to_string(root().join(file)).unwrap())).collect()
}

/// The name that a declaration `.. keyword Name ..` declares.
fn declared<'a>(line: &'a str, keyword: &str) -> Option<&'a str> {
    let name = line.strip_prefix(keyword)?;
    Some(&name[..name.find(|c: char| !c.is_alphanumeric()).unwrap_or(name.len())])
}

/// The text in `#[error(..)]`, which begins at `lines[at]`, and how many lines it takes.
fn error_text(lines: &[&str], at: usize) -> (String, usize) {
    let count = 1 + lines[at..].iter().position(|line| line.ends_with(")]")).unwrap();
    let whole: String = lines[at..at + count].iter().map(|line| line.strip_suffix('\\').unwrap_or(line)).collect();
    let Some((_, quoted)) = whole.split_once('"') else { return ("that of the error within".into(), count) };
    let mut text = String::new();
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next().filter(|letter| *letter != '"') {
        text.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    (text.replace('<', "&lt;"), count)
}

/// A comment without its links to items.
fn plain(comment: &[&str]) -> String {
    let mut plain = String::new();
    let text = comment.join(" ").replace("[`", "`");
    for part in text.split_inclusive("`]") {
        let part = part.strip_suffix(']').filter(|_| part.ends_with("`]")).unwrap_or(part);
        let linked = part.starts_with('(').then(|| part.split_once(')')).flatten();
        plain.push_str(linked.map_or(part, |(_, rest)| rest));
    }
    plain
}

/// The public error types of a source, by name. rustfmt's layout is relied on.
fn error_types(file: &Path, source: &str, found: &mut ErrorTypes) {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let (mut meaning, mut text, mut of, mut derives) = (Vec::new(), None, None::<(String, PathBuf)>, false);
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        at += 1;
        if let Some(words) = line.strip_prefix("/// ") {
            meaning.push(words);
        } else if line.starts_with("#[error(") {
            let (found, count) = error_text(&lines, at - 1);
            (text, at) = (Some(found), at - 1 + count);
        } else if line.starts_with("#[") {
            derives |= line.starts_with("#[derive(") && line.contains("Error)]");
        } else if let Some(name) = declared(line, "pub enum ").or(declared(line, "pub struct ")).filter(|_| derives) {
            let texts = text.take().map(|text| (String::new(), text)).into_iter().collect();
            let key = (name.to_owned(), file.to_owned());
            found.insert(key.clone(), ErrorType { meaning: plain(&meaning), texts });
            (of, derives) = (Some(key), false);
            meaning.clear();
        } else {
            if let (Some(text), Some(of)) = (text.take(), &of) {
                let variant = declared(line, "").unwrap().to_owned();
                found.get_mut(of).unwrap().texts.push((variant, text));
            }
            if line.contains("enum ") || line.contains("struct ") {
                (of, derives) = (None, false); // Not public, or no error.
            }
            meaning.clear();
        }
    }
}

#[test]
fn the_page_of_errors_has_each_error() {
    let mut types = ErrorTypes::new();
    let mut written = 0;
    for (file, source) in sources() {
        error_types(&file, &source, &mut types);
        written += source.matches("#[error(").count();
    }
    let mut table = String::new();
    let mut found = 0;
    for ((name, file), ErrorType { meaning, texts }) in types {
        let file = file.display();
        writeln!(table, "### {name}\n\n{meaning} [{file}](../../{file})\n\n| variant | text |\n|---|---|").unwrap();
        found += texts.len();
        for (variant, text) in texts {
            writeln!(table, "| {variant} | {} |", tables::cell(&text)).unwrap();
        }
        table.push('\n');
    }
    // Those that are not public are the rest.
    assert!(found > 150 && found + 10 > written, "{found} of {written} texts were found");
    tables::check("docs/reference/errors.md", "errors", &table);
}

#[test]
fn the_page_of_errors_has_each_code_of_the_runtime() {
    let mut codes = BTreeSet::new();
    for (_, source) in sources() {
        for (_, rest) in source.match_indices("\"accompanist.").map(|(at, _)| source.split_at(at + 1)) {
            codes.insert(rest.split('"').next().unwrap().to_owned());
        }
    }
    let is_code = |code: &str| code.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '.' | '-'));
    codes.retain(|code| is_code(code) && !NO_CODES.contains(&&**code));
    assert!(codes.len() > 10, "the codes were not found");
    let page = Page::read("docs/reference/errors.md");
    let missing: Vec<_> = codes.iter().filter(|code| !page.text.contains(&format!("| `{code}` |"))).collect();
    assert!(missing.is_empty(), "docs/reference/errors.md does not say what these codes mean: {missing:?}");
    let known = page.text.lines().filter_map(|line| line.strip_prefix("| `accompanist."));
    let known: Vec<_> = known.map(|line| format!("accompanist.{}", line.split('`').next().unwrap())).collect();
    let gone: Vec<_> = known.iter().filter(|code| !codes.contains(*code)).collect();
    assert!(gone.is_empty(), "docs/reference/errors.md has codes that no code has: {gone:?}");
}

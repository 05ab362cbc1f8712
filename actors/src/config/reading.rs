//! Reads a file and variables key by key, so that one mistake hides no other.
//!
//! Each key is deserialized alone, with the defaults of all others; those that can be used are put together. Next:
//! `wording.rs` for what is said of a key that cannot.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Table, Value};

use super::error::ConfigMistake;
use super::examples::{self, SECTIONS};
use super::sections::{NodeSection, StoreSection, ZenohSection};
use super::settings::Settings;
use super::source::{Source, in_variable};
use super::wording::{self, Refused};
use super::{PREFIX, SEPARATOR};

/// What a file and variables give.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) settings: Settings,
    pub(super) node: NodeSection,
    pub(super) store: StoreSection,
    /// `None` if neither the file nor a variable has the section.
    pub(super) zenoh: Option<ZenohSection>,
}

/// What has been read, and what could not be.
#[derive(Debug, Default)]
pub(super) struct Reading {
    table: Table,
    pub(super) mistakes: Vec<ConfigMistake>,
    /// The lines that are not TOML. What is recovered of them is not looked at.
    broken: BTreeSet<usize>,
    /// Unknown keys, so that a table that there is not is one mistake, not one for each of its keys.
    unknown: BTreeSet<Vec<String>>,
}

impl Reading {
    /// Reads the text of `source`, and then `variables`, which override it and are noted in `source`.
    pub(super) fn of(source: &mut Source, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut reading = Self::default();
        reading.read_file(source);
        let mut variables: Vec<_> = variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort(); // Of two contradicting variables, the same one is used at each start.
        for (name, text) in variables {
            let key: Vec<String> = name[PREFIX.len()..].split(SEPARATOR).map(str::to_lowercase).collect();
            match reading.read_variable(&key, &text) {
                None => source.variables.push((key, name)),
                Some(mistake) => reading.mistakes.push(in_variable(mistake, &name)),
            }
        }
        reading
    }

    /// Returns the keys that could not be read.
    pub(super) fn wrong(&self) -> Vec<Vec<String>> {
        self.mistakes.iter().map(|mistake| mistake.key.clone()).collect()
    }

    /// Puts together what could be read.
    pub(super) fn parts(&mut self) -> Parts {
        let mut table = std::mem::take(&mut self.table);
        let [node, store, zenoh] = SECTIONS.map(|name| table.remove(name));
        Parts {
            settings: self.section("", Some(Value::Table(table))).unwrap_or_default(),
            node: self.section("node", node).unwrap_or_default(),
            store: self.section("store", store).unwrap_or_default(),
            zenoh: self.section("zenoh", zenoh),
        }
    }

    /// Keys that can be used one by one can be used together; should they not, that is told.
    fn section<T: DeserializeOwned>(&mut self, name: &str, value: Option<Value>) -> Option<T> {
        let read = T::deserialize(value?);
        read.map_err(|error| self.mistakes.push(ConfigMistake::of_key([name], error.message()))).ok()
    }

    fn read_file(&mut self, source: &Source) {
        let (document, errors) = DeTable::parse_recoverable(&source.text);
        for error in errors {
            let line = source.line_of(error.span().map_or(0, |span| span.start));
            let what = error.message().trim_end().replace('\n', " ");
            let place = Some(format!("{}:{line}", source.file));
            // One mistake may lead the parser to others in its line.
            if self.broken.insert(line) {
                self.mistakes.push(ConfigMistake { place, ..ConfigMistake::of_key([""; 0], what) });
            }
        }
        self.read_table(source, &[], document.get_ref());
    }

    fn read_table(&mut self, source: &Source, path: &[String], table: &DeTable<'_>) {
        for (name, value) in table {
            let key: Vec<String> = path.iter().cloned().chain([name.get_ref().to_string()]).collect();
            if self.broken.contains(&source.line_of(name.span().start)) {
                continue;
            }
            if let DeValue::Table(inner) = value.get_ref()
                && !inner.is_empty()
            {
                self.read_table(source, &key, inner);
                continue;
            }
            let mistake = match Value::deserialize(ValueDeserializer::from(value.clone())) {
                Ok(value) => self.take(&key, value),
                Err(error) => Some(ConfigMistake::of_key(key, error.message())),
            };
            self.mistakes.extend(mistake);
        }
    }

    /// Reads the text as a TOML value, or else as a string: `7`, `0.5` and `one_for_all` need no quotation marks in a
    /// variable.
    fn read_variable(&mut self, key: &[String], text: &str) -> Option<ConfigMistake> {
        let read: Option<Table> = format!("value = {text}").parse().ok();
        let string = Value::String(text.into());
        match read.and_then(|mut table| table.remove("value")) {
            // A name may look like a number.
            Some(value) if checked(key, value.clone()).is_ok() || checked(key, string.clone()).is_err() => {
                self.take(key, value)
            }
            _ => self.take(key, string),
        }
    }

    /// Takes a key if it can be used, or else returns what is wrong.
    fn take(&mut self, key: &[String], value: Value) -> Option<ConfigMistake> {
        let Err((path, message)) = checked(key, value.clone()) else {
            set(&mut self.table, key, value);
            return None;
        };
        let path = if path.is_empty() { key.to_vec() } else { path };
        let mistake = mistake_of(path.clone(), &message);
        let is_known = matches!(wording::refused(&message), Refused::Key(_)) && !self.unknown.insert(path);
        if is_known { None } else { Some(mistake) }
    }
}

/// Deserializes one key alone. An error has the path of the key, and serde's message.
fn checked(key: &[String], value: Value) -> Result<(), (Vec<String>, String)> {
    let Some((first, rest)) = key.split_first() else { return Ok(()) };
    let read = match first.as_str() {
        "node" => attempt::<NodeSection>(rest, value),
        "store" => attempt::<StoreSection>(rest, value),
        "zenoh" if cfg!(not(feature = "zenoh")) => {
            let what = "this binary is built without Zenoh: build `accompanist` with its feature `zenoh`, or leave the \
                        section out";
            return Err((vec![first.clone()], what.into()));
        }
        "zenoh" => attempt::<ZenohSection>(rest, value),
        _ => return attempt::<Settings>(key, value),
    };
    read.map_err(|(path, message)| ([first.clone()].into_iter().chain(path).collect(), message))
}

fn attempt<T: DeserializeOwned>(key: &[String], value: Value) -> Result<(), (Vec<String>, String)> {
    serde_path_to_error::deserialize::<_, T>(nested(key, value)).map(drop).map_err(|error| {
        let keys = error.path().iter().filter_map(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            _ => None,
        });
        (keys.collect(), error.inner().message().to_owned())
    })
}

/// Returns what is wrong with the key at `path`, from serde's message.
fn mistake_of(path: Vec<String>, message: &str) -> ConfigMistake {
    let name = path.last().cloned().unwrap_or_default();
    match wording::refused(message) {
        Refused::Other(what) => ConfigMistake::of_key(path, what),
        Refused::Word(word, known) => {
            let (hint, meant) = wording::hint(word, &known);
            let right = meant.or(known.first().copied()).map(|word| Value::from(word).to_string());
            let mistake = ConfigMistake::of_key(path, format!("there is no such word{hint}"));
            match right {
                Some(right) => mistake.with_value(&right),
                None => mistake,
            }
        }
        Refused::Key(mut known) => {
            if path.len() == 1 {
                known.extend(SECTIONS);
            }
            unknown_key(path, &name, &known)
        }
    }
}

fn unknown_key(path: Vec<String>, name: &str, known: &[&str]) -> ConfigMistake {
    let (hint, beside) = wording::hint(name, known);
    let (hint, meant) = match (beside, examples::elsewhere(name)) {
        (None, Some(elsewhere)) => (format!(" here: did you mean `{}`?", elsewhere.join(".")), Some(elsewhere)),
        (beside, _) => {
            let table = path.split_last().map_or(&[][..], |(_, table)| table);
            (hint, beside.map(|key| table.iter().cloned().chain([key.to_owned()]).collect()))
        }
    };
    let mistake = ConfigMistake::of_key(path, format!("there is no such key{hint}"));
    match meant.and_then(|key| Some((examples::value_of(&key)?, key))) {
        Some((value, key)) => mistake.or_right(key, value),
        None => mistake,
    }
}

fn nested(key: &[String], value: Value) -> Value {
    match key {
        [] => value,
        [first, rest @ ..] => Value::Table(Table::from_iter([(first.clone(), nested(rest, value))])),
    }
}

fn set(table: &mut Table, key: &[String], value: Value) {
    match key {
        [] => {}
        [last] => drop(table.insert(last.clone(), value)),
        [first, rest @ ..] => {
            let inner = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

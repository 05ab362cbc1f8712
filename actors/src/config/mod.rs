//! Settings from a file and the environment, with errors that name the place.
//!
//! The file is [`Settings`] as TOML, key by key; `docs/accompanist.toml` lists all keys. Times are strings: `"20ms"`,
//! `"7days"`. Variables of the environment take precedence over the file:
//! `ACCOMPANIST__SUPERVISION__TREE__RESTARTS_MAX=7` sets the key `supervision.tree.restarts_max`.

mod bound;
mod policy;
pub(crate) mod ranges;
mod settings;
mod tree;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

pub use self::policy::{Policy, PolicyChange, Strategy, Supervision};
pub use self::settings::{Actors, Durability, Retention, Settings};

/// The pause before the second advertisement of a node; it doubles each time, up to `advertisement_period_max`.
pub(crate) const ADVERTISEMENT_DELAY_MIN: Duration = Duration::from_millis(50);

/// The prefix of environment variables that are settings.
const PREFIX: &str = "ACCOMPANIST__";
/// The separator between the parts of a key in a variable's name.
const SEPARATOR: &str = "__";
/// The least similarity at which a word is suggested as the one that was meant; 1 is equality.
const ALIKE: f64 = 0.8;

/// Settings, and where they come from.
///
/// ```
/// use accompanist::Config;
///
/// let file = "instances_max = 1000\n[supervision.tree]\nrestart_max = 3\n";
/// let error = Config::from_toml("accompanist.toml", file, []).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "accompanist.toml:3: supervision.tree.restart_max: there is no such key: did you mean `restarts_max`?"
/// );
///
/// let file = file.replace("restart_max", "restarts_max");
/// let variables = [("ACCOMPANIST__INSTANCES_MAX".to_owned(), "2000".to_owned())];
/// let config = Config::from_toml("accompanist.toml", &file, variables)?;
/// assert_eq!(config.settings.instances_max, 2_000);
/// assert_eq!(config.settings.supervision.tree.restarts_max, 3);
/// # Ok::<(), accompanist::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    /// The settings.
    pub settings: Settings,
    source: Source,
}

/// Where settings were set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    file: String,
    text: String,
    /// The keys that variables have set, with the variables' names.
    variables: Vec<(Vec<String>, String)>,
}

/// Settings that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The file and the line, or the variable; `None` for what was set in Rust.
    pub place: Option<String>,
    /// The path of the key.
    pub key: Vec<String>,
    /// The problem, and what to do.
    pub what: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_deref().unwrap_or("settings");
        let key = if self.key.is_empty() { String::new() } else { format!("{}: ", self.key.join(".")) };
        write!(f, "{place}: {key}{}", self.what)
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    pub(crate) fn of_key<K: Into<String>>(key: impl IntoIterator<Item = K>, what: String) -> Self {
        Self { place: None, key: key.into_iter().map(Into::into).collect(), what }
    }
}

impl Config {
    /// Reads a file and this process's environment.
    ///
    /// # Errors
    /// Returns [`ConfigError`] for a file that cannot be read, and for anything in it that is no setting or has an
    /// invalid value.
    pub fn load(file: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let file = file.as_ref();
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|error| ConfigError {
            place: Some(name.clone()),
            key: Vec::new(),
            what: format!("it cannot be read: {error}"),
        })?;
        // A variable whose name or value is not UTF-8 is not a setting.
        let texts =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::from_toml(&name, &text, texts)
    }

    /// Reads settings as [`Config::load`] does, from a file's text and from the given variables. Variables that do
    /// not begin with `ACCOMPANIST__` are ignored.
    ///
    /// # Errors
    /// Fails as [`Config::load`] does.
    pub fn from_toml(
        file: &str,
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut source = Source { file: file.into(), text: text.into(), variables: Vec::new() };
        source.read()?;
        // The text is known to parse as settings by now.
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| source.error(&[], &error))?;
        let mut variables: Vec<_> = variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort(); // Of two contradicting variables, the same one is used at each start.
        for (name, value) in variables {
            let key: Vec<String> = name[PREFIX.len()..].split(SEPARATOR).map(str::to_lowercase).collect();
            let value = value_of(&value);
            let alone = Value::Table(nested(&key, value.clone()));
            let read: Result<Settings, _> = serde_path_to_error::deserialize(alone);
            read.map_err(|error| ConfigError {
                place: Some(format!("variable {name}")),
                key: key.clone(),
                what: reworded(error.inner().message()),
            })?;
            set(&mut table, &key, value);
            source.variables.push((key, name));
        }
        let settings = Settings::deserialize(table).map_err(|error| source.error(&[], &error))?;
        let config = Self { settings, source };
        config.settings.check().map_err(|error| config.source.locate(error))?;
        Ok(config)
    }

    pub(crate) fn into_parts(self) -> (Settings, Source) {
        (self.settings, self.source)
    }
}

impl Source {
    /// Returns the file's name; empty for settings that were set in Rust.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    fn read(&self) -> Result<Settings, ConfigError> {
        let deserializer = toml::Deserializer::parse(&self.text).map_err(|error| self.error(&[], &error))?;
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let path: Vec<String> = error.path().iter().map(ToString::to_string).collect();
            self.error(&path, error.inner())
        })
    }

    fn error(&self, path: &[String], error: &toml::de::Error) -> ConfigError {
        let start = error.span().map_or(0, |span| span.start);
        ConfigError { place: Some(self.place_of(start)), key: path.to_vec(), what: reworded(error.message()) }
    }

    fn place_of(&self, byte: usize) -> String {
        let line = self.text.get(..byte).map_or(0, |before| before.matches('\n').count()) + 1;
        format!("{}:{line}", self.file)
    }

    /// Adds to `error` the place where its key, or the table around it, was set.
    pub(crate) fn locate(&self, error: ConfigError) -> ConfigError {
        if self.file.is_empty() {
            return error;
        }
        let by_variable = self.variables.iter().rev().find(|(key, _)| *key == error.key);
        let place = by_variable.map(|(_, name)| format!("variable {name}"));
        let place = place.or_else(|| Some(self.place_of(self.start_of(&error.key)?)));
        ConfigError { place: place.or_else(|| Some(self.file.clone())), ..error }
    }

    fn start_of(&self, key: &[String]) -> Option<usize> {
        let document = DeTable::parse(&self.text).ok()?;
        let (mut table, mut start) = (document.get_ref(), None);
        for part in key {
            let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == part.as_str()) else { break };
            start = Some(name.span().start);
            let DeValue::Table(inner) = value.get_ref() else { break };
            table = inner;
        }
        start
    }
}

/// Reads the text as a TOML value, or else as a string: `7`, `0.5` and `one_for_all` need no quotation marks in a
/// variable.
fn value_of(text: &str) -> Value {
    let read: Option<Table> = format!("value = {text}").parse().ok();
    read.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(text.into()))
}

fn nested(key: &[String], value: Value) -> Table {
    match key {
        [] => Table::new(),
        [last] => Table::from_iter([(last.clone(), value)]),
        [first, rest @ ..] => Table::from_iter([(first.clone(), Value::Table(nested(rest, value)))]),
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

/// Rewords serde's message about an unknown key or word, with a suggestion of what was most likely meant.
fn reworded(message: &str) -> String {
    let mut words = message.split('`').skip(1).step_by(2);
    let what = if message.starts_with("unknown field") {
        "there is no such key"
    } else if message.starts_with("unknown variant") {
        "there is no such word"
    } else {
        return message.trim_end().replace('\n', " ");
    };
    let word = words.next().unwrap_or_default();
    let known: Vec<&str> = words.collect();
    match meant(word, known.iter().copied()) {
        Some(meant) => format!("{what}: did you mean `{meant}`?"),
        None => format!("{what}; there are: {}", known.join(", ")),
    }
}

pub(crate) fn meant<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |known: &&str| strsim::jaro_winkler(word, known);
    let alike = known.into_iter().filter(|known| likeness(known) >= ALIKE);
    alike.max_by(|one, other| likeness(one).total_cmp(&likeness(other)))
}

impl Settings {
    /// Checks each number and each time, and those that must fit together. The start of a node and the reading of a
    /// file call this.
    ///
    /// # Errors
    /// Returns [`ConfigError`] for the first setting that cannot work, with its key and what to do.
    pub fn check(&self) -> Result<(), ConfigError> {
        ranges::check(self)?;
        let age_max = self.retention.age_max.unwrap_or(self.retention.age_min);
        let below = [
            (
                "retransmission_delay_min",
                self.retransmission_delay_min,
                "retransmission_delay_max",
                self.retransmission_delay_max,
            ),
            (
                "lazy_write_delay_max",
                self.lazy_write_delay_max,
                "retransmission_delay_min",
                self.retransmission_delay_min,
            ),
            ("retransmission_delay_max", self.retransmission_delay_max, "retention.age_min", self.retention.age_min),
            ("retention.age_min", self.retention.age_min, "retention.age_max", age_max),
            (
                "actors.forward_delay_min",
                self.actors.forward_delay_min,
                "actors.forward_delay_max",
                self.actors.forward_delay_max,
            ),
        ];
        for (key, time, other, bound) in below {
            if time > bound {
                let [time, bound] = [time, bound].map(humantime::format_duration);
                return Err(ConfigError::of_key(
                    key.split('.'),
                    format!("{time} is above `{other}`, {bound}: give a shorter one"),
                ));
            }
        }
        let limits = &self.limits;
        let pauses = [
            ("nudge_delay_min_ms", limits.nudge_delay_min_ms, "nudge_delay_max_ms", limits.nudge_delay_max_ms),
            ("retry_delay_min_ms", limits.retry_delay_min_ms, "retry_delay_max_ms", limits.retry_delay_max_ms),
        ];
        for (key, min, other, max) in pauses {
            if min > max {
                return Err(ConfigError::of_key(
                    ["limits", key],
                    format!("{min} is above `{other}`, {max}: give a shorter one"),
                ));
            }
        }
        self.supervision.check().map_err(|(key, what)| ConfigError::of_key(key, what))
    }

    /// Checks that every role, choreography and group named in the settings exists.
    pub(crate) fn check_names(
        &self,
        roles: &[&str],
        choreographies: &BTreeSet<&str>,
        groups: &[&str],
    ) -> Result<(), ConfigError> {
        let supervision = &self.supervision;
        let choreographies: Vec<&str> = choreographies.iter().copied().collect();
        let named = [
            ("roles", supervision.roles.keys(), roles, "this node plays no such role"),
            (
                "choreographies",
                supervision.choreographies.keys(),
                &choreographies,
                "this node has no such choreography",
            ),
            ("groups", supervision.groups.keys(), groups, "this node has no such group (`NodeBuilder::supervise`)"),
        ];
        for (table, names, known, what) in named {
            let unknown = { names }.find(|name| !known.contains(&name.as_str()));
            let Some(name) = unknown else { continue };
            let hint = match meant(name, known.iter().copied()) {
                Some(meant) => format!(": did you mean `{meant}`?"),
                None if known.is_empty() => ", nor any other".into(),
                None => format!("; there are: {}", known.join(", ")),
            };
            return Err(ConfigError::of_key(["supervision", table, name], format!("{what}{hint}")));
        }
        Ok(())
    }
}

//! Where settings were set: a file's lines, and variables.

use toml::de::{DeTable, DeValue};

use super::SEPARATOR;
use super::error::{ConfigError, ConfigMistake};

/// Where settings were set. Empty for settings from Rust.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    pub(super) file: String,
    pub(super) text: String,
    /// The keys that variables have set, with the variables' names.
    pub(super) variables: Vec<(Vec<String>, String)>,
}

impl Source {
    /// Returns the file's name; empty for settings that were set in Rust.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn line_of(&self, byte: usize) -> usize {
        self.text.get(..byte).map_or(0, |before| before.matches('\n').count()) + 1
    }

    /// Returns an error if there are mistakes, with the place of each: where its key, or the table around it, was set.
    pub(crate) fn check(&self, mistakes: Vec<ConfigMistake>) -> Result<(), ConfigError> {
        let mut located: Vec<_> = mistakes.into_iter().map(|mistake| self.locate(mistake)).collect();
        located.sort_by_key(|(line, _)| *line); // Keeps the order within a line.
        ConfigError::unless_none(located.into_iter().map(|(_, mistake)| mistake).collect())
    }

    /// Returns an error about one key.
    pub(crate) fn error(&self, key: &[&str], what: &str) -> ConfigError {
        let (_, mistake) = self.locate(ConfigMistake::of_key(key.iter().copied(), what));
        mistake.into()
    }

    /// Adds the place to a mistake that has none. The line comes with it, [`usize::MAX`] outside of the file.
    fn locate(&self, mistake: ConfigMistake) -> (usize, ConfigMistake) {
        if self.file.is_empty() {
            return (usize::MAX, mistake);
        }
        if let Some(place) = &mistake.place {
            let line = place.strip_prefix(&self.file).and_then(|rest| rest.strip_prefix(':')?.parse().ok());
            return (line.unwrap_or(usize::MAX), mistake);
        }
        let mistake = match mistake.reversed.clone() {
            Some(reversed) if !self.sets(&mistake.key) && self.sets(&reversed.key) => *reversed,
            _ => mistake,
        };
        if let Some(name) = self.variable_of(&mistake.key) {
            let name = name.to_owned();
            return (usize::MAX, in_variable(mistake, &name));
        }
        let line = self.start_of(&mistake.key).map(|(start, _)| self.line_of(start));
        let place = line.map_or(self.file.clone(), |line| format!("{}:{line}", self.file));
        (line.unwrap_or(usize::MAX), ConfigMistake { place: Some(place), ..mistake })
    }

    fn variable_of(&self, key: &[String]) -> Option<&str> {
        self.variables.iter().rev().find(|(set, _)| set == key).map(|(_, name)| name.as_str())
    }

    fn sets(&self, key: &[String]) -> bool {
        self.variable_of(key).is_some() || self.start_of(key).is_some_and(|(_, depth)| depth == key.len())
    }

    /// Returns where the key begins in the file, or the innermost table around it that the file has, and how many
    /// parts of the path were found.
    fn start_of(&self, key: &[String]) -> Option<(usize, usize)> {
        let (document, _) = DeTable::parse_recoverable(&self.text);
        let (mut table, mut found) = (document.get_ref(), None);
        for (part, depth) in key.iter().zip(1..) {
            let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == part.as_str()) else { break };
            found = Some((name.span().start, depth));
            let DeValue::Table(inner) = value.get_ref() else { break };
            table = inner;
        }
        found
    }
}

/// Places a mistake in a variable, with the example as a variable.
pub(super) fn in_variable(mistake: ConfigMistake, name: &str) -> ConfigMistake {
    let example = mistake.right.as_ref().map(|right| {
        let value = right.value.trim_matches('"');
        format!("{}{}={value}", super::PREFIX, right.key.join(SEPARATOR).to_uppercase())
    });
    ConfigMistake { place: Some(format!("variable {name}")), example, ..mistake }
}

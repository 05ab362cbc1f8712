//! The mistakes in a configuration: where each is, and what to do about it.

use std::fmt;

use super::examples;

/// A configuration that cannot be used, with all of its mistakes.
///
/// ```
/// use accompanist::Config;
///
/// let file = "instances_max = 0\n[limits]\nsignal_max = 7\n";
/// let error = Config::from_toml("accompanist.toml", file, []).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "2 mistakes in the configuration:\n  \
///      accompanist.toml:1: instances_max: 0 is too little: give 1 or more (for example: instances_max = 200000)\n  \
///      accompanist.toml:3: limits.signal_max: there is no such key: did you mean `signals_max`? (for example: \
///      signals_max = 1024)"
/// );
/// assert_eq!(error.mistakes()[1].key, ["limits", "signal_max"]);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    mistakes: Vec<ConfigMistake>,
}

accompanist_core::debug_as_text!(ConfigError);

/// One mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigMistake {
    /// The file and the line, or the variable; `None` for what was set in Rust.
    pub place: Option<String>,
    /// The path of the key; empty for a mistake in the file as such.
    pub key: Vec<String>,
    /// The problem, and what to do.
    pub what: String,
    /// A key with a value that would be right, as it is written in the file, or the variable with one. `None` where
    /// the problem is not a value.
    pub example: Option<String>,
    pub(super) right: Option<Right>,
    /// The keys that this one does not fit. If one of them has a mistake of its own, there is no telling whether they
    /// fit.
    pub(super) others: Vec<Vec<String>>,
    /// The same mistake as one of the other key, for a file that sets the other key alone.
    pub(super) reversed: Option<Box<ConfigMistake>>,
}

/// A key, and a value that would be right for it, as TOML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Right {
    pub(super) key: Vec<String>,
    pub(super) value: String,
}

impl ConfigMistake {
    /// Creates a mistake that has no place, with the usual example for its key.
    pub(crate) fn of_key<K: Into<String>>(key: impl IntoIterator<Item = K>, what: impl Into<String>) -> Self {
        let mistake = Self {
            place: None,
            key: key.into_iter().map(Into::into).collect(),
            what: what.into(),
            example: None,
            right: None,
            others: Vec::new(),
            reversed: None,
        };
        mistake.with_usual_value()
    }

    fn with_usual_value(self) -> Self {
        match examples::value_of(&self.key) {
            Some(value) => self.with_value(&value),
            None => self,
        }
    }

    /// Replaces the example: `value` is TOML.
    pub(super) fn with_value(self, value: &impl ToString) -> Self {
        let key = self.key.clone();
        self.or_right(key, value.to_string())
    }

    /// Replaces the example by one that has another key.
    pub(super) fn or_right(mut self, key: Vec<String>, value: String) -> Self {
        let is_beside = key.split_last().map(|(_, table)| table) == self.key.split_last().map(|(_, table)| table);
        let written = if is_beside { key.last().cloned().unwrap_or_default() } else { key.join(".") };
        self.example = Some(format!("{written} = {value}"));
        self.right = Some(Right { key, value });
        self
    }

    /// Adds the keys that this one does not fit.
    pub(super) fn against(mut self, others: impl IntoIterator<Item = Vec<String>>) -> Self {
        self.others.extend(others);
        self
    }

    /// Moves the mistake of a key into the table that has the key.
    pub(crate) fn within(self, table: &[&str]) -> Self {
        let moved = |key: Vec<String>| table.iter().map(ToString::to_string).chain(key).collect::<Vec<_>>();
        let mistake = Self {
            key: moved(self.key),
            right: self.right.map(|right| Right { key: moved(right.key), ..right }),
            others: self.others.into_iter().map(moved).collect(),
            reversed: self.reversed.map(|reversed| Box::new(reversed.within(table))),
            ..self
        };
        // Only the whole path leads to a default.
        if mistake.right.is_none() { mistake.with_usual_value() } else { mistake }
    }
}

impl fmt::Display for ConfigMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_deref().unwrap_or("settings");
        let key = if self.key.is_empty() { String::new() } else { format!("{}: ", self.key.join(".")) };
        write!(f, "{place}: {key}{}", self.what)?;
        self.example.as_ref().map_or(Ok(()), |example| write!(f, " (for example: {example})"))
    }
}

impl ConfigError {
    /// Returns `Err` if there is a mistake.
    pub(crate) fn unless_none(mistakes: Vec<ConfigMistake>) -> Result<(), Self> {
        if mistakes.is_empty() { Ok(()) } else { Err(Self { mistakes }) }
    }

    /// Returns the mistakes, of which there is at least one: those in the file by their lines, then those in variables
    /// and in settings from Rust.
    pub fn mistakes(&self) -> &[ConfigMistake] {
        &self.mistakes
    }
}

impl From<ConfigMistake> for ConfigError {
    fn from(mistake: ConfigMistake) -> Self {
        Self { mistakes: vec![mistake] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [mistake] = self.mistakes.as_slice() {
            return mistake.fmt(f);
        }
        write!(f, "{} mistakes in the configuration:", self.mistakes.len())?;
        self.mistakes.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for ConfigError {}

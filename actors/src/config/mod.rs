//! Settings, and the parts of a node, from a file and the environment, with errors that name the place.
//!
//! The file is [`Settings`] as TOML, key by key, and the sections `[node]`, `[store]` and `[zenoh]`;
//! `docs/accompanist.toml` lists all keys. Times are strings: `"20ms"`, `"7days"`. Variables of the environment take
//! precedence over the file: `ACCOMPANIST__SUPERVISION__TREE__RESTARTS_MAX=7` sets the key
//! `supervision.tree.restarts_max`. Next: `reading.rs`, which finds all mistakes at once.

mod bound;
mod contradictions;
mod error;
mod examples;
mod parts;
mod policy;
pub(crate) mod ranges;
mod reading;
mod sections;
mod settings;
mod sizes;
mod source;
mod tree;
mod wording;

use std::path::Path;
use std::time::Duration;

#[cfg(feature = "zenoh")]
use accompanist_transport::ZenohConfig;

pub use self::error::{ConfigError, ConfigMistake};
pub use self::policy::{Policy, PolicyChange, Strategy, Supervision};
use self::reading::{Parts, Reading};
pub use self::sections::{NodeConfig, StoreConfig};
pub use self::settings::{Actors, AdminNetworkAccess, AdminSettings, Durability, Retention, Settings};
pub use self::sizes::FjallSizes;
pub(crate) use self::source::Source;

/// The pause before the second advertisement of a node; it doubles each time, up to `advertisement_period_max`.
pub(crate) const ADVERTISEMENT_DELAY_MIN: Duration = Duration::from_millis(50);

/// The prefix of environment variables that are settings.
const PREFIX: &str = "ACCOMPANIST__";
/// The separator between the parts of a key in a variable's name.
const SEPARATOR: &str = "__";

/// The settings of a node and the node itself, and where they come from: for
/// [`Node::from_config`](crate::Node::from_config), or, without the sections `[node]`, `[store]` and `[zenoh]`, for
/// [`NodeBuilder::config`](crate::NodeBuilder::config).
///
/// ```
/// use accompanist::Config;
///
/// let file = "instances_max = 1000\n[supervision.tree]\nrestart_max = 3\n";
/// let error = Config::from_toml("accompanist.toml", file, []).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "accompanist.toml:3: supervision.tree.restart_max: there is no such key: did you mean `restarts_max`? \
///      (for example: restarts_max = 5)"
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
    /// Who the node is.
    pub node: NodeConfig,
    /// Where the node keeps its data.
    pub store: StoreConfig,
    /// How the node reaches other nodes. `None` if the transport is given in Rust.
    #[cfg(feature = "zenoh")]
    pub zenoh: Option<ZenohConfig>,
    source: Source,
}

impl Config {
    /// Reads a file and this process's environment. Relative paths in them are relative to the folder of the file.
    ///
    /// # Errors
    /// Returns [`ConfigError`] for a file that cannot be read, or with all that is no setting, has an invalid value or
    /// contradicts another setting.
    pub fn load(file: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let file = file.as_ref();
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|error| ConfigMistake {
            place: Some(name.clone()),
            ..ConfigMistake::of_key([""; 0], format!("it cannot be read ({error}): is this its path?"))
        })?;
        // A variable whose name or value is not UTF-8 is not a setting.
        let texts =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::from_toml(&name, &text, texts)
    }

    /// Reads settings as [`Config::load`] does, from a file's text and from the given variables. Variables that do
    /// not begin with `ACCOMPANIST__` are ignored. `file` is the file's path; the file need not exist.
    ///
    /// # Errors
    /// Fails as [`Config::load`] does.
    pub fn from_toml(
        file: &str,
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut source = Source { file: file.into(), text: text.into(), variables: Vec::new() };
        let mut reading = Reading::of(&mut source, variables);
        let parts = reading.parts();
        let mut mistakes = parts.mistakes(reading.wrong());
        mistakes.extend(reading.mistakes);
        source.check(mistakes)?;
        let Parts { mut settings, node, store, zenoh } = parts;
        let folder = Path::new(file).parent().unwrap_or(Path::new(""));
        settings.seal_key_file = settings.seal_key_file.map(|file| folder.join(file));
        #[cfg(not(feature = "zenoh"))]
        let _ = zenoh;
        Ok(Self {
            settings,
            node: node.into_config(folder),
            store: store.into_config(folder),
            #[cfg(feature = "zenoh")]
            zenoh: zenoh.map(|zenoh| zenoh.into_config(folder)),
            source,
        })
    }

    /// Returns an error about a key: one that the node needs, or one that cannot be used here.
    pub(crate) fn error(&self, key: &[&str], what: &str) -> ConfigError {
        self.source.error(key, what)
    }

    /// Returns the section, besides settings, of which there is something.
    pub(crate) fn given_section(&self) -> Option<&'static str> {
        #[cfg(feature = "zenoh")]
        let has_zenoh = self.zenoh.is_some();
        #[cfg(not(feature = "zenoh"))]
        let has_zenoh = false;
        let sections = [
            ("node", self.node != NodeConfig::default()),
            ("store", self.store != StoreConfig::default()),
            ("zenoh", has_zenoh),
        ];
        sections.into_iter().find(|(_, is_given)| *is_given).map(|(name, _)| name)
    }

    pub(crate) fn into_parts(self) -> (Settings, Source) {
        (self.settings, self.source)
    }
}

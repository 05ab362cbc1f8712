//! What is wrong with the sections of a file beside its settings, each alone and together with the settings.

use accompanist_core::NodeId;
use accompanist_core::id::is_name;

use super::contradictions::without;
use super::error::ConfigMistake;
use super::ranges;
use super::reading::Parts;
use super::sections::{StoreSection, ZenohSection};
use super::settings::Settings;

impl Parts {
    /// Returns all that cannot work; `wrong` are the keys that could not be read.
    pub(super) fn mistakes(&self, wrong: Vec<Vec<String>>) -> Vec<ConfigMistake> {
        let mut mistakes = self.settings.mistakes();
        mistakes.extend(self.name());
        mistakes.extend(self.store.mistakes());
        mistakes.extend(self.zenoh.iter().flat_map(ZenohSection::mistakes));
        let refused = mistakes.iter().filter(|mistake| mistake.others.is_empty()).map(|mistake| mistake.key.clone());
        let wrong: Vec<_> = wrong.into_iter().chain(refused).collect();
        let together = self.zenoh.iter().flat_map(|zenoh| zenoh.contradictions(&self.settings));
        mistakes.extend(together);
        without(mistakes, &wrong).collect()
    }

    fn name(&self) -> Option<ConfigMistake> {
        let name = Some(self.node.name.as_str()).filter(|name| !name.is_empty())?;
        NodeId::new(name).err().map(|error| ConfigMistake::of_key(["node", "name"], error.to_string()))
    }
}

impl StoreSection {
    fn mistakes(&self) -> Vec<ConfigMistake> {
        let mut mistakes = ranges::of_table(&["store"], &self.sizes().ranges());
        let is_set = *self != Self { folder: self.folder.clone(), ..Self::default() };
        if self.folder.is_none() && is_set {
            let what = "the section `store` is about the store in this folder: give it, or set the store's sizes and \
                        durability where the store is opened in Rust";
            mistakes.push(ConfigMistake::of_key(["store", "folder"], what));
        }
        mistakes
    }
}

impl ZenohSection {
    fn mistakes(&self) -> Vec<ConfigMistake> {
        let mut mistakes = ranges::of_table(&["zenoh"], &[ranges::of_packet(self.packet_bytes_max)]);
        let of_key = |key: &str, what: String| ConfigMistake::of_key(["zenoh", key], what);
        if !is_name(&self.namespace) {
            let what = format!("`{}` is no namespace: {NAME}", self.namespace);
            mistakes.push(of_key("namespace", what));
        }
        for (key, endpoints) in [("listen", &self.listen), ("connect", &self.connect)] {
            let refused = endpoints.iter().filter_map(|endpoint| refused(endpoint));
            mistakes.extend(refused.map(|what| of_key(key, what)));
        }
        let twice =
            self.listen.iter().enumerate().find(|(at, listen)| self.listen.iter().take(*at).any(|it| it == *listen));
        if let Some((_, twice)) = twice {
            mistakes.push(of_key(
                "listen",
                format!("`{twice}` is given twice: an address can be used once, leave one out"),
            ));
        }
        mistakes
    }

    /// Returns what contradicts itself here, or the settings.
    fn contradictions(&self, settings: &Settings) -> Vec<ConfigMistake> {
        let key = |key: &str| vec!["zenoh".to_owned(), key.to_owned()];
        let mut found = Vec::new();
        if self.mode == Some(super::sections::Mode::Client) && self.connect.is_empty() && self.config_file.is_none() {
            let what = "a client (`zenoh.mode`) reaches others through a router or a peer: give its address";
            found.push(ConfigMistake::of_key(key("connect"), what).against([key("mode"), key("config_file")]));
        }
        let (system, namespace) = (&settings.system, &self.namespace);
        if !system.is_empty() && system != namespace {
            let what = format!(
                "it is `{system}`, and `zenoh.namespace` is `{namespace}`: give both the same, or leave it out"
            );
            let mistake = ConfigMistake::of_key(["system"], what).against([key("namespace")]);
            found.push(mistake.with_value(&format!("\"{namespace}\"")));
        }
        let (payload, packet) = (settings.limits.payload_bytes_max, self.packet_bytes_max);
        if payload >= packet {
            let what = format!(
                "{payload} is not below `zenoh.packet_bytes_max`, {packet}: a message travels in one packet; lower the \
                 one, or raise the other at all nodes"
            );
            let mistake = ConfigMistake::of_key(["limits", "payload_bytes_max"], what);
            found.push(mistake.with_value(&(packet / 2)).against([key("packet_bytes_max")]));
        }
        found
    }
}

/// What a namespace is made of.
const NAME: &str = "use a to z, 0 to 9, `-`, `_` and `.`, first a letter or a digit";

#[cfg(feature = "zenoh")]
fn refused(endpoint: &str) -> Option<String> {
    use accompanist_core::contract::TransportError;
    use accompanist_transport::ZenohConfig;

    match ZenohConfig::check_endpoint(endpoint).err()? {
        TransportError::Config(what) => Some(what),
        error => Some(error.to_string()),
    }
}

/// Without Zenoh the section as such is refused.
#[cfg(not(feature = "zenoh"))]
fn refused(_endpoint: &str) -> Option<String> {
    None
}

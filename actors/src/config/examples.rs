//! For each key of a settings file a value that is right: its default, or one that could stand there.

use toml::{Table, Value};

use super::sections::{NodeSection, StoreSection, ZenohSection};
use super::settings::Settings;

/// The sections of a file beside its settings.
pub(super) const SECTIONS: [&str; 3] = ["node", "store", "zenoh"];

/// Keys whose default is that there is none, with a value that could stand there.
const INSTEAD: [(&str, &str); 9] = [
    ("seal_key_file", "seal.key"),
    ("system", "shop"),
    ("node.name", "shop-1"),
    ("node.members_file", "members.toml"),
    ("store.folder", "data/shop-1"),
    ("zenoh.listen", "tcp/127.0.0.1:7447"),
    ("zenoh.connect", "tcp/127.0.0.1:7448"),
    ("zenoh.mode", "peer"),
    ("zenoh.config_file", "zenoh.json5"),
];

/// Returns a right value for the key at `path`, as TOML; `None` for a table, and for a key that there is not.
pub(super) fn value_of(path: &[String]) -> Option<String> {
    let dotted = path.join(".");
    if let Some((key, value)) = INSTEAD.iter().find(|(key, _)| *key == dotted) {
        let value = Value::from(*value);
        let is_list = key.ends_with(".listen") || key.ends_with(".connect");
        return Some(if is_list { format!("[{value}]") } else { value.to_string() });
    }
    if dotted == "zenoh.gossip" {
        return Some("true".into());
    }
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["supervision", "roles" | "choreographies" | "groups", _, key] => found(&["supervision", "instances", key]),
        path => found(path),
    }
}

fn found(path: &[&str]) -> Option<String> {
    let (last, tables) = path.split_last()?;
    let mut table = &defaults()?;
    for name in tables {
        table = table.get(*name)?.as_table()?;
    }
    table.get(*last).filter(|value| !value.is_table()).map(ToString::to_string)
}

/// Returns all keys with their defaults.
pub(super) fn defaults() -> Option<Table> {
    let mut table = Table::try_from(Settings::default()).ok()?;
    table.insert("node".into(), Value::try_from(NodeSection::default()).ok()?);
    table.insert("store".into(), Value::try_from(StoreSection::default()).ok()?);
    table.insert("zenoh".into(), Value::try_from(ZenohSection::default()).ok()?);
    Some(table)
}

/// Returns the path of the first key with this name, wherever it is.
pub(super) fn elsewhere(name: &str) -> Option<Vec<String>> {
    fn within(table: &Table, name: &str) -> Option<Vec<String>> {
        if table.contains_key(name) {
            return Some(vec![name.to_owned()]);
        }
        table.iter().find_map(|(key, value)| {
            let mut path = within(value.as_table()?, name)?;
            path.insert(0, key.clone());
            Some(path)
        })
    }
    within(&defaults()?, name)
}

//! Optional bounds, files and choices: in a settings file their absence is the word `none`, since TOML has no null.

const NONE: &str = "none";

pub(crate) mod number {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::NONE;

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a whole number, or `none`")]
    enum Bound {
        Number(u64),
        Word(String),
    }

    #[expect(clippy::ref_option, reason = "as serde calls it")]
    pub(crate) fn serialize<S: Serializer>(bound: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match bound {
            Some(number) => serializer.serialize_u64(*number),
            None => serializer.serialize_str(NONE),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        match Bound::deserialize(deserializer)? {
            Bound::Number(number) => Ok(Some(number)),
            Bound::Word(word) if word == NONE => Ok(None),
            Bound::Word(word) => Err(de::Error::custom(format!("`{word}` is neither a whole number nor `{NONE}`"))),
        }
    }
}

pub(crate) mod time {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::NONE;

    #[expect(clippy::ref_option, reason = "as serde calls it")]
    pub(crate) fn serialize<S: Serializer>(bound: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match bound {
            Some(time) => serializer.collect_str(&humantime::format_duration(*time)),
            None => serializer.serialize_str(NONE),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let word = String::deserialize(deserializer)?;
        if word == NONE {
            return Ok(None);
        }
        let time = humantime::parse_duration(&word);
        time.map(Some).map_err(|error| {
            de::Error::custom(format!("`{word}` is neither a time, as `7days`, nor `{NONE}`: {error}"))
        })
    }
}

pub(crate) mod path {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::NONE;

    #[expect(clippy::ref_option, reason = "as serde calls it")]
    pub(crate) fn serialize<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
        match path {
            Some(path) => path.serialize(serializer),
            None => serializer.serialize_str(NONE),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
        let path = PathBuf::deserialize(deserializer)?;
        if path.as_os_str().is_empty() {
            return Err(de::Error::custom(format!("the path is empty: give one, or `{NONE}`")));
        }
        Ok(Some(path).filter(|path| path.as_os_str() != NONE))
    }
}

/// What is a word or a truth value, or is left to another place.
pub(crate) mod other {
    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
    use toml::Value;

    use super::NONE;

    #[expect(clippy::ref_option, reason = "as serde calls it")]
    pub(crate) fn serialize<T: Serialize, S: Serializer>(given: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match given {
            Some(given) => given.serialize(serializer),
            None => serializer.serialize_str(NONE),
        }
    }

    pub(crate) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        let given = Value::deserialize(deserializer)?;
        if given.as_str() == Some(NONE) {
            return Ok(None);
        }
        T::deserialize(given).map(Some).map_err(|error| de::Error::custom(error.message()))
    }
}

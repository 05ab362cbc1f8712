//! What two settings must not say at once, and names that nothing has. Next: `ranges.rs` for each setting alone.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use super::error::{ConfigError, ConfigMistake};
use super::settings::{AdminSettings, Settings};
use super::{ranges, wording};

impl AdminSettings {
    fn mistake(&self) -> Option<ConfigMistake> {
        let of_key = |key: &str, what: String| Some(ConfigMistake::of_key([key], what));
        if self.http_listen.is_empty() {
            return None;
        }
        if !cfg!(feature = "admin-http") {
            let what =
                "this build does not serve HTTP: build `accompanist` with its feature `admin-http`, or leave it out";
            return of_key("http_listen", what.to_owned());
        }
        self.http_listen
            .parse::<SocketAddr>()
            .err()
            .and_then(|_| of_key("http_listen", format!("`{}` is not an address with a port", self.http_listen)))
    }
}

impl Settings {
    /// Checks each number and each time, and those that must fit together. The start of a node and the reading of a
    /// file call this.
    ///
    /// # Errors
    /// Returns [`ConfigError`] with all settings that cannot work, each with its key and what to do.
    pub fn check(&self) -> Result<(), ConfigError> {
        ConfigError::unless_none(self.mistakes())
    }

    /// Returns all settings that cannot work. Those that contradict a setting which is out of its range are left out.
    pub(crate) fn mistakes(&self) -> Vec<ConfigMistake> {
        let mut mistakes = ranges::mistakes(self);
        let wrong: Vec<Vec<String>> = mistakes.iter().map(|mistake| mistake.key.clone()).collect();
        mistakes.extend(without(self.contradictions(), &wrong));
        mistakes.extend(self.supervision.mistakes());
        mistakes.extend(self.admin.mistake().map(|mistake| mistake.within(&["admin"])));
        mistakes
    }

    fn contradictions(&self) -> Vec<ConfigMistake> {
        let Self { lazy_write_delay_max, retransmission_delay_min, retransmission_delay_max, .. } = *self;
        let (limits, actors, retention) = (&self.limits, &self.actors, &self.retention);
        let pauses = [["nudge_delay_min_ms", "nudge_delay_max_ms"], ["retry_delay_min_ms", "retry_delay_max_ms"]];
        let values = [
            [limits.nudge_delay_min_ms, limits.nudge_delay_max_ms],
            [limits.retry_delay_min_ms, limits.retry_delay_max_ms],
        ];
        let pauses = pauses.into_iter().zip(values).filter_map(|([min, max], [least, greatest])| {
            let is_above = least > greatest;
            is_above.then(|| contradiction([min, max], [&least, &greatest], [least, greatest]).within(&["limits"]))
        });
        let of_actors =
            above("forward_delay_min", actors.forward_delay_min, "forward_delay_max", actors.forward_delay_max);
        let age_max = retention.age_max.unwrap_or(retention.age_min);
        let found = [
            above(
                "retransmission_delay_min",
                retransmission_delay_min,
                "retransmission_delay_max",
                retransmission_delay_max,
            ),
            above("lazy_write_delay_max", lazy_write_delay_max, "retransmission_delay_min", retransmission_delay_min),
            above("retransmission_delay_max", retransmission_delay_max, "retention.age_min", retention.age_min),
            above("age_min", retention.age_min, "age_max", age_max).map(|mistake| mistake.within(&["retention"])),
            of_actors.map(|mistake| mistake.within(&["actors"])),
            self.begins_twice(),
        ];
        found.into_iter().flatten().chain(pauses).collect()
    }

    fn begins_twice(&self) -> Option<ConfigMistake> {
        let what =
            "a node cannot begin with an empty store (`fresh`) and go on with an older one: leave one of the two out";
        let mistake = || ConfigMistake::of_key(["accept_restore"], what).against([vec!["fresh".into()]]);
        (self.fresh && self.accept_restore).then(|| mistake().with_value(&false))
    }

    /// Returns the names of roles, choreographies and groups in the settings that the node does not have.
    pub(crate) fn unknown_names(
        &self,
        roles: &[&str],
        choreographies: &BTreeSet<&str>,
        groups: &[&str],
    ) -> Vec<ConfigMistake> {
        let supervision = &self.supervision;
        let choreographies: Vec<&str> = choreographies.iter().copied().collect();
        let named = [
            ("roles", &supervision.roles, roles, "this node plays no such role"),
            (
                "choreographies",
                &supervision.choreographies,
                choreographies.as_slice(),
                "this node has no such choreography",
            ),
            ("groups", &supervision.groups, groups, "this node has no such group (`NodeBuilder::supervise`)"),
        ];
        let unknown = named.into_iter().flat_map(|(table, names, known, what)| {
            names.keys().filter(|name| !known.contains(&name.as_str())).map(move |name| {
                let (hint, _) = wording::hint(name, known);
                ConfigMistake::of_key(["supervision", table, name], format!("{what}{hint}"))
            })
        });
        unknown.collect()
    }
}

/// Leaves out contradictions with a key that has a mistake of its own.
pub(super) fn without(
    contradictions: impl IntoIterator<Item = ConfigMistake>,
    wrong: &[Vec<String>],
) -> impl Iterator<Item = ConfigMistake> {
    contradictions.into_iter().filter(|mistake| {
        mistake.others.is_empty()
            || !wrong.contains(&mistake.key) && !mistake.others.iter().any(|key| wrong.contains(key))
    })
}

/// Returns the mistake of a time that is above its bound.
pub(super) fn above(key: &str, time: Duration, other: &str, bound: Duration) -> Option<ConfigMistake> {
    let [shown_time, shown_bound] = [time, bound].map(|time| humantime::format_duration(time).to_string());
    let written = [&shown_time, &shown_bound].map(|time| format!("\"{time}\""));
    (time > bound).then(|| contradiction([key, other], [&shown_time, &shown_bound], written))
}

/// Returns the mistake of a value that is above its bound: of the value's key, or of the bound's.
fn contradiction(keys: [&str; 2], shown: [&dyn Display; 2], written: [impl Display; 2]) -> ConfigMistake {
    let [key, other] = keys.map(|key| key.split('.').map(ToOwned::to_owned).collect::<Vec<_>>());
    let ([value, bound], [value_written, bound_written]) = (shown, written);
    let of_other = format!("{bound} is below `{}`, {value}: give a longer one", keys[0]);
    let of_key = format!("{value} is above `{}`, {bound}: give a shorter one", keys[1]);
    let reversed = ConfigMistake::of_key(other.clone(), of_other).with_value(&value_written).against([key.clone()]);
    let mistake = ConfigMistake::of_key(key, of_key).with_value(&bound_written).against([other]);
    ConfigMistake { reversed: Some(Box::new(reversed)), ..mistake }
}

//! When a failed actor is started again, and with which others: data, the same in Rust and in `accompanist.toml`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::ranges;

/// After so many doublings a pause grows no more: a nanosecond has become a second.
const DOUBLINGS_MAX: u32 = 30;

/// Which actors are started again when one of several has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// That one alone.
    #[default]
    OneForOne,
    /// All of them.
    OneForAll,
    /// That one, and those that were started after it.
    RestForOne,
}

impl Strategy {
    /// Its name in `accompanist.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneForOne => "one_for_one",
            Self::OneForAll => "one_for_all",
            Self::RestForOne => "rest_for_one",
        }
    }

    /// Whether the actor at place `other` is started again with the one at `failed`, in the order of their first start.
    pub(crate) fn concerns<T: Ord>(self, failed: &T, other: &T) -> bool {
        match self {
            Self::OneForOne => other == failed,
            Self::OneForAll => true,
            Self::RestForOne => other >= failed,
        }
    }
}

/// How failures are answered. The same words as in Erlang/OTP: intensity is `restarts_max` in `period`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Which others are started again, too.
    pub strategy: Strategy,
    /// The most restarts within `period`. With one more failure it is given up: see where the policy is used.
    pub restarts_max: u32,
    /// In which restarts are counted.
    #[serde(with = "humantime_serde")]
    pub period: Duration,
    /// The pause before the first restart. It doubles from one to the next.
    #[serde(with = "humantime_serde")]
    pub delay_min: Duration,
    /// The longest pause.
    #[serde(with = "humantime_serde")]
    pub delay_max: Duration,
    /// The part of each pause that is drawn by chance, from 0 to 1: what failed together does not come back together.
    pub jitter: f64,
    /// After so long without a failure the next pause is `delay_min` again.
    #[serde(with = "humantime_serde")]
    pub calm: Duration,
}

impl Default for Policy {
    /// Five restarts in a minute, after 20 ms and then twice as long each, a tenth of that by chance.
    fn default() -> Self {
        Self {
            strategy: Strategy::OneForOne,
            restarts_max: 5,
            period: Duration::from_mins(1),
            delay_min: Duration::from_millis(20),
            delay_max: Duration::from_secs(10),
            jitter: 0.1,
            calm: Duration::from_secs(30),
        }
    }
}

impl Policy {
    /// What is wrong with it: the key, and what to do.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        for range in ranges::of_policy(self) {
            range.check().map_err(|what| (range.key, what))?;
        }
        if self.delay_min > self.delay_max {
            let [min, max] = [self.delay_min, self.delay_max].map(humantime::format_duration);
            return Err(("delay_min", format!("{min} is above `delay_max`, {max}: give a shorter one")));
        }
        // The pauses alone: with chance against it, each is the longest that it can be.
        let growing = self.restarts_max.min(DOUBLINGS_MAX);
        let pauses = (0..growing).map(|times| self.pause(times, u64::MAX));
        let longest = self.pause(DOUBLINGS_MAX, u64::MAX).saturating_mul(self.restarts_max - growing);
        let all = pauses.fold(longest, Duration::saturating_add);
        if all >= self.period {
            let [all, period] = [all, self.period].map(humantime::format_duration);
            let text = format!(
                "{} restarts can take {all} in pauses alone, and `period` is {period}: it might never be given up. Give a longer `period`, or a shorter `delay_max`",
                self.restarts_max
            );
            return Err(("period", text));
        }
        Ok(())
    }

    /// The pause before the next restart, when so many have gone before without calm; `random` is any number.
    pub(super) fn pause(&self, times: u32, random: u64) -> Duration {
        let pause = self.delay_min.saturating_mul(1 << times.min(DOUBLINGS_MAX)).min(self.delay_max);
        // To the precision of 32 bits.
        let chance = f64::from(u32::try_from(random >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        pause.saturating_add(Duration::try_from_secs_f64(pause.as_secs_f64() * self.jitter * chance).unwrap_or(pause))
    }
}

/// What is otherwise than in the policy around it; what is not given stays as it is there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyChange {
    /// See [`Policy::strategy`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// See [`Policy::restarts_max`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts_max: Option<u32>,
    /// See [`Policy::period`].
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub period: Option<Duration>,
    /// See [`Policy::delay_min`].
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub delay_min: Option<Duration>,
    /// See [`Policy::delay_max`].
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub delay_max: Option<Duration>,
    /// See [`Policy::jitter`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
    /// See [`Policy::calm`].
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub calm: Option<Duration>,
}

impl PolicyChange {
    fn on(&self, policy: &Policy) -> Policy {
        Policy {
            strategy: self.strategy.unwrap_or(policy.strategy),
            restarts_max: self.restarts_max.unwrap_or(policy.restarts_max),
            period: self.period.unwrap_or(policy.period),
            delay_min: self.delay_min.unwrap_or(policy.delay_min),
            delay_max: self.delay_max.unwrap_or(policy.delay_max),
            jitter: self.jitter.unwrap_or(policy.jitter),
            calm: self.calm.unwrap_or(policy.calm),
        }
    }
}

/// The policies of a node's tree.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Supervision {
    /// Of the node's own actors (link and roles, which go together) and of the [groups](super::Group) given to
    /// [`NodeBuilder::supervise`](crate::NodeBuilder::supervise), in the order in which they were given. One failure more
    /// than is allowed, and the node stops; [`Node::failed`](crate::Node::failed) says why.
    pub tree: Policy,
    /// Of role instances. One that fails is loaded from the store; one failure more than is allowed, and it is quarantined
    /// alone. The other strategies concern the instances of the same role of the same choreography on this node.
    pub instances: Policy,
    /// What is otherwise for the instances of a role, by its name.
    pub roles: BTreeMap<String, PolicyChange>,
    /// What is otherwise for those of a choreography, by its name. Comes before what is said of its roles.
    pub choreographies: BTreeMap<String, PolicyChange>,
    /// Of the actors within a group, by its name: what is otherwise than the group itself says.
    pub groups: BTreeMap<String, PolicyChange>,
}

impl Supervision {
    /// The policy of the instances of a role of a choreography.
    pub fn of_instance(&self, choreography: &str, role: &str) -> Policy {
        let changes = [self.roles.get(role), self.choreographies.get(choreography)];
        changes.into_iter().flatten().fold(self.instances.clone(), |policy, change| change.on(&policy))
    }

    /// The policy of a group that has one of its own.
    pub fn of_group(&self, group: &str, own: &Policy) -> Policy {
        self.groups.get(group).map_or_else(|| own.clone(), |change| change.on(own))
    }

    /// What is wrong: the path of the key, and what to do. A change is checked on the policy it is for, as far as that is
    /// known; one of a group is, once the group is there.
    pub(crate) fn check(&self) -> Result<(), (Vec<String>, String)> {
        let within = |place: &[&str], policy: &Policy| {
            policy.check().map_err(|(key, what)| {
                let place = ["supervision"].iter().chain(place).chain([&key]);
                (place.map(ToString::to_string).collect(), what)
            })
        };
        within(&["tree"], &self.tree)?;
        within(&["instances"], &self.instances)?;
        for (role, change) in &self.roles {
            within(&["roles", role], &change.on(&self.instances))?;
        }
        for (choreography, change) in &self.choreographies {
            within(&["choreographies", choreography], &change.on(&self.instances))?;
        }
        Ok(())
    }
}

//! The restart policy: when a failed actor is restarted, and which others with it. The policy is data, the same in
//! Rust and in `accompanist.toml`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::contradictions::above;
use super::error::ConfigMistake;
use super::ranges;

/// The most doublings of a pause: 30 of them turn a nanosecond into a second.
const DOUBLINGS_MAX: u32 = 30;

/// The actors that are restarted when one of several has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Strategy {
    /// The failed actor alone.
    #[default]
    OneForOne,
    /// All of them.
    OneForAll,
    /// The failed actor, and those that were started after it.
    RestForOne,
}

impl Strategy {
    /// Returns the strategy's name in `accompanist.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneForOne => "one_for_one",
            Self::OneForAll => "one_for_all",
            Self::RestForOne => "rest_for_one",
        }
    }

    /// Whether the actor at place `other` is restarted with the one at `failed`; places are in the order of the first
    /// start.
    pub(crate) fn concerns<T: Ord>(self, failed: &T, other: &T) -> bool {
        match self {
            Self::OneForOne => other == failed,
            Self::OneForAll => true,
            Self::RestForOne => other >= failed,
        }
    }
}

/// The policy for handling failures. The terms are those of Erlang/OTP: intensity is `restarts_max` in `period`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The other actors that are restarted too.
    pub strategy: Strategy,
    /// The most restarts within `period`. One more failure, and the supervisor gives up: what follows is described
    /// where the policy is used.
    pub restarts_max: u32,
    /// The period in which restarts are counted.
    #[serde(with = "humantime_serde")]
    pub period: Duration,
    /// The pause before the first restart. The pause doubles from one restart to the next.
    #[serde(with = "humantime_serde")]
    pub delay_min: Duration,
    /// The longest pause, before jitter is added.
    #[serde(with = "humantime_serde")]
    pub delay_max: Duration,
    /// The largest random addition to each pause, as a fraction of it, from 0 to 1. It keeps actors that failed
    /// together from restarting together.
    pub jitter: f64,
    /// The time without a failure after which the back-off is reset: the next pause is `delay_min` again.
    #[serde(with = "humantime_serde")]
    pub reset_after: Duration,
}

impl Default for Policy {
    /// Five restarts in a minute, after pauses that begin at 20 ms and double, with up to a tenth added at random.
    fn default() -> Self {
        Self {
            strategy: Strategy::OneForOne,
            restarts_max: 5,
            period: Duration::from_mins(1),
            delay_min: Duration::from_millis(20),
            delay_max: Duration::from_secs(10),
            jitter: 0.1,
            reset_after: Duration::from_secs(30),
        }
    }
}

impl Policy {
    /// Returns what is wrong with the policy. The paths of keys begin within the policy.
    pub(crate) fn mistakes(&self) -> Vec<ConfigMistake> {
        let mut mistakes = ranges::of_table(&[], &ranges::of_policy(self));
        if mistakes.is_empty() {
            mistakes.extend(above("delay_min", self.delay_min, "delay_max", self.delay_max));
            mistakes.extend(self.never_given_up());
        }
        mistakes
    }

    /// Checks that more restarts than are allowed can happen within the period.
    fn never_given_up(&self) -> Option<ConfigMistake> {
        // The sum of the pauses alone, each with the largest jitter.
        let growing = self.restarts_max.min(DOUBLINGS_MAX);
        let pauses = (0..growing).map(|times| self.pause(times, u64::MAX));
        let longest = self.pause(DOUBLINGS_MAX, u64::MAX).saturating_mul(self.restarts_max - growing);
        let all = pauses.fold(longest, Duration::saturating_add);
        if all < self.period {
            return None;
        }
        let enough = Duration::from_secs(all.as_secs().saturating_add(1));
        let [all, period] = [all, self.period].map(humantime::format_duration);
        let text = format!(
            "{} restarts can take {all} in pauses alone, and `period` is {period}: it might never be given up. Give a \
             longer `period`, or a shorter `delay_max`",
            self.restarts_max
        );
        let others = ["restarts_max", "delay_min", "delay_max", "jitter"].map(|key| vec![key.to_owned()]);
        let mistake = ConfigMistake::of_key(["period"], text).against(others);
        Some(mistake.with_value(&format!("\"{}\"", humantime::format_duration(enough))))
    }

    /// Returns the pause before the next restart after `times` restarts without a reset of the back-off; `random` is
    /// any number.
    pub(crate) fn pause(&self, times: u32, random: u64) -> Duration {
        let pause = self.delay_min.saturating_mul(1 << times.min(DOUBLINGS_MAX)).min(self.delay_max);
        // The precision is 32 bits.
        let chance = f64::from(u32::try_from(random >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        pause.saturating_add(Duration::try_from_secs_f64(pause.as_secs_f64() * self.jitter * chance).unwrap_or(pause))
    }
}

/// Deviations from the surrounding policy; fields that are not given stay as they are there.
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
    /// See [`Policy::reset_after`].
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub reset_after: Option<Duration>,
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
            reset_after: self.reset_after.unwrap_or(policy.reset_after),
        }
    }
}

/// The policies of a node's tree.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Supervision {
    /// The policy of the node's own actors (link and roles, which restart together) and of the
    /// [groups](crate::supervision::Group) given to [`NodeBuilder::supervise`](crate::NodeBuilder::supervise), in the
    /// order in which they were given. One failure more than is allowed, and the node stops;
    /// [`Node::failed`](crate::Node::failed) says why.
    pub tree: Policy,
    /// The policy of role instances. An instance that fails is loaded from the store; one failure more than is
    /// allowed, and it is quarantined alone. The other strategies concern the instances of the same role of the same
    /// choreography on this node.
    pub instances: Policy,
    /// Deviations for the instances of a role, by its name.
    pub roles: BTreeMap<String, PolicyChange>,
    /// Deviations for the instances of a choreography, by its name. They take precedence over those of its roles.
    pub choreographies: BTreeMap<String, PolicyChange>,
    /// Deviations from the policies that groups are given, by the group's name. They apply to the actors within the
    /// group.
    pub groups: BTreeMap<String, PolicyChange>,
}

impl Supervision {
    /// Returns the policy of the instances of a role of a choreography.
    pub fn of_instance(&self, choreography: &str, role: &str) -> Policy {
        let changes = [self.roles.get(role), self.choreographies.get(choreography)];
        changes.into_iter().flatten().fold(self.instances.clone(), |policy, change| change.on(&policy))
    }

    /// Returns the policy of a group whose own policy is `own`.
    pub fn of_group(&self, group: &str, own: &Policy) -> Policy {
        self.groups.get(group).map_or_else(|| own.clone(), |change| change.on(own))
    }

    /// Returns what is wrong with the policies. A deviation is checked on the policy to which it applies, as far as
    /// that is known. A group's deviation is checked once the group exists.
    pub(crate) fn mistakes(&self) -> Vec<ConfigMistake> {
        let of_instances = self.instances.mistakes();
        let is_new = |mistake: &ConfigMistake| !of_instances.contains(mistake);
        let deviations = [("roles", &self.roles), ("choreographies", &self.choreographies)];
        let deviations = deviations.into_iter().flat_map(|(table, changes)| {
            changes.iter().flat_map(move |(name, change)| {
                let mistakes = change.on(&self.instances).mistakes().into_iter().filter(is_new);
                mistakes.map(move |mistake| {
                    // What it does not fit may stand in the policy to which it applies.
                    let around = [&mistake.key].into_iter().chain(&mistake.others);
                    let around: Vec<_> = around.map(|key| path_of(&["supervision", "instances"], key)).collect();
                    mistake.within(&["supervision", table, name]).against(around)
                })
            })
        });
        let of_tree = self.tree.mistakes().into_iter().map(|mistake| mistake.within(&["supervision", "tree"]));
        let instances = of_instances.iter().cloned().map(|mistake| mistake.within(&["supervision", "instances"]));
        of_tree.chain(instances).chain(deviations).collect()
    }
}

fn path_of(table: &[&str], key: &[String]) -> Vec<String> {
    table.iter().map(ToString::to_string).chain(key.iter().cloned()).collect()
}

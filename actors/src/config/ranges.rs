//! The least and the greatest value of each setting, in one place. Settings from Rust, from a file and from the
//! environment are checked alike.
//!
//! Within these ranges no loop spins, and no sum or product of settings overflows. A setting without a range does not
//! compile. Conditions between two settings are in `contradictions.rs`, those on a policy as a whole in
//! `policy.rs`.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use accompanist_core::contract::VALUE_BYTES_MAX;
use accompanist_core::machine::{Limits, TAKEN_SIGNALS_MAX};
use accompanist_transport::{PACKET_BYTES_MAX_DEFAULT, ZENOH_PACKET_BYTES_GREATEST, ZENOH_PACKET_BYTES_LEAST};

use super::error::ConfigMistake;
use super::sizes::FjallSizes;
use super::{ADVERTISEMENT_DELAY_MIN, Actors, Config, Policy, Retention, Settings};

const MILLISECOND: Duration = Duration::from_millis(1);
/// The longest pause between two tries of anything: a caller that waits longer has been forgotten.
const DAY: Duration = Duration::from_hours(24);
/// The longest span: "never", for spans counted in years. Years have 365.25 days each.
const CENTURY: Duration = Duration::from_hours(100 * 8_766);

/// The largest bound in memory; on any machine, more is no bound at all.
const COUNT_MAX: u64 = 1_000_000_000;
/// The largest bound on disk, where there may be more.
const STORED_MAX: u64 = 1_000_000_000_000;
const TEBIBYTE: u64 = 1 << 40;

/// The value of a setting.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(crate) enum Number {
    Count(u64),
    Time(Duration),
    /// A fraction of a whole.
    Part(f64),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Time(time) => humantime::format_duration(*time).fmt(f),
            Self::Part(part) => part.fmt(f),
        }
    }
}

/// A setting with its value and its range.
#[derive(Debug)]
pub(crate) struct Range {
    pub(crate) key: &'static str,
    /// `None` for an optional bound that is absent.
    given: Option<Number>,
    pub(crate) least: Number,
    pub(crate) greatest: Number,
}

impl Range {
    /// Checks the value. The error says what is wrong with it, and what to do.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self { given, least, greatest, .. } = self;
        match given {
            Some(given) if given > greatest => Err(format!("{given} is too much: give {greatest} or less")),
            // NaN is neither above nor below.
            Some(given) if given.partial_cmp(least).is_none_or(Ordering::is_lt) => {
                Err(format!("{given} is too little: give {least} or more"))
            }
            _ => Ok(()),
        }
    }
}

pub(crate) fn count<T: TryInto<u64>>(key: &'static str, given: T, least: u64, greatest: u64) -> Range {
    let given = Some(Number::Count(given.try_into().unwrap_or(u64::MAX)));
    Range { key, given, least: Number::Count(least), greatest: Number::Count(greatest) }
}

fn time(key: &'static str, given: Duration, least: Duration, greatest: Duration) -> Range {
    Range { key, given: Some(Number::Time(given)), least: Number::Time(least), greatest: Number::Time(greatest) }
}

/// Checks the settings one by one, but for the policies.
pub(super) fn mistakes(settings: &Settings) -> Vec<ConfigMistake> {
    let tables = [
        (&[][..], of_node(settings)),
        (&["limits"], of_limits(&settings.limits)),
        (&["actors"], of_actors(&settings.actors)),
        (&["retention"], of_retention(&settings.retention)),
    ];
    tables.into_iter().flat_map(|(table, ranges)| of_table(table, &ranges)).collect()
}

/// Checks the values of one table.
pub(super) fn of_table(table: &[&str], ranges: &[Range]) -> Vec<ConfigMistake> {
    let refused = ranges.iter().filter_map(|range| Some((range.key, range.check().err()?)));
    refused.map(|(key, what)| ConfigMistake::of_key(table.iter().copied().chain([key]), what)).collect()
}

/// Returns all settings that have a range, by their keys.
fn all(settings: &Settings) -> Vec<(String, Range)> {
    let tables = [
        ("", of_node(settings)),
        ("limits.", of_limits(&settings.limits)),
        ("actors.", of_actors(&settings.actors)),
        ("retention.", of_retention(&settings.retention)),
        ("supervision.tree.", of_policy(&settings.supervision.tree)),
        ("supervision.instances.", of_policy(&settings.supervision.instances)),
    ];
    let keyed = tables.into_iter().flat_map(|(table, ranges)| ranges.into_iter().map(move |range| (table, range)));
    keyed.map(|(table, range)| (format!("{table}{}", range.key), range)).collect()
}

/// Returns a range as it is written in a file.
fn written((key, range): (String, Range)) -> (String, String, String) {
    let number = |number: Number| match number {
        Number::Time(_) => format!("\"{number}\""),
        Number::Part(part) => format!("{part:?}"),
        // Larger numbers cannot be written in TOML.
        Number::Count(count) => count.min(i64::MAX.unsigned_abs()).to_string(),
    };
    (key, number(range.least), number(range.greatest))
}

impl Config {
    /// Returns the ranges of all keys of a file: those of [`Settings::ranges`], and those of its other sections.
    ///
    /// ```
    /// use accompanist::Config;
    ///
    /// let ranges = Config::ranges();
    /// assert!(ranges.contains(&("zenoh.packet_bytes_max".into(), "1024".into(), "1073741824".into())));
    /// ```
    pub fn ranges() -> Vec<(String, String, String)> {
        let of_store = FjallSizes::default().ranges().into_iter().map(|range| (format!("store.{}", range.key), range));
        let of_zenoh = [of_packet(PACKET_BYTES_MAX_DEFAULT)].map(|range| (format!("zenoh.{}", range.key), range));
        Settings::ranges().into_iter().chain(of_store.chain(of_zenoh).map(written)).collect()
    }
}

/// Returns the range of the packets of Zenoh.
pub(super) fn of_packet(bytes_max: usize) -> Range {
    count("packet_bytes_max", bytes_max, ZENOH_PACKET_BYTES_LEAST as u64, ZENOH_PACKET_BYTES_GREATEST as u64)
}

impl Settings {
    /// Returns the key of each setting that is a number or a time, with its least and its greatest value as written
    /// in `accompanist.toml`. The keys of `supervision.tree` stand for those of every policy.
    ///
    /// ```
    /// use accompanist::Settings;
    ///
    /// let ranges = Settings::ranges();
    /// assert!(ranges.contains(&("advertisement_period_max".into(), "\"50ms\"".into(), "\"1day\"".into())));
    /// ```
    pub fn ranges() -> Vec<(String, String, String)> {
        all(&Self::default()).into_iter().map(written).collect()
    }
}

fn of_node(settings: &Settings) -> Vec<Range> {
    let Settings {
        seal_key_file: _,
        system: _,
        fresh: _,
        accept_restore: _,
        lazy_write_delay_max,
        group_writes_max,
        window_frames_max,
        retransmission_delay_min,
        retransmission_delay_max,
        inbox_packets_max,
        inbox_bytes_max,
        dead_letters_max,
        dead_letter_bytes_max,
        instances_max,
        queue_delay_max,
        open_max,
        nudged_sessions_max,
        callers_max,
        passivation_delay,
        reactivations_max,
        passivated_nudge_period,
        shutdown_grace,
        cast_wait_max,
        advertisement_period_max,
        admin: _,
        limits: _,
        actors: _,
        retention: _,
        supervision: _,
    } = settings;
    vec![
        time("lazy_write_delay_max", *lazy_write_delay_max, Duration::ZERO, DAY),
        count("group_writes_max", *group_writes_max, 1, COUNT_MAX),
        count("window_frames_max", *window_frames_max, 1, COUNT_MAX),
        time("retransmission_delay_min", *retransmission_delay_min, MILLISECOND, DAY),
        time("retransmission_delay_max", *retransmission_delay_max, MILLISECOND, DAY),
        count("inbox_packets_max", *inbox_packets_max, 1, COUNT_MAX),
        count("inbox_bytes_max", *inbox_bytes_max, 1, TEBIBYTE),
        count("dead_letters_max", *dead_letters_max, 0, COUNT_MAX),
        count("dead_letter_bytes_max", *dead_letter_bytes_max, 0, TEBIBYTE),
        count("instances_max", *instances_max, 1, COUNT_MAX),
        time("queue_delay_max", *queue_delay_max, MILLISECOND, DAY),
        count("open_max", *open_max, 1, STORED_MAX),
        count("nudged_sessions_max", *nudged_sessions_max, 1, COUNT_MAX),
        count("callers_max", *callers_max, 1, COUNT_MAX),
        time("passivation_delay", *passivation_delay, Duration::ZERO, CENTURY),
        count("reactivations_max", *reactivations_max, 1, COUNT_MAX),
        time("passivated_nudge_period", *passivated_nudge_period, MILLISECOND, CENTURY),
        time("shutdown_grace", *shutdown_grace, Duration::ZERO, DAY),
        time("cast_wait_max", *cast_wait_max, Duration::ZERO, DAY),
        time("advertisement_period_max", *advertisement_period_max, ADVERTISEMENT_DELAY_MIN, DAY),
    ]
}

fn of_limits(limits: &Limits) -> Vec<Range> {
    let Limits {
        unacked_max,
        payload_bytes_max,
        nudge_delay_min_ms,
        nudge_delay_max_ms,
        retry_delay_min_ms,
        retry_delay_max_ms,
        tries_max,
        signals_max,
        journal_records_warn,
    } = limits;
    let pause = |key, given: &u64| count(key, *given, 1, DAY.as_secs() * 1_000);
    vec![
        count("unacked_max", *unacked_max, 1, COUNT_MAX),
        // Leaves room for the data that is stored with a payload.
        count("payload_bytes_max", *payload_bytes_max, 1, VALUE_BYTES_MAX as u64 / 2),
        pause("nudge_delay_min_ms", nudge_delay_min_ms),
        pause("nudge_delay_max_ms", nudge_delay_max_ms),
        pause("retry_delay_min_ms", retry_delay_min_ms),
        pause("retry_delay_max_ms", retry_delay_max_ms),
        count("tries_max", *tries_max, 1, u32::MAX.into()),
        count("signals_max", *signals_max, 1, COUNT_MAX),
        count("journal_records_warn", *journal_records_warn, 1, COUNT_MAX),
    ]
}

fn of_actors(actors: &Actors) -> Vec<Range> {
    let Actors { batch_max, tells_max, refusals_max, forward_delay_min, forward_delay_max } = actors;
    vec![
        count("batch_max", *batch_max, 1, TAKEN_SIGNALS_MAX as u64),
        count("tells_max", *tells_max, 0, COUNT_MAX),
        count("refusals_max", *refusals_max, 0, COUNT_MAX),
        time("forward_delay_min", *forward_delay_min, MILLISECOND, DAY),
        time("forward_delay_max", *forward_delay_max, MILLISECOND, DAY),
    ]
}

fn of_retention(retention: &Retention) -> Vec<Range> {
    let Retention { age_min, age_max, count_max, bytes_max } = retention;
    let open = |range: Range, is_open: bool| Range { given: range.given.filter(|_| !is_open), ..range };
    vec![
        time("age_min", *age_min, MILLISECOND, CENTURY),
        open(time("age_max", age_max.unwrap_or_default(), MILLISECOND, CENTURY), age_max.is_none()),
        open(count("count_max", count_max.unwrap_or_default(), 0, STORED_MAX), count_max.is_none()),
        open(count("bytes_max", bytes_max.unwrap_or_default(), 0, STORED_MAX * 1_000), bytes_max.is_none()),
    ]
}

/// Returns the ranges of a policy, which are the same for all policies.
pub(crate) fn of_policy(policy: &Policy) -> Vec<Range> {
    let Policy { strategy: _, restarts_max, period, delay_min, delay_max, jitter, reset_after } = policy;
    let jitter = Range {
        key: "jitter",
        given: Some(Number::Part(*jitter)),
        least: Number::Part(0.0),
        greatest: Number::Part(1.0),
    };
    vec![
        count("restarts_max", *restarts_max, 0, 1_000_000),
        time("period", *period, MILLISECOND, CENTURY),
        time("delay_min", *delay_min, Duration::ZERO, DAY),
        time("delay_max", *delay_max, Duration::ZERO, DAY),
        jitter,
        time("reset_after", *reset_after, Duration::ZERO, CENTURY),
    ]
}

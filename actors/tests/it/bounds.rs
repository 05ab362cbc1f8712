//! Each setting has a least and a greatest value, whichever way it is given; what is within works, and what is not is
//! refused at the start, by its key.

use std::sync::Arc;
use std::time::Duration;

use accompanist::contract::{BoxFuture, Heal, Inbox, StoreError, Transport, TransportError, Wire};
use accompanist::prelude::*;
use accompanist::store::{FjallSizes, MemoryDisk};
use accompanist::supervision::{Group, Policy};
use accompanist::transport::LocalNetwork;
use accompanist::{Config, ConfigError, ConfigMistake, NodeError};
use serde::Deserialize;
use toml::{Table, Value};

use crate::support::{on_disk, within};
use crate::trade::Front;

/// Goes there and back within one role.
struct Nothing;
impl Choreography for Nothing {
    const NAME: &'static str = "nothing";
    type Roles = (Front,);
    type Input = At<Front, ()>;
    type Output = At<Front, ()>;
    async fn run(&self, _: &Context<Self::Roles>, unit: At<Front, ()>) -> Result<At<Front, ()>, Abort> {
        Ok(unit)
    }
}

/// A local network that carries the largest message there can be.
struct Wide(LocalNetwork);
struct WideWire(Arc<dyn Wire>);

impl Transport for Wide {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        Box::pin(async { Ok(Arc::new(WideWire(self.0.attach(node, inbox).await?)) as Arc<dyn Wire>) })
    }
}

impl Wire for WideWire {
    fn send(&self, to: &NodeId, packet: Vec<u8>) {
        self.0.send(to, packet);
    }
    fn broadcast(&self, packet: Vec<u8>) {
        self.0.broadcast(packet);
    }
    fn packet_bytes_max(&self) -> usize {
        1 << 30
    }
    fn heal(&self, to: &NodeId, level: Heal) {
        self.0.heal(to, level);
    }
}

/// A node with these settings runs a session.
async fn works(settings: Settings) -> Result<(), NodeError> {
    let builder = on_disk("node", &MemoryDisk::default(), Wide(LocalNetwork::new())).settings(settings);
    let node = within(builder.role(Front, Arc::new(())).choreography(Nothing).start()).await?;
    let session = within(node.start(Nothing, ())).await.unwrap();
    within(session.output()).await.unwrap();
    within(node.kill()).await;
    Ok(())
}

/// What has to be given along with `key`, so that every value in its range goes with the others: the rest of a pair is
/// at the end from which it does not restrict.
const COMPANIONS: [(&str, &str); 15] = [
    (
        "lazy_write_delay_max",
        "retransmission_delay_min = \"1day\"\nretransmission_delay_max = \"1day\"\n[retention]\nage_min = \"1day\"\n",
    ),
    (
        "retransmission_delay_min",
        "lazy_write_delay_max = \"0s\"\nretransmission_delay_max = \"1day\"\n[retention]\nage_min = \"1day\"\n",
    ),
    (
        "retransmission_delay_max",
        "lazy_write_delay_max = \"0s\"\nretransmission_delay_min = \"1ms\"\n[retention]\nage_min = \"1day\"\n",
    ),
    ("limits.nudge_delay_min_ms", "[limits]\nnudge_delay_max_ms = 86400000\n"),
    ("limits.nudge_delay_max_ms", "[limits]\nnudge_delay_min_ms = 1\n"),
    ("limits.retry_delay_min_ms", "[limits]\nretry_delay_max_ms = 86400000\n"),
    ("limits.retry_delay_max_ms", "[limits]\nretry_delay_min_ms = 1\n"),
    ("actors.forward_delay_min", "[actors]\nforward_delay_max = \"1day\"\n"),
    ("actors.forward_delay_max", "[actors]\nforward_delay_min = \"1ms\"\n"),
    (
        "retention.age_min",
        "lazy_write_delay_max = \"0s\"\nretransmission_delay_min = \"1ms\"\nretransmission_delay_max = \"1ms\"\n[retention]\nage_max = \"none\"\n",
    ),
    (
        "retention.age_max",
        "lazy_write_delay_max = \"0s\"\nretransmission_delay_min = \"1ms\"\nretransmission_delay_max = \"1ms\"\n[retention]\nage_min = \"1ms\"\n",
    ),
    ("restarts_max", "period = \"100years\"\n"),
    ("period", "restarts_max = 0\n"),
    ("delay_min", "delay_max = \"1day\"\nperiod = \"100years\"\n"),
    ("delay_max", "delay_min = \"0s\"\nperiod = \"100years\"\n"),
];

/// The file with all that goes along with `key`.
fn companions(key: &str) -> String {
    let (table, last) = key.rsplit_once('.').unwrap_or_default();
    let policy = table.starts_with("supervision").then_some(last);
    let wanted = policy.unwrap_or(key);
    let found = COMPANIONS.iter().find(|(key, _)| *key == wanted).map_or("", |(_, text)| text);
    if policy.is_some() { format!("[{table}]\n{found}") } else { found.to_owned() }
}

fn set(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            set(inner.as_table_mut().unwrap(), rest, value);
        }
    }
}

/// The one mistake of an error.
fn only(error: &ConfigError) -> ConfigMistake {
    let [mistake] = error.mistakes() else { panic!("{error}") };
    mistake.clone()
}

/// What comes of `value` given to `key` in Rust, in a file, and by a variable: the settings, or what is wrong.
fn ways(key: &str, value: &str) -> [Result<Settings, String>; 3] {
    let (text, mut table): (String, Table) = (companions(key), companions(key).parse().unwrap());
    set(&mut table, key, format!("value = {value}").parse::<Table>().unwrap()["value"].clone());
    let variable = format!("ACCOMPANIST__{}", key.replace('.', "__").to_uppercase());
    let read = |text: &str, variables: Vec<(String, String)>| {
        let read = Config::from_toml("a.toml", text, variables).map(|config| config.settings);
        read.map_err(|error| {
            let mistake = only(&error);
            assert_eq!(mistake.key.join("."), key, "{error}");
            mistake.what
        })
    };
    let in_rust = Settings::deserialize(table.clone()).unwrap();
    let checked = in_rust.check().map(|()| in_rust).map_err(|error| {
        let mistake = only(&error);
        assert_eq!((mistake.key.join("."), mistake.place), (key.to_owned(), None));
        mistake.what
    });
    let unquoted = value.trim_matches('"').to_owned();
    [checked, read(&toml::to_string(&table).unwrap(), vec![]), read(&text, vec![(variable, unquoted)])]
}

#[tokio::test]
async fn every_setting_works_at_its_bounds_and_is_refused_beyond() {
    let (mut tried, mut started) = (0, 0);
    for (key, least, greatest) in Settings::ranges() {
        let (zero, one, beyond) = match least.as_bytes() {
            [b'"', ..] => ("\"0s\"", "\"1ns\"", vec!["\"500000000000years\"".to_owned()]),
            _ if least.contains('.') => {
                ("0.0", "1.0", vec!["-0.1".to_owned(), "1.1".into(), "nan".into(), "1e300".into()])
            }
            _ if key.ends_with("tries_max") => ("0", "1", vec![]), // All that its type has.
            _ if key.ends_with("restarts_max") => ("0", "1", vec![u32::MAX.to_string()]),
            _ => ("0", "1", vec![i64::MAX.to_string()]),
        };
        let inside = |value: &str| {
            let least_is_zero = least == zero;
            value == least
                || value == greatest
                || value == zero && least_is_zero
                || value == one && least != "\"1ms\"" && least != "\"50ms\""
        };
        for value in [zero, one, &least, &greatest].into_iter().chain(beyond.iter().map(String::as_str)) {
            let [in_rust, in_file, in_variable] = ways(&key, value);
            assert_eq!((&in_rust, &in_rust), (&in_file, &in_variable), "{key} = {value}");
            assert_eq!(in_rust.is_ok(), inside(value), "{key} = {value}: {in_rust:?}");
            tried += 1;
            if let Ok(settings) = in_rust {
                started += 1;
                works(settings).await.unwrap_or_else(|error| panic!("{key} = {value}: {error}"));
            }
        }
    }
    assert!(tried > 200 && started > 100, "{tried} values, {started} starts");
}

/// The greatest value of a type, which a file cannot even write.
trait Greatest {
    const GREATEST: Self;
}
macro_rules! greatest {
    ($($type:ty => $value:expr),*) => { $(impl Greatest for $type { const GREATEST: Self = $value; })* };
}
greatest!(usize => usize::MAX, u64 => u64::MAX, u32 => u32::MAX, Duration => Duration::MAX, f64 => f64::MAX,
    Option<u64> => Some(u64::MAX), Option<Duration> => Some(Duration::MAX));

/// Sets the setting of this key to the greatest value of its type.
fn set_greatest(settings: &mut Settings, key: &str) {
    macro_rules! of {
        ($($($field:ident).+),* $(,)?) => {
            match key {
                $(_ if key == stringify!($($field).+).replace(' ', "") => settings.$($field).+ = Greatest::GREATEST,)*
                _ => panic!("`{key}` is missing in this test"),
            }
        };
    }
    of!(
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
        limits.unacked_max,
        limits.payload_bytes_max,
        limits.nudge_delay_min_ms,
        limits.nudge_delay_max_ms,
        limits.retry_delay_min_ms,
        limits.retry_delay_max_ms,
        limits.tries_max,
        limits.signals_max,
        limits.journal_records_warn,
        actors.batch_max,
        actors.tells_max,
        actors.refusals_max,
        actors.forward_delay_min,
        actors.forward_delay_max,
        retention.age_min,
        retention.age_max,
        retention.count_max,
        retention.bytes_max,
        supervision.tree.restarts_max,
        supervision.tree.period,
        supervision.tree.delay_min,
        supervision.tree.delay_max,
        supervision.tree.jitter,
        supervision.tree.reset_after,
        supervision.instances.restarts_max,
        supervision.instances.period,
        supervision.instances.delay_min,
        supervision.instances.delay_max,
        supervision.instances.jitter,
        supervision.instances.reset_after,
    );
}

#[tokio::test]
async fn no_setting_takes_the_greatest_number_for_never() {
    for (key, _, greatest) in Settings::ranges() {
        let mut settings = Settings::default();
        set_greatest(&mut settings, &key);
        let started = works(settings).await;
        if greatest == u32::MAX.to_string() {
            started.unwrap();
            continue;
        }
        let Err(NodeError::Config(error)) = started else { panic!("{key}: {started:?}") };
        let mistake = only(&error);
        assert_eq!(mistake.key.join("."), key);
        assert!(mistake.what.contains("is too much: give") && mistake.example.is_some(), "{error}");
    }
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_refused_with_both_named() {
    // The key that is set is named, whichever of the two it is.
    for (text, key, what) in [
        ("retransmission_delay_min = \"3s\"\n", "retransmission_delay_min", "above `retransmission_delay_max`, 2s"),
        ("retransmission_delay_max = \"5ms\"\n", "retransmission_delay_max", "below `retransmission_delay_min`, 80ms"),
        ("lazy_write_delay_max = \"1s\"\n", "lazy_write_delay_max", "above `retransmission_delay_min`, 80ms"),
        ("retransmission_delay_min = \"2ms\"\n", "retransmission_delay_min", "below `lazy_write_delay_max`, 5ms"),
        ("[retention]\nage_min = \"1s\"\n", "retention.age_min", "below `retransmission_delay_max`, 2s"),
        ("[retention]\nage_min = \"8days\"\n", "retention.age_min", "above `age_max`, 7days"),
        ("[retention]\nage_max = \"1m\"\n", "retention.age_max", "below `age_min`, 20m"),
        ("[actors]\nforward_delay_min = \"2s\"\n", "actors.forward_delay_min", "above `forward_delay_max`, 1s"),
        ("[limits]\nnudge_delay_max_ms = 5\n", "limits.nudge_delay_max_ms", "below `nudge_delay_min_ms`, 50"),
        ("[limits]\nretry_delay_min_ms = 60000\n", "limits.retry_delay_min_ms", "above `retry_delay_max_ms`, 30000"),
        ("fresh = true\naccept_restore = true\n", "accept_restore", "(`fresh`)"),
        (
            "[supervision.roles.front]\ndelay_max = \"1ms\"\n",
            "supervision.roles.front.delay_max",
            "below `delay_min`, 20ms",
        ),
    ] {
        let error = Config::from_toml("a.toml", text, []).unwrap_err();
        let mistake = only(&error);
        assert_eq!(mistake.key.join("."), key, "{error}");
        assert!(mistake.what.contains(what), "{error}");
        // The example is as right as it says.
        let example = mistake.example.unwrap();
        let table = text.split_inclusive('\n').find(|line| line.starts_with('[')).unwrap_or_default();
        Config::from_toml("a.toml", &format!("{table}{example}\n"), []).unwrap();
        let in_rust = Settings::deserialize(text.parse::<Table>().unwrap()).unwrap();
        let in_rust = works(in_rust).await.err().unwrap_or_else(|| panic!("{text} was taken"));
        match in_rust {
            NodeError::Config(error) => assert_eq!(error.mistakes().len(), 1, "{error}"),
            other => assert!(matches!(other, NodeError::GivenTwice { .. }), "{other}"),
        }
    }
}

#[tokio::test]
async fn a_policy_of_a_role_or_a_group_has_the_same_ranges() {
    let ranges = Settings::ranges();
    let of_policies = ranges.iter().filter_map(|(key, ..)| key.strip_prefix("supervision.tree."));
    let keys: Vec<&str> = of_policies.collect();
    assert_eq!(keys, ["restarts_max", "period", "delay_min", "delay_max", "jitter", "reset_after"]);
    for (key, value) in [
        ("restarts_max", "1000001"),
        ("period", "\"0s\""),
        ("delay_min", "\"2days\""),
        ("delay_max", "\"2days\""),
        ("jitter", "1.5"),
        ("reset_after", "\"101years\""),
    ] {
        for table in ["roles", "choreographies"] {
            let text = format!("[supervision.{table}.bank]\n{key} = {value}\n");
            let error = Config::from_toml("a.toml", &text, []).unwrap_err();
            let expected = format!("a.toml:2: supervision.{table}.bank.{key}: ");
            assert!(error.to_string().starts_with(&expected) && only(&error).what.contains("give"), "{error}");
        }
    }
    let group = Group::new("meters").policy(Policy { reset_after: Duration::MAX, ..Policy::default() });
    let builder = on_disk("node", &MemoryDisk::default(), LocalNetwork::new()).role(Front, Arc::new(()));
    let error = within(builder.supervise(group).start()).await.unwrap_err();
    assert!(error.to_string().starts_with("settings: supervision.groups.meters.reset_after: "), "{error}");
}

#[test]
fn the_sizes_of_a_store_have_ranges() {
    let open = |sizes: FjallSizes| {
        let folder = tempfile::tempdir().unwrap();
        FjallStore::open_with(folder.path(), &sizes).map(drop)
    };
    let sizes = FjallSizes::default;
    for sizes in [
        FjallSizes { cache_bytes: 0, ..sizes() },
        FjallSizes { cache_bytes: 1 << 40, ..sizes() },
        FjallSizes { memtable_bytes: 1, ..sizes() },
        FjallSizes { memtable_bytes: 1 << 40, ..sizes() },
        FjallSizes { journals_bytes_max: 64 << 20, ..sizes() },
        FjallSizes { journals_bytes_max: 1 << 40, ..sizes() },
        FjallSizes { journal_bytes_ahead: 0, ..sizes() },
        FjallSizes { journal_bytes_ahead: 1 << 40, ..sizes() },
        FjallSizes { verify_bytes_max: 0, ..sizes() },
        FjallSizes { verify_bytes_max: u64::MAX, ..sizes() },
    ] {
        open(sizes.clone()).unwrap_or_else(|error| panic!("{sizes:?}: {error}"));
    }
    for (key, sizes) in [
        ("cache_bytes", FjallSizes { cache_bytes: u64::MAX, ..sizes() }),
        ("memtable_bytes", FjallSizes { memtable_bytes: 0, ..sizes() }),
        ("memtable_bytes", FjallSizes { memtable_bytes: u64::MAX, ..sizes() }),
        ("journals_bytes_max", FjallSizes { journals_bytes_max: (64 << 20) - 1, ..sizes() }),
        ("journals_bytes_max", FjallSizes { journals_bytes_max: u64::MAX, ..sizes() }),
        ("journal_bytes_ahead", FjallSizes { journal_bytes_ahead: (1 << 40) + 1, ..sizes() }),
    ] {
        let error = open(sizes).unwrap_err();
        assert!(matches!(&error, StoreError::Size { size, .. } if *size == key), "{error}");
        assert!(error.to_string().contains("give"), "{error}");
    }
}

#[cfg(feature = "zenoh")]
#[test]
fn packets_of_zenoh_have_a_range() {
    use accompanist::transport::ZenohConfig;

    for bytes in [1 << 10, 1 << 30] {
        ZenohConfig::new().packet_bytes_max(bytes).check_exposure().unwrap();
    }
    for bytes in [0, 1, (1 << 10) - 1, (1 << 30) + 1, usize::MAX] {
        let error = ZenohConfig::new().packet_bytes_max(bytes).check_exposure().unwrap_err().to_string();
        assert!(error.contains(&format!("packet_bytes_max of {bytes} is too")), "{error}");
    }
}

/// `docs/accompanist.toml` says of each setting what it may be.
#[test]
fn every_range_is_documented() {
    let documented = include_str!("../../../docs/accompanist.toml");
    let mut table = String::new();
    let mut found = Vec::new();
    for line in documented.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            table = format!("{}.", name.trim_end_matches(']'));
        }
        let Some(((key, value), range)) =
            line.split_once(" # ").and_then(|(set, range)| Some((set.split_once(" = ")?, range)))
        else {
            continue;
        };
        let (least, greatest) = range.split_once(" to ").unwrap();
        assert!(!value.is_empty());
        found.push((format!("{table}{key}"), least.to_owned(), greatest.to_owned()));
    }
    let mut expected = Config::ranges();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

//! Settings out of a file and the environment, and what is said of bad ones.

use std::sync::Arc;
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::supervision::{Group, Policy, PolicyChange, Strategy};
use accompanist::transport::LocalNetwork;
use accompanist::{Config, NodeError};
use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use proptest::test_runner::FileFailurePersistence;

use crate::support::{on_disk, within};
use crate::trade::{Front, Trade};

const DOCUMENTED: &str = include_str!("../../../docs/accompanist.toml");

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_toml("a.toml", text, variables).map(|config| config.settings).map_err(|error| error.to_string())
}

fn check(text: &str, variables: &[(&str, &str)], expected: &str) {
    assert_eq!(read(text, variables).unwrap_err(), expected, "of {text:?} with {variables:?}");
}

/// The parts of a file that are no settings.
const SECTIONS: [&str; 3] = ["node", "store", "zenoh"];

/// The documented file as this build can read it.
fn documented() -> String {
    let without_zenoh = cfg!(not(feature = "zenoh"));
    let is_kept = |paragraph: &&str| !(without_zenoh && paragraph.contains("\n[zenoh]\n"));
    DOCUMENTED.split("\n\n").filter(is_kept).collect::<Vec<_>>().join("\n\n")
}

/// The keys of all values, with the tables around them.
fn keys(table: &toml::Table) -> Vec<String> {
    let keys = table.iter().flat_map(|(key, value)| match value {
        toml::Value::Table(inner) => keys(inner).into_iter().map(|inner| format!("{key}.{inner}")).collect(),
        _ => vec![key.clone()],
    });
    keys.collect()
}

#[test]
fn every_key_is_documented_with_its_default() {
    assert_eq!(read(&documented(), &[]).unwrap(), Settings::default());
    let defaults = toml::Table::try_from(Settings::default()).unwrap();
    let documented: toml::Table = DOCUMENTED.parse().unwrap();
    let of_sections = |section: &str| SECTIONS.iter().any(|name| section.starts_with(&format!("{name}.")));
    let (mut expected, found) = (keys(&defaults), keys(&documented));
    let (sections, mut found): (Vec<_>, Vec<_>) = found.into_iter().partition(|key| of_sections(key));
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    assert_eq!(sections.len(), 17);
    // What is commented out is good, too.
    let examples = DOCUMENTED.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| line.contains(" = {"));
    assert_eq!(examples.clone().count(), 3);
    let tables = ["roles", "choreographies", "groups"].iter().zip(examples);
    let text: Vec<_> = tables.map(|(table, line)| format!("[supervision.{table}]\n{line}\n")).collect();
    assert_eq!(read(&text.concat(), &[]).unwrap().supervision.roles["payment"].restarts_max, Some(10));
}

#[test]
fn an_empty_file_is_the_defaults_and_none_is_no_bound() {
    assert_eq!(read("", &[]).unwrap(), Settings::default());
    let text = "[retention]\nage_max = \"none\"\ncount_max = \"none\"\nbytes_max = 7\n";
    let Retention { age_max, count_max, bytes_max, .. } = read(text, &[]).unwrap().retention;
    assert_eq!((age_max, count_max, bytes_max), (None, None, Some(7)));
    let written = toml::to_string(&read(text, &[]).unwrap()).unwrap();
    assert_eq!(read(&written, &[]), read(text, &[]));
}

#[test]
fn a_mistake_is_reported_with_file_line_key_and_a_right_value() {
    check(
        "\n\n[limits]\ntries_max = 5\nsignal_max = 3\n",
        &[],
        "a.toml:5: limits.signal_max: there is no such key: did you mean `signals_max`? (for example: signals_max = 1024)",
    );
    check(
        "[supervision.tree]\nstrategy = \"one_for_al\"\n",
        &[],
        "a.toml:2: supervision.tree.strategy: there is no such word: did you mean `one_for_all`? (for example: strategy = \
         \"one_for_all\")",
    );
    check(
        "[supervision.roles.bank]\nxyz = 1\n",
        &[],
        "a.toml:2: supervision.roles.bank.xyz: there is no such key; there are: strategy, restarts_max, period, delay_min, delay_max, jitter, reset_after",
    );
    check(
        "signals_max = 7\n",
        &[],
        "a.toml:1: signals_max: there is no such key here: did you mean `limits.signals_max`? (for example: \
         limits.signals_max = 1024)",
    );
    check("[nodes]\nname = \"a\"\nmembers = 1\n", &[], "a.toml:1: nodes: there is no such key: did you mean `node`?");
    check(
        "cast_wait_max = 10\n",
        &[],
        "a.toml:1: cast_wait_max: it is integer `10`, and has to be a time with its unit, such as `20ms` or `7days` (for \
         example: cast_wait_max = \"10s\")",
    );
    check(
        "instances_max = -1\n",
        &[],
        "a.toml:1: instances_max: it is integer `-1`, and has to be a whole number, 0 or more (for example: instances_max = \
         200000)",
    );
    check("limits = 3\n", &[], "a.toml:1: limits: it is integer `3`, and has to be a table");
    check("[limits\n", &[], "a.toml:1: unclosed table, expected `]`");
    check(
        "[retention]\ncount_max = \"many\"\n",
        &[],
        "a.toml:2: retention.count_max: `many` is neither a whole number nor `none` (for example: count_max = 1000000)",
    );
    check(
        "[node]\nname = \"Shop 1\"\n",
        &[],
        "a.toml:2: node.name: `Shop 1` is no node name: use 1 to 64 of the characters a-z, 0-9, `-`, `_` and `.`, the first one \
         a letter or a digit (for example: name = \"shop-1\")",
    );
    check(
        "[store]\nfolder = \"\"\n",
        &[],
        "a.toml:2: store.folder: the path is empty: give one, or `none` (for example: folder = \"data/shop-1\")",
    );
    check(
        "[store]\ncache_bytes = 0\n",
        &[],
        "a.toml:1: store.folder: the section `store` is about the store in this folder: give it, or set the store's sizes and \
         durability where the store is opened in Rust (for example: folder = \"data/shop-1\")",
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = "\
instances_max = 0
cast_wait_max = 10
open_maxx = 3
retransmission_delay_max = 5
retransmission_delay_min = \"3s\"
= 7
[limits]
signals_max = 0
retry_delay_min_ms = 40000
[retention]
age_min = \"3days\"
age_max = \"1day\"
[supervision.instances]
delay_min = \"20s\"
[supervision.roles.bank]
jitter = 2
[xyz.such]
table = 1
other = 2
";
    let variables = [("ACCOMPANIST__STORE__DURABILITY", "forever"), ("ACCOMPANIST__CALLERS_MAX", "0")];
    let error = read(text, &variables).unwrap_err();
    let expected = "\
13 mistakes in the configuration:
  a.toml:1: instances_max: 0 is too little: give 1 or more (for example: instances_max = 200000)
  a.toml:2: cast_wait_max: it is integer `10`, and has to be a time with its unit, such as `20ms` or `7days` (for example: cast_wait_max = \"10s\")
  a.toml:3: open_maxx: there is no such key: did you mean `open_max`? (for example: open_max = 10000000)
  a.toml:4: retransmission_delay_max: it is integer `5`, and has to be a time with its unit, such as `20ms` or `7days` (for example: retransmission_delay_max = \"2s\")
  a.toml:6: ...
  a.toml:8: limits.signals_max: 0 is too little: give 1 or more (for example: signals_max = 1024)
  a.toml:9: limits.retry_delay_min_ms: 40000 is above `retry_delay_max_ms`, 30000: give a shorter one (for example: retry_delay_min_ms = 30000)
  a.toml:11: retention.age_min: 3days is above `age_max`, 1day: give a shorter one (for example: age_min = \"1day\")
  a.toml:14: supervision.instances.delay_min: 20s is above `delay_max`, 10s: give a shorter one (for example: delay_min = \"10s\")
  a.toml:16: supervision.roles.bank.jitter: 2 is too much: give 1 or less (for example: jitter = 0.1)
  a.toml:17: xyz: there is no such key; there are: ...
  variable ACCOMPANIST__STORE__DURABILITY: store.durability: there is no such word; there are: power, process (for example: ACCOMPANIST__STORE__DURABILITY=power)
  variable ACCOMPANIST__CALLERS_MAX: callers_max: 0 is too little: give 1 or more (for example: ACCOMPANIST__CALLERS_MAX=4096)";
    // What the parser says, and the list of all keys, are not ours to fix.
    let cut = |line: &str| match line {
        line if line.contains(":6: ") => "  a.toml:6: ...".to_owned(),
        line => {
            line.split_once("there are: seal").map_or(line.to_owned(), |(start, _)| format!("{start}there are: ..."))
        }
    };
    let found: Vec<String> = error.lines().map(cut).collect();
    let (mut found, mut expected) = (found, expected.lines().map(ToOwned::to_owned).collect::<Vec<_>>());
    // Those of variables are in no order.
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "{error}");
}

#[test]
fn numbers_that_cannot_work_are_refused_where_they_are_set() {
    check(
        "\ninstances_max = 0\n",
        &[],
        "a.toml:2: instances_max: 0 is too little: give 1 or more (for example: instances_max = 200000)",
    );
    check(
        "[supervision.roles.bank]\nreset_after = \"1s\"\njitter = 1.5\n",
        &[],
        "a.toml:3: supervision.roles.bank.jitter: 1.5 is too much: give 1 or less (for example: jitter = 0.1)",
    );
    check(
        "[supervision.instances]\nrestarts_max = 20\n",
        &[],
        "a.toml:1: supervision.instances.period: 20 restarts can take 2m 12s 242ms in pauses alone, and `period` is 1m: it might \
         never be given up. Give a longer `period`, or a shorter `delay_max` (for example: period = \"2m 13s\")",
    );
    let endless = "[supervision.tree]\nrestarts_max = 1000000\ndelay_max = \"1day\"\njitter = 1\n";
    let error = read(endless, &[]).unwrap_err();
    assert!(error.starts_with("a.toml:1: supervision.tree.period: 1000000 restarts can take"), "{error}");
    check(
        "retransmission_delay_min = \"3s\"\n",
        &[],
        "a.toml:1: retransmission_delay_min: 3s is above `retransmission_delay_max`, 2s: give a shorter one (for example: \
         retransmission_delay_min = \"2s\")",
    );
    check(
        "",
        &[("ACCOMPANIST__RETENTION__AGE_MIN", "1s")],
        "variable ACCOMPANIST__RETENTION__AGE_MIN: retention.age_min: 1s is below `retransmission_delay_max`, 2s: give a longer \
         one (for example: ACCOMPANIST__RETENTION__AGE_MIN=2s)",
    );
    check(
        "advertisement_period_max = \"0s\"\n",
        &[],
        "a.toml:1: advertisement_period_max: 0s is too little: give 50ms or more (for example: advertisement_period_max = \
         \"3s\")",
    );
}

#[test]
fn the_environment_comes_before_the_file() {
    let variables = [
        ("ACCOMPANIST__SUPERVISION__TREE__RESTARTS_MAX", "7"),
        ("ACCOMPANIST__SUPERVISION__ROLES__BANK__STRATEGY", "one_for_all"),
        ("ACCOMPANIST__CAST_WAIT_MAX", "3s"),
        ("ACCOMPANIST_SEED", "7"),
        ("HOME", "/"),
    ];
    let settings =
        read("cast_wait_max = \"1s\"\n[supervision.tree]\nrestarts_max = 2\ndelay_min = \"1ms\"\n", &variables)
            .unwrap();
    assert_eq!(settings.cast_wait_max, Duration::from_secs(3));
    let tree = &settings.supervision.tree;
    assert_eq!((tree.restarts_max, tree.delay_min), (7, Duration::from_millis(1)));
    assert_eq!(settings.supervision.of_instance("sale", "bank").strategy, Strategy::OneForAll);

    check(
        "",
        &[("ACCOMPANIST__SUPERVISION__TREE__RESTART_MAX", "7")],
        "variable ACCOMPANIST__SUPERVISION__TREE__RESTART_MAX: supervision.tree.restart_max: there is no such key: did you \
         mean `restarts_max`? (for example: ACCOMPANIST__SUPERVISION__TREE__RESTARTS_MAX=5)",
    );
    check(
        "",
        &[("ACCOMPANIST__INSTANCES_MAX", "0")],
        "variable ACCOMPANIST__INSTANCES_MAX: instances_max: 0 is too little: give 1 or more (for example: \
         ACCOMPANIST__INSTANCES_MAX=200000)",
    );
}

#[test]
fn a_choreography_comes_before_its_roles_key_by_key() {
    let text = "[supervision.instances]\nrestarts_max = 4\n[supervision.roles.bank]\nrestarts_max = 3\nreset_after = \"1s\"\n\
                [supervision.choreographies.sale]\nrestarts_max = 2\n";
    let supervision = read(text, &[]).unwrap().supervision;
    let of = |choreography, role| {
        let policy = supervision.of_instance(choreography, role);
        (policy.restarts_max, policy.reset_after.as_secs())
    };
    assert_eq!(
        [of("sale", "bank"), of("sale", "shop"), of("loan", "bank"), of("loan", "shop")],
        [(2, 1), (2, 30), (3, 1), (4, 30)]
    );
}

#[test]
fn the_tree_is_shown_as_it_will_be() {
    let text = "[supervision.tree]\nstrategy = \"rest_for_one\"\n[supervision.roles.bank]\nrestarts_max = 10\n\
                [supervision.groups]\nmeters = { restarts_max = 1, reset_after = \"1s\" }\npumps = {}\n";
    let tree = read(text, &[]).unwrap().supervision.to_string();
    let expected = "\
node                 rest_for_one, 5 restarts in 1m after 20ms to 10s (+10 %), reset after 30s; then the node stops
|- writer            a thread; if it or the store fails, the node stops
|- link and roles    restarted together
|  |- every instance one_for_one, 5 restarts in 1m after 20ms to 10s (+10 %), reset after 30s; then quarantine
|  `- of role `bank` one_for_one, 10 restarts in 1m after 20ms to 10s (+10 %), reset after 30s
|- group `meters`    restarts_max = 1, reset_after = \"1s\"
`- group `pumps`     as it says itself
";
    let squeezed =
        |text: &str| text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    assert_eq!(squeezed(&tree), squeezed(expected), "{tree}");
}

#[tokio::test]
async fn all_mistakes_of_a_start_are_reported_at_once() {
    let text = "[supervision.roles.frint]\n[supervision.roles.bank]\n[supervision.choreographies.sale]\n";
    let config = Config::from_toml("a.toml", text, []).unwrap();
    let builder = on_disk("node", &MemoryDisk::default(), LocalNetwork::new()).config(config);
    let error = within(builder.role(Front, Arc::new(())).choreography(Trade).start()).await.unwrap_err();
    let NodeError::Config(error) = error else { panic!("{error}") };
    let places: Vec<_> = error.mistakes().iter().map(|mistake| mistake.place.clone().unwrap()).collect();
    assert_eq!(places, ["a.toml:1", "a.toml:2", "a.toml:3"], "{error}");
}

#[tokio::test]
async fn names_in_the_configuration_must_exist_at_the_start() {
    for (text, expected) in [
        (
            "\n[supervision.roles.frint]\n",
            "a.toml:2: supervision.roles.frint: this node plays no such role: did you mean `front`?",
        ),
        (
            "[supervision.choreographies.sale]\n",
            "a.toml:1: supervision.choreographies.sale: this node has no such choreography; there are: trade",
        ),
        (
            "[supervision.groups]\nmeters = { reset_after = \"1s\" }\n",
            "a.toml:2: supervision.groups.meters: this node has no such group (`NodeBuilder::supervise`), nor any other",
        ),
    ] {
        let config = Config::from_toml("a.toml", text, []).unwrap();
        let builder = on_disk("node", &MemoryDisk::default(), LocalNetwork::new()).config(config);
        let error = within(builder.role(Front, Arc::new(())).choreography(Trade).start()).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let mut settings = Settings::default();
    let change = PolicyChange { delay_min: Some(Duration::from_hours(1)), ..PolicyChange::default() };
    settings.supervision.groups.insert("meters".into(), change);
    let builder = on_disk("node", &MemoryDisk::default(), LocalNetwork::new()).settings(settings);
    let group = Group::new("meters").policy(Policy::default());
    let started = within(builder.role(Front, Arc::new(())).supervise(group).start()).await;
    let Err(NodeError::Config(error)) = started else { panic!("{started:?}") };
    assert_eq!(
        error.to_string(),
        "settings: supervision.groups.meters.delay_min: 1h is above `delay_max`, 10s: give a shorter one (for example: delay_min = \
         \"10s\")"
    );
}

/// Lines of a good file, lines with another value, and anything.
fn line() -> impl proptest::strategy::Strategy<Value = String> + use<> {
    let documented: Vec<&str> = DOCUMENTED.lines().filter(|line| !line.starts_with('#')).collect();
    let value = prop_oneof![
        Just("0".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}")),
        "\"[0-9]{1,20}(ns|ms|s|m|days|years|x)\"",
        Just("\"none\"".to_owned()),
        "\\PC{0,20}",
    ];
    let key = proptest::sample::select(documented.clone());
    prop_oneof![
        4 => proptest::sample::select(documented).prop_map(ToOwned::to_owned),
        2 => (key, value).prop_map(|(line, value)| match line.split_once('=') {
            Some((key, _)) => format!("{key}= {value}"),
            None => line.to_owned(),
        }),
        1 => "\\PC{0,40}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/corpus/config-found-by-proptest.txt"))),
        ..ProptestConfig::default()
    })]

    /// Whatever a file and a variable hold: settings that can be used, or an error that says where.
    #[test]
    fn no_file_is_a_danger(lines in proptest::collection::vec(line(), 0..12), key in "[A-Z_]{0,30}", value in "\\PC{0,10}") {
        let text = lines.join("\n");
        let name = format!("ACCOMPANIST__{key}");
        for variables in [vec![], vec![(name.clone(), value)]] {
            if let Err(error) = Config::from_toml("a.toml", &text, variables) {
                for mistake in error.mistakes() {
                let place = mistake.place.clone().unwrap_or_default();
                let in_file = place.strip_prefix("a.toml").map(|line| line.trim_start_matches(':').parse::<usize>());
                let is_there = match in_file {
                    Some(Ok(line)) => line <= text.lines().count().max(1) + 1,
                    _ => place == "a.toml" || place == format!("variable {name}"),
                };
                prop_assert!(is_there && !mistake.what.is_empty(), "{error} of {text:?}");
                }
            }
        }
    }
}

//! The files in `deploy` are what their tools expect, and fit the code: settings are settings, metrics exist, and each
//! alert is in the runbook. There is no cluster here, so nothing is applied.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use accompanist::metric;
use accompanist::prelude::*;
use yaml_rust2::{Yaml, YamlLoader};

use crate::metrics::Observed;

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(file)
}

fn text(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn yaml(file: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(&text(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The value at a path of keys, which has to be there.
fn at<'a>(value: &'a Yaml, keys: &str) -> &'a Yaml {
    let found = keys.split('/').fold(value, |value, key| match key.parse::<usize>() {
        Ok(index) => &value[index],
        Err(_) => &value[key],
    });
    assert!(!found.is_badvalue() && !found.is_null(), "there is no {keys} in {value:?}");
    found
}

fn string<'a>(value: &'a Yaml, keys: &str) -> &'a str {
    at(value, keys).as_str().unwrap_or_else(|| panic!("{keys} is no text in {value:?}"))
}

fn list<'a>(value: &'a Yaml, keys: &str) -> &'a [Yaml] {
    at(value, keys).as_vec().unwrap_or_else(|| panic!("{keys} is no list in {value:?}"))
}

fn number(value: &Yaml, keys: &str) -> u64 {
    u64::try_from(at(value, keys).as_i64().unwrap_or_else(|| panic!("{keys} is no number in {value:?}"))).unwrap()
}

fn pairs(value: &Yaml) -> BTreeMap<&str, &str> {
    value.as_hash().unwrap().iter().map(|(key, value)| (key.as_str().unwrap(), value.as_str().unwrap())).collect()
}

/// Whether pods with the labels of `template` are selected.
fn selects(selector: &Yaml, template: &Yaml) -> bool {
    let labels = pairs(at(template, "metadata/labels"));
    pairs(selector).into_iter().all(|(key, value)| labels.get(key) == Some(&value))
}

/// The manifests of a file by kind, each with what every object has.
fn manifests(file: &str) -> BTreeMap<String, Yaml> {
    let mut found = BTreeMap::new();
    for manifest in yaml(file) {
        let kind = string(&manifest, "kind").to_owned();
        let version = match kind.as_str() {
            "ConfigMap" | "Service" => "v1",
            "Deployment" | "StatefulSet" => "apps/v1",
            "PodDisruptionBudget" => "policy/v1",
            other => panic!("{file}: an unexpected {other}"),
        };
        assert_eq!(string(&manifest, "apiVersion"), version, "{file}: {kind}");
        let name = string(&manifest, "metadata/name");
        assert!(name.bytes().all(|c| c.is_ascii_lowercase() || c == b'-'), "{file}: {name}");
        assert!(!pairs(at(&manifest, "metadata/labels")).is_empty());
        assert!(found.insert(kind.clone(), manifest).is_none(), "{file}: {kind} is there twice");
    }
    found
}

/// Checks what a controller's pods are made of.
fn check_pods(controller: &Yaml) {
    let template = at(controller, "spec/template");
    assert!(selects(at(controller, "spec/selector/matchLabels"), template), "it does not select its own pods");
    assert!(number(controller, "spec/replicas") > 0);
    let pod = at(template, "spec");
    assert_eq!(at(pod, "securityContext/runAsNonRoot").as_bool(), Some(true));
    let claims = controller["spec"]["volumeClaimTemplates"].as_vec().cloned().unwrap_or_default();
    let claims = claims.iter().map(|claim| string(claim, "metadata/name").to_owned());
    let volumes = list(pod, "volumes").iter().map(|volume| string(volume, "name").to_owned());
    let volumes: BTreeSet<String> = volumes.chain(claims).collect();
    let mut mounted = BTreeSet::new();
    let inits = pod["initContainers"].as_vec().cloned().unwrap_or_default();
    for container in inits.iter().chain(list(pod, "containers")) {
        let (name, image) = (string(container, "name"), string(container, "image"));
        assert!(image.rsplit('/').next().unwrap().contains(':'), "{name}: `{image}` has no tag");
        assert!(!image.ends_with(":latest"));
        string(container, "resources/requests/memory");
        string(container, "resources/limits/memory");
        assert_eq!(at(container, "securityContext/allowPrivilegeEscalation").as_bool(), Some(false), "{name}");
        assert_eq!(at(container, "securityContext/readOnlyRootFilesystem").as_bool(), Some(true), "{name}");
        assert_eq!(string(container, "securityContext/capabilities/drop/0"), "ALL", "{name}");
        for mount in list(container, "volumeMounts") {
            assert!(string(mount, "mountPath").starts_with('/'));
            mounted.insert(string(mount, "name").to_owned());
        }
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let handler = if container[probe]["httpGet"].is_badvalue() { "tcpSocket" } else { "httpGet" };
            if let Some(port) = container[probe][handler]["port"].as_str() {
                let ports: Vec<_> = list(container, "ports").iter().map(|port| string(port, "name")).collect();
                assert!(ports.contains(&port), "{name}: {probe} asks port {port}, of {ports:?}");
            }
        }
    }
    assert_eq!(mounted, volumes, "each volume is mounted, and no other");
}

#[test]
fn the_router_is_a_deployment_behind_a_service() {
    let found = manifests("deploy/kubernetes/router.yaml");
    assert_eq!(found.keys().collect::<Vec<_>>(), ["Deployment", "Service"]);
    let (deployment, service) = (&found["Deployment"], &found["Service"]);
    check_pods(deployment);
    assert!(selects(at(service, "spec/selector"), at(deployment, "spec/template")));
    // The release of Zenoh that the nodes are built with.
    let lock = text("Cargo.lock");
    let zenoh = lock.split("name = \"zenoh\"\nversion = \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert_eq!(string(deployment, "spec/template/spec/containers/0/image"), format!("eclipse/zenoh:{zenoh}"));
}

#[test]
fn the_nodes_are_a_stateful_set_with_volumes_probes_a_hook_and_a_budget() {
    let found = manifests("deploy/kubernetes/bank.yaml");
    assert_eq!(found.keys().collect::<Vec<_>>(), ["ConfigMap", "PodDisruptionBudget", "Service", "StatefulSet"]);
    let (nodes, service) = (&found["StatefulSet"], &found["Service"]);
    check_pods(nodes);
    let template = at(nodes, "spec/template");
    assert_eq!(string(nodes, "spec/serviceName"), string(service, "metadata/name"));
    assert_eq!(string(service, "spec/clusterIP"), "None");
    assert!(selects(at(service, "spec/selector"), template));
    let budget = &found["PodDisruptionBudget"];
    assert!(selects(at(budget, "spec/selector/matchLabels"), template));
    assert!(number(budget, "spec/maxUnavailable") < number(nodes, "spec/replicas"));
    assert_eq!(string(nodes, "spec/persistentVolumeClaimRetentionPolicy/whenScaled"), "Retain");
    assert_eq!(string(nodes, "spec/persistentVolumeClaimRetentionPolicy/whenDeleted"), "Retain");

    let node = at(template, "spec/containers/0");
    assert_eq!(string(node, "startupProbe/httpGet/path"), "/livez");
    assert_eq!(string(node, "livenessProbe/httpGet/path"), "/livez");
    assert_eq!(string(node, "readinessProbe/httpGet/path"), "/readyz");
    assert_eq!(number(node, "ports/0/containerPort"), 8181);
    assert_eq!(pairs(at(template, "metadata/annotations"))["prometheus.io/port"], "8181");
    let hook: Vec<_> = list(node, "lifecycle/preStop/exec/command").iter().filter_map(Yaml::as_str).collect();
    assert!(hook.concat().contains(" drain "), "{hook:?}");
    // A Secret for each pod.
    for replica in 0..number(nodes, "spec/replicas") {
        let secret = format!("bank-{replica}-security");
        assert!(text("deploy/kubernetes/bank.yaml").contains(&secret), "{secret}");
    }
}

/// The settings in the `ConfigMap`, as a pod reads them.
#[test]
fn the_settings_of_the_nodes_are_settings_and_fit_their_manifest() {
    let found = manifests("deploy/kubernetes/bank.yaml");
    let (settings, nodes) = (string(&found["ConfigMap"], "data/accompanist.toml"), &found["StatefulSet"]);
    let container = at(nodes, "spec/template/spec/containers/0");
    let name = string(container, "env/0/name");
    let variables = [(name.to_owned(), "bank-0".to_owned())];
    let config = Config::from_toml("/etc/accompanist/accompanist.toml", settings, variables).unwrap();
    assert_eq!(config.node.name.as_ref().map(NodeId::as_str), Some("bank-0"), "{name}");
    let mounts: Vec<_> = list(container, "volumeMounts").iter().map(|mount| string(mount, "mountPath")).collect();
    let folder = config.store.folder.clone().unwrap();
    assert!(mounts.contains(&folder.to_str().unwrap()), "the store is on no volume: {mounts:?}");
    let is_mounted = |file: &Path| mounts.iter().any(|mount| file.starts_with(mount));
    assert!(config.settings.seal_key_file.as_deref().is_some_and(is_mounted));
    assert!(config.node.members_file.as_deref().is_some_and(is_mounted));
    // The hook waits for five seconds; the node lets its steps end, and goes.
    let grace = Duration::from_secs(number(nodes, "spec/template/spec/terminationGracePeriodSeconds"));
    assert!(config.settings.shutdown_grace + Duration::from_secs(5 + 10) <= grace);
}

#[test]
fn the_unit_of_systemd_waits_for_the_node_and_gives_it_time_to_stop() {
    let text = text("deploy/systemd/bank.service");
    let mut sections: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    let mut section = "";
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("no key: {line}"));
        let twice = sections.entry(section).or_default().insert(key, value);
        assert!(twice.is_none(), "{section}: {key} is there twice");
    }
    assert_eq!(sections.keys().collect::<Vec<_>>(), [&"Install", &"Service", &"Unit"]);
    let service = &sections["Service"];
    assert_eq!((service["Type"], service["NotifyAccess"], service["KillSignal"]), ("notify", "main", "SIGTERM"));
    assert!(service["ExecStart"].starts_with('/') && service["Restart"] == "on-failure");
    let seconds = |key: &str| service[key].parse::<u64>().unwrap();
    assert!(Duration::from_secs(seconds("TimeoutStopSec")) >= Settings::default().shutdown_grace * 2);
    assert!(seconds("WatchdogSec") >= 10 && seconds("TimeoutStartSec") >= 60);
}

/// The names of all metrics with their kinds, as the code describes them.
fn known_metrics() -> BTreeMap<String, &'static str> {
    let observed = Observed::default();
    metrics::with_local_recorder(&observed, metric::describe);
    let known = observed.kinds();
    assert!(known.len() > 40);
    known
}

/// The names in an expression that are metrics of this project.
fn metrics_in(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.filter(|word| word.starts_with("accompanist_")).collect()
}

fn check_expression(known: &BTreeMap<String, &'static str>, expression: &str) {
    for name in metrics_in(expression) {
        let of_histogram = ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| name.strip_suffix(suffix));
        let exists = match of_histogram {
            Some(histogram) => known.get(histogram) == Some(&"histogram"),
            None => known.get(name).is_some_and(|kind| *kind != "histogram"),
        };
        assert!(exists, "there is no metric `{name}`, in: {expression}");
        let is_rate = expression.contains("rate(") || expression.contains("increase(");
        assert!(!name.ends_with("_total") || is_rate, "a counter without a rate: {expression}");
    }
    for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
        let count = |c| expression.matches(c).count();
        assert_eq!(count(open), count(close), "{expression}");
    }
}

fn alerts() -> Vec<Yaml> {
    let file = yaml("deploy/prometheus/alerts.yml");
    assert_eq!(file.len(), 1);
    let groups = list(&file[0], "groups").iter();
    groups.flat_map(|group| list(group, "rules").iter().cloned()).collect()
}

#[test]
fn each_alert_asks_for_metrics_that_exist_and_says_what_it_means() {
    let (known, mut names) = (known_metrics(), BTreeSet::new());
    for alert in alerts() {
        let (name, expression) = (string(&alert, "alert"), string(&alert, "expr"));
        assert!(name.starts_with("Accompanist") && names.insert(name.to_owned()), "{name}");
        check_expression(&known, expression);
        assert!(!metrics_in(expression).is_empty() || expression.starts_with("up{"), "{name}");
        assert!(["page", "ticket"].contains(&string(&alert, "labels/severity")), "{name}");
        string(&alert, "annotations/summary");
        string(&alert, "annotations/description");
        if let Some(time) = alert["for"].as_str() {
            assert!(humantime::parse_duration(time).is_ok(), "{name}: {time}");
        }
    }
    // What is wrong now has an alert each.
    let text = text("deploy/prometheus/alerts.yml");
    for (name, _) in known.iter().filter(|(name, _)| name.ends_with("_now")) {
        assert!(text.contains(name.as_str()), "no alert asks for {name}");
    }
}

#[test]
fn the_runbook_has_an_entry_for_each_alert_and_for_no_other() {
    let runbook = text("docs/how-to/runbook.md");
    let entries = runbook.lines().filter_map(|line| line.strip_prefix("### Accompanist"));
    let entries: BTreeSet<String> = entries.map(|name| format!("Accompanist{name}")).collect();
    let mut names = BTreeSet::new();
    for alert in alerts() {
        let name = string(&alert, "alert").to_owned();
        let anchor = format!("docs/how-to/runbook.md#{}", name.to_lowercase());
        assert_eq!(string(&alert, "annotations/runbook"), anchor);
        names.insert(name);
    }
    assert_eq!(entries, names);
    // Each says what it means, and what to look at and do.
    for entry in runbook.split("\n### Accompanist").skip(1) {
        let entry = entry.split("\n## ").next().unwrap();
        for part in ["**Means**", "**Look**", "**Do**"] {
            assert!(entry.contains(part), "{part} is missing: {}", entry.lines().next().unwrap_or_default());
        }
    }
}

#[test]
fn the_dashboard_shows_metrics_that_exist_in_panels_that_do_not_overlap() {
    let text = text("deploy/grafana/accompanist.json");
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (known, mut ids, mut cells) = (known_metrics(), BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is there twice");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap_or_else(|| panic!("{title}: no {key}"));
        assert!(place("x") + place("w") <= 24, "{title} is too wide");
        for (x, y) in (0..place("w")).flat_map(|x| (0..place("h")).map(move |y| (x, y))) {
            assert!(cells.insert((place("x") + x, place("y") + y)), "{title} overlaps another panel");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title}");
        let targets = panel["targets"].as_array().unwrap();
        let mut letters = BTreeSet::new();
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            assert!(!metrics_in(expression).is_empty(), "{title}: {expression}");
            check_expression(&known, expression);
            assert!(letters.insert(target["refId"].as_str().unwrap()), "{title}");
        }
        assert!(!targets.is_empty(), "{title}");
    }
    assert!(ids.len() > 20);
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().filter_map(|variable| variable["name"].as_str()).collect();
    assert_eq!(names, ["datasource", "instance"]);
}

#[test]
fn a_metric_that_does_not_exist_is_found_in_an_expression() {
    let known = BTreeMap::from([("accompanist_a".to_owned(), "gauge"), ("accompanist_b_seconds".into(), "histogram")]);
    check_expression(&known, "accompanist_a > 0 and rate(accompanist_b_seconds_count[1m]) > 1");
    for wrong in ["accompanist_c", "accompanist_b_seconds", "accompanist_a_bucket", "sum(accompanist_a"] {
        assert!(std::panic::catch_unwind(|| check_expression(&known, wrong)).is_err(), "{wrong}");
    }
}

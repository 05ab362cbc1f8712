//! The page of metrics has all of them.

use std::fmt::Write;
use std::fs;

use crate::{root, tables};

struct Metric {
    kind: &'static str,
    name: String,
    meaning: String,
}

/// The constants that name metrics, with their documentation as the meaning.
fn metrics(file: &str) -> Vec<Metric> {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let (mut found, mut documentation) = (Vec::new(), Vec::new());
    for line in text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("/// ") {
            documentation.push(words);
        } else if let Some((constant, name)) = line.split_once(": &str = \"accompanist_") {
            let constant = constant.trim_start_matches("pub const ");
            let is_gauge = text.contains(&format!("gauge!({constant}"));
            let meaning = documentation.join(" ").replace("Counter: ", "").replace("Gauge: ", "");
            let meaning = meaning.replace("[`REASON`]", "`reason`").replace("[`crate::", "`").replace("`]", "`");
            let name = format!("accompanist_{}", name.trim_end_matches("\";"));
            found.push(Metric { kind: if is_gauge { "gauge" } else { "counter" }, name, meaning });
            documentation.clear();
        } else if !line.starts_with("#[") {
            documentation.clear();
        }
    }
    found
}

#[test]
fn the_page_of_metrics_has_each_metric() {
    for (part, file, least) in [("node", "actors/src/base/metric.rs", 30), ("network", "transport/src/metric.rs", 8)] {
        let metrics = metrics(file);
        assert!(metrics.len() >= least, "the metrics were not found");
        let mut table = "| name | kind | what it counts |\n|---|---|---|\n".to_owned();
        for Metric { kind, name, meaning } in metrics {
            assert!(!meaning.is_empty(), "{name} has no documentation");
            let mut letters = meaning.chars();
            let meaning: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
            writeln!(table, "| `{name}` | {kind} | {} |", tables::cell(&meaning)).unwrap();
        }
        tables::check("docs/reference/metrics.md", part, &table);
    }
}

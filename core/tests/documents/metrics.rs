//! The page of metrics has all of them.

use std::fmt::Write;
use std::fs;

use crate::{root, tables};

struct Metric {
    kind: String,
    name: String,
    meaning: String,
}

/// The metrics that a file declares, with their documentation as the meaning: lines such as `gauge NAME = "..";`.
fn metrics(file: &str) -> Vec<Metric> {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let (mut found, mut documentation) = (Vec::new(), Vec::new());
    for line in text.lines().map(str::trim) {
        let declared = line.split_once(" = \"accompanist_").and_then(|(declared, name)| {
            let (kind, _) = declared.split_once(' ').filter(|(_, constant)| !constant.contains(' '))?;
            Some((kind, name.split('"').next()?))
        });
        if let Some(words) = line.strip_prefix("/// ") {
            documentation.push(words);
        } else if let Some((kind, name)) = declared {
            let (kind, name) = (kind.to_owned(), format!("accompanist_{name}"));
            found.push(Metric { kind, name, meaning: documentation.join(" ") });
            documentation.clear();
        } else if !line.starts_with("#[") {
            documentation.clear();
        }
    }
    found
}

#[test]
fn the_page_of_metrics_has_each_metric() {
    for (part, file, least) in [("node", "actors/src/base/metric.rs", 40), ("network", "transport/src/metric.rs", 8)] {
        let metrics = metrics(file);
        assert!(metrics.len() >= least, "the metrics were not found");
        let mut table = "| name | kind | what it counts |\n|---|---|---|\n".to_owned();
        for Metric { kind, name, meaning } in metrics {
            assert!(["counter", "gauge", "histogram"].contains(&kind.as_str()), "{name} is a {kind}");
            assert!(!meaning.is_empty(), "{name} has no documentation");
            writeln!(table, "| `{name}` | {kind} | {} |", tables::cell(&meaning)).unwrap();
        }
        tables::check("docs/reference/metrics.md", part, &table);
    }
}

//! The yardstick is one: the floor carries out the same orders with the same frames, writes and bytes.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::process::Command;

use serde_json::Value;

/// Debug builds are slow, and another program may have the machine: only that both do the same work is looked at. The
/// bench itself ends with an error when frames, writes, rows, packets or bytes differ by more than its margin.
#[test]
fn the_floor_does_the_same_work() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_accompanist-benches"));
    bench.args(["throughput", "--no-sync", "--in-flight", "1", "--orders", "60", "--rounds", "2", "--json"]);
    let output = bench.output().expect("the bench runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&text).expect("the bench prints JSON");
    let part = &report["parts"][0];
    let per_saga = |side: &str, what: &str| part[side][what].as_f64().unwrap_or_default();
    assert!((per_saga("floor", "frames") - 7.0).abs() < f64::EPSILON, "seven frames: {part}");
    assert!((per_saga("floor", "writes") - 11.0).abs() < f64::EPSILON, "eleven writes: {part}");
    assert!(per_saga("ours", "cpu_us") > 0.0 && per_saga("floor", "cpu_us") > 0.0, "no time was counted: {part}");
}

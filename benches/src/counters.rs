//! A recorder for the `metrics` facade that keeps counters alone, for this process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use accompanist::{metric, transport};
use anyhow::{Context, Result};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::usage::Usage;

/// All counters by name; labels are added up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl Counters {
    /// Counts from now on in this process.
    pub(crate) fn install() -> Result<Self> {
        let counters = Self::default();
        metrics::set_global_recorder(counters.clone()).context("another recorder is installed")?;
        Ok(counters)
    }

    /// What the nodes of this process have written and said, as far as it is counted here.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            writes: self.get(metric::WRITES),
            frames: self.get(metric::FRAMES_SENT),
            frames_again: self.get(metric::FRAMES_SENT_AGAIN),
            packets: self.get(transport::metric::PACKETS_SENT),
            packet_bytes: self.get(transport::metric::BYTES_SENT),
            ..Usage::default()
        }
    }

    /// What `name` stands at.
    fn get(&self, name: &str) -> u64 {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters.get(name).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked for at every increment: without an allocation, so that counting costs the node little.
        if let Some(counter) = counters.get(key.name()) {
            return Counter::from_arc(counter.clone());
        }
        Counter::from_arc(counters.entry(key.name().to_owned()).or_default().clone())
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

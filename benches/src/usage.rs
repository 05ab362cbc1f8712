//! What a process has used and said since it began: processor, disk, store and wire. Differences of two are told.
//!
//! Reads `/proc`, so it needs Linux. Knows neither nodes nor the floor, which both count into it.

use std::fs::read_to_string;
use std::ops::{Add, Sub};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The kernel's unit of processor time in `/proc`, in microseconds: `USER_HZ` is 100 on every Linux.
const TICK_US: u64 = 10_000;

/// Each a sum since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Microseconds of processor time, user and system, of all threads.
    pub(crate) cpu_us: u64,
    /// How often a thread gave up its processor, of itself or not.
    pub(crate) switches: u64,
    /// Bytes that were made to be written to the disk, in whole pages: journals, tables, marks.
    pub(crate) disk_bytes: u64,
    /// Group commits, each with a sync (with or without effect).
    pub(crate) syncs: u64,
    /// Writes that were asked for; many share a group commit.
    pub(crate) writes: u64,
    /// Rows given to the store, removals included.
    pub(crate) rows: u64,
    /// Bytes of their keys and values.
    pub(crate) row_bytes: u64,
    /// Frames sent for the first time, without acknowledgements.
    pub(crate) frames: u64,
    /// Frames sent again.
    pub(crate) frames_again: u64,
    /// Packets sent.
    pub(crate) packets: u64,
    /// Their bytes.
    pub(crate) packet_bytes: u64,
}

impl Usage {
    /// What `/proc` says of this process; the rest is left at nothing.
    pub(crate) fn of_process() -> Result<Self> {
        let stat = read("/proc/self/stat")?;
        // The program's name, in brackets, may have spaces.
        let (_, stat) = stat.rsplit_once(") ").context("the processor time of this process")?;
        let tick = |place: usize| stat.split(' ').nth(place).and_then(|word| word.parse::<u64>().ok());
        // User and system time are the 14th and 15th words of the line, the state is the 3rd.
        let ticks = tick(11).zip(tick(12)).context("the processor time of this process")?;
        let disk_bytes = field(&read("/proc/self/io")?, "write_bytes:").context("what this process writes")?;
        Ok(Self { cpu_us: (ticks.0 + ticks.1) * TICK_US, switches: switches()?, disk_bytes, ..Self::default() })
    }

    fn with(self, other: Self, join: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            cpu_us: join(self.cpu_us, other.cpu_us),
            switches: join(self.switches, other.switches),
            disk_bytes: join(self.disk_bytes, other.disk_bytes),
            syncs: join(self.syncs, other.syncs),
            writes: join(self.writes, other.writes),
            rows: join(self.rows, other.rows),
            row_bytes: join(self.row_bytes, other.row_bytes),
            frames: join(self.frames, other.frames),
            frames_again: join(self.frames_again, other.frames_again),
            packets: join(self.packets, other.packets),
            packet_bytes: join(self.packet_bytes, other.packet_bytes),
        }
    }
}

impl Add for Usage {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }
}

impl Sub for Usage {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.with(other, u64::saturating_sub)
    }
}

/// Of the threads that live now: those that have ended are not counted, and there are few.
fn switches() -> Result<u64> {
    let mut switches = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        // It may end meanwhile.
        let Ok(status) = read_to_string(thread?.path().join("status")) else { continue };
        switches += field(&status, "voluntary_ctxt_switches:").unwrap_or_default();
        switches += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or_default();
    }
    Ok(switches)
}

fn read(path: &str) -> Result<String> {
    read_to_string(path).with_context(|| format!("this bench reads {path}, so it needs Linux"))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

//! What was done, counted, and printed at the end.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::attack::Attacked;

/// Violations that are printed.
const VIOLATIONS_PRINTED_MAX: usize = 30;

/// What happened in a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) again: String,
    pub(crate) protected_by: String,
    /// What attackers have done, and for which reasons nodes have dropped something.
    pub(crate) attacked: Attacked,
    pub(crate) dropped: BTreeSet<String>,
    pub(crate) took: Duration,
    /// What this machine cannot do, or was not asked for.
    pub(crate) skipped: Vec<String>,
    pub(crate) kills: u32,
    pub(crate) kills_at_start: u32,
    pub(crate) stops: u32,
    pub(crate) partitions: u32,
    pub(crate) full_disks: u32,
    pub(crate) full_disks_survived: u32,
    pub(crate) full_disk_starts_refused: u32,
    pub(crate) clock_jumps: u32,
    pub(crate) damaged: u32,
    pub(crate) recovered: u32,
    pub(crate) tail_lost: u32,
    pub(crate) refused: u32,
    pub(crate) finished: usize,
    pub(crate) aborted: usize,
    pub(crate) late: usize,
    /// The longest time in which orders were open and none ended.
    pub(crate) standstill: Duration,
    pub(crate) violations: Vec<String>,
}

impl Report {
    /// Prints it.
    pub(crate) fn print(&self) {
        for skipped in &self.skipped {
            println!("skipped         {skipped}");
        }
        println!("kill -9         {} ({} of them while the node was starting)", self.kills, self.kills_at_start);
        println!("clean stops     {}", self.stops);
        println!("partitions      {}", self.partitions);
        println!(
            "full disks      {} (in {} the node needed no room meanwhile; {} starts on a full disk were refused)",
            self.full_disks, self.full_disks_survived, self.full_disk_starts_refused
        );
        println!("clock jumps     {}", self.clock_jumps);
        println!(
            "damaged stores  {}: {} recovered whole, {} but for a tail that was not acknowledged, {} refused",
            self.damaged, self.recovered, self.tail_lost, self.refused
        );
        println!(
            "attacks         {} packets over {} connections, on nodes protected by {}; dropped: {}",
            self.attacked.packets,
            self.attacked.connections,
            self.protected_by,
            self.dropped.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        );
        println!(
            "orders          {}: {} finished, {} aborted ({} of them by a deadline)",
            self.finished + self.aborted,
            self.finished,
            self.aborted,
            self.late
        );
        println!("no progress     {:.1} s at the longest", self.standstill.as_secs_f64());
        println!("time            {:.0} s", self.took.as_secs_f64());
        println!("violations      {}", self.violations.len());
        for violation in self.violations.iter().take(VIOLATIONS_PRINTED_MAX) {
            println!("    {violation}");
        }
        if self.violations.len() > VIOLATIONS_PRINTED_MAX {
            println!("    and {} more", self.violations.len() - VIOLATIONS_PRINTED_MAX);
        }
        println!("seed            {}", self.seed);
        println!("again           {}", self.again);
    }
}

//! The roughness of a simulated world, as data, and the tasks that cause the faults.

use std::future::Future;
use std::time::Duration;

use accompanist_core::NodeId;
use accompanist_core::contract::Heal;
use accompanist_transport::{Deafness, Faults};
use fastrand::Rng;

use super::world::World;

/// The bounds on what happens to a world. Each world draws from its seed how much of each kind of fault it gets: one
/// in four gets none of a kind, so that worlds also test the other kinds without it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FaultProfile {
    /// The most that the network does to packets.
    pub faults: Faults,
    /// The most crashes. A crash loses the unsynced batches of a disk, except for a random prefix.
    pub crashes_max: u32,
    /// The longest time until the next crash.
    pub crash_pause_max: Duration,
    /// The longest time that a crashed node stays down.
    pub down_max: Duration,
    /// The most times that the network loses all packets between two nodes, in both directions or in one, or cuts off
    /// one node.
    pub partitions_max: u32,
    /// The longest time until the next partition, and the longest duration of one.
    pub partition_max: Duration,
    /// The most times that a node goes deaf to another one's packets, until that is detected.
    pub deafnesses_max: u32,
    /// The most frames in each run of a node that are never sent, and count as acknowledged. Nodes then nudge once a
    /// second for passivated instances. Does not apply to nodes that hold tombstones for less than a minute.
    pub frames_forgotten_max: u32,
    /// The most requests of steps to their services (calls of `commit`, `compensate` and `outcome`) that are late in
    /// a world. Half of them arrive only after a delay, even if their caller has crashed meanwhile; the others arrive
    /// twice, the second time after a delay. Only a caller that is still running gets the result of a late request.
    /// Both presets below have none, since not every service that is worth a test can handle them: `Roughness {
    /// late_requests_max: 8, ..Roughness::rough() }`.
    pub late_requests_max: u32,
    /// The longest delay of a late request.
    pub late_request_delay_max: Duration,
    /// The largest drift of a node's clock, in millionths, fast or slow.
    pub drift_ppm_max: u32,
    /// The most times that a node's wall clock is set.
    pub clocks_set_max: u32,
    /// The most that a clock is set forward or back, and the largest error of each clock at the beginning.
    pub clock_error_max: Duration,
    /// The longest time that a sync takes.
    pub sync_max: Duration,
    /// The longest time that a node needs to join the network.
    pub join_max: Duration,
}

impl FaultProfile {
    /// Nothing goes wrong, and nothing takes time except a sync.
    pub const fn none() -> Self {
        Self {
            faults: Faults::none(),
            crashes_max: 0,
            crash_pause_max: Duration::ZERO,
            down_max: Duration::ZERO,
            partitions_max: 0,
            partition_max: Duration::ZERO,
            deafnesses_max: 0,
            frames_forgotten_max: 0,
            late_requests_max: 0,
            late_request_delay_max: Duration::ZERO,
            drift_ppm_max: 0,
            clocks_set_max: 0,
            clock_error_max: Duration::ZERO,
            sync_max: Duration::from_millis(1),
            join_max: Duration::ZERO,
        }
    }

    /// Everything goes wrong, within a second or two: faults hit choreographies whose steps take milliseconds in the
    /// middle.
    pub const fn rough() -> Self {
        Self {
            faults: Faults::rough(),
            crashes_max: 6,
            crash_pause_max: Duration::from_millis(120),
            down_max: Duration::from_millis(200),
            partitions_max: 3,
            partition_max: Duration::from_millis(400),
            deafnesses_max: 1,
            frames_forgotten_max: 4,
            late_requests_max: 0,
            late_request_delay_max: Duration::from_secs(2),
            drift_ppm_max: 500,
            clocks_set_max: 2,
            clock_error_max: Duration::from_mins(1),
            sync_max: Duration::from_millis(15),
            join_max: Duration::from_millis(20),
        }
    }

    /// Draws what one world gets of these bounds.
    pub(super) fn drawn(self, random: &mut Rng) -> Self {
        let mut some = || u32::from(random.u8(0..4) > 0);
        let [faults, crashes, partitions, drift, clocks_set, deafnesses] = [(); 6].map(|()| some());
        let share = random.f64() * f64::from(faults);
        Self {
            faults: Faults {
                loss: self.faults.loss * share,
                duplication: self.faults.duplication * share,
                delay_max: self.faults.delay_max.mul_f64(share).max(self.faults.delay_min),
                ..self.faults
            },
            crashes_max: self.crashes_max * crashes,
            partitions_max: self.partitions_max * partitions,
            deafnesses_max: self.deafnesses_max * deafnesses,
            drift_ppm_max: self.drift_ppm_max * drift,
            clocks_set_max: self.clocks_set_max * clocks_set,
            ..self
        }
    }
}

/// Draws a duration up to `max`.
pub(super) fn up_to(random: &mut Rng, max: Duration) -> Duration {
    let max_us = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(random.u64(0..=max_us))
}

pub(super) fn between(random: &mut Rng, max: Duration) -> i64 {
    let max_ms = i64::try_from(max.as_millis()).unwrap_or(i64::MAX);
    random.i64(-max_ms..=max_ms)
}

/// Makes the world rough, until all faults are over. Each kind of fault has a separate random generator, so that
/// fewer faults of one kind change no other kind.
pub(super) fn trouble(world: World, rough: FaultProfile, random: &mut Rng) -> impl Future<Output = ()> + use<> {
    let (first, second) = (random.u32(0..=rough.crashes_max), random.u32(0..=rough.crashes_max));
    // Two tasks, so that two nodes may be down at once.
    let crashing = (
        crashes(world.clone(), rough, random.fork(), first.div_ceil(2)),
        crashes(world.clone(), rough, random.fork(), second / 2),
    );
    let partitions = partitions(world.clone(), rough, random.fork());
    let clocks = set_clocks(world.clone(), rough, random.fork());
    let deafnesses = deafnesses(world, rough, random.fork());
    async move {
        tokio::join!(crashing.0, crashing.1, partitions, clocks, deafnesses);
    }
}

async fn crashes(world: World, rough: FaultProfile, mut random: Rng, count: u32) {
    for _ in 0..count {
        tokio::time::sleep(up_to(&mut random, rough.crash_pause_max)).await;
        let Some(node) = pick(&world, &mut random) else { continue };
        world.crash(&node).await;
        tokio::time::sleep(up_to(&mut random, rough.down_max)).await;
        if random.u8(0..3) == 0 {
            // Crash again while the node starts, or just after.
            let soon = up_to(&mut random, rough.join_max * 2);
            tokio::join!(world.start(&node), async {
                tokio::time::sleep(soon).await;
                world.crash(&node).await;
            });
        }
        world.start(&node).await;
    }
}

async fn partitions(world: World, rough: FaultProfile, mut random: Rng) {
    for _ in 0..random.u32(0..=rough.partitions_max) {
        tokio::time::sleep(up_to(&mut random, rough.partition_max)).await;
        let (Some(one), Some(other)) = (pick(&world, &mut random), pick(&world, &mut random)) else { continue };
        match random.u8(0..3) {
            0 => world.cut(&one, &other),
            1 => {
                world.cut(&one, &other);
                world.cut(&other, &one);
            }
            _ => {
                for other in world.names() {
                    world.cut(&one, &other);
                    world.cut(&other, &one);
                }
            }
        }
        tokio::time::sleep(up_to(&mut random, rough.partition_max)).await;
        world.heal();
    }
}

async fn deafnesses(world: World, rough: FaultProfile, mut random: Rng) {
    for _ in 0..random.u32(0..=rough.deafnesses_max) {
        tokio::time::sleep(up_to(&mut random, rough.partition_max)).await;
        let (Some(from), Some(to)) = (pick(&world, &mut random), pick(&world, &mut random)) else { continue };
        let until = if random.bool() { Heal::Session } else { Heal::Publisher };
        world.deafen(&from, &to, Deafness { until, broadcasts_arrive: random.bool() });
    }
}

async fn set_clocks(world: World, rough: FaultProfile, mut random: Rng) {
    for _ in 0..random.u32(0..=rough.clocks_set_max) {
        tokio::time::sleep(up_to(&mut random, rough.partition_max)).await;
        let Some(node) = pick(&world, &mut random) else { continue };
        world.set_clock(&node, between(&mut random, rough.clock_error_max));
    }
}

fn pick(world: &World, random: &mut Rng) -> Option<NodeId> {
    let names = world.names();
    (!names.is_empty()).then(|| names.get(random.usize(0..names.len())).cloned()).flatten()
}

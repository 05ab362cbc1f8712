//! How rough a simulated world is, as data, and those who make it so.

use std::future::Future;
use std::time::Duration;

use accompanist_core::NodeId;
use accompanist_core::contract::Heal;
use accompanist_transport::{Deafness, Faults};
use fastrand::Rng;

use super::world::World;

/// The bounds of what happens to a world. Each world draws from its seed how much of each it gets: one in four gets
/// none of a kind, so that what each does alone is seen, too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roughness {
    /// What the network does to packets, at most.
    pub faults: Faults,
    /// Crashes, at most. What a disk had not synced is lost then, but for a prefix drawn by chance.
    pub crashes_max: u32,
    /// The longest time to the next crash.
    pub crash_pause_max: Duration,
    /// The longest time that a crashed node stays down.
    pub down_max: Duration,
    /// Times at which the network loses all between two nodes, or one way only, or cuts one node off; at most.
    pub partitions_max: u32,
    /// The longest time to the next partition, and that one lasts.
    pub partition_max: Duration,
    /// Times at which a node goes deaf to what another one sends, and stays so until that is noticed; at most.
    pub deafnesses_max: u32,
    /// Frames of each life of a node that are never sent, and count as acknowledged; at most. Nodes then nudge once a second
    /// for what has left memory. Not of nodes that keep tombstones for less than a minute.
    pub frames_forgotten_max: u32,
    /// Requests of steps to their services (calls of `commit`, `compensate` and `outcome`) that are late in a world, at most: half of them arrive only
    /// after a while, whether their caller lives still or not, and the others arrive twice, the second time after a while. What
    /// comes of them then, nobody hears but a caller who lives. None in either of the two below, since not every service that is worth a test
    /// can stand it: `Roughness { late_requests_max: 8, ..Roughness::rough() }`.
    pub late_requests_max: u32,
    /// The longest that a request is late.
    pub late_request_delay_max: Duration,
    /// How many millionths a node's clock is too fast or too slow, at most.
    pub drift_ppm_max: u32,
    /// Times at which a node's wall clock is set, at most.
    pub clocks_set_max: u32,
    /// How far it is set forward or back, at most; and how wrong each is at the beginning.
    pub clock_error_max: Duration,
    /// The longest time that a sync takes.
    pub sync_max: Duration,
    /// The longest time that a node needs to join the network.
    pub join_max: Duration,
}

impl Roughness {
    /// Nothing goes wrong, and nothing takes time but a sync.
    pub const fn calm() -> Self {
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

    /// Everything goes wrong, within a second or two: choreographies whose steps take milliseconds are met in the middle.
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

    /// What one world gets of it.
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

/// A moment up to `max` away.
pub(super) fn up_to(random: &mut Rng, max: Duration) -> Duration {
    let max_us = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(random.u64(0..=max_us))
}

pub(super) fn between(random: &mut Rng, max: Duration) -> i64 {
    let max_ms = i64::try_from(max.as_millis()).unwrap_or(i64::MAX);
    random.i64(-max_ms..=max_ms)
}

/// Makes the world rough, until all of it is over. Each kind has a chance of its own, so that less of one changes no
/// other one.
pub(super) fn trouble(world: World, rough: Roughness, random: &mut Rng) -> impl Future<Output = ()> + use<> {
    let (first, second) = (random.u32(0..=rough.crashes_max), random.u32(0..=rough.crashes_max));
    // Two at a time, so that two nodes may be down together.
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

async fn crashes(world: World, rough: Roughness, mut random: Rng, count: u32) {
    for _ in 0..count {
        tokio::time::sleep(up_to(&mut random, rough.crash_pause_max)).await;
        let Some(node) = pick(&world, &mut random) else { continue };
        world.crash(&node).await;
        tokio::time::sleep(up_to(&mut random, rough.down_max)).await;
        if random.u8(0..3) == 0 {
            // Once more while it starts, or just after.
            let soon = up_to(&mut random, rough.join_max * 2);
            tokio::join!(world.start(&node), async {
                tokio::time::sleep(soon).await;
                world.crash(&node).await;
            });
        }
        world.start(&node).await;
    }
}

async fn partitions(world: World, rough: Roughness, mut random: Rng) {
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

async fn deafnesses(world: World, rough: Roughness, mut random: Rng) {
    for _ in 0..random.u32(0..=rough.deafnesses_max) {
        tokio::time::sleep(up_to(&mut random, rough.partition_max)).await;
        let (Some(from), Some(to)) = (pick(&world, &mut random), pick(&world, &mut random)) else { continue };
        let until = if random.bool() { Heal::Session } else { Heal::Publisher };
        world.deafen(&from, &to, Deafness { until, broadcasts_arrive: random.bool() });
    }
}

async fn set_clocks(world: World, rough: Roughness, mut random: Rng) {
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

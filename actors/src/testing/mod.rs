//! Support for users' own tests: histories and their replay, invariants as predicates, and (feature `testing`)
//! simulated worlds.

#[cfg(feature = "testing")]
mod clock;
#[cfg(feature = "testing")]
mod document;
#[cfg(feature = "testing")]
mod fault_profile;
#[cfg(feature = "testing")]
mod faults;
#[cfg(feature = "testing")]
mod host;
#[cfg(feature = "testing")]
mod late_requests;
#[cfg(feature = "testing")]
mod recorder;
#[cfg(feature = "testing")]
mod simulation;
#[cfg(feature = "testing")]
mod trace;
#[cfg(feature = "testing")]
mod world;

pub use accompanist_core::testing::*;

#[cfg(feature = "testing")]
pub use crate::base::faults::NodeActor;

#[cfg(feature = "testing")]
pub use self::{
    clock::SimulatedClock,
    document::{keep_diagram, keep_svg},
    fault_profile::FaultProfile,
    recorder::EventRecorder,
    simulation::{Failure, Simulation, Summary},
    trace::{Event, Trace, What},
    world::World,
};

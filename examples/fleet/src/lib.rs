//! What the examples share: they start themselves as several processes, kill those, and look at what has become of it.
//!
//! [`Fleet`] has the processes, [`Ports`] gives them addresses, [`told_to_stop`] is how each of them ends, and
//! [`DelayLine`] stands between two of them where the network shall be slow. Knows nothing of nodes and services.

mod delay;
mod ports;
mod processes;
mod stop;

pub use delay::DelayLine;
pub use ports::Ports;
pub use processes::Fleet;
pub use stop::told_to_stop;

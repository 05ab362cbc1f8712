//! What the examples share: they start themselves as several processes, kill those, and look at what has become of it.
//!
//! [`Fleet`] has the processes, [`Ports`] gives them addresses, [`told_to_stop`] is how each of them ends,
//! [`StoreArguments`] is what may be said of their stores, and [`DelayLine`] stands between two of them where the
//! network shall be slow. [`Sites`] are nodes of one process with such lines between them, and [`Comparison`] measures
//! several ways over them, in [`Times`]; [`machine`] says where the numbers come from. [`Traced`] has an example's
//! logs, for its tests. With the feature `book`, [`Book`] is what a service outside keeps; with the feature `security`,
//! `security` makes certificates and keys. Knows no choreography.

#[cfg(feature = "book")]
mod book;
mod compare;
mod delay;
pub mod machine;
mod ports;
mod processes;
#[cfg(feature = "security")]
pub mod security;
mod sites;
mod stop;
mod store;
mod times;
mod traced;

#[cfg(feature = "book")]
pub use book::{Book, Effect, open_database};
pub use compare::{Comparison, Turns, Way};
pub use delay::DelayLine;
pub use ports::Ports;
pub use processes::Fleet;
pub use sites::{Kept, Sites};
pub use stop::told_to_stop;
pub use store::{StoreArguments, make_data_folder};
pub use times::Times;
pub use traced::Traced;

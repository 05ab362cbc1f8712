//! Travel booking: a trip is two flights and a hotel, or nothing.
//!
//! [`atlas`] has the airports, flights and hotels, [`program`] the choreography and, for comparison, the same with an
//! orchestrator in the middle; [`booking`] has the steps, [`check`] what must hold of the books.

pub mod atlas;
pub mod booking;
pub mod check;
pub mod model;
pub mod program;

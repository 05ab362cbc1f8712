//! What is sent around, by JSON and in messages.

use serde::{Deserialize, Serialize};

/// What a customer wants, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its name everywhere.
    pub id: String,
    /// Where it goes. The carrier does not serve [`ISLAND`].
    pub to: String,
}

/// Where nothing can be delivered.
pub const ISLAND: &str = "island";

/// What a service says of an effect: the number it has in its book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// Counts the effects of that service.
    pub number: i64,
}

/// A parcel on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// What is in it.
    pub order: Order,
    /// The number of its customs papers.
    pub papers: i64,
}

/// How a workflow of the office has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All is done; with the number that the last step gave.
    Done(i64),
    /// It was refused, and what had been done was compensated.
    Refused(String),
}

//! Who may take part in a system, and how packets are sealed between its nodes. Knows no packets' contents and no
//! actors. Next: [`members`] for the rights of each node, [`seal`] for its keys.

pub(crate) mod members;
pub(crate) mod seal;

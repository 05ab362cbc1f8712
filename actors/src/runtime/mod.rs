//! The actors of a node: the link to other nodes, the supervisor of role instances, and the instances; and what they
//! share.

pub(crate) mod attach;
pub(crate) mod channel;
pub(crate) mod context;
pub(crate) mod dead_letters;
pub(crate) mod directory;
pub(crate) mod instance;
pub(crate) mod link;
pub(crate) mod messages;
pub(crate) mod nudged;
pub(crate) mod queue_delay;
pub(crate) mod supervisor;
pub(crate) mod under_way;

//! The actors of a node: the link to other nodes, the supervisor of role instances, and the instances; and what they
//! share. They know each other by their messages; only the supervisor, which starts them, knows the instances.
//!
//! | room | what | may use |
//! |---|---|---|
//! | `admin_route` | the way of operators' requests | |
//! | `attach` | databases that steps run on | |
//! | `channel` | which sessions are channels to durable actors | |
//! | `dead_letters` | messages that could not be handled | |
//! | `nudged` | sessions that nudges have created | |
//! | `queue_delay` | how long what arrives takes until it is on disk | |
//! | `names` | what a role's part of a session is called in logs and spans | |
//! | `under_way` | running steps on services | |
//! | `messages` | what the actors tell each other | |
//! | `directory` | instances in memory, and those who watch them | `names`, `messages` |
//! | `context` | what the actors share | all of the above |
//! | `oldest` | how long the oldest session is open | `channel`, `context` |
//! | `link` | frames between nodes | `admin_route`, `queue_delay`, `messages`, `context` |
//! | `instance` | part | `channel`, `names`, `nudged`, `queue_delay`, `under_way`, `messages`, `directory`, `context` |
//! | `supervisor` | starts and restarts instances | `names`, `messages`, `directory`, `context`, `instance` |

pub(crate) mod admin_route;
pub(crate) mod attach;
pub(crate) mod channel;
pub(crate) mod dead_letters;
pub(crate) mod names;
pub(crate) mod nudged;
pub(crate) mod queue_delay;
pub(crate) mod under_way;

pub(crate) mod messages;

pub(crate) mod directory;

pub(crate) mod context;

pub(crate) mod oldest;

pub(crate) mod link;

pub(crate) mod instance;

pub(crate) mod supervisor;

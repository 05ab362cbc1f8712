//! What the runtime has to know of a channel to a durable actor: which sessions are channels, since the messages in a
//! channel must not be lost with it. Knows no actors. Next: `actor/channel.rs`.

use accompanist_core::frame::Header;

/// The prefix of the name of a channel's choreography; the actor's name follows it.
pub(crate) const CHANNEL: &str = "actor ";

/// Whether the session is a channel to a durable actor.
pub(crate) fn is_channel(header: &Header) -> bool {
    header.choreography.starts_with(CHANNEL) && header.cast.len() == 2
}

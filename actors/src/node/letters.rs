//! Dead letters, for operators: to list, to try again, to throw away.

use accompanist_core::contract::StoreError;
use tokio::sync::oneshot;

use super::Node;
use crate::dead_letters::{DeadLetter, DeadLetters};
use crate::roles::RolesMessage;
use crate::writer::Job;

impl Node {
    /// What has arrived here and could not be handled, the oldest first: messages of a choreography, a version or a patch
    /// that is not known here, of a role that is not played here, or of a session that is unknown (it is over and forgotten,
    /// or this store is not the one that had it). At most `dead_letters_max`, of `dead_letter_bytes_max` together.
    ///
    /// Nothing is lost while a letter is dead: its sender keeps it, too, and sends it again until it is handled. Once it is,
    /// it is no longer listed.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.shared.dead_letters.list()
    }

    /// Handles a dead letter again, as if it had just arrived, also if its sender is gone; says whether there is one of this
    /// number. It is no longer listed once what it says is on disk; if it fails again, it stays, and has come one time more.
    ///
    /// # Errors
    /// [`StoreError`] when the store is closed or cannot be read.
    pub async fn replay_dead_letter(&self, number: u64) -> Result<bool, StoreError> {
        let delivery = self.shared.writer.read(move |store| DeadLetters::read(store, number)).await?;
        let Some(delivery) = delivery else { return Ok(false) };
        if self.shared.to_roles(RolesMessage::Deliver(delivery)) { Ok(true) } else { Err(StoreError::Closed) }
    }

    /// Throws a dead letter away; says whether there was one of this number. Durable when it returns. If its sender still
    /// sends it, it comes again, under another number.
    ///
    /// # Errors
    /// [`StoreError`] when the store is closed or has failed.
    pub async fn discard_dead_letter(&self, number: u64) -> Result<bool, StoreError> {
        let (reply, answer) = oneshot::channel();
        {
            let _order = self.shared.writer.in_order();
            let changes = self.shared.dead_letters.remove([number]);
            if changes.is_empty() {
                return Ok(false);
            }
            let done = Box::new(move |written| drop(reply.send(written))); // The caller may have gone.
            self.shared.writer.submit(Job::Change { changes, done });
        }
        answer.await.map_err(|_| StoreError::Closed)??;
        Ok(true)
    }
}

//! Dead letters, for operators: list, replay, discard.

use accompanist_core::contract::StoreError;
use tokio::sync::oneshot;

use super::Operator;
use crate::runtime::dead_letters::{DeadLetter, DeadLetters};
use crate::runtime::messages::SupervisorMessage;
use crate::writer::Job;

impl Operator<'_> {
    /// Returns the messages that have arrived here and could not be handled, the oldest first: those of a
    /// choreography, version or patch that is not known here, of a role that is not played here, or of an unknown
    /// session (it is over and forgotten, or another store had it). At most `dead_letters_max` are kept, of
    /// `dead_letter_bytes_max` together.
    ///
    /// Nothing is lost while a message is a dead letter: its sender keeps it, too, and resends it until it is
    /// handled. Once it is handled it is no longer listed.
    pub fn dead_letters(self) -> Vec<DeadLetter> {
        self.context.operator.dead_letters.list()
    }

    /// Handles a dead letter again, as if it had just arrived, even if its sender is gone; returns whether there is
    /// one with this number. The letter is no longer listed once its content is on disk; if it fails again, it stays,
    /// with its count of arrivals raised by one.
    ///
    /// # Errors
    /// Returns [`StoreError`] when the store is closed or cannot be read.
    pub async fn replay_dead_letter(self, number: u64) -> Result<bool, StoreError> {
        let delivery = self.context.writer.read(move |store| DeadLetters::read(store, number)).await?;
        let Some(delivery) = delivery else { return Ok(false) };
        if self.context.routes.to_supervisor(SupervisorMessage::Deliver(delivery)) {
            Ok(true)
        } else {
            Err(StoreError::Closed)
        }
    }

    /// Discards a dead letter; returns whether there was one with this number. Durable when it returns. If its sender
    /// still resends it, it appears again under another number.
    ///
    /// # Errors
    /// Returns [`StoreError`] when the store is closed or has failed.
    pub async fn discard_dead_letter(self, number: u64) -> Result<bool, StoreError> {
        let (reply, answer) = oneshot::channel();
        {
            let _order = self.context.writer.in_order();
            let changes = self.context.operator.dead_letters.remove([number]);
            if changes.is_empty() {
                return Ok(false);
            }
            let done = Box::new(move |written| drop(reply.send(written))); // The caller may have gone.
            self.context.writer.submit(Job::Change { changes, done });
        }
        answer.await.map_err(|_| StoreError::Closed)??;
        Ok(true)
    }
}

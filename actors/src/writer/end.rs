//! The end of the writer, which is reported however it happens: on request, by an error of the store, by a panic, or
//! because its thread or its task is gone.
//!
//! This module knows nothing about writes.

use accompanist_core::contract::StoreError;
use accompanist_core::panics;

use super::Writer;
use crate::base::latch::Latch;

/// Why the writer can write no more.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum WriterFailure {
    /// The store has failed, or must not be written any more.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its thread or task has ended: it panicked, or was ended from outside.
    #[error("the node's writer has ended ({0}): start the node again; what was acknowledged is kept")]
    Ended(String),
}

/// Reports how the writer has ended, even if it is dropped while it runs.
#[derive(Default)]
pub(super) struct End {
    pub(super) failed: Latch<WriterFailure>,
    pub(super) ended: Latch<()>,
    is_orderly: bool,
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.is_orderly {
            self.failed.set(WriterFailure::Ended("it was ended from outside".into()));
        }
        self.ended.set(());
    }
}

/// Runs the writer to its end, and closes the store.
pub(super) async fn run(mut writer: Writer, mut end: End) {
    let error = match panics::catch_async(writer.run()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some((error.clone().into(), error)),
        Err(panic) => Some((WriterFailure::Ended(format!("it panicked: {panic}")), StoreError::Closed)),
    };
    if let Some((error, refusal)) = error {
        tracing::error!(%error, "the writer has failed, the node stops");
        end.failed.set(error);
        if let Err(panic) = panics::catch_async(writer.refuse(&refusal)).await {
            tracing::error!(error = panic, "the writer panicked again, and refuses nothing any more");
        }
    }
    if let Err(panic) = panics::catch_async(writer.let_go()).await {
        tracing::error!(error = panic, "the writer panicked while it let its callers go");
    }
    if let Err(panic) = panics::catch(|| drop(writer)) {
        tracing::error!(error = panic, "the store panicked when it was closed");
    }
    end.is_orderly = true;
}

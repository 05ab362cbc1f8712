//! What a service keeps: which orders have which of its steps done, in memory, or on disk before it answers.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError, mpsc};

use anyhow::{Context, Result};
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use tokio::sync::oneshot;

use crate::saga::Step;

/// See the module's documentation. A set, so that a call that comes twice counts once.
#[derive(Default)]
pub(crate) struct Books {
    done: Mutex<HashSet<(Step, u64)>>,
    disk: Option<mpsc::Sender<Row>>,
}

struct Row {
    step: Step,
    order: u64,
    done: bool,
    kept: oneshot::Sender<()>,
}

impl Books {
    /// With a store in `folder`: what is answered has been synced, with all that came at the same time.
    pub(crate) fn on_disk(folder: &Path) -> Result<Self> {
        let database = Database::builder(folder).open().with_context(|| format!("{}: no store", folder.display()))?;
        let keyspace = database.keyspace("orders", KeyspaceCreateOptions::default)?;
        let (disk, rows) = mpsc::channel::<Row>();
        std::thread::spawn(move || {
            while let Ok(first) = rows.recv() {
                let group: Vec<_> = std::iter::once(first).chain(rows.try_iter()).collect();
                let mut batch = database.batch();
                for Row { step, order, done, .. } in &group {
                    let key = [&[*step as u8][..], &order.to_be_bytes()].concat();
                    if *done { batch.insert(&keyspace, key, []) } else { batch.remove(&keyspace, key) }
                }
                let kept = batch.commit().and_then(|()| database.persist(PersistMode::SyncData));
                // Nobody is told that what is not kept is.
                if let Err(error) = kept {
                    return eprintln!("the store has failed: {error}");
                }
                for row in group {
                    let _ = row.kept.send(()); // Who asked may have gone.
                }
            }
        });
        Ok(Self { disk: Some(disk), ..Self::default() })
    }

    /// Notes it as done, or as not done any more.
    pub(crate) async fn note(&self, step: Step, order: u64, done: bool) -> Result<()> {
        if let Some(disk) = &self.disk {
            let (kept, answer) = oneshot::channel();
            disk.send(Row { step, order, done, kept }).ok().context("the store has failed")?;
            answer.await.context("the store has failed")?;
        }
        let mut orders = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if done {
            orders.insert((step, order))
        } else {
            orders.remove(&(step, order))
        };
        Ok(())
    }

    pub(crate) fn count(&self, step: Step) -> usize {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|(of, _)| *of == step).count()
    }
}

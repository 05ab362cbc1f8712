//! The writer over a disk in memory, in paused time.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use accompanist_core::SessionId;
use accompanist_core::contract::Change;
use accompanist_core::id::RoleIndex;
use accompanist_core::machine::Write;
use tokio::sync::oneshot;

use super::*;
use crate::base::environment::SystemEnvironment;
use crate::config::Retention;
use crate::store::MemoryDisk;

const SYNC: Duration = Duration::from_millis(1);

fn write(urgent: bool, key: u8) -> Write {
    let change = Change { space: Space::Journal, key: vec![key], value: Some(vec![key]) };
    Write { number: 1, changes: vec![change], local: None, urgent }
}

fn instance() -> InstanceId {
    InstanceId { session: SessionId::fresh(1, 1), role: RoleIndex(0) }
}

/// Submits a write and returns a receiver for its answer.
fn submit(writer: &WriterHandle, incarnation: u64, write: Write) -> oneshot::Receiver<Result<Written, StoreError>> {
    let (reply, answer) = oneshot::channel();
    let done = Box::new(move |written| drop(reply.send(written)));
    writer.submit(Job::Write {
        id: instance(),
        incarnation: Incarnation(incarnation),
        begins: false,
        write,
        done,
        since: Instant::now(),
    });
    answer
}

fn start_over(disk: &MemoryDisk) -> WriterHandle {
    let store = Box::new(disk.open().unwrap());
    let collector = Collector::new(Retention::default(), Arc::new(SystemEnvironment::default()));
    let settings =
        Settings { lazy_write_delay_max: Duration::from_secs(1), group_writes_max: 100, ..Settings::default() };
    start(store, Mode::Task { sync: SYNC }, &settings, collector).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_has_been_replaced_cannot_write() {
    let disk = MemoryDisk::default();
    let writer = start_over(&disk);
    assert!(submit(&writer, 1, write(true, 1)).await.unwrap().is_ok());
    let (reply, loaded) = oneshot::channel();
    let done = Box::new(move |loaded: Result<Loaded, StoreError>| reply.send(loaded.is_ok()).unwrap());
    writer.submit(Job::Load { id: instance(), incarnation: Incarnation(2), done });
    assert!(loaded.await.unwrap());
    assert!(matches!(submit(&writer, 1, write(true, 2)).await.unwrap(), Err(StoreError::Closed)));
    assert!(submit(&writer, 2, write(true, 3)).await.unwrap().is_ok());
    writer.end().await;
    let store = disk.open().unwrap();
    assert_eq!(store.get(Space::Journal, &[2]).unwrap(), None, "the replaced actor's write is in the store");
    assert_eq!(store.get(Space::Journal, &[3]).unwrap(), Some(vec![3]));
}

#[tokio::test(start_paused = true)]
async fn an_instance_begins_once() {
    let disk = MemoryDisk::default();
    let writer = start_over(&disk);
    let begin = |incarnation, key| {
        let (reply, answer) = oneshot::channel();
        let done = Box::new(move |written| drop(reply.send(written)));
        let space = Space::Open;
        let change = Change { space, key: instance().to_bytes().to_vec(), value: Some(vec![key]) };
        let write = Write { number: 1, changes: vec![change], local: None, urgent: true };
        let incarnation = Incarnation(incarnation);
        writer.submit(Job::Write { id: instance(), incarnation, begins: true, write, done, since: Instant::now() });
        answer
    };
    // Twice in one group, and again when the first is durable.
    let (first, second) = (begin(1, 1), begin(2, 2));
    assert!(matches!(first.await.unwrap(), Ok(Written::Durable(None))));
    assert!(matches!(second.await.unwrap(), Ok(Written::Known)));
    assert!(matches!(begin(3, 3).await.unwrap(), Ok(Written::Known)));
    // The next write of an actor that has not checked is refused too.
    assert!(matches!(submit(&writer, 3, write(true, 9)).await.unwrap(), Err(StoreError::Closed)));
    writer.end().await;
    let store = disk.open().unwrap();
    assert_eq!(store.get(Space::Open, &instance().to_bytes()).unwrap(), Some(vec![1]));
    assert_eq!(store.get(Space::Journal, &[9]).unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn waiting_writes_share_a_sync_and_lazy_ones_wait_for_company() {
    let disk = MemoryDisk::default();
    let before = disk.open().map(|_| disk.syncs()).unwrap();
    let writer = start_over(&disk);
    let lazy = submit(&writer, 1, write(false, 1));
    let urgent: Vec<_> = (2..9).map(|key| submit(&writer, 1, write(true, key))).collect();
    for answer in urgent {
        assert!(answer.await.unwrap().is_ok());
    }
    assert!(lazy.await.unwrap().is_ok());
    assert_eq!(disk.syncs() - before, 1, "eight writes that wait together take one sync");
    // A lazy write that stays alone is still committed.
    assert!(submit(&writer, 1, write(false, 9)).await.unwrap().is_ok());
    assert_eq!(disk.syncs() - before, 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_before_its_sync() {
    let disk = MemoryDisk::default();
    let writer = start_over(&disk);
    let mut answer = submit(&writer, 1, write(true, 1));
    while disk.unsynced() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(answer.try_recv().is_err(), "acknowledged though a crash would lose it");
    assert!(answer.await.unwrap().is_ok());
    disk.crash(0);
    assert_eq!(disk.open().unwrap().get(Space::Journal, &[1]).unwrap(), Some(vec![1]));
}

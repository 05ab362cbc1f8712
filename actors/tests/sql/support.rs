//! What these tests share: waits with an end, keys, and what was logged.

use std::future::Future;
use std::io::Write;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use accompanist::Path;
use accompanist::prelude::*;

/// The end of a test that hangs. Nothing is measured by it.
const HANGS: Duration = Duration::from_mins(2);

#[track_caller]
pub fn within<T>(what: impl IntoFuture<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let ended = tokio::time::timeout(HANGS, what).await;
        ended.unwrap_or_else(|_| panic!("what {caller} waits for never came"))
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(HANGS, wait).await.unwrap_or_else(|_| panic!("it never came to: {what}"));
}

/// The key of a step that no other test has.
pub fn fresh_key() -> IdempotencyKey {
    listen();
    let session = SessionId::fresh(fastrand::u64(..1 << 48), fastrand::u128(..));
    IdempotencyKey { session, path: Path::root().child(3).child(0) }
}

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;
impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub fn listen() {
    static LISTENS: LazyLock<()> = LazyLock::new(|| {
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(|| Log).with_ansi(false);
        log.init();
    });
    LazyLock::force(&LISTENS);
}

/// How many warnings about `key` contain `text`.
pub fn warnings(key: &IdempotencyKey, text: &str) -> usize {
    let log = LOG.lock().unwrap();
    let key = key.to_string();
    String::from_utf8_lossy(&log).lines().filter(|line| line.contains(&key) && line.contains(text)).count()
}

/// How many warnings contain all of these.
pub fn warnings_with(parts: &[&str]) -> usize {
    let log = LOG.lock().unwrap();
    String::from_utf8_lossy(&log).lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
}

pub fn node_id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// Short pauses, so that nobody waits long for what is tried again.
pub fn quick() -> Settings {
    let mut settings = Settings::default();
    settings.supervision.instances.delay_min = Duration::from_millis(1);
    (settings.limits.retry_delay_min_ms, settings.limits.retry_delay_max_ms) = (1, 100);
    settings
}

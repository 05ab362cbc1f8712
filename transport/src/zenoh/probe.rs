//! Finds out what a client with a given configuration can receive from a running system: for `accompanist security
//! check`, which tries what must be refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ::zenoh::Wait;
use accompanist_core::contract::TransportError;

use super::{ZenohConfig, ZenohMode, on_thread, plain};

/// Returns how many packets a client with this configuration receives in `time`, of those whose keys match `key`
/// within its namespace (`**` for all).
///
/// # Errors
/// [`TransportError::Open`] when no peer lets the client connect, and [`TransportError::Config`] as for a node.
pub async fn probe(config: ZenohConfig, key: &str, time: Duration) -> Result<u64, TransportError> {
    let config = config.mode(ZenohMode::Client);
    let (settings, _) = config.to_zenoh()?;
    let key = format!("{}/{key}", config.clone().into_namespace());
    let counted = on_thread("accompanist-zenoh-probe", move || {
        let session = ::zenoh::open(settings).wait().map_err(|error| plain(&error))?;
        let count = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&count);
        let subscriber = session.declare_subscriber(key).callback(move |_| {
            seen.fetch_add(1, Ordering::Relaxed);
        });
        let subscriber = subscriber.wait().map_err(|error| plain(&error))?;
        thread::sleep(time);
        drop(subscriber);
        drop(session);
        Ok(count.load(Ordering::Relaxed))
    });
    counted.await?.map_err(|error: String| TransportError::Open(config.explain(&error)))
}

//! What Zenoh says, for tests that wait for it.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::time::{interval, timeout};
use tracing::Level;

/// Ends a test that hangs.
const SAFETY: Duration = Duration::from_mins(1);
/// How often it is looked.
const LOOK_PERIOD: Duration = Duration::from_millis(20);

/// All that has been logged in this process at `warn` or above since it was first asked for.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

/// Starts to capture, and goes on for as long as the process lives.
pub(crate) fn capture() -> Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(Level::WARN).with_ansi(false);
        subscriber.with_writer(move || writer.clone()).init();
        log
    })
    .clone()
}

impl Log {
    /// Whether there is a line that has both texts.
    pub(crate) fn has(&self, one: &str, other: &str) -> bool {
        let log = self.0.lock().unwrap();
        String::from_utf8_lossy(&log).lines().any(|line| line.contains(one) && line.contains(other))
    }

    /// Waits for such a line.
    pub(crate) async fn wait_for(&self, one: &str, other: &str) {
        let mut looks = interval(LOOK_PERIOD);
        let looked = async {
            while !self.has(one, other) {
                looks.tick().await;
            }
        };
        timeout(SAFETY, looked).await.unwrap_or_else(|_| panic!("nobody says `{one}` and `{other}`"));
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

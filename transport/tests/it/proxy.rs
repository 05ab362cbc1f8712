//! A TCP proxy between two Zenoh sessions, which cuts them off from each other without root. Next: `half_new.rs`.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// Ends a test that hangs.
const SAFETY: Duration = Duration::from_mins(1);

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// It is closed at once, as are those that are up.
    Refused,
    /// All goes through.
    Passing,
    /// It is taken, and what is sent into it vanishes, the end of it included: a cable that is out.
    Silent,
}

/// A proxy to one address. It listens on a port of its own for as long as it is kept.
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    flow: watch::Sender<Flow>,
    /// How many connections the far end has closed.
    closed: watch::Receiver<usize>,
}

impl Proxy {
    /// A proxy to `endpoint`, such as `tcp/127.0.0.1:7447`.
    pub(crate) async fn new(endpoint: &str, flow: Flow) -> Self {
        let address = endpoint.strip_prefix("tcp/").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = format!("tcp/{}", listener.local_addr().unwrap());
        let (flow, flows) = watch::channel(flow);
        let (count, closed) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if *flows.borrow() == Flow::Refused {
                    continue;
                }
                // Nobody may be there: then the near end is closed, too.
                let Ok(far) = TcpStream::connect(&address).await else { continue };
                let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
                tokio::spawn(pump(near_read, far_write, flows.clone(), None));
                tokio::spawn(pump(far_read, near_write, flows.clone(), Some(count.clone())));
            }
        });
        Self { endpoint: own, flow, closed }
    }

    pub(crate) fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }

    /// Waits until the far end has closed so many connections in all.
    pub(crate) async fn far_end_closed(&mut self, count: usize) {
        timeout(SAFETY, self.closed.wait_for(|closed| *closed >= count))
            .await
            .expect("the far end keeps its connection")
            .expect("the proxy runs");
    }
}

/// Carries one direction until either end closes it or it is refused.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut flows: watch::Receiver<Flow>,
    closed: Option<watch::Sender<usize>>,
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut bytes) => read.unwrap_or(0),
            _ = flows.wait_for(|flow| *flow == Flow::Refused) => return,
        };
        if read == 0 {
            break;
        }
        if *flows.borrow() == Flow::Passing && to.write_all(&bytes[..read]).await.is_err() {
            break;
        }
    }
    if let Some(closed) = closed {
        closed.send_modify(|count| *count += 1);
    }
    // The end of a connection does not come through a cable that is out.
    let _ = flows.wait_for(|flow| *flow != Flow::Silent).await;
}

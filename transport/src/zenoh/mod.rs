//! The network of real deployments: Zenoh, used as a fast wire that may lose packets.
//!
//! Only this folder knows Zenoh's types, and none of them is in a public signature. It must not know frames.
//!
//! Zenoh blocks in some calls (open, close, declare) and panics there on a current-thread tokio runtime. All those
//! calls are made on plain threads here, so any runtime may use this network. Putting a small packet is safe
//! everywhere: it never enters a runtime, and waits at most about a millisecond. (Zenoh's `lowlatency` transport is
//! an exception; a configuration file that enables it needs a multi-thread runtime.)
//!
//! The session may be closed and reopened under the wires that share it ([`keeper`]).
//!
//! Next: [`wire`] for sending and receiving, [`config`] for Zenoh's configuration.

mod access;
mod admin;
mod config;
mod credentials;
mod exposure;
mod files;
mod keeper;
mod keys;
mod presence;
mod probe;
mod publishers;
mod session;
mod wire;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use ::zenoh::Wait;
use accompanist_core::contract::{AdminAccess, BoxFuture, Exposure, Inbox, Transport, TransportError, Wire};
use accompanist_core::id::NodeId;
use tokio::sync::oneshot;

pub use self::access::{CA_FILE, CERTIFICATE_FILE, KEY_FILE, ZenohAccess};
pub use self::admin::ZenohAdmin;
pub use self::config::{ZenohConfig, ZenohMode};
use self::keeper::Reopen;
use self::keys::Keys;
pub use self::probe::probe;
use self::session::Sessions;
use self::wire::Job;

/// How long [`ZenohTransport::close`] waits: Zenoh itself may take ten seconds, and nothing depends on its end.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(3);

/// A network over Zenoh. Clones are the same session.
///
/// A node can reach all nodes of the same namespace whose sessions are connected, directly or through a Zenoh router.
/// Each node needs a unique name: two nodes with one name in *different* processes both receive the packets sent to
/// it, and each receives the broadcasts of the other. Within one transport a name in use is refused.
///
/// Packets go to `<namespace>/node/<receiver>/<sender>` and `<namespace>/all/<sender>`. The sender of a packet is
/// read only from its key, so that Zenoh's access control decides who may send in whose name. Operators' requests go to
/// `<namespace>/admin/<node>/read/<caller>` and `<namespace>/admin/<node>/write/<caller>` ([`ZenohAdmin`]).
#[derive(Clone)]
pub struct ZenohTransport {
    shared: Arc<Shared>,
}

/// The state that the transport and its wires share.
struct Shared {
    sessions: Sessions,
    namespace: String,
    packet_bytes_max: usize,
    exposure: Exposure,
    /// With certificates and access control: the file of this node's certificate, and the only name that the node may
    /// have.
    certified: Option<(PathBuf, String)>,
    /// The queues of the wires' threads.
    attached: Mutex<BTreeMap<NodeId, mpsc::SyncSender<Job>>>,
    keeper: mpsc::SyncSender<Reopen>,
}

impl ZenohTransport {
    /// Opens a session: listens, and starts to connect.
    ///
    /// A peer does not wait for the others: it keeps trying to reach them for as long as it is open.
    ///
    /// # Errors
    /// [`TransportError::Config`] for a configuration that cannot be used, [`TransportError::Open`] when Zenoh cannot
    /// be started with it, for example because an address is in use.
    pub async fn open(config: ZenohConfig) -> Result<Self, TransportError> {
        let (settings, exposure) = config.to_zenoh()?;
        let certified =
            Some(&settings).filter(|_| exposure == Exposure::Authenticated).and_then(credentials::common_name);
        let (again, source) = (settings.clone(), config.clone());
        let opened = on_thread("accompanist-zenoh-open", move || ::zenoh::open(settings).wait()).await?;
        let session = opened.map_err(|error| TransportError::Open(config.explain(&plain(&error))))?;
        let (keeper, requests) = mpsc::sync_channel(1);
        let shared = Arc::new(Shared {
            sessions: Sessions::new(session),
            packet_bytes_max: config.packet_bytes_limit(),
            namespace: config.into_namespace(),
            exposure,
            certified,
            attached: Mutex::default(),
            keeper,
        });
        keeper::spawn(&shared, requests, source, again)?;
        Ok(Self { shared })
    }

    /// Closes the session, so that its addresses are free when this returns. After that its wires send and receive
    /// nothing.
    ///
    /// The call waits a few seconds at most; after that Zenoh continues closing in the background. Dropping the
    /// transport and all of its wires closes the session too, in the background from the start.
    pub async fn close(&self) {
        let session = self.shared.sessions.close();
        let shared = Arc::clone(&self.shared);
        let closed = on_thread("accompanist-zenoh-close", move || {
            let (done, is_done) = mpsc::channel();
            let closer = move || {
                if let Some(session) = session {
                    session::close_kept(&session);
                }
                // A session that is being opened at this moment is closed by its opener.
                drop(shared.sessions.changing());
                let _ = done.send(());
            };
            // The inner thread may outlive this one: that bounds the wait.
            let _ = thread::Builder::new().name("accompanist-zenoh-closer".into()).spawn(closer);
            if is_done.recv_timeout(CLOSE_WAIT_MAX).is_err() {
                tracing::warn!("zenoh takes long to close; going on without it");
            }
        });
        if let Err(error) = closed.await {
            tracing::warn!(%error, "zenoh could not be closed");
        }
    }
}

impl Transport for ZenohTransport {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        Box::pin(async move {
            if let Some((file, name)) = self.shared.certified.as_ref().filter(|(_, name)| name != node.as_str()) {
                let file = file.display();
                return Err(TransportError::Config(format!(
                    "this node is `{node}`, and its certificate `{file}` is that of `{name}`, so that all would refuse \
                     what it sends: give it its own folder, or make a certificate with `accompanist security add-node \
                     {node}`"
                )));
            }
            wire::attach(Arc::clone(&self.shared), node, inbox).await
        })
    }

    fn system(&self) -> Option<&str> {
        Some(&self.shared.namespace)
    }

    fn exposure(&self) -> Exposure {
        self.shared.exposure
    }
}

impl Shared {
    /// Asks for the session to be reopened; one pending request is enough.
    fn ask_to_reopen(&self) {
        let _ = self.keeper.try_send(Reopen);
    }

    /// Notifies the wires that there is another session. A wire whose queue is full detects it with the next job.
    fn wake_wires(&self) {
        for jobs in self.attached().values() {
            let _ = jobs.try_send(Job::Declare(None));
        }
    }

    /// Returns the key of packets of `from` to one node, or to all. The key ends with the sender, so that one access
    /// rule determines who may send in whose name: only `from` may put to `**/from`.
    fn key(&self, from: &NodeId, to: Option<&NodeId>) -> String {
        let (keys, from) = (Keys::new(&self.namespace), from.as_str());
        to.map_or_else(|| keys.all(from), |to| keys.node(to.as_str(), from))
    }

    /// Returns the key expressions of all packets for `node`: those to it alone, and those to all.
    fn keys_for(&self, node: &NodeId) -> [String; 2] {
        let keys = Keys::new(&self.namespace);
        [keys.node(node.as_str(), "*"), keys.all("*")]
    }

    /// Returns the key expressions of operators' requests to `node`: to read, and to write.
    fn admin_keys(&self, node: &NodeId) -> [(AdminAccess, String); 2] {
        let keys = Keys::new(&self.namespace);
        [AdminAccess::Read, AdminAccess::Write].map(|access| (access, keys.admin(node.as_str(), access, "*")))
    }

    fn attached(&self) -> MutexGuard<'_, BTreeMap<NodeId, mpsc::SyncSender<Job>>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `work`, which may block, on a separate thread and waits for its result.
async fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TransportError> {
    let (result, receiver) = oneshot::channel();
    thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            let _ = result.send(work());
        })
        .map_err(|error| TransportError::Open(format!("no thread for zenoh ({error}): raise the thread limit")))?;
    receiver.await.map_err(|_| TransportError::Open("zenoh's thread has panicked: see the log".into()))
}

/// Returns the text of a Zenoh error without the source locations that it contains (` at /path/file.rs:123.`).
fn plain(error: &impl Display) -> String {
    let text = error.to_string();
    let mut words: Vec<&str> = Vec::new();
    for word in text.split(' ') {
        match word.split_once(".rs:") {
            // Text after the line number, such as a closing bracket, belongs to the message.
            Some((_, line)) if words.last() == Some(&"at") => {
                words.pop();
                words.push(line.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.'));
            }
            _ => words.push(word),
        }
    }
    words.join(" ").replace(" ]", "]").trim().to_owned()
}

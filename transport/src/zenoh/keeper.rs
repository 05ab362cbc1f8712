//! The thread that reopens a transport's session: on request, when nothing is received from a peer any more, and when
//! the configuration or a certificate has changed.
//!
//! A reopened session has another id in Zenoh, so no peer can confuse it with the previous one: no trace of the
//! problem is left. All wires of the transport lose packets meanwhile, for as long as it takes to listen and to
//! connect again. Decision 0019.
//!
//! This module must not know wires: they detect from the session's life that they must repeat their declarations.
//! Next: [`super::wire`].

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use ::zenoh::{Config, Session, Wait};
use accompanist_core::contract::{Exposure, TransportError};

use super::credentials;
use super::files::Files;
use super::presence::Presence;
use super::session::{Found, Kept, close, close_kept};
use super::{Shared, ZenohConfig, plain};
use crate::metric::{self, Reopening};

/// How often the peers are checked for being received.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
/// The least time between two openings: if reopening does not help at once, reopening more often does not help more.
const REOPEN_PAUSE_MIN: Duration = Duration::from_secs(10);
/// How often the log warns that anybody can send to this node, or that its certificate expires.
const WARN_PERIOD: Duration = Duration::from_hours(1);
/// A certificate that is valid for less time should be renewed.
const GOOD_FOR_WARN: Duration = Duration::from_hours(30 * 24);
/// The pause before the next try when a session could not be opened; its address may not be free yet.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// A request to the keeper to reopen the session.
pub(super) struct Reopen;

/// Starts the keeper of `shared`; the keeper ends when `shared` is dropped.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    requests: Receiver<Reopen>,
    source: ZenohConfig,
    settings: Config,
) -> Result<(), TransportError> {
    let files = Files::new(source.config_file_path(), &settings);
    let mut keeper = Keeper { shared: Arc::downgrade(shared), requests, source, settings, files };
    thread::Builder::new()
        .name("accompanist-zenoh-keeper".into())
        .spawn(move || keeper.run())
        .map(drop)
        .map_err(|error| TransportError::Open(format!("no thread for zenoh ({error}): raise the thread limit")))
}

struct Keeper {
    /// Weak, so that the thread keeps nothing alive.
    shared: Weak<Shared>,
    requests: Receiver<Reopen>,
    source: ZenohConfig,
    settings: Config,
    files: Files,
}

impl Keeper {
    fn run(&mut self) {
        let mut presence = None;
        let mut life_seen = None;
        let mut reopened_at: Option<Instant> = None;
        let mut warned_at: Option<Instant> = None;
        loop {
            if warned_at.is_none_or(|at| at.elapsed() >= WARN_PERIOD) {
                warned_at = Some(Instant::now());
                self.warn();
            }
            let Some((session, life)) = self.session() else { return };
            if life_seen != Some(life) {
                life_seen = Some(life);
                presence = session
                    .get()
                    .zip(self.namespace())
                    .and_then(|(session, namespace)| Presence::new(session, &namespace));
            }
            let asked = match self.requests.recv_timeout(LOOK_PERIOD) {
                Ok(Reopen) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let reason = if asked { Some(Reopening::Asked) } else { not_heard(presence.as_ref(), &session) };
            drop(session);
            let may = reopened_at.is_none_or(|at| at.elapsed() >= REOPEN_PAUSE_MIN);
            let reason = reason.or_else(|| (may && self.reads_again()).then_some(Reopening::Files));
            if let Some(reason) = reason.filter(|_| may) {
                presence = None;
                if !self.reopen(reason) {
                    return;
                }
                reopened_at = Some(Instant::now());
            }
        }
    }

    /// Returns the session and its life, unless the transport is closed or gone.
    fn session(&self) -> Option<(Arc<Kept>, u64)> {
        match self.shared.upgrade()?.sessions.get() {
            Found::Open(session, life) => Some((session, life)),
            // Only this thread reopens sessions.
            Found::Reopening | Found::Closed => None,
        }
    }

    /// Logs the periodic warnings for operators.
    fn warn(&self) {
        if self.shared.upgrade().is_some_and(|shared| shared.exposure == Exposure::Anybody) {
            tracing::warn!(
                "insecure: whoever reaches this node's network can speak in the name of any node, and read all that \
                 they send; `accompanist security init` makes certificates and access control"
            );
        }
        if let Some((file, good_for)) = self.files.first_to_expire() {
            metric::certificate_good_for(good_for);
            let (subject, days) = (credentials::subject(file).unwrap_or_default(), good_for.as_secs() / 86_400);
            let file = file.display();
            if good_for.is_zero() {
                tracing::error!(
                    %file, subject,
                    "this node's certificate has expired: all refuse its connections; `accompanist security renew` \
                     makes another one"
                );
            } else if good_for < GOOD_FOR_WARN {
                tracing::warn!(
                    %file, subject, days,
                    "this node's certificate expires: `accompanist security renew` makes another one"
                );
            }
        }
    }

    /// Whether the configuration or a certificate has changed, and can be used.
    fn reads_again(&mut self) -> bool {
        if !self.files.have_changed() {
            return false;
        }
        match self.source.to_zenoh() {
            Ok((settings, exposure)) if self.shared.upgrade().is_some_and(|shared| shared.exposure == exposure) => {
                self.files = Files::new(self.source.config_file_path(), &settings);
                self.settings = settings;
                self.warn();
                true
            }
            Ok(_) => {
                self.files = Files::new(self.source.config_file_path(), &self.settings);
                tracing::error!(
                    "the zenoh configuration file has changed who can reach this node: start it anew for that"
                );
                false
            }
            Err(error) => {
                self.files = Files::new(self.source.config_file_path(), &self.settings);
                tracing::error!(%error, "the zenoh session stays as it was before its files changed");
                false
            }
        }
    }

    fn namespace(&self) -> Option<String> {
        Some(self.shared.upgrade()?.namespace.clone())
    }

    /// Closes the session and opens another one; returns `false` when the transport is closed or gone.
    fn reopen(&self, reason: Reopening) -> bool {
        let Some(shared) = self.shared.upgrade() else { return false };
        let changing = shared.sessions.changing();
        let Some(session) = shared.sessions.take() else { return false };
        tracing::warn!(reason = reason.label(), "the zenoh session is closed and opened anew");
        metric::reopened(reason);
        // Closing may take ten seconds. The addresses are free long before that, and opening detects when they are.
        let closer = move || close_kept(&session);
        let _ = thread::Builder::new().name("accompanist-zenoh-closer".into()).spawn(closer);
        drop(changing);
        drop(shared);
        self.open()
    }

    fn open(&self) -> bool {
        let mut is_told = false;
        loop {
            let opened = {
                let Some(shared) = self.shared.upgrade() else { return false };
                let _changing = shared.sessions.changing();
                if matches!(shared.sessions.get(), Found::Closed) {
                    return false;
                }
                ::zenoh::open(self.settings.clone()).wait().map(|session| take_in(&shared, session))
            };
            match opened {
                Ok(is_open) => return is_open,
                Err(error) if !is_told => {
                    is_told = true;
                    tracing::warn!(error = plain(&error), "the zenoh session cannot be opened yet; it is tried again");
                }
                Err(error) => tracing::debug!(error = plain(&error), "the zenoh session cannot be opened yet"),
            }
            // A request that arrives meanwhile is already being served; a disconnected sender ends the loop.
            if matches!(self.requests.recv_timeout(RETRY_PAUSE), Err(RecvTimeoutError::Disconnected)) {
                return false;
            }
        }
    }
}

/// Makes `session` the transport's session, unless the transport was closed meanwhile.
fn take_in(shared: &Shared, session: Session) -> bool {
    match shared.sessions.reopened(session) {
        Ok(()) => {
            shared.wake_wires();
            tracing::info!("the zenoh session is open anew");
            true
        }
        Err(session) => {
            close(&session);
            false
        }
    }
}

fn not_heard(presence: Option<&Presence>, session: &Kept) -> Option<Reopening> {
    let peer = presence.zip(session.get()).and_then(|(presence, session)| presence.deaf_to(session))?;
    tracing::warn!(peer, "zenoh has a connection that is new here and old at the peer: nothing is heard of it");
    Some(Reopening::NotHeard)
}

//! The Zenoh session that the wires of one transport share, and that may be closed and reopened under them.
//!
//! Each session has a *life*, an increasing number: from it a wire detects that its declarations are gone. This
//! module must not know why a session is reopened. Next: [`super::keeper`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;

use ::zenoh::{Session, Wait};

use super::plain;

/// A session that any thread may drop.
///
/// Zenoh closes a session when its last handle is dropped, which blocks, and panics on a current-thread runtime.
pub(super) struct Kept(Option<Session>);

impl Kept {
    pub(super) fn new(session: Session) -> Self {
        Self(Some(session))
    }

    /// Returns the session; `None` only while it is being dropped.
    pub(super) fn get(&self) -> Option<&Session> {
        self.0.as_ref()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            let _ = thread::Builder::new().name("accompanist-zenoh-drop".into()).spawn(move || drop(session));
        }
    }
}

/// The state of a transport's session.
enum State {
    Open(Arc<Kept>),
    /// The session has been removed, and another one is being opened.
    Reopening,
    /// Closed for good.
    Closed,
}

/// The result of [`Sessions::get`].
pub(super) enum Found {
    /// The session, with its life.
    Open(Arc<Kept>, u64),
    /// There will be another session, with the next life.
    Reopening,
    /// There will be no more sessions.
    Closed,
}

/// The successive sessions of a transport.
pub(super) struct Sessions {
    state: RwLock<State>,
    life: AtomicU64,
    /// Held while a session is reopened, so that a final close can wait for the end of it.
    changing: Mutex<()>,
}

impl Sessions {
    pub(super) fn new(session: Session) -> Self {
        let state = RwLock::new(State::Open(Arc::new(Kept::new(session))));
        Self { state, life: AtomicU64::new(0), changing: Mutex::default() }
    }

    /// Returns the current session, if there is one.
    pub(super) fn get(&self) -> Found {
        // The life is read first: at worst it is that of an earlier session, and the declarations are repeated once
        // more.
        let life = self.life();
        match &*self.read() {
            State::Open(session) => Found::Open(Arc::clone(session), life),
            State::Reopening => Found::Reopening,
            State::Closed => Found::Closed,
        }
    }

    /// Returns the number of the current session, or of the last one.
    pub(super) fn life(&self) -> u64 {
        self.life.load(Ordering::Acquire)
    }

    /// Removes the session, so that another one can be opened; `None` when there is none.
    pub(super) fn take(&self) -> Option<Arc<Kept>> {
        self.replace_open(State::Reopening)
    }

    /// Removes the session for good.
    pub(super) fn close(&self) -> Option<Arc<Kept>> {
        let taken = self.replace_open(State::Closed);
        *self.write() = State::Closed;
        taken
    }

    fn replace_open(&self, next: State) -> Option<Arc<Kept>> {
        let mut state = self.write();
        if !matches!(*state, State::Open(_)) {
            return None;
        }
        match std::mem::replace(&mut *state, next) {
            State::Open(session) => Some(session),
            State::Reopening | State::Closed => None,
        }
    }

    /// Stores a reopened session; returns it as an error if the transport has been closed meanwhile.
    pub(super) fn reopened(&self, session: Session) -> Result<(), Session> {
        let mut state = self.write();
        if matches!(*state, State::Closed) {
            return Err(session);
        }
        *state = State::Open(Arc::new(Kept::new(session)));
        drop(state);
        self.life.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Locks out other changes; hold the guard while a session is reopened.
    pub(super) fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes a session, which may take ten seconds.
pub(super) fn close_kept(session: &Kept) {
    if let Some(session) = session.get() {
        close(session);
    }
}

/// Closes a session, as [`close_kept`] does.
pub(super) fn close(session: &Session) {
    if let Err(error) = session.close().wait() {
        tracing::warn!(error = plain(&error), "zenoh did not close cleanly");
    }
}

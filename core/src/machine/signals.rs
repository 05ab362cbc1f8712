//! Interaction with the world outside of the choreography: signals, a cancel, and the view that callers can query.
//!
//! A signal is durable before it is acknowledged, and is taken once, in the order of arrival. This module knows no
//! caller.

use std::collections::BTreeMap;
use std::task::{Context, Poll};

use super::waiters::Shared;
use super::waiting::Waiting;
use super::{Machine, Observation, Pending, Stop};
use crate::abort::Abort;
use crate::id::Path;
use crate::message::{Fingerprint, Payload, pack, unpack};
use crate::record::Record;

/// The maximum number of signal keys remembered after the program has taken the signals, in order to recognise
/// repetitions.
pub const TAKEN_SIGNALS_MAX: usize = 1_024;

/// The maximum size of the length that the encoding puts before a list.
const LENGTH_BYTES_MAX: usize = 10;

/// The reason why a signal is refused. Nothing has happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// Too many signals wait for the program.
    #[error("{0} signals wait for this role, which is the limit: try again when it has taken some")]
    Full(usize),
    /// Two different signals have the same key.
    #[error("signal `{name}` has come with key `{key}` and another value before: give each signal a key of its own")]
    KeyReused {
        /// The name of the signal.
        name: String,
        /// The key.
        key: String,
    },
    /// The value, the name or the key is too large.
    #[error("the signal has {found} bytes, the limit is {limit}: send a reference to it, or raise `payload_bytes_max`")]
    TooLarge {
        /// The size in bytes.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// No program will take the signal.
    #[error("the session is over, or being taken back: nobody waits for the signal")]
    Over,
}

#[derive(Clone, Hash)]
pub(super) struct Signal {
    pub(super) name: String,
    pub(super) key: String,
    pub(super) fingerprint: Fingerprint,
    /// The value; `None` once it is taken.
    pub(super) payload: Option<Payload>,
}

/// The signals of an instance, in the order of arrival.
#[derive(Default, Hash)]
pub(super) struct Signals {
    entries: BTreeMap<u64, Signal>,
    waiting: usize,
    next: u64,
}

impl Signals {
    pub(super) fn restore(&mut self, number: u64, signal: Signal) {
        self.waiting += usize::from(signal.payload.is_some());
        self.next = self.next.max(number.saturating_add(1));
        self.entries.insert(number, signal);
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        self.entries.iter().map(|(number, signal)| signal.record(*number))
    }
}

impl Signal {
    fn record(&self, number: u64) -> Record {
        let Self { name, key, fingerprint, payload } = self.clone();
        Record::Signalled { number, name, key, fingerprint, payload }
    }
}

impl Machine {
    /// Accepts a signal from outside. Returns the number of the write that makes it durable.
    ///
    /// # Errors
    /// [`SignalError`]; nothing has happened in that case.
    pub fn signal(&mut self, name: &str, key: &str, payload: Payload) -> Result<u64, SignalError> {
        let (found, limit) = (payload.len() + name.len() + key.len(), self.limits.payload_bytes_max);
        if found > limit {
            return Err(SignalError::TooLarge { found, limit });
        }
        let known = self.signals.entries.values().find(|signal| signal.name == name && signal.key == key);
        if let Some(known) = known {
            let same = known.fingerprint == Fingerprint::of(&payload);
            let reused = || SignalError::KeyReused { name: name.into(), key: key.into() };
            return if same { Ok(self.all_so_far()) } else { Err(reused()) };
        }
        if self.abort.is_some() || self.program_ended || self.stopped.is_some() {
            return Err(SignalError::Over);
        }
        if self.signals.waiting >= self.limits.signals_max {
            return Err(SignalError::Full(self.limits.signals_max));
        }
        let (number, fingerprint) = (self.signals.next, Fingerprint::of(&payload));
        let signal = Signal { name: name.into(), key: key.into(), fingerprint, payload: Some(payload) };
        self.record(&signal.record(number), true);
        self.signals.entries.insert(number, signal);
        self.signals.next += 1;
        self.signals.waiting += 1;
        self.waiting.wake_shared(&Shared::Signal(name.into()), usize::MAX);
        Ok(self.number)
    }

    /// Waits for the next signal of this name.
    pub(crate) fn poll_signal(&mut self, cx: &Context<'_>, path: &Path, name: &str) -> Poll<Payload> {
        let recorded_as = format!("signal {name}");
        match self.poll_observed(cx, path, &recorded_as) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(recorded)) => match unpack::<(u64, Payload)>(recorded.as_slice()) {
                Ok((_, payload)) => return Poll::Ready(payload),
                Err(error) => {
                    self.cannot_use(path.clone(), error.to_string());
                    return Poll::Pending;
                }
            },
            Poll::Ready(None) => {}
        }
        let waiting = |(_, signal): &(&u64, &mut Signal)| signal.name == name && signal.payload.is_some();
        let Some((number, signal)) = self.signals.entries.iter_mut().find(waiting) else {
            return self.wait(cx, path, Waiting::for_signal(name));
        };
        let (number, Some(payload)) = (*number, signal.payload.take()) else { return Poll::Pending };
        let taken = signal.record(number);
        self.signals.waiting -= 1;
        self.record(&taken, true);
        match pack(&(number, &payload)) {
            Ok(result) => self.observe(path.clone(), &recorded_as, result.into()),
            Err(error) => self.stop(Stop::Undecodable { path: path.clone(), reason: error.to_string() }),
        }
        self.forget_taken_signals();
        Poll::Ready(payload)
    }

    /// Takes the waiting signals of this name, once there is one: at most `count_max`, and no more than fit into a
    /// message.
    pub(crate) fn poll_signals(
        &mut self,
        cx: &Context<'_>,
        path: &Path,
        name: &str,
        count_max: usize,
    ) -> Poll<Vec<Payload>> {
        let recorded_as = format!("signals {name}");
        match self.poll_observed(cx, path, &recorded_as) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(recorded)) => match unpack::<Vec<(u64, Payload)>>(recorded.as_slice()) {
                Ok(taken) => return Poll::Ready(taken.into_iter().map(|(_, payload)| payload).collect()),
                Err(error) => {
                    self.cannot_use(path.clone(), error.to_string());
                    return Poll::Pending;
                }
            },
            Poll::Ready(None) => {}
        }
        // A single signal always fits: when it was accepted, its name and key counted, too.
        let bytes_max = self.limits.payload_bytes_max.saturating_sub(LENGTH_BYTES_MAX);
        let (mut taken, mut records, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (number, signal) in self.signals.entries.iter_mut().filter(|(_, signal)| signal.name == name) {
            let Some(payload) = &signal.payload else { continue };
            bytes += payload.len();
            if taken.len() >= count_max.max(1) || (bytes > bytes_max && !taken.is_empty()) {
                break;
            }
            taken.extend(signal.payload.take().map(|payload| (*number, payload)));
            records.push(signal.record(*number));
        }
        if taken.is_empty() {
            return self.wait(cx, path, Waiting::for_signal(name));
        }
        self.signals.waiting -= taken.len();
        for record in &records {
            self.record(record, true);
        }
        match pack(&taken) {
            Ok(result) => self.observe(path.clone(), &recorded_as, result.into()),
            Err(error) => self.stop(Stop::Undecodable { path: path.clone(), reason: error.to_string() }),
        }
        self.forget_taken_signals();
        Poll::Ready(taken.into_iter().map(|(_, payload)| payload).collect())
    }

    /// Forgets all but the keys of the latest taken signals.
    fn forget_taken_signals(&mut self) {
        while self.signals.entries.len() > self.signals.waiting + TAKEN_SIGNALS_MAX {
            let oldest = self.signals.entries.iter().find(|(_, signal)| signal.payload.is_none());
            let Some((number, record)) = oldest.map(|(number, signal)| (*number, signal.record(*number))) else {
                return;
            };
            self.signals.entries.remove(&number);
            self.unrecord(&record);
        }
    }

    /// Aborts the session on behalf of the caller, who may repeat this. Returns the number of the write that makes
    /// the abort durable, or `None` if it is too late.
    pub fn cancel(&mut self, abort: &Abort) -> Option<u64> {
        let in_time = self.initiates() && self.abort.is_none() && !self.closing && self.close_after.is_none();
        if in_time {
            self.ended = None;
            self.note_abort(abort, true);
            self.tell_abort(abort);
        }
        (self.abort.as_ref() == Some(abort)).then_some(self.barrier)
    }

    /// The time at which the session is aborted if it has not ended, at the role that is responsible for that.
    pub(super) fn open_deadline_unix_ms(&self) -> Option<u64> {
        let open = self.initiates() && self.abort.is_none() && !self.closing && self.close_after.is_none();
        self.header.deadline_unix_ms.filter(|_| open)
    }

    pub(super) fn abort_at_deadline(&mut self) {
        if self.open_deadline_unix_ms().is_some_and(|deadline| deadline <= self.unix_ms) {
            self.cancel(&Abort::new(Abort::DEADLINE, "the session's deadline has passed"));
        }
    }

    /// Publishes a view of the program's progress.
    pub(crate) fn publish(&mut self, view: Payload) {
        if self.abort.is_none() {
            self.view_after = Some((self.barrier, view));
        }
    }

    /// The view that the program has published last, as far as the results it depends on are durable.
    pub fn view(&self) -> Option<&Payload> {
        self.view.as_ref()
    }

    /// Called when a replay has gone as far as it can: checks that the program has reached everything that is
    /// recorded.
    pub(crate) fn check_replay(&mut self) {
        if !std::mem::take(&mut self.replaying) {
            return;
        }
        let unvisited = if self.abort.is_some() { self.unvisited_step(&Path::root()) } else { self.unvisited() };
        if let Some((path, recorded)) = unvisited {
            let waits = self.waits_for().into_iter().map(|(path, what)| format!(", and waits for {what} at {path}"));
            let waits = match waits.collect::<String>() {
                none if none.is_empty() => {
                    ", and waits for nothing that is an operation (what else is awaited belongs into an `effect`)"
                        .into()
                }
                waits => waits,
            };
            let replayed = format!("nothing of the kind{waits}");
            self.stop(Stop::Diverged { path, recorded, replayed });
            // What the program did instead is discarded.
            (self.effects.writes, self.pending) = (Vec::new(), Pending::default());
            self.held.clear();
            self.jobs.clear();
        }
    }

    /// Returns something recorded that the program has not reached (again), if there is any.
    pub(super) fn unvisited(&self) -> Option<(Path, String)> {
        self.unvisited_step(&Path::root()).or_else(|| {
            let unvisited =
                |(path, observation): &(&Path, &Observation)| !observation.visited && self.aborted_saga(path).is_none();
            let (path, observation) = self.observed.iter().find(unvisited)?;
            Some((path.clone(), format!("effect `{}`", observation.name)))
        })
    }
}

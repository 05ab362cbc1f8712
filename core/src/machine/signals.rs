//! Signals from the world outside of the choreography.
//!
//! A signal is durable before it is acknowledged, and is taken once, in the order of arrival. This module knows no
//! caller. Next: `caller`, what goes the other way.

use std::collections::BTreeMap;
use std::task::{Context, Poll};

use super::apply::Refusal;
use super::journal::Urgency;
use super::waiters::Shared;
use super::waiting::Waiting;
use super::{Machine, Stop};
use crate::base::error_text::debug_as_text;
use crate::base::id::Path;
use crate::base::message::{Fingerprint, Payload, pack, unpack};
use crate::record::Record;

/// The maximum number of signal keys remembered after the program has taken the signals, in order to recognise
/// repetitions.
pub const TAKEN_SIGNALS_MAX: usize = 1_024;

/// The maximum size of the length that the encoding puts before a list.
const LENGTH_BYTES_MAX: usize = 10;

/// The reason why a signal is refused. Nothing has happened.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
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
    #[error("the session is over, or being compensated: nobody waits for the signal")]
    Over,
}

debug_as_text!(SignalError);

#[derive(Clone, PartialEq, Eq, Hash)]
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
    /// Notes that a signal has arrived, or was taken.
    pub(super) fn note(&mut self, number: u64, signal: Signal) -> Result<(), Refusal> {
        let known = self.entries.get(&number);
        if known.is_some_and(|known| *known != signal && known.clone().taken() != signal) {
            return Err("another signal has this number, or this one was taken");
        }
        let was_waiting = known.is_some_and(|known| known.payload.is_some());
        self.waiting = self.waiting + usize::from(signal.payload.is_some()) - usize::from(was_waiting);
        self.next = self.next.max(number.saturating_add(1));
        self.entries.insert(number, signal);
        Ok(())
    }

    /// The signals of this name that the program has not taken, in the order of arrival.
    fn untaken(&self, name: &str) -> impl Iterator<Item = (u64, Payload)> {
        let named = self.entries.iter().filter(move |(_, signal)| signal.name == name);
        named.filter_map(|(number, signal)| Some((*number, signal.payload.clone()?)))
    }

    /// Forgets the oldest of the taken signals, unless its key is among the latest. Returns its record.
    fn forget_oldest(&mut self) -> Option<Record> {
        if self.entries.len() <= self.waiting + TAKEN_SIGNALS_MAX {
            return None;
        }
        let (number, signal) = self.entries.iter().find(|(_, signal)| signal.payload.is_none())?;
        let (number, record) = (*number, signal.record(*number));
        self.entries.remove(&number);
        Some(record)
    }

    /// The names and keys of the signals that the program has not taken, in the order of arrival.
    pub(super) fn untaken_keys(&self) -> impl Iterator<Item = (&str, &str)> {
        let waiting = self.entries.values().filter(|signal| signal.payload.is_some());
        waiting.map(|signal| (signal.name.as_str(), signal.key.as_str()))
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        self.entries.iter().map(|(number, signal)| signal.record(*number))
    }
}

impl Signal {
    /// The signal once the program has taken its value.
    fn taken(self) -> Self {
        Self { payload: None, ..self }
    }

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
        let (found, limit) = (payload.len() + name.len() + key.len(), self.identity.limits.payload_bytes_max);
        if found > limit {
            return Err(SignalError::TooLarge { found, limit });
        }
        let known = self.caller.signals.entries.values().find(|signal| signal.name == name && signal.key == key);
        if let Some(known) = known {
            let same = known.fingerprint == Fingerprint::of(&payload);
            let reused = || SignalError::KeyReused { name: name.into(), key: key.into() };
            return if same { Ok(self.journal.all_so_far()) } else { Err(reused()) };
        }
        if self.phase.is_aborted() || self.program.is_over() || self.stopped.is_some() {
            return Err(SignalError::Over);
        }
        if self.caller.signals.waiting >= self.identity.limits.signals_max {
            return Err(SignalError::Full(self.identity.limits.signals_max));
        }
        let (number, fingerprint) = (self.caller.signals.next, Fingerprint::of(&payload));
        let signal = Signal { name: name.into(), key: key.into(), fingerprint, payload: Some(payload) };
        self.commit(&signal.record(number), Urgency::Urgent);
        self.waits.wake_shared(&Shared::Signal(name.into()), usize::MAX);
        Ok(self.journal.next())
    }

    /// Waits for the next signal of this name.
    pub(crate) fn poll_signal(&mut self, cx: &Context<'_>, path: &Path, name: &str) -> Poll<Payload> {
        let recorded_as = format!("signal {name}");
        match self.poll_observed(cx, path, &recorded_as) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(recorded)) => match unpack::<(u64, Payload)>(recorded.as_slice()) {
                Ok((_, payload)) => return Poll::Ready(payload),
                Err(error) => {
                    self.cannot_use(path.clone(), format!("signal `{name}`"), error.to_string());
                    return Poll::Pending;
                }
            },
            Poll::Ready(None) => {}
        }
        let Some((number, payload)) = self.caller.signals.untaken(name).next() else {
            return self.wait(cx, path, Waiting::for_signal(name));
        };
        self.take_signal(number);
        match pack(&(number, &payload)) {
            Ok(result) => self.observe(path, &recorded_as, result.into()),
            Err(error) => self.stop(Stop::unstorable(&error)),
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
                    self.cannot_use(path.clone(), format!("signal `{name}`"), error.to_string());
                    return Poll::Pending;
                }
            },
            Poll::Ready(None) => {}
        }
        // A single signal always fits: when it was accepted, its name and key counted, too.
        let bytes_max = self.identity.limits.payload_bytes_max.saturating_sub(LENGTH_BYTES_MAX);
        let (mut taken, mut bytes) = (Vec::new(), 0);
        for (number, payload) in self.caller.signals.untaken(name).take(count_max.max(1)) {
            bytes += payload.len();
            if bytes > bytes_max && !taken.is_empty() {
                break;
            }
            taken.push((number, payload));
        }
        if taken.is_empty() {
            return self.wait(cx, path, Waiting::for_signal(name));
        }
        for (number, _) in &taken {
            self.take_signal(*number);
        }
        match pack(&taken) {
            Ok(result) => self.observe(path, &recorded_as, result.into()),
            Err(error) => self.stop(Stop::unstorable(&error)),
        }
        self.forget_taken_signals();
        Poll::Ready(taken.into_iter().map(|(_, payload)| payload).collect())
    }

    fn take_signal(&mut self, number: u64) {
        if let Some(taken) = self.caller.signals.entries.get(&number).cloned().map(Signal::taken) {
            self.commit(&taken.record(number), Urgency::Urgent);
        }
    }

    /// Forgets all but the keys of the latest taken signals.
    fn forget_taken_signals(&mut self) {
        while let Some(record) = self.caller.signals.forget_oldest() {
            self.journal.unrecord(&record);
        }
    }
}

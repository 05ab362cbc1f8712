//! The spans of a role's part of a session: of its stay in memory, of the calls of its steps, of its messages.
//!
//! Only what is done has a span, and only once: a replay repeats nothing, and so has none. A part's span begins with
//! the first thing that it does in its life, and the spans of steps and messages lie under it. All of them are in the
//! trace that the session's header names. Knows no messages of actors; `telemetry` knows what becomes of spans.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use accompanist_core::contract::{CallEnd, CallKind, CallObserver, ObservedCall, StepCall};
use accompanist_core::frame::{Body, Header, Operation, Traceparent};
use accompanist_core::machine::{Forget, Outgoing, OutgoingKey};
use accompanist_core::{NodeId, RoleNames};
use tracing::field::Empty;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Span};

use crate::runtime::names::PartName;
use crate::telemetry::{SPANS, context};

/// How far a life of an instance is, as far as it matters for spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// The store may know the instance: what it does may be done already.
    Unproven,
    /// The program goes once more through what it did in earlier lives.
    Replaying,
    Live,
}

/// A message that was sent and is not acknowledged.
enum SentMessage {
    /// Its sender may turn out to have sent it in an earlier life.
    Unproven { operation: Operation, peer: NodeId },
    /// Held until the message is acknowledged.
    UnderWay { _span: Span },
}

/// The spans of one life of an instance; see the module's documentation.
pub(super) struct PartSpans {
    /// Present if anybody might have asked for spans when the life began.
    part: Option<Arc<PartSpan>>,
    life: Life,
    /// At most as many as an instance may have unacknowledged.
    messages: BTreeMap<OutgoingKey, SentMessage>,
}

impl PartSpans {
    /// Begins a life: of an instance that the store is known not to have (`is_proven`), of one that it may have, or of
    /// one that is restored.
    pub(super) fn begin(part: impl FnOnce() -> PartSpan, is_proven: bool, is_restored: bool) -> Self {
        // `tracing::enabled!` would ask for the target, too, and have another layer lose its next event.
        let part = (LevelFilter::current() >= Level::DEBUG).then(|| Arc::new(part()));
        let life = match (is_restored, is_proven) {
            (true, _) => Life::Replaying,
            (false, true) => Life::Live,
            (false, false) => Life::Unproven,
        };
        if let (Life::Live, Some(part)) = (life, &part) {
            part.span();
        }
        Self { part, life, messages: BTreeMap::new() }
    }

    /// The observer of the calls of steps.
    pub(super) fn observer(&self) -> Option<Arc<dyn CallObserver>> {
        self.part.clone().map(|part| part as Arc<dyn CallObserver>)
    }

    /// The span of the part, once the part has done anything, to run a turn in.
    pub(super) fn of_turn(&self) -> Option<Span> {
        self.part.as_ref()?.span.get().cloned()
    }

    /// Notes that the store did not have the instance before.
    pub(super) fn proven(&mut self) {
        let (Life::Unproven, Some(part)) = (self.life, &self.part) else { return };
        self.life = Life::Live;
        part.span();
        for (key, message) in &mut self.messages {
            if let SentMessage::Unproven { operation, peer } = message {
                *message = SentMessage::UnderWay { _span: part.message(key, *operation, peer) };
            }
        }
    }

    /// Notes that the first turn of a life is over.
    pub(super) fn turned(&mut self) {
        if self.life == Life::Replaying {
            self.life = Life::Live;
        }
    }

    /// Notes the messages that leave.
    pub(super) fn sent(&mut self, frames: &[Outgoing]) {
        let Some(part) = self.part.as_ref().filter(|_| self.life != Life::Replaying) else { return };
        // Unlike those of calls, nothing can lie under them, so a trace that nobody exports does without.
        if LevelFilter::current() < Level::TRACE || part.parent.is_some_and(|parent| !parent.is_sampled()) {
            return;
        }
        for Outgoing { key, node, frame } in frames {
            let Body::Deliver { operation, .. } = frame.body else { continue };
            self.messages.entry(key.clone()).or_insert_with(|| match self.life {
                Life::Unproven => SentMessage::Unproven { operation, peer: node.clone() },
                _ => SentMessage::UnderWay { _span: part.message(key, operation, node) },
            });
        }
    }

    /// Notes that a message is on the disk of its receiver.
    pub(super) fn acknowledged(&mut self, key: &OutgoingKey) {
        self.messages.remove(key);
    }

    /// Notes which frames nobody waits for any more.
    pub(super) fn forgotten(&mut self, what: Forget) {
        self.messages.retain(|key, _| !what.includes(key));
    }

    /// Notes that the part has ended here.
    pub(super) fn ended(&self, outcome: &str, abort: Option<&dyn std::fmt::Display>) {
        let Some(part) = &self.part else { return };
        part.span().record("outcome", outcome);
        if let Some(abort) = abort {
            part.span().record("error", tracing::field::display(abort));
        }
    }

    /// Notes that the part waits on disk.
    pub(super) fn passivated(&self) {
        if let Some(span) = self.of_turn() {
            span.record("outcome", "passivated");
        }
    }

    /// Notes that the part is stopped.
    pub(super) fn stopped(&self, reason: &str) {
        self.ended("stopped", Some(&reason));
        if let Some(span) = self.of_turn() {
            span.record("otel.status_code", "ERROR");
        }
    }
}

/// The span of a part's stay in memory. It begins when the part first does something.
pub(super) struct PartSpan {
    name: PartName,
    version: u32,
    roles: RoleNames,
    node: NodeId,
    parent: Option<Traceparent>,
    is_restored: bool,
    span: OnceLock<Span>,
}

impl PartSpan {
    pub(super) fn new(name: PartName, header: &Header, roles: RoleNames, node: NodeId, is_restored: bool) -> Self {
        let (version, parent) = (header.version, header.traceparent);
        Self { name, version, roles, node, parent, is_restored, span: OnceLock::new() }
    }

    fn span(&self) -> &Span {
        self.span.get_or_init(|| {
            let Self { name: PartName { id, choreography, role }, version, roles: _, node, .. } = self;
            let span = tracing::debug_span!(
                target: SPANS, parent: None, "part",
                otel.name = %format_args!("{} {role}", choreography.unwrap_or_default()), otel.kind = "consumer",
                session = %id.session, choreography, role, %node, version, restored = self.is_restored,
                outcome = Empty, error = Empty, otel.status_code = Empty,
            );
            if let Some(parent) = &self.parent {
                context::set_parent(&span, parent);
            }
            span
        })
    }

    fn message(&self, key: &OutgoingKey, operation: Operation, peer: &NodeId) -> Span {
        let OutgoingKey::Deliver(path, to) = key else { return Span::none() };
        let Self { name: PartName { id, choreography, role }, node, .. } = self;
        let to = self.roles.name_of(*to).unwrap_or_else(|| to.0.to_string());
        tracing::trace_span!(
            target: SPANS, parent: self.span(), "message",
            otel.name = %format_args!("{operation} to {to}"), otel.kind = "producer",
            session = %id.session, choreography, role, %node, %path, operation = %operation, to, %peer,
        )
    }

    fn call(&self, call: &StepCall<'_>) -> Span {
        let Self { name: PartName { id, choreography, role }, node, .. } = self;
        // One macro for each, since the name of a span is a constant.
        macro_rules! call_span {
            ($name:literal, $method:literal, $title:expr) => {
                tracing::debug_span!(
                    target: SPANS, parent: self.span(), $name,
                    otel.name = %$title, otel.kind = "client",
                    session = %id.session, choreography, role, %node, step = call.step, path = %call.path,
                    call = $method, outcome = Empty, error = Empty,
                    otel.status_code = Empty, otel.status_description = Empty,
                )
            };
        }
        match call.kind {
            CallKind::Compensate => {
                call_span!("compensation", "compensate", format_args!("compensate {}", call.step))
            }
            CallKind::FindOut => call_span!("inquiry", "outcome", format_args!("outcome of {}", call.step)),
            _ => call_span!("step", "commit", call.step),
        }
    }
}

impl CallObserver for PartSpan {
    fn begin(&self, call: &StepCall<'_>) -> Option<Box<dyn ObservedCall>> {
        let span = self.call(call);
        (!span.is_disabled()).then(|| Box::new(CallSpan(span)) as Box<dyn ObservedCall>)
    }
}

/// The span of one call of a step. What the step's code logs, and the spans that it makes, belong to it.
struct CallSpan(Span);

impl ObservedCall for CallSpan {
    fn within(&self, work: &mut dyn FnMut()) {
        self.0.in_scope(work);
    }

    fn ended(&self, end: CallEnd) {
        match end {
            CallEnd::Done => {
                self.0.record("outcome", "done");
            }
            // An answer of the service, and no failure of it.
            CallEnd::Refused(reason) => {
                self.0.record("outcome", "refused").record("error", reason);
            }
            CallEnd::Failed(reason) => {
                self.0.record("outcome", "failed").record("error", reason.as_str());
                self.0.record("otel.status_code", "ERROR").record("otel.status_description", reason);
            }
            _ => {}
        }
    }
}

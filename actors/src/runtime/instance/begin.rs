//! How an instance comes into memory: it begins with what a start or a frame says of it, or is loaded from the store.
//! Knows no effects. Next: `turn.rs`.

use accompanist_core::Service;
use accompanist_core::contract::Space;
use accompanist_core::frame::{Body, Delivery, Header};
use accompanist_core::machine::{Machine, SessionTrouble};
use accompanist_core::record::{Opened, Record};
use accompanist_core::role_instance::{RoleInstance, TurnWaker};
use ractor::ActorRef;

use super::answers::is_close;
use super::request::PendingAnswers;
use super::spans::{PartSpan, PartSpans};
use super::stage::{LoadedInstance, Stage, Waiting};
use super::statistics::Statistics;
use super::{InstanceState, ends, stop};
use crate::runtime::messages::{InstanceMessage, InstanceProgress, LinkMessage};
use crate::runtime::names::{PartName, Played};
use crate::writer::{Job, Loaded, Written};

impl InstanceState {
    pub(super) fn load(&self, myself: &ActorRef<InstanceMessage>) {
        let myself = myself.clone();
        let done = Box::new(move |loaded| {
            // An actor that is gone needs no answer.
            let _ = myself.cast(match loaded {
                Ok(loaded) => InstanceMessage::Loaded(loaded),
                Err(error) => InstanceMessage::StoreFailed(error),
            });
        });
        self.context.writer.submit(Job::Load { id: self.id, incarnation: self.incarnation, done });
    }

    /// Loads an instance that the store knew after all: discards what was begun, and handles the received messages
    /// again.
    pub(super) fn load_instead(&mut self, myself: &ActorRef<InstanceMessage>) {
        let waiting = self.discard();
        self.give_room_back();
        self.incarnation = self.context.writer.next_incarnation();
        // These messages will be counted once more.
        self.received = self.received.saturating_sub(waiting.early.len() as u64);
        self.stage = Stage::Unloaded(waiting);
        self.load(myself);
    }

    /// Begins with what a start or a frame says of the instance, without asking the store. After a start the session
    /// is new for certain.
    pub(super) fn begin_unproven(&mut self, myself: &ActorRef<InstanceMessage>, opened: Opened) {
        let is_proven = opened.input.is_some();
        self.begin(myself, opened, Vec::new(), is_proven);
    }

    /// Begins or goes on with what the store has answered.
    pub(super) fn loaded(&mut self, myself: &ActorRef<InstanceMessage>, loaded: Loaded) {
        let Waiting { opened, early, .. } = self.discard();
        match loaded {
            Loaded::Closed(closed) => self.answer_closed(myself, &closed, early),
            Loaded::Open(opened, records) => {
                // Before anything can stop the instance: an operator reads its names in the log.
                let played = self.context.catalog.played(&opened.header, self.id.role);
                played.inspect(|played| self.context.directory.note_played(self.id, *played));
                match quarantine(&records) {
                    Some(reason) => self.stop_listed(myself, reason, &opened),
                    None => self.play(myself, opened, Some(records), early, true),
                }
            }
            Loaded::Nothing => match opened.or_else(|| opened_by(&early)) {
                Some(opened) => self.begin(myself, opened, early, true),
                None if early.iter().any(is_close) => self.answer_collected(myself, early),
                None => self.drop_unknown(myself, &early),
            },
        }
    }

    fn begin(
        &mut self,
        myself: &ActorRef<InstanceMessage>,
        opened: Opened,
        early: Vec<InstanceMessage>,
        is_proven: bool,
    ) {
        if opened.input.is_none() && !self.may_begin(&opened.header, &early) {
            return stop(myself, ends::DROPPED);
        }
        self.play(myself, opened, None, early, is_proven);
    }

    /// Returns whether frames may begin a session with this header here.
    fn may_begin(&mut self, header: &Header, early: &[InstanceMessage]) -> bool {
        if self.context.is_disk_full() {
            self.context.note_dropped("too many open", || self.id.to_string());
            return false;
        }
        !self.has_strangers(header) && self.context.is_allowed(header) && self.has_room_for(early)
    }

    fn drop_unknown(&self, myself: &ActorRef<InstanceMessage>, early: &[InstanceMessage]) {
        if !self.answer_unknown(early) {
            self.context.note_dropped("unknown session", || format!("{}: frames without a header", self.id));
            self.note_dead(early, "the session is not known here: it is over and forgotten, or another store had it");
        }
        stop(myself, ends::DROPPED);
    }

    fn stop_listed(&self, myself: &ActorRef<InstanceMessage>, reason: String, opened: &Opened) {
        self.context.note_stopped(self.id, reason, Some(opened.header.clone()));
        stop(myself, ends::IS_STOPPED);
    }

    /// Brings the instance into memory, and hands it the messages that have waited.
    fn play(
        &mut self,
        myself: &ActorRef<InstanceMessage>,
        opened: Opened,
        records: Option<Vec<Record>>,
        early: Vec<InstanceMessage>,
        is_proven: bool,
    ) {
        let restored = records.is_some();
        match self.live(myself, &opened, records, is_proven) {
            Ok(live) => {
                self.stage = if is_proven {
                    Stage::Proven(live)
                } else {
                    Stage::Unproven { live, early: Vec::new(), is_asked: false }
                };
                // A restored instance replays first; otherwise it would answer questions as if it had just begun.
                for message in restored.then_some(InstanceMessage::Wake).into_iter().chain(early) {
                    let _ = myself.cast(message); // Sent to itself, so it cannot fail.
                }
            }
            Err(_) if !is_proven => {
                self.stage = Stage::Unloaded(Waiting { first: None, opened: Some(opened), early });
                self.look(myself);
            }
            // The instance is not dropped: it waits for a release that can play it.
            Err(reason) if restored || opened.input.is_some() => self.stop_listed(myself, reason, &opened),
            Err(reason) => {
                self.context.note_dropped("cannot be played", || format!("{}: {reason}", self.id));
                self.note_dead(&early, &reason);
                stop(myself, ends::DROPPED);
            }
        }
    }

    /// Returns whether a session that is new here casts a node that is unknown here. The sender resends its frame;
    /// meanwhile the unknown node may introduce itself.
    fn has_strangers(&self, header: &Header) -> bool {
        let stranger = self.context.peers.unknown_of(&header.cast);
        if let Some(node) = &stranger {
            let id = self.id;
            self.context
                .note_dropped("stranger in the cast", || format!("{id}: nothing is known of {node}, which is cast"));
            self.context.routes.to_link(LinkMessage::Ask(node.clone()));
        }
        stranger.is_some()
    }

    fn live(
        &mut self,
        myself: &ActorRef<InstanceMessage>,
        opened: &Opened,
        records: Option<Vec<Record>>,
        is_proven: bool,
    ) -> Result<LoadedInstance, String> {
        let limits = self.context.limits();
        let version = Some(opened.header.version);
        let troubles = self.context.operator.elsewhere(self.id);
        let progress = InstanceProgress {
            opened: records.is_some(),
            version,
            troubles: troubles.clone(),
            ..InstanceProgress::default()
        };
        let troubles = troubles.into_iter().map(|SessionTrouble { role, trouble, .. }| (role.index, trouble));
        let alarm = TurnWaker::new({
            let myself = myself.clone();
            move || drop(myself.cast(InstanceMessage::Wake))
        });
        let environment = self.context.environment.clone();
        let spans = self.spans(&opened.header, is_proven, records.is_some());
        let observer = spans.observer();
        let live = |part| LoadedInstance {
            part,
            progress,
            timer: None,
            answers: PendingAnswers::default(),
            spans,
            idle_since_ms: None,
        };
        let records = match records {
            Some(records) if records.contains(&Record::Terminated) => {
                let instance = Machine::restore(self.id, "", opened, records, limits).knowing(troubles);
                return Ok(live(RoleInstance::terminated(instance, environment, alarm)));
            }
            records => records,
        };
        let (choreography, role) = self.context.catalog.choreography_of(&opened.header, self.id.role)?;
        let played = Played { choreography: choreography.name(), role, roles: choreography.roles() };
        let initiates = opened.header.initiator == self.id.role;
        self.statistics = Statistics::new(played, &opened.header, initiates, records.as_deref().unwrap_or_default());
        let instance = match records {
            Some(records) => {
                let instance = Machine::restore(self.id, role, opened, records, limits).knowing(troubles);
                instance.resending(std::mem::take(&mut self.lacking))
            }
            None => Machine::begin(self.id, role, opened, limits),
        };
        let service = self.context.catalog.services.get(role).cloned().unwrap_or_else(Service::none);
        self.context.directory.note_played(self.id, played);
        let part = choreography.part(instance, opened.input.clone(), service, environment, alarm);
        let part = part.with_observer(observer);
        #[cfg(feature = "testing")]
        let part = part.with_courier(self.context.faults.courier.clone());
        Ok(live(part))
    }

    fn spans(&self, header: &Header, is_proven: bool, is_restored: bool) -> PartSpans {
        let part = || {
            let (id, node, catalog) = (self.id, self.context.node.clone(), &self.context.catalog);
            let name = PartName::new(id, catalog.played(header, id.role));
            PartSpan::new(name, header, catalog.roles_of(header), node, is_restored)
        };
        PartSpans::begin(part, is_proven, is_restored)
    }

    /// Asks the store whether it knows an instance that cannot be played here, as closed or as stopped. The store is
    /// read without a claim to the instance, which may not exist.
    fn look(&self, myself: &ActorRef<InstanceMessage>) {
        let (myself, key) = (myself.clone(), self.id.to_bytes());
        self.context.writer.submit(Job::Read(Box::new(move |store| {
            let known = store.and_then(|store| {
                Ok(store.get(Space::Open, &key)?.is_some() || store.get(Space::Closed, &key)?.is_some())
            });
            let _ = myself.cast(match known {
                Ok(true) => InstanceMessage::Written(0, Written::Known),
                Ok(false) => InstanceMessage::Loaded(Loaded::Nothing),
                Err(error) => InstanceMessage::StoreFailed(error),
            });
        })));
    }
}

/// Returns why the instance is quarantined, if it has failed too often.
fn quarantine(records: &[Record]) -> Option<String> {
    records.iter().find_map(|record| match record {
        Record::Quarantined { reason, failures } => Some(quarantined(*failures, reason)),
        _ => None,
    })
}

/// Returns the text of a quarantine.
pub(crate) fn quarantined(failures: u32, reason: &str) -> String {
    format!("quarantined after {failures} failures, the last: {reason}")
}

/// Returns the opening that a start, or the first frame with a header, gives. A frame never creates the initiator's
/// instance, which has the input, and none is created by a role that the session does not have.
fn opened_by(early: &[InstanceMessage]) -> Option<Opened> {
    let start = early.iter().find_map(|message| match message {
        InstanceMessage::Start(opened) => Some(opened.clone()),
        _ => None,
    });
    start.or_else(|| {
        early.iter().find_map(|message| match message {
            InstanceMessage::Deliver(delivery) => opened_by_delivery(delivery),
            _ => None,
        })
    })
}

/// Returns the opening that a frame's header gives for a session that may begin with it. Only these kinds of frames
/// begin one: frames that belong to a session's end may reach a role that has closed and forgotten the session
/// (decision 0009).
pub(crate) fn opened_by_delivery(delivery: &Delivery) -> Option<Opened> {
    let frame = &delivery.frame;
    let header = frame.header.clone()?;
    let invites = matches!(frame.body, Body::Deliver { .. } | Body::Nudge(_) | Body::Abort(_));
    let begins = invites && header.initiator != frame.to && delivery.is_of_cast(&header);
    begins.then_some(Opened { header, input: None })
}

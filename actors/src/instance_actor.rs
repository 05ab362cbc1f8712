//! The actor that plays one instance: it passes events to the part, gives it a turn, and carries out the effects.
//!
//! A panic in user code is a failure of this actor; its supervisor starts another one, which replays. Knows no wire
//! and no database, only the link's and the writer's messages.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use accompanist_core::contract::{Space, StoreError};
use accompanist_core::frame::{Body, Delivery, Frame, Header, Outcome};
use accompanist_core::id::{InstanceId, Path, RoleIndex};
use accompanist_core::machine::{Effects, Forget, Idle, LocalResult, Machine, Outgoing, OutgoingKey, Retried};
use accompanist_core::record::{Closed, Opened, Record, Task};
use accompanist_core::role_instance::{RoleInstance, TurnWaker};
use accompanist_core::{Abort, NodeId, Payload, Service};
use metrics::counter;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Sleep;

use crate::actor;
use crate::directory::Played;
use crate::instance_request::{InstanceRequest, PendingAnswers};
use crate::instance_supervisor::SupervisorMessage;
use crate::link::{Arrival, LinkMessage};
use crate::metric;
use crate::node_context::NodeContext;
use crate::nudged::Room;
use crate::session::InstanceProgress;
use crate::settings::Settings;
use crate::under_way::Counted;
use crate::writer::{Incarnation, Job, Loaded, Written};

/// A message to an instance.
pub(crate) enum InstanceMessage {
    Deliver(Delivery),
    Acked(OutgoingKey),
    Written(u64, Written),
    Loaded(Loaded),
    /// The writer has refused a write of this actor, or of a state that it has discarded.
    Refused(Incarnation, StoreError),
    StoreFailed(StoreError),
    /// A caller starts the session and watches it: begin if there is nothing yet, and publish the known progress.
    Start(Opened),
    /// A caller asks a question or requests an action.
    Ask(InstanceRequest),
    Wake,
}

impl InstanceMessage {
    /// Returns whether the directory counts the message: an actor that is about to be passivated must not miss it.
    pub(crate) fn is_from_outside(&self) -> bool {
        matches!(self, Self::Deliver(..) | Self::Acked(_) | Self::Start(_) | Self::Ask(_))
    }
}

/// The least number of times a frame is sent before its instance may be passivated with the frame unacknowledged.
const UNHEARD_TRANSMISSIONS_MIN: u32 = 10;

/// The reasons for which the actor of an instance stops. Any other end is a failure.
pub(crate) mod ends {
    /// The session is over here.
    pub(crate) const CLOSED: &str = "closed";
    /// The instance is passivated and waits on disk.
    pub(crate) const LEFT: &str = "left memory";
    /// The instance is listed as stopped.
    pub(crate) const IS_STOPPED: &str = "is stopped";
    /// The session is unknown, or cannot be played.
    pub(crate) const DROPPED: &str = "dropped";
    /// The writer has refused the actor: another actor plays the instance, or the node stops.
    pub(crate) const REFUSED: &str = "refused by the writer";
}

/// The origin of an instance.
#[derive(Clone)]
pub(crate) enum Origin {
    /// The session has just been started here, under a fresh id: there is nothing to load.
    Fresh(Opened),
    /// A frame's header introduces the instance, most likely for the first time: it begins at once, and its first
    /// write finds out whether the store knows it. Until then nothing of it is durable, so no commit has begun and
    /// nothing is acknowledged.
    Header(Opened),
    /// The instance is loaded from the store; if the store does not know it, it begins with what a start or the first
    /// frame says of it.
    Store,
    /// The node itself loads the instance from the store; its supervisor is informed once it is reactivated.
    Return,
    /// The same as `Return`, and the instance is to nudge the roles it waits for.
    Nudge,
}

/// The actor of one instance; see the module's documentation.
pub(crate) struct InstanceActor;

/// The action of an instance when it receives its first message, and no earlier: only then is a panic supervised, and
/// an answer of the store might otherwise overtake the message that the actor was started for.
#[derive(Clone, Copy)]
enum FirstTurn {
    /// Begin; there is nothing to load.
    Begin,
    Load,
}

/// The state of an instance, before and after it is loaded.
#[expect(clippy::struct_excessive_bools, reason = "each is about another thing")]
pub(crate) struct InstanceState {
    id: InstanceId,
    context: Arc<NodeContext>,
    incarnation: Incarnation,
    opened: Option<Opened>,
    /// The action to do before the first message is handled.
    first: Option<FirstTurn>,
    /// Whether the store has not yet been asked if it knows the instance.
    begins: bool,
    /// Whether the store has not yet answered that question.
    unproven: bool,
    /// The messages that arrive before it is clear whether the store knows the instance.
    early: Vec<InstanceMessage>,
    /// The number of messages from outside that the actor has handled.
    told: u64,
    /// Whether the supervisor waits for this instance's first turn.
    returns: bool,
    /// Whether the instance was reactivated to nudge and has not nudged yet.
    nudges: bool,
    /// The messages to resend when the instance is loaded although they counted as acknowledged; and when it last did
    /// so, by role.
    lacking: BTreeSet<(Path, RoleIndex)>,
    sent_anew_ms: BTreeMap<RoleIndex, u64>,
    /// The dead letters that this instance has received and that its next write removes from the list.
    letters: BTreeSet<u64>,
    /// Held while a turn or steps on services are under way.
    under_way: Option<Counted>,
    /// Whether the instance counts against the peer whose nudge created it, because it is not on disk yet.
    holds_room: bool,
    live: Option<LoadedInstance>,
}

struct LoadedInstance {
    part: RoleInstance,
    progress: InstanceProgress,
    timer: Option<(u64, Pin<Box<Sleep>>)>,
    answers: PendingAnswers,
    /// The time since which the instance only waits.
    idle_since_ms: Option<u64>,
}

pub(crate) struct InstanceArguments {
    pub(crate) id: InstanceId,
    pub(crate) origin: Origin,
    pub(crate) context: Arc<NodeContext>,
}

impl Actor for InstanceActor {
    type Msg = InstanceMessage;
    type State = InstanceState;
    type Arguments = InstanceArguments;

    async fn pre_start(
        &self,
        _: ActorRef<InstanceMessage>,
        InstanceArguments { id, origin, context }: InstanceArguments,
    ) -> Result<InstanceState, ActorProcessingErr> {
        let incarnation = context.next_incarnation();
        let mut state = InstanceState {
            id,
            context,
            incarnation,
            opened: None,
            first: Some(FirstTurn::Load),
            begins: false,
            unproven: false,
            early: Vec::new(),
            told: 0,
            returns: matches!(origin, Origin::Return | Origin::Nudge),
            nudges: matches!(origin, Origin::Nudge),
            lacking: BTreeSet::new(),
            sent_anew_ms: BTreeMap::new(),
            letters: BTreeSet::new(),
            under_way: None,
            holds_room: false,
            live: None,
        };
        if let Origin::Fresh(opened) | Origin::Header(opened) = origin {
            state.begins = opened.input.is_none();
            state.unproven = state.begins;
            state.opened = Some(opened);
            state.first = Some(FirstTurn::Begin);
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<InstanceMessage>,
        message: InstanceMessage,
        state: &mut InstanceState,
    ) -> Result<(), ActorProcessingErr> {
        if let InstanceMessage::Deliver(delivery) = &message {
            state.context.note_taken(delivery);
        }
        match state.first.take() {
            Some(FirstTurn::Begin) => state.begin(&myself, Loaded::Nothing),
            Some(FirstTurn::Load) => state.load(&myself),
            None => {}
        }
        match message {
            InstanceMessage::Loaded(loaded) => state.begin(&myself, loaded),
            InstanceMessage::StoreFailed(error) => state.store_failed(&myself, &error),
            InstanceMessage::Refused(incarnation, error) if incarnation == state.incarnation => {
                state.store_failed(&myself, &error);
            }
            InstanceMessage::Written(_, Written::Known) => state.load_instead(&myself),
            // A refusal of a write of a discarded state.
            InstanceMessage::Refused(..) => {}
            InstanceMessage::Written(..) if state.live.is_none() => {}
            message if state.live.is_none() => state.early.push(message),
            message => state.tell(&myself, message)?,
        }
        Ok(())
    }
}

impl Drop for InstanceState {
    fn drop(&mut self) {
        self.discard();
        self.give_room_back();
    }
}

fn stop(myself: &ActorRef<InstanceMessage>, end: &str) {
    myself.stop(Some(end.into()));
}

impl InstanceState {
    /// Discards the state in memory. This drops user values, whose panics are no failure of this actor, and even less
    /// of its supervisor, which receives the state of a stopped actor.
    fn discard(&mut self) {
        self.under_way = None;
        let Some(LoadedInstance { part, .. }) = self.live.take() else { return };
        for panic in part.discard() {
            tracing::error!(id = %self.id, reason = panic, "a value of a program panicked when it was dropped");
        }
    }

    fn load(&self, myself: &ActorRef<InstanceMessage>) {
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

    /// Asks the store whether it knows an instance that cannot be played here, as closed or as stopped. The store is
    /// read without a claim to the instance, which may not exist.
    fn look(&mut self, myself: &ActorRef<InstanceMessage>) {
        (self.begins, self.unproven) = (false, false);
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

    /// Loads an instance that the store knew after all: discards what was begun, and handles the received messages
    /// again.
    fn load_instead(&mut self, myself: &ActorRef<InstanceMessage>) {
        self.discard();
        self.give_room_back();
        self.unproven = false;
        self.incarnation = self.context.next_incarnation();
        // These messages will be counted once more.
        self.told = self.told.saturating_sub(self.early.len() as u64);
        self.load(myself);
    }

    fn begin(&mut self, myself: &ActorRef<InstanceMessage>, loaded: Loaded) {
        let early = std::mem::take(&mut self.early);
        let (opened, records) = match loaded {
            Loaded::Closed(closed) => return self.answer_closed(myself, &closed, early),
            Loaded::Open(opened, records) => {
                if let Some(reason) = quarantine(&records) {
                    self.context.note_stopped(self.id, reason);
                    return stop(myself, ends::IS_STOPPED);
                }
                (opened, Some(records))
            }
            Loaded::Nothing => match self.opened.take().or_else(|| opened_by(&early)) {
                Some(opened) if opened.input.is_none() && self.context.is_disk_full() => {
                    self.context.note_dropped("too many open", || self.id.to_string());
                    return stop(myself, ends::DROPPED);
                }
                Some(opened) if opened.input.is_none() && self.has_strangers(&opened.header) => {
                    return stop(myself, ends::DROPPED);
                }
                Some(opened) if opened.input.is_none() && !self.context.is_allowed(&opened.header) => {
                    return stop(myself, ends::DROPPED);
                }
                Some(opened) if opened.input.is_none() && !self.has_room_for(&early) => {
                    return stop(myself, ends::DROPPED);
                }
                Some(opened) => (opened, None),
                None if early.iter().any(is_close) => return self.answer_collected(myself, early),
                None => {
                    if self.answer_unknown(&early) {
                        return stop(myself, ends::DROPPED);
                    }
                    self.context.note_dropped("unknown session", || format!("{}: frames without a header", self.id));
                    self.note_dead(
                        &early,
                        "the session is not known here: it is over and forgotten, or another store had it",
                    );
                    return stop(myself, ends::DROPPED);
                }
            },
        };
        let restored = records.is_some();
        let accepted = restored || opened.input.is_some();
        match self.live(myself, &opened, records) {
            Err(_) if self.unproven => {
                (self.opened, self.early) = (Some(opened), early);
                self.look(myself);
            }
            Err(reason) => {
                if accepted {
                    // The instance is not dropped: it waits for a release that can play it.
                    self.context.note_stopped(self.id, reason);
                    stop(myself, ends::IS_STOPPED);
                } else {
                    self.context.note_dropped("cannot be played", || format!("{}: {reason}", self.id));
                    self.note_dead(&early, &reason);
                    stop(myself, ends::DROPPED);
                }
            }
            Ok(live) => {
                self.live = Some(live);
                // A restored instance replays first; otherwise it would answer questions as if it had just begun.
                for message in restored.then_some(InstanceMessage::Wake).into_iter().chain(early) {
                    let _ = myself.cast(message); // Sent to itself, so it cannot fail.
                }
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
            self.context.to_link(LinkMessage::Ask(node.clone()));
        }
        stranger.is_some()
    }

    /// Returns whether the instance may begin with these messages under the limit on nudges: if only nudges create
    /// it, it counts against the sender of the first one.
    fn has_room_for(&mut self, early: &[InstanceMessage]) -> bool {
        let mut deliveries = early.iter().filter_map(|message| match message {
            InstanceMessage::Deliver(delivery) => Some(delivery),
            _ => None,
        });
        if !deliveries.clone().all(is_nudge) {
            return true;
        }
        let Some(Delivery { from, .. }) = deliveries.find(|delivery| delivery.from != self.context.node) else {
            return true;
        };
        let has_room = self.take_room(from);
        if !has_room {
            self.context
                .note_dropped("begun by nudges", || format!("{}: enough was begun by nudges of {from}", self.id));
        }
        has_room
    }

    fn take_room(&mut self, from: &NodeId) -> bool {
        let room = self.context.nudged.begin(self.id, from, self.context.settings.nudged_sessions_max);
        self.holds_room |= room == Room::Taken;
        room != Room::None
    }

    /// Releases the peer's room, because the instance has not begun here for now.
    fn give_room_back(&mut self) {
        if std::mem::take(&mut self.holds_room) {
            self.context.nudged.goes_on(self.id);
        }
    }

    /// Notes a received frame; returns whether the frame may create the instance, if the instance is not proven to be
    /// new here.
    fn note_said(&mut self, delivery: &Delivery) -> bool {
        if !is_nudge(delivery) {
            self.holds_room = false;
            self.context.nudged.goes_on(self.id);
            return true;
        }
        let is_begun = |early: &InstanceMessage| matches!(early, InstanceMessage::Deliver(early) if !is_nudge(early));
        !self.unproven
            || delivery.from == self.context.node
            || self.early.iter().any(is_begun)
            || self.take_room(&delivery.from)
    }

    fn note_dead(&self, early: &[InstanceMessage], reason: &str) {
        for message in early {
            if let InstanceMessage::Deliver(delivery) = message {
                self.context.note_dead(delivery, reason);
            }
        }
    }

    fn live(
        &mut self,
        myself: &ActorRef<InstanceMessage>,
        opened: &Opened,
        records: Option<Vec<Record>>,
    ) -> Result<LoadedInstance, String> {
        let limits = self.context.limits();
        let version = Some(opened.header.version);
        let progress = InstanceProgress { opened: records.is_some(), version, ..InstanceProgress::default() };
        let alarm = TurnWaker::new({
            let myself = myself.clone();
            move || drop(myself.cast(InstanceMessage::Wake))
        });
        let environment = self.context.environment.clone();
        let live = |part| LoadedInstance {
            part,
            progress,
            timer: None,
            answers: PendingAnswers::default(),
            idle_since_ms: None,
        };
        let records = match records {
            Some(records) if records.contains(&Record::Terminated) => {
                let instance = Machine::restore(self.id, "", opened, records, limits);
                return Ok(live(RoleInstance::terminated(instance, environment, alarm)));
            }
            records => records,
        };
        let (choreography, role) = self.context.choreography_of(&opened.header, self.id.role)?;
        let instance = match records {
            Some(records) => {
                Machine::restore(self.id, role, opened, records, limits).resending(std::mem::take(&mut self.lacking))
            }
            None => Machine::begin(self.id, role, opened, limits),
        };
        let service = self.context.services.get(role).cloned().unwrap_or_else(Service::none);
        self.context.directory.note_played(self.id, Played { choreography: choreography.name(), role });
        let part = choreography.part(instance, opened.input.clone(), service, environment, alarm);
        #[cfg(feature = "testing")]
        let part = part.with_courier(self.context.courier());
        Ok(live(part))
    }

    fn tell(&mut self, myself: &ActorRef<InstanceMessage>, message: InstanceMessage) -> Result<(), ActorProcessingErr> {
        self.told += u64::from(self.live.is_some() && message.is_from_outside());
        if let (InstanceMessage::Deliver(delivery), Some(live)) = (&message, &self.live) {
            if !delivery.is_of_cast(&live.part.header()) {
                self.context.note_not_of_cast(delivery);
                return Ok(());
            }
            if !self.note_said(delivery) {
                // The store may know the instance.
                self.early.push(message);
                self.load_instead(myself);
                return Ok(());
            }
        }
        let Some(live) = &mut self.live else { return Ok(()) };
        match message {
            InstanceMessage::Deliver(delivery) => {
                if self.unproven {
                    self.early.push(InstanceMessage::Deliver(delivery.clone()));
                }
                self.letters.extend(self.context.dead_letters.number_of(&delivery.frame));
                live.part.deliver(delivery);
            }
            InstanceMessage::Acked(key) => live.part.acked(&key),
            InstanceMessage::Written(_, Written::Durable(Some((path, LocalResult::Panicked(text))))) => {
                return Err(format!("the local transaction at {path} panicked: {text}").into());
            }
            InstanceMessage::Written(number, Written::Durable(local)) => {
                if std::mem::take(&mut self.unproven) {
                    self.early.clear();
                }
                self.holds_room = false;
                live.part.synced(number, local);
                live.answers.synced(number);
                if !self.letters.is_empty() {
                    self.context.forget_dead(std::mem::take(&mut self.letters));
                }
            }
            InstanceMessage::Start(_) => {
                let known = live.progress.clone();
                self.context.directory.publish(self.id, |progress| *progress = known);
            }
            InstanceMessage::Ask(question) => live.answers.answer(&live.part, question),
            InstanceMessage::Wake
            | InstanceMessage::Written(_, Written::Known)
            | InstanceMessage::Loaded(_)
            | InstanceMessage::Refused(..)
            | InstanceMessage::StoreFailed(_) => {}
        }
        let mut effects = self.turn();
        let lacking = std::mem::take(&mut effects.lacking);
        self.carry_out(myself, effects);
        if std::mem::take(&mut self.nudges)
            && let Some(live) = &mut self.live
        {
            live.part.nudge_soon();
            let effects = self.turn();
            self.carry_out(myself, effects);
        }
        if !lacking.is_empty() {
            self.send_anew(myself, lacking);
        }
        if std::mem::take(&mut self.returns) {
            self.context.to_supervisor(SupervisorMessage::Returned(self.id));
        }
        self.wait(myself);
        Ok(())
    }

    /// Lets the part run as far as it can. A step is counted from before it begins.
    fn turn(&mut self) -> Effects {
        let Some(live) = &mut self.live else { return Effects::default() };
        let mut counted = self.under_way.take().unwrap_or_else(|| self.context.under_way.enter());
        if self.context.under_way.is_ending() {
            live.part.hold_steps();
        }
        let effects = live.part.turn(self.context.now_ms());
        if live.part.has_steps_under_way() {
            counted.keep(self.id);
            self.under_way = Some(counted);
        }
        effects
    }

    /// Resends messages that counted as acknowledged but that other roles lack: reloads the instance, so that its
    /// program sends them again. Done for each role at most once in the longest pause between two nudges.
    fn send_anew(&mut self, myself: &ActorRef<InstanceMessage>, mut lacking: BTreeSet<(Path, RoleIndex)>) {
        let (now_ms, pause_ms) = (self.context.now_ms(), self.context.settings.limits.nudge_delay_max_ms);
        let is_due =
            |role: &RoleIndex| self.sent_anew_ms.get(role).is_none_or(|at| at.saturating_add(pause_ms) <= now_ms);
        lacking.retain(|(_, role)| is_due(role));
        // A role that lacks something nudges again.
        let Some(live) = self.live.as_ref().filter(|live| !lacking.is_empty() && live.answers.is_empty()) else {
            return;
        };
        for role in lacking.iter().map(|(_, role)| *role).collect::<BTreeSet<_>>() {
            let messages = lacking.iter().filter(|(_, to)| *to == role).count();
            tracing::info!(id = %self.id, role = role.0, messages,
                "sends messages again that counted as acknowledged: their receiver lacks them");
            self.sent_anew_ms.insert(role, now_ms);
        }
        counter!(metric::MESSAGES_SENT_ANEW).increment(lacking.len() as u64);
        let rest = live.part.rest_without(&lacking);
        self.context.writer.submit(Job::Leave { id: self.id, incarnation: self.incarnation, rest });
        // As at a passivation: after reloading, the instance sends what is still to be sent, and nothing else.
        self.context.to_link(LinkMessage::Forget { id: self.id, what: Forget::All });
        self.discard();
        self.incarnation = self.context.next_incarnation();
        self.lacking = lacking;
        self.load(myself);
    }

    /// Handles an idle instance: passivates it if it has been idle for long enough, and otherwise sets a timer to
    /// check again.
    fn wait(&mut self, myself: &ActorRef<InstanceMessage>) {
        let Some(live) = &mut self.live else { return };
        let (now_ms, unix_ms) = (self.context.now_ms(), self.context.environment.unix_ms());
        let idle = live.part.idle().filter(|_| live.answers.is_empty());
        let Some(idle) = idle else {
            live.idle_since_ms = None;
            return live.set_timer(now_ms, None);
        };
        let delay_ms = passivation_delay_ms(&self.context.settings, &idle);
        if idle.until_unix_ms.is_some_and(|until| until <= unix_ms.saturating_add(delay_ms)) {
            return live.set_timer(now_ms, None); // Stay in memory for what is due soon.
        }
        let leave_ms = live.idle_since_ms.get_or_insert(now_ms).saturating_add(delay_ms);
        if leave_ms > now_ms {
            live.set_timer(now_ms, Some(leave_ms));
        } else if live.part.has_nudged() {
            self.leave(myself, idle);
        } else {
            live.set_timer(now_ms, None);
        }
    }

    /// Passivates the instance, unless a message has arrived meanwhile. All that it needs to be reactivated is on
    /// disk; link and supervisor are informed when to reactivate it.
    fn leave(&self, myself: &ActorRef<InstanceMessage>, Idle { until_unix_ms, unacknowledged }: Idle) {
        let farewell = || {
            let rest = self.live.as_ref().and_then(|live| live.part.rest());
            self.context.writer.submit(Job::Leave { id: self.id, incarnation: self.incarnation, rest });
            if !unacknowledged.is_empty() {
                self.context.to_link(LinkMessage::Rest { id: self.id, unacknowledged });
            }
            if let Some(until_unix_ms) = until_unix_ms {
                self.context.to_supervisor(SupervisorMessage::Wait(self.id, until_unix_ms));
            }
        };
        if self.context.directory.leave(self.id, myself.get_id(), self.told, farewell) {
            counter!(metric::INSTANCES_PASSIVATED).increment(1);
            stop(myself, ends::LEFT);
        }
    }

    fn carry_out(&mut self, myself: &ActorRef<InstanceMessage>, effects: Effects) {
        let Effects {
            retries,
            writes,
            forget,
            frames,
            acks,
            output,
            opened,
            closed,
            stopped,
            troubles,
            long_journal,
            lacking: _,
        } = effects;
        for write in writes {
            let (myself, number) = (myself.clone(), write.number);
            let (id, incarnation) = (self.id, self.incarnation);
            let done = Box::new(move |written| {
                // An actor that is gone needs no answer.
                let _ = myself.cast(match written {
                    Ok(written) => InstanceMessage::Written(number, written),
                    Err(error) => InstanceMessage::Refused(incarnation, error),
                });
            });
            let begins = std::mem::take(&mut self.begins);
            self.context.writer.submit(Job::Write { id, incarnation, begins, write, done });
        }
        if let Some(what) = forget {
            self.context.to_link(LinkMessage::Forget { id: self.id, what });
        }
        #[cfg(feature = "testing")]
        let frames = self.forget_some(myself, frames);
        if !frames.is_empty() || !acks.is_empty() {
            self.context.to_link(LinkMessage::Say { id: self.id, frames, acks });
        }
        if opened {
            self.context.queue_delay().stored(&Arrival::Start(self.id), self.context.now_ms());
            self.publish(|progress| progress.opened = true);
        }
        if let Some(output) = output {
            self.publish(|progress| progress.output = Some(output));
        }
        if let Some(troubles) = troubles {
            self.context.note_troubled(self.id, troubles);
        }
        self.log_retries(retries);
        if let Some(records) = long_journal {
            tracing::warn!(id = %self.id, records, "a journal is long: make the program's loops `repeat`s");
            counter!(metric::LONG_JOURNALS).increment(1);
        }
        if let Some(reason) = stopped {
            if self.unproven {
                // The store may know the instance in a later state, in which, for example, a close is valid.
                return self.load_instead(myself);
            }
            self.context.note_stopped(self.id, reason.to_string());
            stop(myself, ends::IS_STOPPED);
        }
        if let Some(closed) = closed {
            self.context.forget_dead(self.context.dead_letters.of(self.id));
            self.context.nudged.goes_on(self.id);
            if actor::is_channel(&closed.header) {
                tracing::error!(id = %self.id, "a channel to a durable actor is over; `Address::reopen` opens it anew");
            }
            self.publish(|progress| progress.settle(&closed));
            let outcome = match closed.outcome {
                Outcome::Finished => "finished",
                Outcome::Compensated(_) => "compensated",
            };
            counter!(metric::INSTANCES_CLOSED, "outcome" => outcome).increment(1);
            stop(myself, ends::CLOSED);
        }
    }

    /// Counts some frames as acknowledged without sending them, if a test wants that.
    #[cfg(feature = "testing")]
    fn forget_some(&self, myself: &ActorRef<InstanceMessage>, frames: Vec<Outgoing>) -> Vec<Outgoing> {
        let (forgotten, frames): (Vec<_>, Vec<_>) = frames
            .into_iter()
            .partition(|Outgoing { key, frame, .. }| key.is_acknowledged() && self.context.forgets(frame));
        for Outgoing { key, .. } in forgotten {
            tracing::debug!(id = %self.id, ?key, "a frame is forgotten");
            self.live.iter().for_each(|live| live.part.acked(&key));
            let _ = myself.cast(InstanceMessage::Wake); // Sent to itself, so it cannot fail.
        }
        frames
    }

    /// Logs steps that did not succeed and are retried, with step, session and reason.
    fn log_retries(&self, retries: Vec<Retried>) {
        let Some(live) = self.live.as_ref().filter(|_| !retries.is_empty()) else { return };
        let header = live.part.header();
        let role = self.context.choreography_of(&header, self.id.role).map_or("", |(_, role)| role);
        for Retried { path, step, task, reason, tries } in retries {
            tracing::warn!(
                choreography = header.choreography, role, step, session = %self.id.session, %path, tries, reason,
                "{} did not succeed and is tried again", if task == Task::Compensate { "a compensation" } else { "a step" }
            );
        }
    }

    fn publish(&mut self, tell: impl FnOnce(&mut InstanceProgress)) {
        if let Some(live) = &mut self.live {
            tell(&mut live.progress);
            let known = live.progress.clone();
            self.context.directory.publish(self.id, |progress| *progress = known);
        }
    }

    /// Answers frames for a session that is over here, and starts nothing.
    fn answer_closed(&self, myself: &ActorRef<InstanceMessage>, closed: &Closed, early: Vec<InstanceMessage>) {
        self.context.directory.publish(self.id, |progress| {
            progress.opened = true;
            progress.version = Some(closed.header.version);
            progress.settle(closed);
        });
        self.context.forget_dead(self.context.dead_letters.of(self.id));
        let (mut frames, mut acks) = (Vec::new(), Vec::new());
        for message in early {
            let InstanceMessage::Deliver(delivery) = message else { continue };
            if !delivery.is_of_cast(&closed.header) {
                self.context.note_not_of_cast(&delivery);
                continue;
            }
            let Delivery { from: node, frame, receipt } = delivery;
            let is_answered = frame.asks_the_closed(receipt.is_none());
            acks.extend(receipt);
            if is_answered {
                frames.push(answer_of_the_closed(&frame, &node, Some(closed.outcome.clone())));
            }
        }
        self.context.to_link(LinkMessage::Say { id: self.id, frames, acks });
        stop(myself, ends::CLOSED);
    }

    /// Answers frames for a session that is over at all roles and whose tombstone is collected: only a `Close` still
    /// arrives for it.
    fn answer_collected(&self, myself: &ActorRef<InstanceMessage>, early: Vec<InstanceMessage>) {
        let receipts = early.into_iter().filter_map(|message| match message {
            InstanceMessage::Deliver(delivery) => delivery.receipt,
            _ => None,
        });
        self.context.to_link(LinkMessage::Say { id: self.id, frames: Vec::new(), acks: receipts.collect() });
        stop(myself, ends::CLOSED);
    }

    /// Answers frames for a session that is unknown here: it is over and forgotten, or the store has lost it, or its
    /// start was lost. Roles that wait for the initiator learn this and inform an operator; roles that take this one
    /// for known invite it. Returns whether there was nothing else to answer.
    fn answer_unknown(&self, early: &[InstanceMessage]) -> bool {
        let takes_for_known = |message: &InstanceMessage| match message {
            InstanceMessage::Deliver(delivery) => delivery.frame.takes_for_known(delivery.receipt.is_none()),
            _ => false,
        };
        let wants = |message: &&InstanceMessage| {
            asks_the_initiator(message) || tells_the_initiator(message) || takes_for_known(message)
        };
        let answers = early.iter().filter(wants).filter_map(|message| match message {
            InstanceMessage::Deliver(delivery) => Some(answer_of_the_closed(&delivery.frame, &delivery.from, None)),
            _ => None,
        });
        let frames: Vec<_> = answers.collect();
        if !frames.is_empty() {
            self.context.to_link(LinkMessage::Say { id: self.id, frames, acks: Vec::new() });
        }
        early.iter().all(asks_the_initiator)
    }

    fn store_failed(&self, myself: &ActorRef<InstanceMessage>, error: &StoreError) {
        if let StoreError::Corrupt { .. } | StoreError::Unstorable { .. } = error {
            self.context.note_stopped(self.id, error.to_string());
            stop(myself, ends::IS_STOPPED);
        } else {
            // The whole node stops, or another actor has taken over.
            stop(myself, ends::REFUSED);
        }
    }
}

impl InstanceProgress {
    pub(crate) fn settle(&mut self, closed: &Closed) {
        let settled: Result<Payload, Abort> = match &closed.outcome {
            Outcome::Finished => Ok(closed.output.clone().unwrap_or_else(|| Vec::new().into())),
            Outcome::Compensated(abort) => Err(abort.clone()),
        };
        self.output.get_or_insert_with(|| settled.clone());
        self.settled = Some(settled);
    }
}

impl LoadedInstance {
    /// Sets the timer that wakes the part at its next turn or at `other_ms`.
    fn set_timer(&mut self, now_ms: u64, other_ms: Option<u64>) {
        let next = self.part.next_wake_ms().into_iter().chain(other_ms).min();
        if self.timer.as_ref().map(|(at, _)| *at) != next {
            self.timer = next.map(|at| {
                let delay = Duration::from_millis(at.saturating_sub(now_ms));
                (at, Box::pin(tokio::time::sleep(delay)))
            });
        }
        if let Some((_, timer)) = &mut self.timer {
            let waker = self.part.waker();
            if timer.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                self.timer = None;
                waker.wake();
            }
        }
    }
}

/// Returns how long an idle instance stays in memory. Sent frames get the time to be acknowledged: an instance that
/// was passivated earlier would send them again and again.
fn passivation_delay_ms(settings: &Settings, idle: &Idle) -> u64 {
    let transmissions = if idle.unacknowledged.is_empty() { 0 } else { UNHEARD_TRANSMISSIONS_MIN };
    let delay = settings.passivation_delay.max(settings.retransmission_delay_max * transmissions);
    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
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

fn is_nudge(delivery: &Delivery) -> bool {
    matches!(delivery.frame.body, Body::Nudge(_))
}

fn is_close(message: &InstanceMessage) -> bool {
    matches!(message, InstanceMessage::Deliver(Delivery { frame: Frame { body: Body::Close(_), .. }, .. }))
}

/// Returns whether the message asks the role that has initiated its session, and that would know it.
fn asks_the_initiator(message: &InstanceMessage) -> bool {
    let InstanceMessage::Deliver(Delivery { frame, .. }) = message else { return false };
    match frame.body {
        // Only the initiating role receives this frame.
        Body::Done(_) => true,
        Body::Nudge(_) => frame.header.as_ref().is_some_and(|header| header.initiator == frame.to),
        _ => false,
    }
}

/// Returns whether the message is sent to the role that has initiated its session, and that would know it. The sender
/// waits for an acknowledgement and may nudge no role meanwhile. Without an answer, a session whose start was lost or
/// forged would stay open there for ever.
fn tells_the_initiator(message: &InstanceMessage) -> bool {
    let InstanceMessage::Deliver(Delivery { frame, .. }) = message else { return false };
    let told = matches!(frame.body, Body::Deliver { .. } | Body::Abort(_));
    told && frame.header.as_ref().is_some_and(|header| header.initiator == frame.to)
}

/// Returns an answer that is not resent until acknowledged: a role that waits asks again.
fn answer_of_the_closed(question: &Frame, node: &NodeId, outcome: Option<Outcome>) -> Outgoing {
    Outgoing { key: OutgoingKey::Nudge(question.from), node: node.clone(), frame: question.answered(outcome) }
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

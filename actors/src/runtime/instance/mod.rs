//! The actor that plays one instance: it passes events to the part, gives it a turn, and carries out the effects.
//!
//! A panic in user code is a failure of this actor; its supervisor starts another one, which replays. Knows no wire
//! and no database, only the link's and the writer's messages. Next: `stage.rs`, `begin.rs`, `turn.rs`, `effects.rs`,
//! `passivation.rs`, `statistics.rs`; `answers.rs` for sessions that are over.

mod answers;
mod begin;
mod effects;
mod nudges;
mod passivation;
mod request;
mod spans;
mod stage;
mod statistics;
mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use accompanist_core::contract::StoreError;
use accompanist_core::id::{InstanceId, Path, RoleIndex};
use accompanist_core::record::Opened;
use ractor::{Actor, ActorProcessingErr, ActorRef};

pub(crate) use self::begin::{opened_by_delivery, quarantined};
use self::stage::{FirstTurn, Stage, Waiting};
use self::statistics::Statistics;
use crate::runtime::context::NodeContext;
use crate::runtime::messages::InstanceMessage;
use crate::runtime::names::log_part;
use crate::runtime::under_way::Counted;
use crate::writer::{Incarnation, Written};

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

/// Why the node itself has reactivated an instance: its supervisor waits for the first turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Return {
    ToGoOn,
    ToNudge,
}

/// The state of an instance, before and after it is loaded.
pub(crate) struct InstanceState {
    id: InstanceId,
    context: Arc<NodeContext>,
    incarnation: Incarnation,
    stage: Stage,
    /// The number of messages from outside that the actor has handled.
    received: u64,
    /// Set until the first turn of an instance that the node itself has reactivated.
    returns: Option<Return>,
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
    statistics: Statistics,
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
        let incarnation = context.writer.next_incarnation();
        let (first, returns) = match origin {
            Origin::Fresh(opened) | Origin::Header(opened) => (FirstTurn::Begin(opened), None),
            Origin::Store => (FirstTurn::Load, None),
            Origin::Return => (FirstTurn::Load, Some(Return::ToGoOn)),
            Origin::Nudge => (FirstTurn::Load, Some(Return::ToNudge)),
        };
        Ok(InstanceState {
            id,
            context,
            incarnation,
            stage: Stage::Unloaded(Waiting { first: Some(first), ..Waiting::default() }),
            received: 0,
            returns,
            lacking: BTreeSet::new(),
            sent_anew_ms: BTreeMap::new(),
            letters: BTreeSet::new(),
            under_way: None,
            holds_room: false,
            statistics: Statistics::default(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<InstanceMessage>,
        message: InstanceMessage,
        state: &mut InstanceState,
    ) -> Result<(), ActorProcessingErr> {
        if let InstanceMessage::Deliver(delivery) = &message {
            state.context.admissions.note_taken(delivery);
        }
        if let Stage::Unloaded(waiting) = &mut state.stage {
            match waiting.first.take() {
                Some(FirstTurn::Begin(opened)) => state.begin_unproven(&myself, opened),
                Some(FirstTurn::Load) => state.load(&myself),
                None => {}
            }
        }
        match message {
            InstanceMessage::Loaded(loaded) => state.loaded(&myself, loaded),
            InstanceMessage::StoreFailed(error) => state.store_failed(&myself, &error),
            InstanceMessage::Refused(incarnation, error) if incarnation == state.incarnation => {
                state.store_failed(&myself, &error);
            }
            InstanceMessage::Written(_, Written::Known) => state.load_instead(&myself),
            // A refusal of a write of a discarded state.
            InstanceMessage::Refused(..) => {}
            message => match &mut state.stage {
                Stage::Unloaded(_) if matches!(message, InstanceMessage::Written(..)) => {}
                Stage::Unloaded(waiting) => waiting.early.push(message),
                Stage::Unproven { .. } | Stage::Proven(_) => state.tell(&myself, message)?,
            },
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
    /// Discards the state in memory; returns what waits for it. This drops user values, whose panics are no failure of
    /// this actor, and even less of its supervisor, which receives the state of a stopped actor.
    fn discard(&mut self) -> Waiting {
        self.under_way = None;
        self.statistics = Statistics::default();
        let (live, waiting) = self.stage.unload();
        for panic in live.into_iter().flat_map(|live| live.part.discard()) {
            let name = self.context.directory.name(self.id);
            log_part!(
                error,
                name,
                self.context.node,
                error = panic,
                "a value of a program panicked when it was dropped"
            );
        }
        waiting
    }

    fn note_dead(&self, early: &[InstanceMessage], reason: &str) {
        for message in early {
            if let InstanceMessage::Deliver(delivery) = message {
                self.context.operator.note_dead(delivery, reason);
            }
        }
    }

    fn store_failed(&self, myself: &ActorRef<InstanceMessage>, error: &StoreError) {
        if let StoreError::Corrupt { .. } | StoreError::Unstorable { .. } = error {
            self.context.note_unreadable(self.id, error.to_string());
            stop(myself, ends::IS_STOPPED);
        } else {
            // The whole node stops, or another actor has taken over.
            stop(myself, ends::REFUSED);
        }
    }
}

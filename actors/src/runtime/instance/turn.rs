//! What an instance does with a message: it passes the message to the part, and gives the part a turn. Next:
//! `effects.rs`.

use accompanist_core::machine::{Effects, LocalResult};
use ractor::{ActorProcessingErr, ActorRef};
use tracing::Span;

use super::stage::Stage;
use super::{InstanceState, Return};
use crate::runtime::messages::{InstanceMessage, SupervisorMessage};
use crate::writer::Written;

impl InstanceState {
    pub(super) fn tell(
        &mut self,
        myself: &ActorRef<InstanceMessage>,
        message: InstanceMessage,
    ) -> Result<(), ActorProcessingErr> {
        self.received += u64::from(message.is_from_outside());
        if let (InstanceMessage::Deliver(delivery), Some(live)) = (&message, self.stage.live()) {
            if !delivery.is_of_cast(&live.part.header()) {
                self.context.note_not_of_cast(delivery);
                return Ok(());
            }
            let may_begin = self.note_delivery(delivery);
            if let Stage::Unproven { early, .. } = &mut self.stage {
                early.push(InstanceMessage::Deliver(delivery.clone()));
            }
            if !may_begin {
                // The store may know the instance.
                self.load_instead(myself);
                return Ok(());
            }
        }
        let is_durable = matches!(&message, InstanceMessage::Written(_, Written::Durable(_)));
        if is_durable {
            self.stage.prove();
        }
        let Some(live) = self.stage.live_mut() else { return Ok(()) };
        if is_durable {
            live.spans.proven();
        }
        let span = live.spans.of_turn();
        let _within = span.as_ref().map(Span::enter);
        match message {
            InstanceMessage::Deliver(delivery) => {
                self.letters.extend(self.context.operator.dead_letters.number_of(&delivery.frame));
                self.statistics.arrived(&delivery);
                live.part.deliver(delivery);
            }
            InstanceMessage::Acked(key) => {
                live.part.acked(&key);
                live.spans.acknowledged(&key);
            }
            InstanceMessage::Written(_, Written::Durable(Some((path, LocalResult::Panicked(text))))) => {
                return Err(format!("the local transaction at {path} panicked: {text}").into());
            }
            InstanceMessage::Written(number, Written::Durable(local)) => {
                self.holds_room = false;
                live.part.synced(number, local);
                live.answers.synced(number);
                if !self.letters.is_empty() {
                    self.context.operator.forget_dead(std::mem::take(&mut self.letters));
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
        if let Some(live) = self.stage.live_mut() {
            live.spans.turned();
        }
        if self.returns == Some(Return::ToNudge)
            && let Some(live) = self.stage.live_mut()
        {
            live.part.nudge_soon();
            let effects = self.turn();
            self.carry_out(myself, effects);
        }
        if !lacking.is_empty() {
            self.send_anew(myself, lacking);
        }
        if self.returns.take().is_some() {
            self.context.routes.to_supervisor(SupervisorMessage::Returned(self.id));
        }
        self.wait(myself);
        Ok(())
    }

    /// Lets the part run as far as it can. A step is counted from before it begins.
    fn turn(&mut self) -> Effects {
        let Some(live) = self.stage.live_mut() else { return Effects::default() };
        let mut counted = self.under_way.take().unwrap_or_else(|| self.context.lifecycle.under_way.enter());
        if self.context.lifecycle.under_way.is_ending() {
            live.part.hold_steps();
        }
        let effects = live.part.turn(self.context.now_ms());
        if live.part.has_steps_under_way() {
            counted.keep(self.id);
            self.under_way = Some(counted);
        }
        effects
    }
}

//! The channel from one node to one actor: a session of two roles that never ends by itself.
//!
//! Messages wait as signals at the sender's role instance, durable and bounded. Each turn takes up to a batch of
//! them, sends them as one message, and lets the actor's role instance handle them in a step. A turn that is over is
//! final, and its journal is dropped. Order and exactly-once are those of signals, messages and steps. This module
//! knows nothing about nodes or the wire.

use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::sync::Arc;

use accompanist_core::{Abort, At, Choreography, Context, NodeId, Payload, Role, SessionId, name};
use serde::{Deserialize, Serialize};

use super::DurableActor;
use super::handling::{Handle, Work};
use super::outbound::{ForwardTells, Outbound};
use super::replies::KeepReplies;
use crate::runtime::channel::CHANNEL;

/// The name of the sending role, at every node that tells or asks.
pub(crate) const SENDER: &str = "accompanist.sender";
/// The name of the signals that are messages to an actor.
pub(super) const ENVELOPE_SIGNAL: &str = "letter";

/// The sending role.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SenderRole;
impl Role for SenderRole {
    const NAME: &'static str = SENDER;
    type Service = Outbound;
}

/// The role of the actor.
pub(crate) struct Played<A>(PhantomData<fn() -> A>);
impl<A> Played<A> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}
impl<A> Clone for Played<A> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<A> Copy for Played<A> {}
impl<A: DurableActor> Role for Played<A> {
    const NAME: &'static str = A::NAME;
    type Service = Outbound;
}

/// The input of a channel's session. Each actor has a separate type, so that versions of different actors are not
/// mistaken for each other.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct ChannelOpen<A> {
    /// The instance of the actor to which the channel leads.
    pub(super) name: String,
    /// The node from which the channel leads.
    pub(super) sender: NodeId,
    actor: PhantomData<fn() -> A>,
}

impl<A> ChannelOpen<A> {
    pub(super) fn new(name: String, sender: NodeId) -> Self {
        Self { name, sender, actor: PhantomData }
    }
}

/// Whether a caller waits for a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ReplyExpected {
    Nothing,
    Reply,
    /// A reply that is stored, so that the caller can ask for it again.
    KeptReply,
}

/// The action to take on a refused message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum RefusalDecision {
    Handle(u64),
    Discard(u64),
}

/// One envelope to an actor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Envelope {
    /// The instruction about a refused message; if set, the envelope carries no message.
    pub(super) refused: Option<RefusalDecision>,
    pub(super) wants: ReplyExpected,
    /// The key under which a caller waits for the reply; empty if nobody waits.
    pub(super) key: String,
    /// The channel whose messages made an actor tell this, and the number of this message among all that the channel
    /// caused.
    pub(super) cause: Option<(SessionId, u64)>,
    pub(super) body: Payload,
}

/// An actor's answer, or its refusal.
pub(super) type Answer = Result<Payload, Abort>;

/// How far a batch is handled, with the answers to some of its messages (by their index).
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Answered {
    upto: u32,
    answers: Vec<(u32, Answer)>,
}

/// See the module's documentation.
pub(crate) struct Channel<A> {
    /// Set on the node that plays the actor.
    actor: Option<Arc<A>>,
    outbound: Arc<Outbound>,
}

impl<A: DurableActor> Channel<A> {
    /// The name of the channel's choreography. A name that is too long does not compile.
    pub(super) const NAME: &'static str = name!(CHANNEL, A::NAME);

    /// Creates the channel for a node that plays the actor, or for one that only tells it.
    pub(crate) fn new(actor: Option<Arc<A>>, outbound: Arc<Outbound>) -> Self {
        Self { actor, outbound }
    }
}

impl<A: DurableActor> Choreography for Channel<A> {
    const NAME: &'static str = Channel::<A>::NAME;
    const VERSION: u32 = A::VERSION;
    const STOPS_ON_OVERSIZE: bool = true;
    type Roles = (SenderRole, Played<A>);
    type Input = At<SenderRole, ChannelOpen<A>>;
    type Output = At<SenderRole, ()>;

    async fn run(
        &self,
        ctx: &Context<Self::Roles>,
        opening: At<SenderRole, ChannelOpen<A>>,
    ) -> Result<Self::Output, Abort> {
        let ends = ctx.locally(SenderRole, |here| {
            let opening = here.get(&opening);
            (opening.name.clone(), opening.sender.clone())
        });
        let (name, sender) = &ctx.broadcast(SenderRole, &ends).await?;
        ctx.repeat((), async |ctx, ()| {
            self.turn(ctx, name, sender).await?;
            Ok(ControlFlow::Continue(()))
        })
        .await
    }
}

impl<A: DurableActor> Channel<A> {
    /// Takes the messages that wait, and has them handled.
    async fn turn(&self, ctx: &Context<(SenderRole, Played<A>)>, name: &str, sender: &NodeId) -> Result<(), Abort> {
        let envelopes =
            ctx.signals::<_, Envelope, _>(SenderRole, ENVELOPE_SIGNAL, self.outbound.limits().batch_max).await?;
        let envelopes = ctx.broadcast(SenderRole, &envelopes).await?;
        if envelopes.iter().all(|envelope| envelope.wants == ReplyExpected::Nothing) {
            let all = ctx.conclave((Played::<A>::new(),), async |ctx| {
                let mut from = 0;
                while from < envelopes.len() {
                    let answered = self.handle(ctx, name, sender, &envelopes, from).await?;
                    from = ctx.broadcast(Played::<A>::new(), &answered).await?.upto as usize;
                }
                Ok(())
            });
            return all.await;
        }
        let mut from = 0;
        while from < envelopes.len() {
            let handled = ctx
                .conclave((Played::<A>::new(),), async |ctx| self.handle(ctx, name, sender, &envelopes, from).await)
                .await?;
            let answered = ctx.broadcast(Played::<A>::new(), &handled).await?;
            from = answered.upto as usize;
            self.give_back(ctx, &envelopes, &answered.answers).await?;
        }
        Ok(())
    }

    /// Runs a step that handles the messages from index `from` on, and then tells others what those messages made the
    /// actor tell.
    async fn handle(
        &self,
        ctx: &Context<(Played<A>,)>,
        name: &str,
        sender: &NodeId,
        envelopes: &[Envelope],
        from: usize,
    ) -> Result<At<Played<A>, Answered>, Abort> {
        let (role, session) = (Played::<A>::new(), ctx.session());
        let work = ctx.locally(role, |_| Work {
            channel: session,
            name: name.to_owned(),
            sender: sender.clone(),
            first: u32::try_from(from).unwrap_or(u32::MAX),
            envelopes: envelopes.get(from..).unwrap_or_default().to_vec(),
        });
        let step = Handle { actor: self.actor.clone(), outbound: self.outbound.clone() };
        let handled = ctx.transact(step, &work).await?;
        let told = ctx.locally(role, |here| here.get(&handled).told.clone());
        let tells = ctx.locally(role, |here| !here.get(&told).is_empty());
        if ctx.broadcast(role, &tells).await? {
            ctx.transact(ForwardTells::<A>::new(), &told).await?;
        }
        Ok(ctx.locally(role, |here| {
            let handled = here.get(&handled);
            Answered { upto: handled.upto, answers: handled.answers.clone() }
        }))
    }

    /// Passes the answers that arrived at the sender to their callers.
    async fn give_back(
        &self,
        ctx: &Context<(SenderRole, Played<A>)>,
        envelopes: &[Envelope],
        answers: &[(u32, Answer)],
    ) -> Result<(), Abort> {
        let of = |wanted: &dyn Fn(ReplyExpected) -> bool| -> Vec<(Envelope, Answer)> {
            let wanted = answers.iter().filter_map(|(index, answer)| {
                let envelope = envelopes.get(*index as usize).filter(|envelope| wanted(envelope.wants))?;
                Some((envelope.clone(), answer.clone()))
            });
            wanted.collect()
        };
        let kept = of(&|wants| wants == ReplyExpected::KeptReply);
        let all = of(&|wants| wants != ReplyExpected::Nothing);
        let session = ctx.session();
        if !kept.is_empty() {
            // Store first, then answer: a reply that an asker has received must be given again after a crash.
            let kept = ctx.locally(SenderRole, |_| (session, kept.clone()));
            ctx.transact(KeepReplies, &kept).await?;
        }
        // Callers that wait in this run of the node get the answer. On a replay nobody waits, or the waiting caller
        // gets the same answer.
        ctx.locally(SenderRole, |here| {
            for (envelope, answer) in &all {
                here.service().askers.answer(session, &envelope.key, answer);
            }
        });
        Ok(())
    }
}

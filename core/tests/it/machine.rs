//! More of one instance, driven by hand with the `rig`: what `instance` leaves open.
//!
//! Duplicates, drawn numbers, windows, limits, pauses, the initiator's close, and every cut of a log that has all
//! kinds of records in it.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use accompanist_core::contract::Space;
use accompanist_core::frame::{Body, Delivery, Epoch, Frame, Lacks, Operation, Outcome, Receipt, RoleTrouble};
use accompanist_core::id::RoleIndex;
use accompanist_core::machine::{Limits, OutgoingKey, Resolution, Stop};
use accompanist_core::record::{Record, Task};
use accompanist_core::{
    Abort, At, Choreography, Context, Kind, Local, LocalTransaction, NodeId, Retry, Service, State, Table, Transaction,
};

use futures_util::TryStreamExt;
use futures_util::future::poll_immediate;
use futures_util::stream::FuturesUnordered;

use crate::rig::{Bank, Disk, Rig, acked, bank_step, choreography, path, payload, roles, said, session, value};
use crate::trade::{BUYER, Buyer, Charge, SELLER, Seller, Trade, service};

roles! { Solo "solo" Bank }

// The same without the charge.
choreography!(TradeForgotten: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let n = ctx.comm(Buyer, Seller, &n).await?;
    ctx.comm(Seller, Buyer, &n).await
});

fn answer(n: u32) -> (u8, Body) {
    (BUYER, Body::Deliver { path: path(&[2]), operation: Operation::Comm, payload: payload(&n) })
}

/// A seller that has heard the order, with nothing synced yet.
fn seller(bank: &Arc<Bank>) -> Rig {
    let rig = Rig::begin(Trade, SELLER, None, service(bank));
    rig.hear_message(BUYER, &[0], &7u32, 1);
    rig
}

/// A seller that has committed its step, and had no chance to say so.
fn committed_seller(bank: &Arc<Bank>) -> Rig {
    let mut rig = seller(bank);
    for _ in 0..2 {
        let writes = rig.turn().writes;
        rig.sync(writes);
    }
    assert_eq!(bank.balance(), 7);
    rig
}

fn buyer() -> Rig {
    Rig::begin(Trade, BUYER, Some(payload(&7u32)), Service::none())
}

fn aborted() -> Abort {
    Abort::new("changed-my-mind", "by the buyer")
}

fn ended(disk: &Disk) -> Vec<Outcome> {
    let outcomes = disk.records().into_iter();
    outcomes
        .filter_map(|record| if let Record::Ended { outcome, .. } = record { Some(outcome) } else { None })
        .collect()
}

#[test]
fn a_hop_without_results_waits_for_no_sync() {
    let mut rig = Rig::begin(TradeForgotten, SELLER, None, Service::none());
    rig.hear_message(BUYER, &[0], &7u32, 1);
    let effects = rig.turn();
    assert_eq!(
        said(&effects),
        [(BUYER, Body::Deliver { path: path(&[1]), operation: Operation::Comm, payload: payload(&7u32) })]
    );
    assert_eq!(effects.frames[0].node.as_str(), "buyer");
}

// A turn: path 0.0 is the number there, 0.0.0 its message.
choreography!(OneTurn: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    ctx.repeat(n, async |ctx, n| {
        ctx.comm(Buyer, Seller, &n).await?;
        Ok(std::ops::ControlFlow::<At<Buyer, u32>, _>::Continue(n))
    }).await
});

#[test]
fn a_vote_waits_for_an_urgent_sync() {
    let mut rig = Rig::begin(OneTurn, SELLER, None, Service::none());
    rig.hear_message(BUYER, &[0, 0, 0], &7u32, 1);
    let effects = rig.turn();
    assert!(effects.frames.is_empty() && effects.writes.iter().any(|write| write.urgent));
    rig.sync(effects.writes);
    assert!(matches!(said(&rig.turn())[..], [(BUYER, Body::Deliver { operation: Operation::Vote, .. })]));
}

const WIDTH: u32 = 200;
static POLLS: AtomicU32 = AtomicU32::new(0);

// Messages side by side, each by a future whose polls are counted. The paths of the messages are the odd ones.
choreography!(Wide: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let branches = (0..WIDTH).map(|number| {
        let mut message = Box::pin(ctx.comm(Seller, Buyer, &ctx.locally(Seller, move |_| number)));
        poll_fn(move |cx| {
            POLLS.fetch_add(1, Ordering::Relaxed);
            message.as_mut().poll(cx)
        })
    });
    let mut branches: FuturesUnordered<_> = branches.collect();
    while branches.try_next().await?.is_some() {}
    Ok(n)
});

/// What one message costs does not grow with what is waited for beside it.
#[test]
fn a_message_wakes_only_the_future_that_waits_for_it() {
    let mut rig = Rig::begin(Wide, BUYER, Some(payload(&7u32)), Service::none());
    rig.turn_synced();
    assert_eq!((POLLS.load(Ordering::Relaxed), rig.part.waits_for().len()), (WIDTH, WIDTH as usize));
    // Backwards, so that none is the next one in any order.
    for number in (0..WIDTH).rev() {
        rig.hear_message(SELLER, &[2 * number + 1], &number, u64::from(WIDTH - number));
        rig.turn_synced();
    }
    assert_eq!(POLLS.load(Ordering::Relaxed), 2 * WIDTH);
    assert!(rig.part.program_has_ended());
}

// A message that is looked for once, and one that is waited for. Paths: 1 and 2.
choreography!(Impatient: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let number = ctx.locally(Seller, |_| 1u32);
    drop(poll_immediate(Box::pin(ctx.comm(Seller, Buyer, &number))).await);
    ctx.comm(Seller, Buyer, &number).await?;
    Ok(n)
});

/// Nobody is asked for what nobody waits for any more.
#[test]
fn a_dropped_operation_is_not_waited_for() {
    let mut rig = Rig::begin(Impatient, BUYER, Some(payload(&7u32)), Service::none());
    rig.turn_synced();
    let waits: Vec<_> = rig.part.waits_for().into_iter().map(|(at, _)| at).collect();
    assert_eq!(waits, [path(&[2])]);
}

#[test]
fn no_frame_is_sent_before_the_session_is_durable() {
    let mut rig = buyer();
    let effects = rig.turn();
    assert_eq!(said(&effects), []);
    rig.sync(effects.writes);
    assert_eq!(
        said(&rig.turn()),
        [(SELLER, Body::Deliver { path: path(&[0]), operation: Operation::Comm, payload: payload(&7u32) })]
    );
}

#[test]
fn an_abort_waits_for_the_disk_before_anybody_learns_of_it() {
    let mut rig = buyer();
    rig.turn_synced();
    rig.part.cancel(&aborted());
    let effects = rig.turn();
    assert!(effects.output.is_none() && effects.frames.is_empty(), "{:?} {:?}", effects.output, said(&effects));
    rig.sync(effects.writes);
    let effects = rig.turn();
    assert_eq!(effects.output, Some(Err(aborted())));
    assert_eq!(said(&effects), [(SELLER, Body::Abort(aborted()))]);
}

/// Everything that can be said, whether it asks for an acknowledgement or not, by a stranger, by the node of another
/// role of the session, and in the name of a role that the session does not have.
#[test]
fn frames_are_accepted_only_from_the_node_of_their_role() {
    let bodies = [
        Body::Deliver { path: path(&[1]), operation: Operation::Comm, payload: payload(&8u32) },
        Body::Nudge(Lacks::default()),
        Body::Abort(aborted()),
        Body::Done(Outcome::Finished),
        Body::Close(Outcome::Finished),
        Body::Turns { finals: vec![(path(&[0]), 1)], aborted: true },
        Body::Compensating(None),
        Body::Trouble(Some(RoleTrouble::stopped("as a stranger says"))),
        Body::TroubleAsked,
    ];
    let mut rig = buyer();
    rig.turn_synced();
    let node = |name| NodeId::new(name).unwrap();
    let others = [("stranger", SELLER), ("buyer", SELLER), ("seller", BUYER), ("stranger", BUYER), ("seller", 9)];
    for (body, (from, role)) in bodies.iter().flat_map(|body| others.map(|other| (body, other))) {
        for number in [None, Some(1)] {
            let (from, role) = (node(from), RoleIndex(role));
            let frame =
                Frame { session: session(), from: role, to: RoleIndex(BUYER), header: None, body: body.clone() };
            let receipt = number.map(|number| Receipt { to: from.clone(), epoch: Epoch(1), number });
            assert!(!rig.part.deliver(Delivery { from: from.clone(), frame, receipt }), "{from}: {body:?}");
            let effects = rig.turn_synced();
            assert_eq!((effects.acks.len(), said(&effects), effects.writes.len()), (0, vec![], 0), "{from}: {body:?}");
            assert_eq!(effects.peer_troubles, None);
        }
    }
}

#[test]
fn the_header_is_sent_until_the_receiver_knows_it() {
    let bank = Bank::new();
    let mut rig = committed_seller(&bank);
    let effects = rig.turn_synced();
    assert_eq!(said(&effects), [answer(8)]);
    assert!(effects.frames[0].frame.header.is_some());
    rig.ack(&effects);
    let done = rig.turn_synced();
    assert_eq!(said(&done), [(BUYER, Body::Done(Outcome::Finished))]);
    assert!(done.frames[0].frame.header.is_none());
}

// Paths: 0 is the number drawn, 1 its message.
choreography!(Draw: (Seller, Buyer), At<Seller, ()> => At<Seller, ()>, |ctx, start| {
    let drawn = ctx.random(Seller).await?;
    ctx.comm(Seller, Buyer, &drawn).await?;
    Ok(start)
});

#[test]
fn a_drawn_number_is_durable_before_it_is_sent_and_is_replayed() {
    let bank = Bank::new();
    let mut rig = Rig::begin(Draw, 0, Some(payload(&())), service(&bank));
    let effects = rig.turn();
    assert!(effects.frames.is_empty() && rig.turn().frames.is_empty(), "the number is not durable");
    rig.sync(effects.writes);
    let first = said(&rig.turn());
    assert_eq!(first.len(), 1);
    // The rig never draws a number twice, so the same bytes can only come from the record.
    let mut next_life = Rig::restore(Draw, 0, rig.disk, service(&bank));
    assert_eq!(said(&next_life.turn()), first);
}

choreography!(ShowDrawn: (Seller, Buyer), At<Seller, ()> => At<Seller, ()>, |ctx, start| {
    let drawn = ctx.random(Seller).await?;
    ctx.publish(Seller, &drawn);
    Ok(start)
});

#[test]
fn a_view_is_shown_only_once_its_causes_are_durable() {
    let mut rig = Rig::begin(ShowDrawn, 0, Some(payload(&())), service(&Bank::new()));
    let effects = rig.turn();
    assert_eq!(rig.part.view(), None);
    rig.sync(effects.writes);
    rig.turn();
    assert!(rig.part.view().is_some());
}

#[test]
fn duplicate_message_is_acknowledged_but_not_redelivered() {
    let bank = Bank::new();
    let mut rig = seller(&bank);
    rig.hear_message(BUYER, &[0], &7u32, 2);
    let first = rig.turn();
    rig.hear_message(BUYER, &[0], &7u32, 3);
    assert!(first.acks.is_empty() && rig.turn().acks.is_empty(), "a duplicate is no proof of a sync");
    rig.sync(first.writes);
    let second = rig.turn();
    assert_eq!(acked(&second), [1, 2, 3]);
    rig.sync(second.writes);
    rig.turn_synced();

    rig.hear_message(BUYER, &[0], &7u32, 4);
    let late = rig.turn();
    assert_eq!(acked(&late), [4]);
    assert!(late.writes.is_empty() && late.frames.is_empty());
    assert_eq!(bank.calls(), ["charge 7"]);

    let mut next_life = Rig::restore(Trade, SELLER, rig.disk, service(&bank));
    next_life.hear_message(BUYER, &[0], &7u32, 5);
    assert_eq!(acked(&next_life.turn()), [5], "the mailbox outlives the instance");
    assert_eq!(bank.calls(), ["charge 7"]);
}

#[test]
fn an_instance_that_stands_still_takes_nothing_more() {
    let bank = Bank::new();
    let mut rig = committed_seller(&bank);
    rig.hear_message(BUYER, &[0], &8u32, 2);
    let effects = rig.turn_synced();
    assert!(matches!(effects.stopped, Some(Stop::Diverged { path: at, .. }) if at == path(&[0])));
    rig.hear_message(BUYER, &[5], &1u32, 3);
    rig.hear(BUYER, Body::Abort(aborted()), 4);
    let later = rig.turn_synced();
    assert!(later.acks.is_empty() && later.stopped.is_none(), "what is not acknowledged is kept by its sender");
    assert_eq!(bank.calls(), ["charge 7"], "nothing is compensated either");
}

#[test]
fn a_step_in_doubt_is_run_again_under_the_same_key() {
    let bank = Bank::new();
    let mut rig = seller(&bank);
    let writes = rig.turn().writes;
    rig.sync(writes);
    drop(rig.turn()); // It commits, and the record of it is lost.
    assert_eq!(bank.calls(), ["charge 7"]);

    let mut next_life = Rig::restore(Trade, SELLER, rig.disk, service(&bank));
    let effects = next_life.turn();
    assert_eq!(bank.calls(), ["charge 7", "charge 7"]);
    assert_eq!(bank.keys(), [format!("{}/1", crate::rig::session())]);
    assert!(effects.frames.is_empty(), "the result is not durable");
    next_life.sync(effects.writes);
    assert_eq!(said(&next_life.turn()), [answer(8)]);
}

#[test]
fn an_abort_that_comes_before_the_intent_is_durable_lets_no_commit_begin() {
    let bank = Bank::new();
    let mut rig = seller(&bank);
    let writes = rig.turn().writes;
    rig.hear(BUYER, Body::Abort(aborted()), 2);
    rig.sync(writes);
    let effects = rig.turn_synced();
    assert!(bank.calls().is_empty());
    assert_eq!(said(&effects), [(BUYER, Body::Done(Outcome::Compensated(aborted())))]);

    // The intent is there, yet an instance that has ended has nothing in doubt.
    let mut next_life = Rig::restore(Trade, SELLER, rig.disk, service(&bank));
    assert_eq!(next_life.turn_synced().stopped, None);
    assert!(bank.calls().is_empty());
}

#[test]
fn a_compensated_end_is_durable_before_it_is_sent_and_resent_on_request() {
    let bank = Bank::new();
    let mut rig = committed_seller(&bank);
    rig.turn_synced();
    rig.hear(BUYER, Body::Abort(aborted()), 2);
    let mut effects = rig.turn();
    while !effects.writes.is_empty() {
        assert!(effects.frames.is_empty(), "its end is not durable");
        rig.sync(std::mem::take(&mut effects.writes));
        effects = rig.turn();
    }
    let done = [(BUYER, Body::Done(Outcome::Compensated(aborted())))];
    assert_eq!(said(&effects), done);
    assert!(rig.disk.records().contains(&Record::Compensated { path: path(&[1]) }));
    assert_eq!(ended(&rig.disk), [Outcome::Compensated(aborted())]);

    // The initiator may have left memory, and then does not ask.
    let mut next_life = Rig::restore(Trade, SELLER, rig.disk, service(&bank));
    assert_eq!(said(&next_life.turn_synced()), done);
    next_life.hear(BUYER, Body::Nudge(Lacks { aborted: true, ..Lacks::default() }), 0);
    // Besides, it decides no turns.
    let turns = (BUYER, Body::Turns { finals: Vec::new(), aborted: true });
    assert_eq!(said(&next_life.turn_synced()), [&[turns], &done[..]].concat());
    assert_eq!(bank.calls(), ["charge 7", "refund 7"]);
}

#[test]
fn a_finished_role_compensates_after_a_crash_that_follows_the_abort() {
    let bank = Bank::new();
    let mut rig = committed_seller(&bank);
    let effects = rig.turn_synced();
    rig.ack(&effects);
    assert_eq!(said(&rig.turn_synced()), [(BUYER, Body::Done(Outcome::Finished))]);
    assert_eq!(ended(&rig.disk), [Outcome::Finished]);

    // Its next life hears the abort and writes it down, and no more.
    let mut next_life = Rig::restore(Trade, SELLER, rig.disk, service(&bank));
    next_life.hear(BUYER, Body::Abort(aborted()), 2);
    let writes = next_life.turn().writes;
    next_life.sync(writes);

    let mut life_after = Rig::restore(Trade, SELLER, next_life.disk, service(&bank));
    let effects = life_after.turn_synced();
    assert_eq!(said(&effects), [(BUYER, Body::Done(Outcome::Compensated(aborted())))]);
    assert_eq!(ended(&life_after.disk), [Outcome::Compensated(aborted())]);
    assert_eq!(bank.calls(), ["charge 7", "refund 7"]);
}

/// Observes under the name it is given.
struct Look(&'static str);

impl Choreography for Look {
    const NAME: &'static str = "look";
    type Roles = (Seller, Buyer);
    type Input = At<Seller, ()>;
    type Output = At<Seller, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, _: At<Seller, ()>) -> Result<At<Seller, u32>, Abort> {
        let seen = ctx.effect(Seller, self.0, async |_| 1u32).await?;
        let heard = ctx.comm(Seller, Buyer, &seen).await?;
        ctx.comm(Buyer, Seller, &heard).await
    }
}

#[test]
fn a_replay_that_observes_something_else_stops_the_session() {
    let bank = Bank::new();
    let mut rig = Rig::begin(Look("left"), 0, Some(payload(&())), service(&bank));
    rig.turn_synced();
    let mut same = Rig::restore(Look("left"), 0, rig.disk.clone(), service(&bank));
    assert_eq!(same.turn_synced().stopped, None);
    let mut other = Rig::restore(Look("right"), 0, rig.disk, service(&bank));
    let stopped = other.turn_synced().stopped;
    assert!(matches!(stopped, Some(Stop::Diverged { recorded, .. }) if recorded == "effect `left`"));
}

#[test]
fn a_replay_that_leaves_a_step_out_stops_the_session() {
    let bank = Bank::new();
    let mut rig = committed_seller(&bank);
    rig.turn_synced();
    let mut forgotten = Rig::restore(TradeForgotten, SELLER, rig.disk.clone(), service(&bank));
    let stopped = forgotten.turn_synced().stopped;
    assert!(matches!(stopped, Some(Stop::Diverged { recorded, .. }) if recorded == "step `charge`"));

    // Told to compensate, it must not end without.
    let mut told = Rig::restore(TradeForgotten, SELLER, rig.disk, service(&bank));
    told.hear(BUYER, Body::Abort(aborted()), 2);
    let effects = told.turn_synced();
    assert!(matches!(effects.stopped, Some(Stop::Diverged { recorded, .. }) if recorded == "step `charge`"));
    assert!(ended(&told.disk).is_empty());
    assert_eq!(bank.calls(), ["charge 7"]);
}

#[test]
fn the_initiator_closes_when_all_have_ended_and_acknowledged() {
    let mut rig = buyer();
    let effects = rig.turn_synced();
    rig.ack(&effects);
    rig.hear_message(SELLER, &[2], &8u32, 1);
    let effects = rig.turn_synced();
    assert_eq!(effects.output, Some(Ok(payload(&8u32))));
    assert!(effects.frames.is_empty(), "the seller has not ended");
    assert_eq!(ended(&rig.disk), [Outcome::Finished]);

    rig.hear(SELLER, Body::Done(Outcome::Finished), 2);
    let effects = rig.turn_synced();
    assert_eq!(said(&effects), [(SELLER, Body::Close(Outcome::Finished))]);
    assert!(effects.closed.is_none(), "the seller has not heard");
    rig.ack(&effects);
    let closed = rig.turn_synced().closed.expect("closed");
    assert_eq!((closed.outcome.clone(), closed.output.clone()), (Outcome::Finished, Some(payload(&8u32))));
    assert_eq!(rig.disk.closed(), Some(closed));
    assert!(rig.disk.opened().is_none() && rig.disk.entries(Space::Journal).is_empty(), "nothing else is kept");
}

#[test]
fn a_closing_initiator_sends_nothing_but_the_close() {
    let mut rig = buyer();
    let effects = rig.turn_synced();
    rig.ack(&effects);
    rig.hear_message(SELLER, &[2], &8u32, 1);
    rig.turn_synced();
    rig.hear(SELLER, Body::Done(Outcome::Finished), 2);
    // A role that has heard the close may forget the session: so nobody learns it before the restart knows of it.
    let effects = rig.turn();
    assert_eq!(said(&effects), []);
    rig.sync(effects.writes);
    assert_eq!(said(&rig.turn()), [(SELLER, Body::Close(Outcome::Finished))]);

    let mut again = Rig::restore(Trade, BUYER, rig.disk, Service::none());
    let effects = again.turn_synced();
    assert_eq!(said(&effects), [(SELLER, Body::Close(Outcome::Finished))]);
    assert_eq!(again.part.next_wake_ms(), None, "it would ask a role that has forgotten");
    // Nor does a late word of another role move it.
    again.hear(SELLER, Body::Abort(aborted()), 3);
    assert_eq!(said(&again.turn_synced()), []);
    again.ack(&effects);
    assert_eq!(again.turn_synced().closed.expect("closed").outcome, Outcome::Finished);
    assert!(again.disk.entries(Space::Journal).is_empty());
}

#[test]
fn an_initiator_that_finished_is_undone_by_a_role_that_compensated() {
    let mut rig = buyer();
    let effects = rig.turn_synced();
    rig.ack(&effects);
    rig.hear_message(SELLER, &[2], &8u32, 1);
    rig.turn_synced();
    // The seller's abort is overtaken by its end.
    rig.hear(SELLER, Body::Done(Outcome::Compensated(aborted())), 2);
    let effects = rig.turn_synced();
    assert_eq!(effects.output, Some(Err(aborted())));
    assert_eq!(said(&effects), [(SELLER, Body::Close(Outcome::Compensated(aborted())))]);
    assert_eq!(ended(&rig.disk), [Outcome::Compensated(aborted())]);
}

choreography!(Chatter: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    ctx.comm(Buyer, Seller, &n).await?;
    ctx.comm(Buyer, Seller, &n).await?;
    ctx.comm(Buyer, Seller, &n).await?;
    Ok(n)
});

#[test]
fn a_full_window_makes_the_program_wait() {
    let limits = Limits { unacked_max: 2, ..Limits::default() };
    let mut rig = Rig::begin_within(Chatter, BUYER, Some(payload(&1u32)), Service::none(), limits);
    let effects = rig.turn_synced();
    assert_eq!(effects.frames.len(), 2);
    assert!(rig.turn_synced().frames.is_empty());
    rig.part.acked(&OutgoingKey::Deliver(path(&[0]), effects.frames[0].frame.to));
    let effects = rig.turn_synced();
    assert_eq!(
        said(&effects),
        [(SELLER, Body::Deliver { path: path(&[2]), operation: Operation::Comm, payload: payload(&1u32) })]
    );
}

// Polls only those of its operations that were woken, as `join_all` of many does.
choreography!(Crowd: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let crowd: FuturesUnordered<_> = (0..3).map(|_| ctx.comm(Buyer, Seller, &n)).collect();
    crowd.try_collect::<Vec<_>>().await?;
    Ok(n)
});

#[test]
fn a_program_that_polls_only_woken_futures_makes_progress() {
    let limits = Limits { unacked_max: 2, ..Limits::default() };
    let mut rig = Rig::begin_within(Crowd, BUYER, Some(payload(&1u32)), Service::none(), limits);
    let effects = rig.turn_synced();
    assert_eq!(effects.frames.len(), 2);
    rig.ack(&effects);
    assert_eq!(rig.turn_synced().frames.len(), 1, "the third has room now");
}

// More messages than the window holds, and then something that is recorded. Path 3 is the time.
choreography!(ChatterThenNow: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    for _ in 0..3 {
        ctx.comm(Buyer, Seller, &n).await?;
    }
    ctx.now(Buyer).await?;
    ctx.comm(Buyer, Seller, &n).await?;
    Ok(n)
});

#[test]
fn a_replay_passes_recorded_operations_with_a_full_window() {
    let mut rig = Rig::begin(ChatterThenNow, BUYER, Some(payload(&1u32)), Service::none());
    rig.turn_synced();
    let limits = Limits { unacked_max: 2, ..Limits::default() };
    let mut again = Rig::restore_within(ChatterThenNow, BUYER, rig.disk, Service::none(), limits);
    let effects = again.turn_synced();
    assert_eq!(effects.stopped, None, "nothing has been acknowledged in this life");
    assert_eq!(effects.frames.len(), 3);
    again.ack(&effects);
    assert_eq!(again.turn_synced().frames.len(), 1, "what is new waits for room, as ever");
}

#[test]
fn a_message_over_the_limit_aborts_the_session() {
    let limits = Limits { payload_bytes_max: 3, ..Limits::default() };
    let mut rig = Rig::begin_within(Chatter, BUYER, Some(payload(&u32::MAX)), Service::none(), limits);
    let effects = rig.turn_synced();
    let Some(Err(abort)) = &effects.output else { panic!("an abort") };
    assert_eq!(abort.code(), Abort::PAYLOAD_TOO_LARGE);
    assert_eq!(said(&effects), [(SELLER, Body::Abort(abort.clone()))]);
}

#[test]
fn a_role_that_waits_long_nudges_with_growing_pauses() {
    let mut rig = buyer();
    let effects = rig.turn_synced();
    rig.ack(&effects);
    rig.turn_synced();
    let mut pauses = Vec::new();
    for _ in 0..3 {
        let at_ms = rig.part.next_wake_ms().expect("it will nudge");
        pauses.push(at_ms - rig.now_ms);
        rig.now_ms = at_ms;
        let effects = rig.turn_synced();
        assert_eq!(said(&effects), [(SELLER, Body::Nudge(Lacks { awaits: vec![path(&[2])], aborted: false }))]);
        assert!(effects.frames[0].frame.header.is_some(), "a nudge invites");
    }
    assert_eq!(pauses, [50, 100, 200]);
}

bank_step!(Pay "pay" Solo);

const COUNT: Table<(), u32> = Table::new("count");
const DRAWN: Table<(), u64> = Table::new("drawn");

/// Counts in the state, and keeps the number drawn there.
struct Keep;

impl LocalTransaction for Keep {
    const NAME: &'static str = "keep";
    type Role = Solo;
    type Input = u64;
    type Output = u32;
    fn commit(&self, state: &mut State<'_>, drawn: &u64) -> Result<u32, Abort> {
        let count = COUNT.update(state, (), |count| Ok(count.unwrap_or_default() + 1))?;
        DRAWN.put(state, (), drawn)?;
        Ok(count)
    }
    fn compensate(&self, state: &mut State<'_>, _: &u64, count: &u32) -> Result<(), Retry> {
        assert_eq!(COUNT.get(state, ())?, Some(*count), "the latest step is compensated first");
        if *count > 1 {
            COUNT.put(state, (), &(count - 1))?;
        } else {
            COUNT.remove(state, ())?;
            DRAWN.remove(state, ())?;
        }
        Ok(())
    }
}

// All kinds of records, in a session of one role. Input 0 aborts it at the end.
choreography!(Alone: (Solo,), At<Solo, u32> => At<Solo, (u64, u32, u32)>, |ctx, n| {
    let drawn = ctx.random(Solo).await?;
    ctx.transact(Keep, &drawn).await?;
    let paid = ctx.transact(Pay, &n).await?;
    let count = ctx.transact(Keep, &drawn).await?;
    let paid = ctx.transact(Pay, &paid).await?;
    if ctx.broadcast(Solo, &n).await? == 0 {
        return ctx.abort(Abort::new("zero", "at the end")).await;
    }
    Ok(ctx.locally(Solo, |here| (*here.get(&drawn), *here.get(&count), *here.get(&paid))))
});

fn live<C: Choreography>(
    choreography: C,
    disk: &mut Disk,
    bank: &Arc<Bank>,
    n: u32,
    syncs_max: usize,
) -> (bool, usize) {
    let service = Service::of::<Solo>(bank.clone());
    let mut rig = if disk.opened().is_some() {
        Rig::restore(choreography, 0, disk.clone(), service)
    } else {
        Rig::begin(choreography, 0, Some(payload(&n)), service)
    };
    let mut syncs = 0;
    let closed = 'life: loop {
        let effects = rig.turn();
        assert_eq!(effects.stopped, None);
        if effects.closed.is_some() {
            break true;
        }
        assert!(!effects.writes.is_empty(), "it neither goes on nor ends");
        for write in effects.writes {
            if syncs == syncs_max {
                break 'life false;
            }
            rig.sync(vec![write]);
            syncs += 1;
        }
    };
    *disk = rig.disk;
    (closed, syncs)
}

/// What one node has: a disk, and a bank that lives elsewhere.
struct World {
    disk: Disk,
    bank: Arc<Bank>,
    n: u32,
}

impl World {
    fn new(n: u32) -> Self {
        Self { disk: Disk::default(), bank: Bank::new(), n }
    }

    /// One life of the instance: ends when it is closed (true), or after `syncs_max` syncs, with the turn lost that
    /// came after the last of them. Also gives how many syncs there were.
    fn live(&mut self, syncs_max: usize) -> (bool, usize) {
        live(Alone, &mut self.disk, &self.bank, self.n, syncs_max)
    }

    /// The same end, however it was come to.
    fn check(&self, story: &str) {
        let closed = self.disk.closed().unwrap_or_else(|| panic!("{story}: not closed"));
        assert!(self.disk.opened().is_none() && self.disk.records().is_empty(), "{story}: leftovers");
        assert_eq!(self.bank.keys().len(), 2, "{story}: a step was run under another key");
        if self.n == 0 {
            assert_eq!(closed.outcome, Outcome::Compensated(Abort::new("zero", "at the end")), "{story}");
            assert_eq!(self.disk.rows(), [], "{story}: the state is not as before");
            assert_eq!(self.bank.balance(), 0, "{story}");
            return;
        }
        assert_eq!(closed.outcome, Outcome::Finished, "{story}");
        let (drawn, count, paid): (u64, u32, u32) = value(&closed.output.expect("an output"));
        assert_eq!((count, paid), (2, self.n + 2), "{story}: a local step was not taken exactly once");
        assert_eq!(self.bank.balance(), self.n + self.n + 1, "{story}");
        let state = self.disk.rows();
        let (_, kept) = state.iter().find(|(key, _)| key.ends_with(b"drawn")).expect("kept");
        assert_eq!(kept, payload(&drawn).as_slice(), "{story}: the number changed from one life to the next");
    }
}

/// Cuts the log after each sync, and that of the life after it again.
fn check_every_cut(n: u32) {
    let mut whole = World::new(n);
    let (_, syncs) = whole.live(usize::MAX);
    whole.check("one life");
    assert!(syncs >= 6, "{syncs} syncs are no story");
    for first in 0..syncs {
        for second in 0..=syncs {
            let mut world = World::new(n);
            assert!(!world.live(first).0);
            if !world.live(second).0 {
                assert!(world.live(usize::MAX).0);
            }
            world.check(&format!("cut after {first} syncs, then after {second} more"));
        }
    }
}

#[test]
fn however_the_log_is_cut_the_session_finishes_alike() {
    check_every_cut(5);
}

#[test]
fn however_the_log_is_cut_an_aborted_session_takes_all_back() {
    check_every_cut(0);
}

/// A step that is refused: there is nothing to take back of it.
struct Refused;

impl LocalTransaction for Refused {
    const NAME: &'static str = "refused";
    type Role = Solo;
    type Input = u32;
    type Output = ();
    fn commit(&self, _: &mut State<'_>, _: &u32) -> Result<(), Abort> {
        Err(Abort::new("refused", ""))
    }
    fn compensate(&self, _: &mut State<'_>, _: &u32, (): &()) -> Result<(), Retry> {
        panic!("a refused step is not compensated")
    }
}

/// Pays (a sync later, that is durable), looks at something that changes, and aborts because of what it saw at first.
struct Fickle(Arc<AtomicU32>);

impl Choreography for Fickle {
    const NAME: &'static str = "fickle";
    type Roles = (Solo,);
    type Input = At<Solo, u32>;
    type Output = At<Solo, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, n: At<Solo, u32>) -> Result<At<Solo, u32>, Abort> {
        let paid = ctx.transact(Pay, &n).await?;
        ctx.try_transact(Refused, &n).await?;
        let seen = ctx.effect(Solo, "look", async |_| self.0.fetch_add(1, Ordering::Relaxed)).await?;
        if ctx.broadcast(Solo, &seen).await? == 0 {
            return ctx.abort(Abort::new("seen", "that it was the first time")).await;
        }
        Ok(paid)
    }
}

#[test]
fn nothing_is_compensated_before_the_abort_is_durable() {
    let mut outcomes = Vec::new();
    for cut in 0..7 {
        let (looks, bank, mut disk) = (Arc::new(AtomicU32::new(0)), Bank::new(), Disk::default());
        if !live(Fickle(looks.clone()), &mut disk, &bank, 5, cut).0 {
            live(Fickle(looks), &mut disk, &bank, 5, usize::MAX);
        }
        let finished = disk.closed().expect("closed").outcome == Outcome::Finished;
        assert_eq!(bank.balance(), if finished { 5 } else { 0 }, "cut after {cut} syncs: finished {finished}");
        outcomes.push(finished);
    }
    assert!(outcomes.contains(&true) && outcomes.contains(&false), "both ends are to be seen: {outcomes:?}");
}

#[test]
fn a_compensation_is_tried_again_after_growing_pauses() {
    let bank = Bank::retrying(2);
    let mut rig = Rig::begin(Alone, 0, Some(payload(&0u32)), Service::of::<Solo>(bank.clone()));
    let mut pauses = Vec::new();
    while rig.turn_synced().closed.is_none() {
        let at_ms = rig.part.next_wake_ms().expect("it will try again");
        pauses.push(at_ms - rig.now_ms);
        rig.now_ms = at_ms;
    }
    assert_eq!(pauses, [20, 40]);
    assert_eq!(bank.calls(), ["charge 0", "charge 1", "refund 1", "refund 1", "refund 1", "refund 0"]);
}

/// The point of no return, at a service that cannot say whether it was passed.
struct Cross;
impl Transaction for Cross {
    const NAME: &'static str = "cross";
    const KIND: Kind = Kind::Pivot;
    type Role = Seller;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, here: &Local<Seller>, amount: &u32) -> Result<u32, Abort> {
        here.service().charge(here.key(), *amount)
    }
}

choreography!(Crossing: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let n = ctx.comm(Buyer, Seller, &n).await?;
    let paid = ctx.transact(Cross, &n).await?;
    ctx.comm(Seller, Buyer, &paid).await
});

#[test]
fn a_pivot_in_doubt_on_an_aborted_session_is_not_run_again_and_needs_an_operator() {
    let bank = Bank::new();
    let mut rig = Rig::begin(Crossing, SELLER, None, service(&bank));
    rig.hear_message(BUYER, &[0], &7u32, 1);
    let writes = rig.turn().writes;
    rig.sync(writes);
    drop(rig.turn()); // It commits, and the record of it is lost.

    let mut next_life = Rig::restore(Crossing, SELLER, rig.disk, service(&bank));
    next_life.hear(BUYER, Body::Abort(aborted()), 2);
    let effects = next_life.turn_synced();
    assert!(matches!(said(&effects)[..], [(BUYER, Body::Trouble(Some(_)))]), "{:?}", said(&effects));
    let [(at, trouble)] = &effects.troubles.expect("it is in trouble")[..] else { panic!("in one place") };
    assert_eq!((at, trouble.task, trouble.step.as_str()), (&path(&[1]), Task::FindOut, "cross"));
    assert!(ended(&next_life.disk).is_empty());
    assert_eq!(next_life.part.resolve(Resolution::Compensated).0, 1);
    let effects = next_life.turn_synced();
    let over = [(BUYER, Body::Trouble(None)), (BUYER, Body::Done(Outcome::Compensated(aborted())))];
    assert_eq!(said(&effects), over);
    assert_eq!(effects.troubles, Some(Vec::new()));
    assert_eq!(bank.calls(), ["charge 7"]);
}

/// Its service says that no further try will take it back.
struct Lost;
impl Transaction for Lost {
    const NAME: &'static str = "lost";
    type Role = Seller;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, here: &Local<Seller>, amount: &u32) -> Result<u32, Abort> {
        here.service().charge(here.key(), *amount)
    }
    async fn compensate(&self, _: &Local<Seller>, _: &u32, _: &u32) -> Result<(), Retry> {
        Err(Retry::needs_operator("nothing is known of it"))
    }
}

choreography!(Losing: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let n = ctx.comm(Buyer, Seller, &n).await?;
    let paid = ctx.transact(Lost, &n).await?;
    ctx.comm(Seller, Buyer, &paid).await
});

#[test]
fn a_compensation_that_no_try_will_help_needs_an_operator_at_once() {
    let bank = Bank::new();
    let mut rig = Rig::begin(Losing, SELLER, None, service(&bank));
    rig.hear_message(BUYER, &[0], &7u32, 1);
    let effects = rig.turn_synced();
    rig.ack(&effects);
    rig.hear(BUYER, Body::Abort(aborted()), 2);
    let effects = rig.turn_synced();
    let [(at, trouble)] = &effects.troubles.expect("it is in trouble")[..] else { panic!("in one place") };
    assert_eq!((at, trouble.task, trouble.tries), (&path(&[1]), Task::Compensate, 1));
    assert_eq!((trouble.reason.as_str(), rig.part.next_wake_ms()), ("nothing is known of it", None));
}

#[test]
fn other_bytes_in_a_decided_session_are_acknowledged_and_ignored() {
    let bank = Bank::new();
    let mut rig = Rig::begin(Trade, SELLER, None, service(&bank));
    rig.hear_message(BUYER, &[0], &7u32, 1);
    rig.turn_synced();
    rig.hear(BUYER, Body::Abort(aborted()), 2);
    rig.hear_message(BUYER, &[0], &8u32, 3);
    let effects = rig.turn_synced();
    assert!(effects.stopped.is_none() && acked(&effects).contains(&3), "{:?}", effects.stopped);
    let received = rig.disk.records().into_iter().find_map(|record| match record {
        Record::Received { payload, .. } => Some(value::<u32>(&payload)),
        _ => None,
    });
    assert_eq!((received, bank.balance()), (Some(7), 0), "what is on disk stays");
}

#[test]
fn a_terminated_part_ends_compensated_without_a_program_also_after_another_crash() {
    let bank = Bank::new();
    let mut rig = Rig::begin(Trade, SELLER, None, service(&bank));
    rig.hear_message(BUYER, &[0], &7u32, 1);
    rig.turn_synced();
    let records =
        [Record::Aborted { abort: aborted(), own: true }, Record::Compensated { path: path(&[1]) }, Record::Terminated];
    let mut disk = rig.disk;
    disk.apply(records.iter().map(|record| record.change(crate::rig::id(SELLER)).unwrap()).collect());
    for crashes in [true, false] {
        let mut rig = Rig::terminated::<Trade>(SELLER, disk.clone());
        let effects = rig.turn_synced();
        assert!(said(&effects).contains(&(BUYER, Body::Abort(aborted()))), "{:?}", said(&effects));
        if crashes {
            disk = rig.disk;
            continue;
        }
        rig.ack(&effects);
        let effects = rig.turn_synced();
        assert!(said(&effects).contains(&(BUYER, Body::Done(Outcome::Compensated(aborted())))), "{:?}", said(&effects));
        rig.ack(&effects);
        rig.hear(BUYER, Body::Close(Outcome::Compensated(aborted())), 9);
        assert!(rig.turn_synced().closed.is_some());
        assert_eq!(rig.disk.entries(Space::Journal), [], "nothing is left behind");
    }
    assert_eq!(bank.calls(), ["charge 7"], "that is the operator's");
}

#[test]
fn a_journal_that_grows_long_is_warned_of_once() {
    let limits = Limits { journal_records_warn: 3, ..Limits::default() };
    let mut rig = Rig::begin_within(Trade, SELLER, None, service(&Bank::new()), limits);
    let mut warnings = Vec::new();
    for n in 10..20u32 {
        rig.hear_message(BUYER, &[n], &n, u64::from(n));
        warnings.extend(rig.turn_synced().long_journal);
    }
    assert_eq!(warnings, [4]);
}

/// Charges the amount and a fee.
struct WithFee(u32);
impl Choreography for WithFee {
    const NAME: &'static str = "with-fee";
    type Roles = (Buyer, Seller);
    type Input = At<Buyer, u32>;
    type Output = At<Buyer, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, n: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
        let n = ctx.comm(Buyer, Seller, &n).await?;
        let more = ctx.locally(Seller, |here| here.get(&n) + self.0);
        let paid = ctx.transact(Charge, &more).await?;
        ctx.comm(Seller, Buyer, &paid).await
    }
}

// Other operations where the message was received.
choreography!(Gathered: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let n = ctx.multicast(Buyer, (Seller,), &n).await?.0;
    ctx.comm(Seller, Buyer, &n).await
});
choreography!(Drawn: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    ctx.random(Seller).await?;
    ctx.comm(Buyer, Buyer, &n).await
});
choreography!(Later: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    ctx.locally(Seller, |_| ());
    let n = ctx.comm(Buyer, Seller, &n).await?;
    ctx.comm(Seller, Buyer, &n).await
});

/// A seller that has done what `first` says, and comes back with `changed`.
fn diverges<C: Choreography, D: Choreography>(first: C, changed: D, recorded: &str, replayed: &str) {
    let bank = Bank::new();
    let mut rig = Rig::begin(first, SELLER, None, service(&bank));
    rig.hear_message(BUYER, &[0], &7u32, 1);
    rig.turn_synced();
    let calls = bank.calls();
    assert_eq!(calls.len(), 1);
    let mut next_life = Rig::restore(changed, SELLER, rig.disk, service(&bank));
    let effects = next_life.turn();
    let stopped = effects.stopped.expect("it differs").to_string();
    assert!(stopped.contains(recorded) && stopped.contains(replayed), "{stopped}");
    assert!(effects.writes.is_empty() && effects.frames.is_empty());
    assert_eq!(bank.calls(), calls, "nothing is done while it differs");
}

#[test]
fn whatever_a_replay_does_otherwise_stops_the_session_with_both_sides() {
    let input = "step `charge` with input";
    diverges(WithFee(1), WithFee(2), &format!("at 2: recorded was {input}"), &format!("did {input}"));
    diverges(Trade, Gathered, "recorded was a comm from `buyer`", "did a multicast from `buyer`");
    diverges(Trade, Drawn, "recorded was a comm from `buyer`", "did effect `random`");
    // What is recorded further on, the program does not come by.
    diverges(Trade, WithFee(0), "at 1: recorded was step `charge`", "waits for step `charge` at 2");
    diverges(Trade, Later, "at 1: recorded was step `charge`", "did a comm from `buyer`");
}

/// Only goes forward, at a service that cannot say what became of a commit.
struct Push;
impl Transaction for Push {
    const NAME: &'static str = "push";
    const KIND: Kind = Kind::Retriable;
    type Role = Seller;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, here: &Local<Seller>, amount: &u32) -> Result<u32, Abort> {
        here.service().charge(here.key(), *amount)
    }
}

choreography!(Pushing: (Buyer, Seller), At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let n = ctx.comm(Buyer, Seller, &n).await?;
    let paid = ctx.transact(Push, &n).await?;
    ctx.comm(Seller, Buyer, &paid).await
});

#[test]
fn a_retriable_step_refused_last_is_dropped_by_an_abort() {
    for tries_max in [50, 2] {
        let bank = Bank::refusing(7);
        let limits = Limits { tries_max, ..Limits::default() };
        let mut rig = Rig::begin_within(Pushing, SELLER, None, service(&bank), limits);
        rig.hear_message(BUYER, &[0], &7u32, 1);
        rig.turn_synced();
        rig.now_ms = rig.part.next_wake_ms().expect("it will try again");
        let troubles = rig.turn_synced().troubles;
        assert_eq!(bank.calls(), ["charge 7", "charge 7"]);
        assert_eq!(troubles.is_some(), tries_max == 2);
        rig.hear(BUYER, Body::Abort(aborted()), 2);
        let effects = rig.turn_synced();
        let over = [(BUYER, Body::Trouble(None)), (BUYER, Body::Done(Outcome::Compensated(aborted())))];
        assert_eq!(said(&effects), over[usize::from(tries_max != 2)..], "it tells only if it was in trouble");
        assert!(effects.troubles.as_ref().is_none_or(Vec::is_empty));
        rig.ack(&effects);
        rig.hear(BUYER, Body::Close(Outcome::Compensated(aborted())), 3);
        rig.turn_synced();
        assert_eq!(rig.disk.records(), [], "nothing is left behind");
        assert_eq!(bank.calls(), ["charge 7", "charge 7"]);
    }
}

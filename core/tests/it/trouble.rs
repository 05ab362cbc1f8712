//! What the initiator learns of roles that need an operator, on the machine alone: told, told again, and over.

use std::sync::Arc;

use accompanist_core::frame::{Body, Lacks, Outcome, RoleTrouble};
use accompanist_core::id::RoleIndex;
use accompanist_core::machine::{Limits, Resolution, SessionTrouble};
use accompanist_core::{Abort, At, Service};

use crate::rig::{Bank, Rig, bank_step, choreography, payload, roles, said};
use crate::trade::{BUYER, SELLER, Trade, service};

/// What a seller has to say whose refund fails.
fn needs_operator() -> Body {
    let reason = "it has to be compensated, which failed: busy";
    Body::Trouble(Some(RoleTrouble::needs_operator("charge", reason, 1)))
}

fn abort() -> Abort {
    Abort::new("changed-my-mind", "by the buyer")
}

/// A seller that has charged and cannot give the money back; all it has said about that so far.
fn troubled_seller(bank: &Arc<Bank>) -> (Rig, Vec<(u8, Body)>) {
    let limits = Limits { tries_max: 1, ..Limits::default() };
    let mut rig = Rig::begin_within(Trade, SELLER, None, service(bank), limits);
    rig.hear_message(BUYER, &[0], &7u32, 1);
    let effects = rig.turn_synced();
    rig.ack(&effects);
    rig.hear(BUYER, Body::Abort(abort()), 2);
    let effects = rig.turn_synced();
    assert_eq!(effects.troubles.as_ref().map(Vec::len), Some(1));
    (rig, said(&effects))
}

/// A buyer that waits for the answer, or for the end of the seller's part.
fn waiting_buyer() -> Rig {
    let mut rig = Rig::begin(Trade, BUYER, Some(payload(&7u32)), Service::none());
    let effects = rig.turn_synced();
    rig.ack(&effects);
    rig.turn_synced();
    rig
}

fn troubles(rig: &Rig) -> Vec<String> {
    rig.part.inspect().troubles.iter().map(ToString::to_string).collect()
}

#[test]
fn a_role_whose_step_needs_an_operator_tells_the_initiator_without_asking_for_an_acknowledgement() {
    let bank = Bank::retrying(1);
    let (mut rig, told) = troubled_seller(&bank);
    assert_eq!(told, [(BUYER, needs_operator())]);
    rig.hear_once(BUYER, Body::TroubleAsked);
    let effects = rig.turn_synced();
    assert_eq!(said(&effects), [(BUYER, needs_operator())]);
    assert!(effects.frames.iter().all(|outgoing| !outgoing.key.is_acknowledged() && outgoing.frame.header.is_none()));
}

#[test]
fn a_trouble_is_told_again_in_answer_to_a_nudge_and_after_a_restart() {
    let (mut rig, _) = troubled_seller(&Bank::retrying(1));
    for _ in 0..2 {
        rig.hear_once(BUYER, Body::Nudge(Lacks { aborted: true, ..Lacks::default() }));
        let told = said(&rig.turn_synced());
        assert!(told.contains(&(BUYER, needs_operator())), "{told:?}");
    }
    let mut next_life = Rig::restore(Trade, SELLER, rig.disk.clone(), service(&Bank::new()));
    assert_eq!(said(&next_life.turn_synced()), [(BUYER, needs_operator())]);
}

#[test]
fn a_trouble_that_an_operator_resolves_is_told_as_over() {
    let bank = Bank::retrying(1);
    let (mut rig, _) = troubled_seller(&bank);
    rig.part.resolve(Resolution::Retry);
    let effects = rig.turn_synced();
    assert!(said(&effects).contains(&(BUYER, Body::Trouble(None))), "{:?}", said(&effects));
    assert_eq!(bank.balance(), 0);
    // Whoever still believes in it asks, and is answered.
    rig.hear_once(BUYER, Body::TroubleAsked);
    assert!(said(&rig.turn_synced()).contains(&(BUYER, Body::Trouble(None))));
}

#[test]
fn a_role_in_no_trouble_answers_a_nudge_without_a_word_about_it() {
    let mut rig = Rig::begin(Trade, SELLER, None, service(&Bank::new()));
    rig.hear_once(BUYER, Body::Nudge(Lacks::default()));
    assert_eq!(said(&rig.turn_synced()), []);
}

#[test]
fn the_initiator_knows_which_role_is_in_trouble_and_why_until_that_is_over() {
    let mut rig = waiting_buyer();
    rig.hear_once(SELLER, needs_operator());
    let effects = rig.turn_synced();
    let expected = "role `seller` at node `seller`: step `charge` needs an operator: it has to be compensated, which \
        failed: busy";
    assert_eq!(effects.peer_troubles.iter().flatten().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    assert_eq!(troubles(&rig), [expected]);
    assert!(rig.part.inspect().to_string().contains(&format!("waits for {expected}")));
    rig.hear_once(SELLER, needs_operator());
    assert_eq!(rig.turn_synced().peer_troubles, None, "it is known");
    rig.hear_once(SELLER, Body::Trouble(None));
    assert_eq!(rig.turn_synced().peer_troubles, Some(Vec::<SessionTrouble>::new()));
    assert_eq!(troubles(&rig), Vec::<String>::new());
}

#[test]
fn a_role_that_ends_is_in_no_trouble_any_more_but_its_repeated_report_of_that_says_nothing_new() {
    let mut rig = waiting_buyer();
    rig.hear_once(SELLER, Body::Trouble(Some(RoleTrouble::stopped("it differs"))));
    rig.hear(SELLER, Body::Done(Outcome::Finished), 5);
    rig.turn_synced();
    assert_eq!(troubles(&rig), Vec::<String>::new());
    rig.hear_once(SELLER, Body::Trouble(Some(RoleTrouble::stopped("it differs"))));
    rig.hear(SELLER, Body::Done(Outcome::Finished), 6);
    rig.turn_synced();
    assert_eq!(troubles(&rig), ["role `seller` at node `seller`: is stopped: it differs"]);
}

#[test]
fn the_initiator_asks_a_role_that_it_believes_to_be_in_trouble_as_often_as_it_nudges() {
    let mut rig = waiting_buyer();
    rig.now_ms = rig.part.next_wake_ms().unwrap();
    assert!(!said(&rig.turn_synced()).contains(&(SELLER, Body::TroubleAsked)));
    rig.hear_once(SELLER, needs_operator());
    rig.turn_synced();
    for _ in 0..3 {
        rig.now_ms = rig.part.next_wake_ms().unwrap();
        assert!(said(&rig.turn_synced()).contains(&(SELLER, Body::TroubleAsked)));
    }
    rig.hear_once(SELLER, Body::Trouble(None));
    rig.turn_synced();
    rig.now_ms = rig.part.next_wake_ms().unwrap();
    assert!(!said(&rig.turn_synced()).contains(&(SELLER, Body::TroubleAsked)));
}

#[test]
fn a_restored_initiator_asks_about_the_troubles_that_its_driver_has_kept() {
    let rig = waiting_buyer();
    let known = [(RoleIndex(SELLER), RoleTrouble::stopped("it differs"))];
    let mut next_life = Rig::restore_knowing(Trade, rig.disk.clone(), Service::none(), known);
    next_life.turn_synced();
    assert_eq!(troubles(&next_life), ["role `seller` at node `seller`: is stopped: it differs"]);
    next_life.now_ms = next_life.part.next_wake_ms().unwrap();
    assert!(said(&next_life.turn_synced()).contains(&(SELLER, Body::TroubleAsked)));
}

/// Another node may send what it likes.
#[test]
fn a_long_text_about_a_trouble_is_cut_off() {
    let mut rig = waiting_buyer();
    let long = "ä".repeat(100_000);
    // As a node of another release may encode it.
    let bytes = accompanist_core::message::pack(&(0u32, &long, &long, 3u32)).unwrap();
    let trouble: RoleTrouble = accompanist_core::message::unpack(&bytes).unwrap();
    assert_eq!(trouble.text_bytes(), 4 * long.chars().count());
    rig.hear_once(SELLER, Body::Trouble(Some(trouble)));
    rig.turn_synced();
    let known = rig.part.inspect().troubles.remove(0).trouble;
    assert_eq!(known.text_bytes(), 2 * 2 * RoleTrouble::CHARACTERS_MAX);
    assert!(known.to_string().ends_with("(and 2 other steps do)"));
}

roles! { Front "front" (), Left "left" Bank, Right "right" () }
bank_step!(Pay "pay" Left);

// The initiator waits for the right role, which waits for the left one, which has to pay.
choreography!(Three: (Front, Left, Right), At<Front, u32> => At<Front, u32>, |ctx, n| {
    let n = ctx.comm(Front, Left, &n).await?;
    let paid = ctx.transact(Pay, &n).await?;
    let paid = ctx.comm(Left, Right, &paid).await?;
    ctx.comm(Right, Front, &paid).await
});

/// The initiator need not wait for the role in trouble itself, and then does not nudge it.
#[test]
fn a_nudge_of_any_role_makes_a_role_in_trouble_tell_the_initiator() {
    let (left, right) = (1, 2);
    let limits = Limits { tries_max: 1, ..Limits::default() };
    let bank = Bank::retrying(1);
    let mut rig = Rig::begin_within(Three, left, None, Service::of::<Left>(bank), limits);
    rig.hear_message(0, &[0], &7u32, 1);
    rig.turn_synced();
    rig.hear(right, Body::Abort(abort()), 2);
    rig.turn_synced();
    rig.hear_once(right, Body::Nudge(Lacks { aborted: true, ..Lacks::default() }));
    let told = said(&rig.turn_synced());
    let is_told = |(to, body): &(u8, Body)| *to == 0 && matches!(body, Body::Trouble(Some(_)));
    assert!(told.iter().any(is_told), "{told:?}");
}

#[test]
fn only_the_initiator_is_told_and_only_the_initiator_asks() {
    let mut rig = Rig::begin(Three, 2, None, Service::none());
    rig.hear_once(1, Body::Trouble(Some(RoleTrouble::stopped("it differs"))));
    assert_eq!(rig.turn_synced().peer_troubles, None);
    rig.hear_once(1, Body::TroubleAsked);
    assert_eq!(said(&rig.turn_synced()), []);
    rig.hear_once(0, Body::TroubleAsked);
    assert_eq!(said(&rig.turn_synced()), [(0, Body::Trouble(None))]);
}

//! What a role that waits is answered, on the machine alone: whatever was acknowledged, and whoever has closed.

use std::collections::BTreeSet;
use std::sync::Arc;

use accompanist_core::frame::{Body, Lacks, Operation, Outcome};
use accompanist_core::id::RoleIndex;
use accompanist_core::machine::{OutgoingKey, Stop};
use accompanist_core::record::Record;
use accompanist_core::{Abort, Service};

use crate::rig::{Bank, Rig, path, payload, said};
use crate::trade::{BUYER, SELLER, Trade, service};

fn deliver(at: u32, n: u32) -> Body {
    Body::Deliver { path: path(&[at]), operation: Operation::Comm, payload: payload(&n) }
}

fn nudge(awaits: &[&[u32]], aborted: bool) -> Body {
    Body::Nudge(Lacks { awaits: awaits.iter().map(|at| path(at)).collect(), aborted })
}

fn abort() -> Abort {
    Abort::new("no", "by the test")
}

/// A seller that has charged, answered, and finished; all of it was acknowledged.
fn finished_seller(bank: &Arc<Bank>) -> Rig {
    let mut rig = Rig::begin(Trade, SELLER, None, service(bank));
    rig.hear_message(BUYER, &[0], &7u32, 1);
    for _ in 0..4 {
        let effects = rig.turn_synced();
        rig.ack(&effects);
    }
    assert!(rig.disk.records().iter().any(|record| matches!(record, Record::Ended { .. })));
    rig
}

/// A buyer whose order was acknowledged, and which waits for the answer.
fn waiting_buyer() -> Rig {
    let mut rig = Rig::begin(Trade, BUYER, Some(payload(&7u32)), Service::none());
    let effects = rig.turn_synced();
    assert_eq!(said(&effects), [(SELLER, deliver(0, 7))]);
    rig.ack(&effects);
    rig.turn_synced();
    rig
}

fn lacking(at: u32, to: u8) -> BTreeSet<(accompanist_core::Path, RoleIndex)> {
    BTreeSet::from([(path(&[at]), RoleIndex(to))])
}

/// How the session is said to stand at the other role.
fn left_behind(stop: Option<Stop>) -> String {
    match stop {
        Some(stop @ Stop::LeftBehind { .. }) => stop.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_acknowledged_message_is_resent_to_a_role_that_lacks_it() {
    let mut rig = waiting_buyer();
    rig.hear_once(SELLER, nudge(&[&[5]], false));
    assert_eq!(rig.turn_synced().lacking, BTreeSet::new(), "it has said nothing there");
    rig.hear_once(SELLER, nudge(&[&[0]], false));
    let effects = rig.turn_synced();
    assert_eq!(effects.lacking, lacking(0, SELLER));
    let rest = rig.part.passivation_without(&effects.lacking);
    let mut next = Rig::resend(Trade, BUYER, rig.disk.clone(), Service::none(), effects.lacking, rest);
    let effects = next.turn_synced();
    assert_eq!(said(&effects), [(SELLER, deliver(0, 7))]);
    assert_eq!(effects.frames[0].key, OutgoingKey::Deliver(path(&[0]), RoleIndex(SELLER)));
    // Under way, it is sent again by itself.
    next.hear_once(SELLER, nudge(&[&[0]], false));
    assert_eq!(next.turn_synced().lacking, BTreeSet::new());
}

#[test]
fn an_ended_role_resends_lacking_messages_without_acknowledgement() {
    let bank = Bank::new();
    let mut rig = finished_seller(&bank);
    rig.hear_once(BUYER, nudge(&[&[2], &[9]], false));
    let effects = rig.turn_synced();
    assert_eq!(effects.lacking.len(), 2);
    let rest = rig.part.passivation_without(&effects.lacking);
    let mut next = Rig::resend(Trade, SELLER, rig.disk.clone(), service(&bank), effects.lacking, rest);
    let mut effects = next.turn_synced();
    // That it has ended, the initiator asks anyway.
    effects.frames.retain(|outgoing| !matches!(outgoing.frame.body, Body::Done(_)));
    assert!(effects.frames.iter().all(|outgoing| outgoing.frame.header.is_none()), "it begins nothing");
    assert!(effects.frames.iter().all(|outgoing| !outgoing.key.is_acknowledged()));
    // There was never a message at the other path.
    assert_eq!(said(&effects), [(BUYER, deliver(2, 8)), (BUYER, Body::Gone(path(&[9])))]);
    assert_eq!(bank.calls(), ["charge 7"], "nothing is done twice");
}

#[test]
fn an_acknowledged_abort_is_resent_to_a_role_that_lacks_it() {
    let bank = Bank::new();
    let mut rig = finished_seller(&bank);
    rig.hear(BUYER, Body::Abort(abort()), 9);
    let effects = rig.turn_synced();
    rig.ack(&effects);
    rig.turn_synced();
    rig.hear_once(BUYER, nudge(&[], true));
    let told = |effects| said(&effects).contains(&(BUYER, Body::Abort(abort())));
    assert!(!told(rig.turn_synced()), "it knows");
    rig.hear_once(BUYER, nudge(&[&[2]], false));
    let effects = rig.turn_synced();
    assert!(
        effects
            .frames
            .iter()
            .all(|outgoing| outgoing.frame.header.is_none() || !matches!(outgoing.frame.body, Body::Abort(_)))
    );
    assert!(told(effects));
}

#[test]
fn a_role_that_lacks_an_abort_asks_the_roles_that_have_it() {
    let mut rig = waiting_buyer();
    rig.hear_once(SELLER, nudge(&[], true));
    let effects = rig.turn_synced();
    assert_eq!(said(&effects), [(SELLER, nudge(&[], false))]);
    assert!(effects.frames[0].frame.header.is_none(), "it begins nothing");
}

#[test]
fn an_ended_role_asks_for_the_close_and_closes_on_the_answer() {
    let bank = Bank::new();
    let mut rig = finished_seller(&bank);
    rig.now_ms += 499;
    assert_eq!(said(&rig.turn_synced()), []);
    rig.now_ms += 1;
    let effects = rig.turn_synced();
    assert_eq!(said(&effects), [(BUYER, Body::Done(Outcome::Finished))]);
    assert!(!effects.frames[0].key.is_acknowledged() && effects.frames[0].frame.header.is_some());
    rig.hear_once(BUYER, Body::Closed(Some(Outcome::Finished)));
    assert_eq!(rig.turn_synced().closed.unwrap().outcome, Outcome::Finished);
}

#[test]
fn a_closing_initiator_resends_the_close_on_request() {
    let mut rig = waiting_buyer();
    rig.hear_message(SELLER, &[2], &8u32, 1);
    rig.hear(SELLER, Body::Done(Outcome::Finished), 2);
    let effects = rig.turn_synced();
    assert_eq!(said(&effects), [(SELLER, Body::Close(Outcome::Finished))]);
    rig.hear_once(SELLER, Body::Done(Outcome::Finished));
    assert_eq!(said(&rig.turn_synced()), [], "it is under way");
}

#[test]
fn a_finished_role_compensates_on_a_close_that_says_compensated() {
    for closed in
        [|abort| Body::Closed(Some(Outcome::Compensated(abort))), |abort| Body::Close(Outcome::Compensated(abort))]
    {
        let bank = Bank::new();
        let mut rig = finished_seller(&bank);
        rig.hear_once(BUYER, closed(abort()));
        let effects = rig.turn_synced();
        assert_eq!(bank.balance(), 0);
        assert_eq!(effects.stopped, None);
        rig.ack(&effects);
        rig.turn_synced();
        rig.hear_once(BUYER, closed(abort()));
        assert_eq!(rig.turn_synced().closed.unwrap().outcome, Outcome::Compensated(abort()));
    }
}

#[test]
fn a_role_that_others_have_overtaken_stops_with_the_reason() {
    let told = |body| {
        let mut rig = waiting_buyer();
        rig.hear_once(SELLER, body);
        left_behind(rig.turn_synced().stopped)
    };
    let stopped = told(Body::Closed(Some(Outcome::Finished)));
    assert!(stopped.starts_with("`seller` on node `seller` has closed the session as finished"), "{stopped}");
    assert!(told(Body::Gone(path(&[2]))).contains("has no message at 2"));
    // The initiator alone is sure to know of the session.
    let mut rig = waiting_buyer();
    for body in [Body::Closed(None), Body::Gone(path(&[1]))] {
        rig.hear_once(SELLER, body);
        assert_eq!(rig.turn_synced().stopped, None);
    }
    let bank = Bank::new();
    let mut rig = finished_seller(&bank);
    rig.hear_once(BUYER, Body::Closed(None));
    assert!(left_behind(rig.turn_synced().stopped).contains("does not know the session any more"));
    // It has compensated, and the others have finished.
    let mut rig = finished_seller(&bank);
    rig.hear(BUYER, Body::Abort(abort()), 9);
    let effects = rig.turn_synced();
    rig.ack(&effects);
    rig.turn_synced();
    rig.hear_once(BUYER, Body::Closed(Some(Outcome::Finished)));
    assert!(left_behind(rig.turn_synced().stopped).contains("as finished"));
}

#[test]
fn a_role_wrongly_assumed_to_know_the_session_is_invited() {
    let bank = Bank::new();
    let mut rig = Rig::begin(Trade, SELLER, None, service(&bank));
    rig.hear_message(BUYER, &[0], &7u32, 1);
    rig.turn_synced();
    // It is the initiator that does not know it: nobody can invite that one.
    rig.hear_once(BUYER, Body::Closed(None));
    assert!(left_behind(rig.turn_synced().stopped).contains("does not know the session"));
    let mut rig = Rig::begin(Trade, BUYER, Some(payload(&7u32)), Service::none());
    assert_eq!(said(&rig.turn_synced()), [(SELLER, deliver(0, 7))]);
    rig.hear_once(SELLER, Body::Closed(None));
    let effects = rig.turn_synced();
    assert_eq!(said(&effects), [(SELLER, nudge(&[&[2]], false))]);
    assert!(effects.frames[0].frame.header.is_some() && effects.frames[0].key.is_acknowledged());
    rig.hear_once(SELLER, Body::Closed(None));
    assert_eq!(said(&rig.turn_synced()), [], "the invitation is under way");
}

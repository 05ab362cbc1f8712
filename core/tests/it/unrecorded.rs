//! A commit that has taken effect, and whose output cannot be recorded: an operator's case, which commits nothing by
//! itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use accompanist_core::machine::{Resolution, Status};
use accompanist_core::record::{StepFailure, Task};
use accompanist_core::{
    Abort, At, Choreography, CommitOutcome, Context, Kind, Local, Path, Retry, Role, Service, Transaction,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::rig::{Rig, payload};

#[derive(Default)]
struct Books {
    done: AtomicU32,
    asked: AtomicU32,
    undone: AtomicU32,
    mended: AtomicBool,
    knows: AtomicBool,
}

impl Books {
    fn counts(&self) -> (u32, u32, u32) {
        (self.done.load(SeqCst), self.asked.load(SeqCst), self.undone.load(SeqCst))
    }
}

#[derive(Clone, Copy)]
struct Bank;
impl Role for Bank {
    const NAME: &'static str = "bank";
    type Service = Books;
}

/// What is the matter with a receipt.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Refuses,
    Panics,
    IsNotReadBack,
}

struct Receipt(Fault);
impl Serialize for Receipt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Fault::None => serializer.serialize_u8(1),
            Fault::Refuses => Err(serde::ser::Error::custom("the receipt is blank")),
            Fault::Panics => panic!("the printer burns"),
            Fault::IsNotReadBack => serializer.serialize_str("a receipt"),
        }
    }
}
impl<'de> Deserialize<'de> for Receipt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u8::deserialize(deserializer).map(|_| Self(Fault::None))
    }
}

struct Charge(Fault, bool);
macro_rules! charge {
    ($name:ident $kind:expr) => {
        struct $name(Fault);
        impl Transaction for $name {
            const NAME: &'static str = "charge";
            const KIND: Kind = $kind;
            type Role = Bank;
            type Input = u32;
            type Output = Receipt;
            async fn commit(&self, here: &Local<Bank>, _: &u32) -> Result<Receipt, Abort> {
                here.service().done.fetch_add(1, SeqCst);
                Ok(Receipt(if here.service().mended.load(SeqCst) { Fault::None } else { self.0 }))
            }
            async fn compensate(&self, here: &Local<Bank>, _: &u32, receipt: &Receipt) -> Result<(), Retry> {
                assert!(receipt.0 == Fault::None);
                here.service().undone.fetch_add(1, SeqCst);
                Ok(())
            }
            async fn outcome(&self, here: &Local<Bank>, _: &u32) -> Result<CommitOutcome<Receipt>, Retry> {
                here.service().asked.fetch_add(1, SeqCst);
                let knows = here.service().knows.load(SeqCst);
                Ok(if knows { CommitOutcome::Committed(Receipt(Fault::None)) } else { CommitOutcome::Unknown })
            }
        }
    };
}
charge!(Compensable Kind::Compensable);
charge!(Retriable Kind::Retriable);

impl Choreography for Charge {
    const NAME: &'static str = "sale";
    type Roles = (Bank,);
    type Input = At<Bank, u32>;
    type Output = At<Bank, u32>;
    async fn run(&self, ctx: &Context<(Bank,)>, n: At<Bank, u32>) -> Result<At<Bank, u32>, Abort> {
        if self.1 {
            ctx.transact(Retriable(self.0), &n).await?;
        } else {
            ctx.transact(Compensable(self.0), &n).await?;
        }
        Ok(n)
    }
}

const FAULTS: [(Fault, &str); 3] = [
    (Fault::Refuses, "the receipt is blank"),
    (Fault::Panics, "the printer burns"),
    (Fault::IsNotReadBack, "expected u8"),
];

/// In each combination, an instance whose step has taken effect once, and cannot be recorded.
fn over_all(check: impl Fn(&dyn Fn(Rig) -> Rig, Rig, Arc<Books>)) {
    for (fault, reason) in FAULTS {
        for forward in [false, true] {
            let books = Arc::new(Books::default());
            let service = || Service::of::<Bank>(books.clone());
            let mut rig = Rig::begin(Charge(fault, forward), 0, Some(payload(&7_u32)), service());
            let effects = rig.turn_synced();
            let (stopped, troubles) = (effects.stopped, effects.troubles.unwrap());
            assert_eq!(stopped, None);
            is_troubled(&troubles, reason);
            assert_eq!((books.counts(), rig.part.status()), ((1, 0, 0), Status::NeedsOperator));
            let next_life = |rig: Rig| {
                let mut rig = Rig::restore(Charge(fault, forward), 0, rig.disk, service());
                is_troubled(&rig.turn_synced().troubles.unwrap(), reason);
                rig
            };
            check(&next_life, rig, books.clone());
        }
    }
}

fn is_troubled(troubles: &[(Path, StepFailure)], reason: &str) {
    let [(_, trouble)] = troubles else { panic!("{troubles:?}") };
    assert_eq!(trouble.task, Task::Record);
    let text = trouble.to_string();
    assert!(text.contains("`charge` has taken effect, and its output cannot be recorded"), "{text}");
    assert!(text.contains(reason), "{text}");
}

#[test]
fn it_is_not_committed_again_by_itself_in_any_life() {
    over_all(|next_life, mut rig, books| {
        for _ in 0..3 {
            rig.now_ms += 1_000_000;
            rig.turn_synced();
            rig = next_life(rig);
        }
        assert_eq!(books.counts(), (1, 0, 0));
        // The program waits for the output, so an operator cannot pass over it.
        assert_eq!(rig.part.resolve(Resolution::Compensated).0, 0);
    });
}

#[test]
fn once_mended_the_commit_is_tried_again_under_its_key() {
    over_all(|next_life, rig, books| {
        let mut rig = next_life(rig);
        assert_eq!(rig.part.resolve(Resolution::Retry).0, 1);
        assert!(rig.turn_synced().troubles.is_some_and(|troubles| troubles.len() == 1), "it is no better yet");
        books.mended.store(true, SeqCst);
        assert_eq!(rig.part.resolve(Resolution::Retry).0, 1);
        let effects = rig.turn_synced();
        assert_eq!((effects.output, books.counts()), (Some(Ok(payload(&7_u32))), (3, 0, 0)));
    });
}

#[test]
fn a_cancelled_step_in_doubt_is_left_to_the_operator() {
    over_all(|next_life, mut rig, books| {
        rig.part.cancel(&Abort::new(Abort::CANCELLED, "mend it")).unwrap();
        rig.turn_synced();
        let mut rig = next_life(rig);
        assert_eq!((books.counts(), rig.part.status()), ((1, 0, 0), Status::NeedsOperator));
        assert_eq!(rig.part.resolve(Resolution::Compensated).0, 1);
        let effects = rig.turn_synced();
        assert!(effects.closed.is_some() && effects.stopped.is_none());
        assert_eq!(books.counts(), (1, 0, 0));
    });
}

#[test]
fn after_an_abort_the_service_is_asked_and_gives_the_output_for_the_compensation() {
    over_all(|next_life, mut rig, books| {
        rig.part.cancel(&Abort::new(Abort::CANCELLED, "mend it")).unwrap();
        rig.turn_synced();
        let mut rig = next_life(rig);
        books.knows.store(true, SeqCst);
        assert_eq!(rig.part.resolve(Resolution::Retry).0, 1);
        let effects = rig.turn_synced();
        assert_eq!((books.done.load(SeqCst), books.asked.load(SeqCst)), (1, 1), "it is asked, not done");
        // What can be taken back is; the other is the operator's to reconcile.
        let taken_back = books.undone.load(SeqCst) == 1;
        let left = effects.troubles.unwrap_or_default();
        assert!(taken_back && left.is_empty() || left[0].1.task == Task::Reconcile, "{left:?}");
    });
}

//! A program that is dropped at a refusal while another of its steps is in the middle of its commit.

use std::sync::Arc;

use accompanist::NodeBuilder;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;

use crate::support::{TestNode, all_roles, within};
use crate::trade::{Back, COMPENSATED, Deal, KEPT, Outside, Pay, deal};

/// Waits until its sibling is in the middle of its commit, and refuses.
pub struct Refuse;
impl Transaction for Refuse {
    const NAME: &'static str = "refuse";
    type Role = Back;
    type Input = Deal;
    type Output = u32;
    async fn commit(&self, here: &Local<Back>, _: &Deal) -> Result<u32, Abort> {
        here.service().asked_times(1).await;
        Err(Abort::new("refused", "as the test wants"))
    }
    async fn compensate(&self, _: &Local<Back>, _: &Deal, _: &u32) -> Result<(), Retry> {
        unreachable!("it is never committed")
    }
}

/// A refusal beside a commit that takes its time.
struct Torn;
impl Choreography for Torn {
    const NAME: &'static str = "torn";
    type Roles = (Back,);
    type Input = At<Back, Deal>;
    type Output = At<Back, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, deal: At<Back, Deal>) -> Result<At<Back, u32>, Abort> {
        let (paying, refusing) = (ctx.fork(), ctx.fork());
        let (paid, _) = tokio::try_join!(paying.transact(Pay, &deal), refusing.transact(Refuse, &deal))?;
        Ok(paid)
    }
}

fn torn(disk: &MemoryDisk, outside: &Arc<Outside>) -> NodeBuilder {
    all_roles("home", disk.open().unwrap(), LocalNetwork::new(), outside).choreography(Torn)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_beside_a_refusal_completes_and_is_compensated() {
    let outside = Arc::new(Outside::default());
    outside.set_gate(false);
    let node = TestNode::start(torn(&MemoryDisk::default(), &outside)).await;
    let session = within(node.start(Torn, deal(1))).await.unwrap();
    let told = within(session.output()).await.unwrap_err();
    assert!(matches!(&told, SessionError::Aborted(abort) if abort.code() == "refused"), "{told}");
    // Its commit is not cut off: it is still at the gate.
    assert_eq!((outside.asked(), outside.total()), (1, KEPT));
    assert_eq!(node.operator().instances(), 1);
    outside.set_gate(true);
    assert!(matches!(within(session.settled()).await, Err(SessionError::Aborted(_))));
    assert_eq!((outside.asked(), outside.total()), (1, COMPENSATED));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_beside_a_refusal_is_compensated_after_a_power_cut() {
    let (outside, disk) = (Arc::new(Outside::default()), MemoryDisk::default());
    outside.set_gate(false);
    let node = TestNode::start(torn(&disk, &outside)).await;
    let session = within(node.start(Torn, deal(1)).key("k")).await.unwrap();
    assert!(matches!(within(session.output()).await, Err(SessionError::Aborted(_))));
    disk.crash(0);
    within(node.kill()).await;
    outside.set_gate(true);

    let node = TestNode::start(torn(&disk, &outside)).await;
    let again = within(node.start(Torn, deal(1)).key("k")).await.unwrap();
    assert_eq!(again.id(), session.id());
    let told = within(again.settled()).await.unwrap_err();
    assert!(matches!(&told, SessionError::Aborted(abort) if abort.code() == "refused"), "{told}");
    // Asked again under the same key what had become of it.
    assert_eq!((outside.asked(), outside.total()), (2, COMPENSATED));
    node.is_idle().await;
}

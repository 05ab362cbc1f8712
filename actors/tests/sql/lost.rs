//! Markers that are lost, in whatever way: nothing is taken for "nothing to do", and whoever can help is told.

use std::marker::PhantomData;
use std::sync::Arc;

use accompanist::prelude::*;
use accompanist::record::Task;
use accompanist::sql::SqlSteps;
use accompanist::store::MemoryDisk;

use crate::backend::Backend;
use crate::node::{Sale, Till, builder, start};
use crate::support::until;

/// A copy of the markers as they are now, to be restored later.
const COPY: &str = "CREATE TABLE older AS SELECT * FROM accompanist_steps";
const RESTORE: &str = "DELETE FROM accompanist_steps; INSERT INTO accompanist_steps SELECT * FROM older";
const FORGET_COPY: &str = "DROP TABLE older";

/// How the table comes to lack what it had, and whether its pin is lost with it.
fn ways<B: Backend>() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("the markers", vec!["DELETE FROM accompanist_steps WHERE state <> 'store'"]),
        ("all rows", vec!["DELETE FROM accompanist_steps"]),
        ("the table", vec!["DROP TABLE accompanist_steps"]),
        ("what was before it was made anew", vec!["DROP TABLE accompanist_steps", SqlSteps::<B::Db>::schema()]),
        ("what came after a copy", vec![RESTORE]),
    ]
}

async fn lose<B: Backend>(base: &B, statements: &[&'static str]) {
    for statement in statements {
        base.run_outside(statement).await;
    }
}

async fn money<B: Backend>(base: &B) -> [i64; 2] {
    [base.count("charged").await, base.count("refunded").await]
}

fn session_of(node: &Node) -> accompanist::InstanceOperator {
    let troubled = &node.operator().troubled_sessions()[0];
    node.operator().instance(troubled.session, troubled.role)
}

/// A node in its second life, with a copy of the markers as they were in its first, and a charge that was made and is
/// about to be taken back.
async fn charged<B: Backend>(base: &B) -> (MemoryDisk, Arc<Till<B>>, Node) {
    let disk = MemoryDisk::default();
    start(&disk, &Till::of(base, true, true)).await.kill().await;
    base.run_outside(COPY).await;
    let till = Till::of(base, false, true);
    let node = start(&disk, &till).await;
    node.start(Sale::<B>(PhantomData), 21).key("k").await.unwrap();
    till.committed.is_reached().await;
    (disk, till, node)
}

pub async fn a_compensation_without_its_marker_is_listed_and_nothing_is_done<B: Backend>(base: B) {
    let mut charges = 0;
    for (what, statements) in ways::<B>() {
        let (disk, till, node) = charged(&base).await;
        charges += 1;
        lose(&base, &statements).await;
        till.committed.open.send_replace(true);
        until("trouble", async || !node.operator().troubled_sessions().is_empty()).await;
        let trouble = &node.operator().troubled_sessions()[0].steps[0].1;
        assert_eq!((trouble.step.as_str(), trouble.task, trouble.tries), ("charge", Task::Compensate, 1), "{what}");
        assert!(trouble.reason.contains("accompanist_steps"), "{what}: {trouble}");
        assert_eq!(money(&base).await, [charges, 0], "{what}");
        // It is neither over nor tried again by itself; the operator has given the money back, and says so.
        until("two open parts", async || node.operator().open_instances() == Some(2)).await;
        assert_eq!(session_of(&node).resolve(Resolution::Compensated).await.unwrap(), 1);
        let session = node.start(Sale::<B>(PhantomData), 21).key("k").await.unwrap();
        assert!(matches!(session.settled().await, Err(SessionError::Aborted(_))), "{what}");
        assert_eq!(money(&base).await, [charges, 0], "{what}");
        node.shutdown().await;
        drop(disk);
        base.run_outside(FORGET_COPY).await;
    }
}

pub async fn a_marker_that_is_brought_back_is_taken_back<B: Backend>(base: B) {
    let (_disk, till, node) = charged(&base).await;
    base.run_outside(FORGET_COPY).await;
    base.run_outside(COPY).await;
    base.run_outside("DELETE FROM accompanist_steps WHERE state <> 'store'").await;
    till.committed.open.send_replace(true);
    until("trouble", async || !node.operator().troubled_sessions().is_empty()).await;
    base.run_outside(RESTORE).await;
    assert_eq!(session_of(&node).resolve(Resolution::Retry).await.unwrap(), 1);
    let session = node.start(Sale::<B>(PhantomData), 21).key("k").await.unwrap();
    assert!(session.settled().await.is_err());
    assert_eq!(money(&base).await, [1, 1]);
    node.shutdown().await;
}

/// Why the node does not start.
async fn refused<B: Backend>(disk: &MemoryDisk, steps: &SqlSteps<B::Db>, till: &Arc<Till<B>>) -> String {
    let error = builder(disk, till).sql("bank", steps).start().await.unwrap_err();
    assert!(matches!(error, NodeError::Markers { .. }), "{error}");
    error.to_string()
}

pub async fn a_node_does_not_start_on_markers_that_are_not_those_it_has_used<B: Backend>(base: B) {
    for (what, statements) in ways::<B>().into_iter().skip(1) {
        let (disk, till, node) = charged(&base).await;
        node.kill().await;
        let now = "CREATE TABLE kept AS SELECT * FROM accompanist_steps";
        base.run_outside(now).await;
        lose(&base, &statements).await;
        let texts = [refused(&disk, &till.steps, &till).await, refused(&disk, &till.steps, &till).await];
        assert_eq!(texts[0], texts[1], "{what}: not only the first time");
        let word = if what.contains("copy") { "of an earlier time" } else { "made anew" };
        assert!(texts[0].contains(word) && texts[0].contains("give_up_markers"), "{what}: {}", texts[0]);
        // It has not been made anew under the node.
        if what == "the table" {
            base.run_outside(SqlSteps::<B::Db>::schema()).await;
        }
        base.run_outside("DELETE FROM accompanist_steps; INSERT INTO accompanist_steps SELECT * FROM kept").await;
        till.committed.open.send_replace(true);
        let node = start(&disk, &till).await;
        let session = node.start(Sale::<B>(PhantomData), 21).key("k").await.unwrap();
        assert!(session.settled().await.is_err(), "{what}");
        node.shutdown().await;
        base.run_outside("DROP TABLE kept; DROP TABLE older").await;
    }
    let [charged, refunded] = money(&base).await;
    assert_eq!((charged, refunded), (4, 4));
}

pub async fn a_step_does_not_run_on_markers_that_are_not_those_of_the_start<B: Backend>(base: B) {
    for (what, statements) in ways::<B>().into_iter().skip(1) {
        let disk = MemoryDisk::default();
        start(&disk, &Till::of(&base, true, true)).await.kill().await;
        base.run_outside(COPY).await;
        let till = Till::of(&base, true, true);
        let node = start(&disk, &till).await;
        lose(&base, &statements).await;
        node.start(Sale::<B>(PhantomData), 20).key("k").await.unwrap();
        until("a session that is stopped", async || !node.operator().stopped_sessions().is_empty()).await;
        let stopped = node.operator().stopped_sessions();
        assert!(stopped[0].reason.contains("not the one that this node has started with"), "{what}: {stopped:?}");
        assert_eq!(money(&base).await, [0, 0], "{what}");
        node.shutdown().await;
        refused(&disk, &till.steps, &till).await;
        base.run_outside(FORGET_COPY).await;
        if what == "the table" {
            base.run_outside(SqlSteps::<B::Db>::schema()).await;
        }
    }
}

pub async fn nodes_share_a_database_and_a_fresh_one_starts_on_it<B: Backend>(base: B) {
    let disks = [MemoryDisk::default(), MemoryDisk::default()];
    for life in 1..=3 {
        let tills = [Till::of(&base, true, true), Till::of(&base, true, true)];
        let nodes = [start(&disks[0], &tills[0]).await, start(&disks[1], &tills[1]).await];
        for node in &nodes {
            let session = node.start(Sale::<B>(PhantomData), 20).await.unwrap();
            assert_eq!(session.settled().await.unwrap(), 40);
        }
        assert_eq!(money(&base).await, [2 * life, 0]);
        for node in nodes {
            node.kill().await;
        }
    }
    // Its own markers are forgotten with age, its pin is not.
    let till = Till::of(&base, true, true);
    base.run_outside("UPDATE accompanist_steps SET written_at = (SELECT MIN(written_at) FROM accompanist_steps)").await;
    start(&MemoryDisk::default(), &till).await.shutdown().await;
    till.steps.forget_before(std::time::Duration::ZERO).await.unwrap();
    start(&disks[0], &till).await.shutdown().await;
}

pub async fn markers_that_are_given_up_are_watched_again<B: Backend>(base: B) {
    let (disk, till, node) = charged(&base).await;
    // Recorded as committed, and in the midst of being compensated.
    base.run_outside("DELETE FROM accompanist_steps WHERE state <> 'store'").await;
    till.committed.open.send_replace(true);
    until("trouble", async || !node.operator().troubled_sessions().is_empty()).await;
    node.shutdown().await;
    base.run_outside("DROP TABLE accompanist_steps").await;
    let text = refused(&disk, &till.steps, &till).await;
    let token = text.split('"').nth(1).unwrap().to_owned();
    let wrong = till.steps.clone().give_up_markers("what it says elsewhere");
    refused(&disk, &wrong, &till).await;

    let given_up = till.steps.clone().give_up_markers(&token);
    let node = builder(&disk, &till).sql("bank", &given_up).start().await.unwrap();
    until("the same trouble", async || !node.operator().troubled_sessions().is_empty()).await;
    assert_eq!(session_of(&node).resolve(Resolution::Retry).await.unwrap(), 1);
    until("it again", async || !node.operator().troubled_sessions().is_empty()).await;
    assert_eq!(money(&base).await, [1, 0]);
    let session = node.start(Sale::<B>(PhantomData), 20).await.unwrap();
    assert_eq!(session.settled().await.unwrap(), 40);
    node.shutdown().await;
    // Left in the program, it gives nothing else up.
    builder(&disk, &till).sql("bank", &given_up).start().await.unwrap().shutdown().await;
    base.run_outside("DELETE FROM accompanist_steps").await;
    refused(&disk, &given_up, &till).await;
}

pub async fn steps_that_are_no_nodes_say_so<B: Backend>(base: B) {
    let till = Till::of(&base, true, true);
    let node = builder(&MemoryDisk::default(), &till).start().await.unwrap();
    node.start(Sale::<B>(PhantomData), 20).await.unwrap();
    until("a session that is stopped", async || !node.operator().stopped_sessions().is_empty()).await;
    assert!(
        node.operator().stopped_sessions()[0].reason.contains("`NodeBuilder::sql`"),
        "{:?}",
        node.operator().stopped_sessions()
    );
    assert_eq!(money(&base).await, [0, 0]);
    node.shutdown().await;
}

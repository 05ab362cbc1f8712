//! What counts as acknowledged and was never received is sent again to the role that lacks it, out of memory or not;
//! and a role that has gone back behind the others is listed. `core/tests/model` has each moment at which a frame can
//! be lost so,
//! `core/tests/it/long.rs` and `worlds.rs` more programs; here it is nodes, with what leaves memory there.

use std::sync::Arc;
use std::time::Duration;

use accompanist::NodeBuilder;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;

use crate::support::{TestNode, node_id, on_disk, quick, within};
use crate::trade::{Back, Front, Outside};

/// Both roles wait for each other, and the back for a signal.
struct Reply;
impl Choreography for Reply {
    const NAME: &'static str = "reply";
    type Roles = (Front, Back);
    type Input = At<Front, u32>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, asked: At<Front, u32>) -> Result<At<Front, u32>, Abort> {
        let asked = ctx.comm(Front, Back, &asked).await?;
        let more: At<Back, u32> = ctx.signal(Back, "go").await?;
        let sum = ctx.locally(Back, |here| here.get(&asked) + here.get(&more));
        let tried = ctx.saga((Front, Back), async |ctx| ctx.comm(Back, Front, &sum).await).await?;
        let sum = tried?;
        let sum = ctx.comm(Front, Back, &sum).await?;
        ctx.comm(Back, Front, &sum).await
    }
}

const SESSIONS: u32 = 20;

/// A network with two nodes, whose instances nudge once in `period` when they have left memory.
async fn pair(period: Duration, describe: impl Fn(NodeBuilder) -> NodeBuilder) -> [TestNode; 2] {
    let network = LocalNetwork::new();
    let builder = |name| {
        let settings = Settings { passivated_nudge_period: period, ..quick() };
        describe(on_disk(name, &MemoryDisk::default(), network.clone()).settings(settings).choreography(Reply))
    };
    let front = TestNode::start(builder("front").role(Front, Arc::new(()))).await;
    let back = TestNode::start(builder("back").role(Back, Arc::new(Outside::default()))).await;
    [front, back]
}

async fn start(front: &TestNode) -> Vec<Session<Reply>> {
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        sessions.push(within(front.start(Reply, number)).await.unwrap());
    }
    sessions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_end_although_frames_count_as_acknowledged_that_were_never_sent() {
    for seed in 0..8 {
        let [front, back] = pair(Duration::from_millis(100), |node| node.forgetting(seed, 60, None)).await;
        let sessions = start(&front).await;
        for (number, session) in (0..).zip(&sessions) {
            if number % 4 == 0 {
                within(session.cancel("not wanted")).await.unwrap();
                continue;
            }
            // The back may not know of the session yet.
            let part = back.instance(Reply, session.id(), Back);
            within(async { while part.signal("go", "once", &1u32).await.is_err() {} }).await;
        }
        for (number, session) in (0..).zip(sessions) {
            let settled = within(session.settled()).await;
            if number % 4 == 0 {
                assert!(matches!(settled, Err(SessionError::Aborted(_))), "{settled:?}");
            } else {
                assert_eq!(settled.unwrap(), number + 1);
            }
        }
        for node in [front, back] {
            node.is_idle().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_acknowledged_and_lost_are_requested_after_a_restore() {
    let mut hung = 0;
    for seed in 0..8 {
        let [front, back] = pair(Duration::from_hours(1), |node| node.forgetting(seed, 60, None)).await;
        let sessions = start(&front).await;
        let all_have_left = async || {
            within(async {
                while front.operator().instances() + back.operator().instances() > 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
        };
        all_have_left().await;
        for session in &sessions {
            // Not those that the back has never heard of.
            let _ = within(back.instance(Reply, session.id(), Back).signal("go", "once", &1u32)).await;
        }
        all_have_left().await;
        hung += front.open().await + back.open().await;
        let [front_id, back_id] = ["front", "back"].map(node_id);
        within(async {
            while front.open().await + back.open().await > 0 {
                front.operator().nudge_sessions_of(&back_id);
                back.operator().nudge_sessions_of(&front_id);
                for session in &sessions {
                    let _ = back.instance(Reply, session.id(), Back).signal("go", "once", &1u32).await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        for (number, session) in (0..).zip(sessions) {
            assert_eq!(within(session.settled()).await.unwrap(), number + 1);
        }
    }
    assert!(hung > 0, "no session hung before");
}

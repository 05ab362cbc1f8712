//! What is asked from outside, and answered, while things go wrong.

use std::time::Duration;

use accompanist::id::RoleIndex;
use accompanist::machine::{SignalError, Status};
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;

use crate::support::{TestNode, all_roles, quick, until, within};
use crate::trade::{Back, Outside};

/// Pays, and cannot take it back.
struct OneWay;
impl Transaction for OneWay {
    const NAME: &'static str = "one way";
    type Role = Back;
    type Input = ();
    type Output = ();
    async fn commit(&self, _: &Local<Back>, (): &()) -> Result<(), Abort> {
        Ok(())
    }
    async fn compensate(&self, _: &Local<Back>, (): &(), (): &()) -> Result<(), Retry> {
        Err(Retry::new("never"))
    }
}

/// Stumbles as often as the back says so, then waits to be told to go on.
struct Patient;
impl Choreography for Patient {
    const NAME: &'static str = "patient";
    type Roles = (Back,);
    type Input = At<Back, ()>;
    type Output = At<Back, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, start: At<Back, ()>) -> Result<At<Back, u32>, Abort> {
        ctx.transact(OneWay, &start).await?;
        let first: At<Back, u32> = ctx.signal(Back, "go").await?;
        ctx.locally(Back, |here| here.service().pass("stumble"));
        ctx.publish(Back, &first);
        ctx.signal(Back, "go").await
    }
}

/// A machine that may lose power. A lazy write that is delayed waits for ever there.
#[derive(Default)]
struct Machine {
    disk: MemoryDisk,
    outside: std::sync::Arc<Outside>,
}

impl Machine {
    async fn start(&self) -> (TestNode, Session<Patient>) {
        let mut settings = quick();
        (settings.limits.tries_max, settings.supervision.instances.delay_min) = (1, Duration::from_millis(50));
        settings.lazy_write_delay_max = Duration::from_hours(1);
        settings.retransmission_delay_min = Duration::from_hours(1);
        settings.retransmission_delay_max = Duration::from_hours(1);
        settings.retention.age_min = Duration::from_hours(1);
        let builder = all_roles("machine", self.disk.open().unwrap(), LocalNetwork::new(), &self.outside);
        let node = TestNode::start(builder.settings(settings).choreography(Patient)).await;
        let session = within(node.start(Patient, ()).key("k")).await.unwrap();
        (node, session)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_survives_a_power_cut() {
    let machine = Machine::default();
    let (_node, session) = machine.start().await;
    within(session.initiator().signal("go", "1", &1u32)).await.unwrap();
    machine.disk.crash(0);

    let (_node, session) = machine.start().await;
    until_view(&session, 1).await;
    assert!(within(session.cancel("enough")).await.unwrap());
    machine.disk.crash(0);

    let (node, session) = machine.start().await;
    let aborted = within(session.output()).await.unwrap_err();
    assert!(matches!(&aborted, SessionError::Aborted(abort) if abort.message() == "enough"), "{aborted}");
    assert!(within(session.cancel("enough")).await.unwrap(), "it may be repeated");
    assert!(!within(session.cancel("for another reason")).await.unwrap());
    until("a step in trouble", || !node.operator().troubled_sessions().is_empty()).await;
    assert_eq!(
        within(node.operator().instance(session.id(), RoleIndex(0)).resolve(Resolution::Compensated)).await.unwrap(),
        1
    );
    machine.disk.crash(0);

    let (node, session) = machine.start().await;
    let aborted = within(session.settled()).await.unwrap_err();
    assert!(matches!(&aborted, SessionError::Aborted(abort) if abort.message() == "enough"), "{aborted}");
    assert_eq!(node.operator().troubled_sessions(), []);
}

async fn until_view(session: &Session<Patient>, expected: u32) {
    within(async {
        while session.initiator().query::<u32>().await.unwrap() != Some(expected) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_during_a_restart_is_answered_after_it() {
    let machine = Machine::default();
    machine.outside.trip("stumble", 1);
    let (_node, session) = machine.start().await;
    // The signal makes it stumble before it can answer.
    within(session.initiator().signal("go", "1", &1u32)).await.unwrap();
    assert_eq!(machine.outside.trips_left("stumble"), 0);
    assert_eq!(within(session.initiator().status()).await.unwrap(), Status::Running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_means_one_value_for_as_long_as_it_is_known() {
    let machine = Machine::default();
    let (_node, session) = machine.start().await;
    within(session.initiator().signal("go", "1", &1u32)).await.unwrap();
    until_view(&session, 1).await;
    within(session.initiator().signal("go", "1", &1u32)).await.unwrap();
    let reused = within(session.initiator().signal("go", "1", &2u32)).await.unwrap_err();
    assert!(matches!(reused, AskError::Signal(SignalError::KeyReused { .. })), "{reused}");
}

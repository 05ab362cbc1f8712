//! A service's own actors in the node's tree.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use accompanist::store::MemoryDisk;
use accompanist::supervision::{Group, Policy, Restart, Strategy};
use accompanist::transport::LocalNetwork;
use accompanist::{NodeBuilder, NodeError};

use crate::support::{on_disk, until, within};
use crate::trade::Front;

/// What the actors of a test do, in order, and how they are reached.
#[derive(Clone, Default)]
struct Crew(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    log: Vec<String>,
    alive: BTreeMap<&'static str, ActorRef<Order>>,
    /// Who cannot be started, how often yet.
    unable: BTreeMap<&'static str, u32>,
}

#[derive(Debug)]
enum Order {
    Panic,
    Leave,
}

struct Worker(Crew, &'static str);

impl Actor for Worker {
    type Msg = Order;
    type State = ();
    type Arguments = ();
    async fn pre_start(&self, myself: ActorRef<Order>, (): ()) -> Result<(), ActorProcessingErr> {
        let mut crew = self.0.0.lock().unwrap();
        if let Some(times) = crew.unable.get_mut(self.1).filter(|times| **times > 0) {
            *times -= 1;
            return Err("no tools".into());
        }
        assert!(crew.alive.insert(self.1, myself).is_none(), "two of `{}`", self.1);
        crew.log.push(format!("+{}", self.1));
        Ok(())
    }
    async fn handle(&self, myself: ActorRef<Order>, order: Order, (): &mut ()) -> Result<(), ActorProcessingErr> {
        if matches!(order, Order::Panic) {
            self.0.gone(self.1, "!");
            panic!("as ordered");
        }
        myself.stop(None);
        Ok(())
    }
    async fn post_stop(&self, _: ActorRef<Order>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.0.gone(self.1, "-");
        Ok(())
    }
}

impl Crew {
    fn gone(&self, name: &'static str, how: &str) {
        let mut crew = self.0.lock().unwrap();
        crew.alive.remove(name);
        crew.log.push(format!("{how}{name}"));
    }
    fn log(&self) -> String {
        self.0.lock().unwrap().log.join(" ")
    }
    async fn logs(&self, expected: &str) {
        until(expected, || self.log() == expected).await;
    }
    fn order(&self, name: &str, order: Order) {
        self.0.lock().unwrap().alive[name].cast(order).unwrap();
    }
    fn unable(&self, name: &'static str, times: u32) {
        self.0.lock().unwrap().unable.insert(name, times);
    }
    fn start(&self, name: &'static str) -> impl Fn(ActorCell) -> StartFuture + Send + Sync + 'static {
        let crew = self.clone();
        move |supervisor| {
            let crew = crew.clone();
            Box::pin(
                async move { Ok(Actor::spawn_linked(None, Worker(crew, name), (), supervisor).await?.0.get_cell()) },
            )
        }
    }
    /// Three of them: `a` permanent, `b` transient, `c` temporary.
    fn group(&self, strategy: Strategy) -> Group {
        let policy = Policy { strategy, restarts_max: 2, delay_min: Duration::from_millis(1), ..Policy::default() };
        Group::new("crew")
            .policy(policy)
            .child("a", Restart::Permanent, self.start("a"))
            .child("b", Restart::Transient, self.start("b"))
            .child("c", Restart::Temporary, self.start("c"))
    }
}

type StartFuture = std::pin::Pin<Box<dyn Future<Output = Result<ActorCell, SpawnErr>> + Send>>;

fn builder(settings: Settings) -> NodeBuilder {
    let builder = on_disk("node", &MemoryDisk::default(), LocalNetwork::new());
    builder.settings(settings).role(Front, Arc::new(()))
}

fn settings(strategy: Strategy) -> Settings {
    let mut settings = Settings::default();
    settings.supervision.tree.strategy = strategy;
    settings.supervision.tree.delay_min = Duration::from_millis(1);
    settings.supervision.tree.restarts_max = 1;
    settings
}

async fn run(crew: &Crew, strategy: Strategy) -> Node {
    within(builder(settings(Strategy::OneForOne)).supervise(crew.group(strategy)).start()).await.unwrap()
}

#[tokio::test]
async fn one_for_one_restarts_only_the_failed_child() {
    let crew = Crew::default();
    let node = run(&crew, Strategy::OneForOne).await;
    assert_eq!(crew.log(), "+a +b +c");
    crew.order("b", Order::Panic);
    crew.logs("+a +b +c !b +b").await;
    crew.order("b", Order::Leave);
    crew.logs("+a +b +c !b +b -b").await;
    crew.order("c", Order::Panic);
    crew.logs("+a +b +c !b +b -b !c").await;
    crew.order("a", Order::Leave);
    crew.logs("+a +b +c !b +b -b !c -a +a").await;
    within(node.shutdown()).await;
    crew.logs("+a +b +c !b +b -b !c -a +a -a").await;
}

#[tokio::test]
async fn one_for_all_stops_the_others_first_the_last_one_first() {
    let crew = Crew::default();
    let node = run(&crew, Strategy::OneForAll).await;
    crew.order("b", Order::Panic);
    crew.logs("+a +b +c !b -c -a +a +b").await;
    within(node.shutdown()).await;
    crew.logs("+a +b +c !b -c -a +a +b -b -a").await;
}

#[tokio::test]
async fn rest_for_one_leaves_those_before_alone() {
    let crew = Crew::default();
    let node = run(&crew, Strategy::RestForOne).await;
    crew.order("b", Order::Panic);
    crew.logs("+a +b +c !b -c +b").await;
    crew.order("a", Order::Panic);
    crew.logs("+a +b +c !b -c +b !a -b +a +b").await;
    within(node.shutdown()).await;
}

#[tokio::test]
async fn one_that_cannot_be_started_again_is_tried_again_and_those_after_it_wait() {
    let crew = Crew::default();
    let node = run(&crew, Strategy::RestForOne).await;
    crew.unable("a", 1);
    crew.order("a", Order::Panic);
    crew.logs("+a +b +c !a -c -b +a +b").await;
    within(node.shutdown()).await;
}

#[tokio::test]
async fn a_group_that_fails_too_often_is_started_again_and_then_the_node_gives_up() {
    let crew = Crew::default();
    let node = run(&crew, Strategy::OneForOne).await;
    let mut expected = "+a +b +c".to_owned();
    for whole in [false, false, true, false, false] {
        crew.order("a", Order::Panic);
        expected += if whole { " !a -c -b +a +b +c" } else { " !a +a" };
        crew.logs(&expected).await;
    }
    crew.order("a", Order::Panic);
    let NodeError::RestartedTooOften { part, times, reason, .. } = within(node.failed()).await else { panic!() };
    assert_eq!((part.as_str(), times), ("group `crew`", 2));
    assert!(reason.contains("`a`, with: as ordered"), "{reason}");
    crew.logs(&(expected + " !a -c -b")).await;
}

#[tokio::test]
async fn a_group_that_cannot_start_is_an_error() {
    let crew = Crew::default();
    crew.unable("b", 1);
    let node = within(builder(Settings::default()).supervise(crew.group(Strategy::OneForOne)).start()).await;
    let text = node.unwrap_err().to_string();
    assert!(
        text.contains("group `crew` cannot be started") && text.contains("`b`") && text.contains("no tools"),
        "{text}"
    );
    crew.logs("+a -a").await;

    let twice = builder(Settings::default()).supervise(Group::new("crew")).supervise(Group::new("crew"));
    assert!(matches!(within(twice.start()).await, Err(NodeError::GroupTwice(_))));
}

#[tokio::test]
async fn groups_are_one_tree_with_the_node() {
    let (first, second) = (Crew::default(), Crew::default());
    let policy = Policy { restarts_max: 0, ..Policy::default() };
    let group = |name: &str, crew: &Crew| {
        Group::new(name).policy(policy.clone()).child("a", Restart::Permanent, crew.start("a"))
    };
    let builder = builder(settings(Strategy::RestForOne));
    let builder = builder.supervise(group("first", &first)).supervise(group("second", &second));
    let node = within(builder.start()).await.unwrap();
    first.order("a", Order::Panic);
    first.logs("+a !a +a").await;
    second.logs("+a -a +a").await;
    within(node.shutdown()).await;
}

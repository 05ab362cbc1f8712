//! Role families on nodes: how members are placed, and that they go on where they were after a crash of their node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use accompanist::{FamilySizeError, MEMBERS_MAX, NodeBuilder, NodeError};

use crate::support::{TestNode, node_id, on_disk, within};

#[derive(Clone, Copy)]
struct Client;
impl Role for Client {
    const NAME: &'static str = "client";
    type Service = ();
}

#[derive(Clone, Copy)]
struct Worker;
impl Role for Worker {
    const NAME: &'static str = "worker";
    type Service = String; // The name of the node.
}

/// How often each member has marked a session here.
const MARKS: Table<u32, u32> = Table::new("marks");

/// Marks the session as worked on by a member. Refuses the mark of a member that is not to take part.
struct Mark;
impl LocalTransaction for Mark {
    const NAME: &'static str = "mark";
    type Role = Worker;
    type Input = (u32, bool);
    type Output = ();
    fn commit(&self, state: &mut State<'_>, (member, takes_part): &(u32, bool)) -> Result<(), Abort> {
        if !takes_part {
            return Err(Abort::new("busy", "this worker takes no part"));
        }
        MARKS.update(state, *member, |marks| Ok(marks.unwrap_or_default() + 1)).map(drop)
    }
    fn compensate(&self, state: &mut State<'_>, (member, _): &(u32, bool), (): &()) -> Result<(), Retry> {
        MARKS.update(state, *member, |marks| Ok(marks.unwrap_or_default() - 1))?;
        Ok(())
    }
}

/// Each worker marks the session, waits for a signal, and marks it again if the client says so.
struct Shift;
impl Choreography for Shift {
    const NAME: &'static str = "shift";
    type Roles = (Client, Many<Worker>);
    type Input = At<Client, Vec<bool>>;
    type Output = At<Client, Vec<u32>>;
    async fn run(&self, ctx: &Context<Self::Roles>, again: At<Client, Vec<bool>>) -> Result<Self::Output, Abort> {
        let marks = ctx.each(Worker, |_, member| (number(member), true));
        ctx.transact_each(Mark, &marks).await?;
        let tools = ctx.for_each(Worker, (), async |ctx, _| ctx.signal::<_, u32, _>(Worker, "tool").await).await?;
        let again = ctx.scatter(Client, Worker, &again).await?;
        let marks = ctx.each(Worker, |worker, member| (number(member), *worker.get(again.at(member))));
        ctx.transact_each(Mark, &marks).await?;
        ctx.gather_each(Worker, Client, &tools).await
    }
}

/// Which node plays each member.
struct Who;
impl Choreography for Who {
    const NAME: &'static str = "who";
    type Roles = (Client, Many<Worker>);
    type Input = At<Client, ()>;
    type Output = At<Client, Vec<String>>;
    async fn run(&self, ctx: &Context<Self::Roles>, _: At<Client, ()>) -> Result<Self::Output, Abort> {
        let nodes = ctx.each(Worker, |worker, _| worker.service().clone());
        ctx.gather_each(Worker, Client, &nodes).await
    }
}

fn number(member: FamilyMember<Worker>) -> u32 {
    u32::try_from(member.number()).unwrap()
}

/// A network and a disk for each node, by name.
#[derive(Default)]
struct Yard {
    network: LocalNetwork,
    disks: [MemoryDisk; 3],
}

impl Yard {
    fn builder(&self, name: &str, disk: usize) -> NodeBuilder {
        let builder = on_disk(name, &self.disks[disk], self.network.clone()).choreography(Shift).choreography(Who);
        if disk == 0 { builder.role(Client, Arc::new(())) } else { builder.role(Worker, Arc::new(name.to_owned())) }
    }

    async fn client(&self) -> TestNode {
        TestNode::start(self.builder("client-1", 0)).await
    }

    async fn worker(&self, number: usize) -> TestNode {
        TestNode::start(self.builder(&format!("worker-{number}"), number)).await
    }
}

/// The marks at this node, by member.
async fn marks(node: &Node) -> BTreeMap<u32, u32> {
    let read = |state: &State<'_>| MARKS.range(state, ..).collect::<Result<BTreeMap<_, _>, _>>().unwrap();
    node.read_state(Worker, read).await.unwrap()
}

/// Waits until the members have marked the session, wherever they are.
async fn all_have_marked(nodes: [&Node; 2], members: usize) -> [BTreeMap<u32, u32>; 2] {
    within(async {
        loop {
            let both = [marks(nodes[0]).await, marks(nodes[1]).await];
            if both.iter().map(BTreeMap::len).sum::<usize>() == members {
                return both;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
}

/// Gives each member its tool, at the node that plays it: the last member, which may refuse, comes last.
async fn give_tools(session: SessionId, nodes: [&Node; 2], placed: &[BTreeMap<u32, u32>; 2]) {
    let members =
        nodes.into_iter().zip(placed).flat_map(|(node, members)| members.keys().map(move |member| (*member, node)));
    let members: BTreeMap<u32, &Node> = members.collect();
    for (member, node) in members {
        let handle = node.member_instance(Shift, session, Worker, u8::try_from(member).unwrap());
        within(handle.signal("tool", "1", &(100 + member))).await.unwrap();
    }
}

/// Runs a shift of five members on two nodes, of which the second is killed while all members wait for their tools.
/// Returns the output, and the marks of both nodes at the end.
async fn shift(last_again: bool) -> (Result<Vec<u32>, SessionError>, [BTreeMap<u32, u32>; 2]) {
    let yard = Yard::default();
    let (client, one, two) = (yard.client().await, yard.worker(1).await, yard.worker(2).await);
    within(async {
        loop {
            let nodes = client.start(Who, ()).members(Worker, 2).await.unwrap().settled().await.unwrap();
            if nodes[0] != nodes[1] {
                break; // The client can cast both.
            }
        }
    })
    .await;
    let again = vec![true, true, true, true, last_again];
    let session = within(client.start(Shift, again).members(Worker, 5)).await.unwrap();
    let placed = all_have_marked([&one, &two], 5).await;
    let mut sizes = placed.each_ref().map(BTreeMap::len);
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 3], "the members are spread: {placed:?}");

    within(two.kill()).await;
    drop(two);
    yard.disks[2].crash(0);
    let two = yard.worker(2).await;
    give_tools(session.id(), [&one, &two], &placed).await;
    let output = within(session.settled()).await;
    for node in [&client, &one, &two] {
        node.is_idle().await;
    }
    let end = [marks(&one).await, marks(&two).await];
    assert_eq!(end.each_ref().map(BTreeMap::len), placed.each_ref().map(BTreeMap::len), "nobody has moved");
    for node in [client, one, two] {
        within(node.shutdown()).await;
    }
    (output, end)
}

#[tokio::test]
async fn five_members_on_two_nodes_go_on_after_one_of_the_nodes_was_killed_in_the_middle() {
    let (output, marks) = shift(true).await;
    assert_eq!(output.unwrap(), [100, 101, 102, 103, 104]);
    assert!(marks.iter().flat_map(BTreeMap::values).all(|marks| *marks == 2), "{marks:?}");
}

#[tokio::test]
async fn all_members_compensate_on_both_nodes_if_one_of_them_refuses() {
    let (output, marks) = shift(false).await;
    assert!(matches!(output, Err(SessionError::Aborted(abort)) if abort.code() == "busy"));
    assert!(marks.iter().flat_map(BTreeMap::values).all(|marks| *marks == 0), "{marks:?}");
}

#[tokio::test]
async fn a_start_gives_a_family_a_size_that_it_can_have() {
    let yard = Yard::default();
    let (client, one) = (yard.client().await, yard.worker(1).await);
    let error = within(client.start(Shift, Vec::new())).await.unwrap_err();
    assert!(matches!(error, StartError::Family(FamilySizeError::NoSize { family: "worker" })), "{error}");
    let error = within(client.start(Shift, Vec::new()).members(Worker, MEMBERS_MAX + 1)).await.unwrap_err();
    assert!(matches!(error, StartError::Family(FamilySizeError::TooLarge { .. })), "{error}");
    let error = within(client.start(Shift, Vec::new()).members(Worker, 1).members(Worker, 2)).await.unwrap_err();
    assert!(matches!(error, StartError::OptionTwice { .. }), "{error}");
    // A family without members needs no node, and one node plays as many as are wanted.
    let none = within(client.start(Shift, Vec::new()).members(Worker, 0)).await.unwrap();
    assert_eq!(within(none.settled()).await.unwrap(), Vec::<u32>::new());
    let all =
        within(client.start(Shift, vec![true; MEMBERS_MAX]).key("all").members(Worker, MEMBERS_MAX)).await.unwrap();
    let error = client.start(Shift, vec![true; MEMBERS_MAX]).key("all").members(Worker, 1);
    assert!(matches!(within(error).await, Err(StartError::OtherInput { .. })));
    let placed = all_have_marked([&one, &one], 2 * MEMBERS_MAX).await;
    give_tools(all.id(), [&one, &one], &[placed[0].clone(), BTreeMap::new()]).await;
    assert_eq!(within(all.settled()).await.unwrap().len(), MEMBERS_MAX);
    for node in [client, one] {
        node.is_idle().await;
        within(node.shutdown()).await;
    }
}

/// Started by a member of its family.
struct FromBelow;
impl Choreography for FromBelow {
    const NAME: &'static str = "from-below";
    type Roles = (Client, Many<Worker>);
    type Input = At<Worker, ()>;
    type Output = At<Worker, ()>;
    async fn run(&self, _: &Context<Self::Roles>, unit: At<Worker, ()>) -> Result<At<Worker, ()>, Abort> {
        Ok(unit)
    }
}

#[tokio::test]
async fn a_choreography_that_a_family_would_start_is_refused_by_the_builder() {
    let disk = MemoryDisk::default();
    let builder = Node::builder(node_id("one")).store(disk.open().unwrap()).transport(LocalNetwork::new());
    let error =
        within(builder.role(Worker, Arc::new(String::new())).choreography(FromBelow).start()).await.unwrap_err();
    assert!(matches!(error, NodeError::StartedByFamily { role: "worker", .. }), "{error}");
}

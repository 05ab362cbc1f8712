//! Releases of one small system: three sites with a role each, and choreographies that change from one to the next.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use accompanist::NodeBuilder;
use accompanist::contract::Transport;
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;

use crate::support::{TestNode, on_disk, within};
use crate::trade::{Back, Deal, Dispatch, Front, Outside, Pay, Side};

/// Notes in its role's state which version came by; taken back, it notes that, too.
struct Mark<R>(u32, PhantomData<R>);

/// What a mark that was compensated has on top of its version.
pub const COMPENSATED: u32 = 100;

impl<R: Role> LocalTransaction for Mark<R> {
    const NAME: &'static str = "mark";
    type Role = R;
    type Input = Deal;
    type Output = u32;
    fn commit(&self, state: &mut State<'_>, deal: &Deal) -> Result<u32, Abort> {
        note(state, deal.id, self.0)?;
        Ok(self.0)
    }
    fn compensate(&self, state: &mut State<'_>, deal: &Deal, marked: &u32) -> Result<(), Retry> {
        Ok(note(state, deal.id, marked + COMPENSATED)?)
    }
}

fn mark<R: Role>(_: R, version: u32) -> Mark<R> {
    Mark(version, PhantomData)
}

const MARKS: Table<u32, Vec<u32>> = Table::new("marks");

fn note(state: &mut State<'_>, id: u32, what: u32) -> Result<(), Abort> {
    let mut marks = MARKS.get(state, id)?.unwrap_or_default();
    marks.push(what);
    MARKS.put(state, id, &marks)
}

/// What was noted of a deal at `role`.
pub async fn marks<R: Role>(node: &Node, role: R, id: u32) -> Vec<u32> {
    node.read_state(role, move |state| MARKS.get(state, id).unwrap().unwrap_or_default()).await.unwrap()
}

/// What was noted of a deal at all three roles, which has to be the same.
pub async fn all_marks([back, front, side]: [&Node; 3], id: u32) -> Vec<u32> {
    let found = marks(front, Front, id).await;
    assert_eq!([marks(back, Back, id).await, marks(side, Side, id).await], [found.clone(), found.clone()], "deal {id}");
    found
}

/// The first version of `order`. All roles are in it while the back waits at its gate.
pub struct First;
impl Choreography for First {
    const NAME: &'static str = "order";
    type Roles = (Back, Front, Side);
    type Input = At<Front, Deal>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, deal: At<Front, Deal>) -> Result<At<Front, u32>, Abort> {
        ctx.transact(mark(Front, 1), &deal).await?;
        let at_side = ctx.comm(Front, Side, &deal).await?;
        ctx.transact(mark(Side, 1), &at_side).await?;
        let bill = ctx.comm(Side, Back, &at_side).await?;
        ctx.transact(mark(Back, 1), &bill).await?;
        let paid = ctx.transact(Pay, &bill).await?;
        ctx.multicast(Back, (Front, Side), &paid).await?;
        ctx.transact(Dispatch, &deal).await?;
        Ok(ctx.locally(Front, |_| 1))
    }
}

/// The second: other steps under the same paths, in another order, with its roles in another order, too.
pub struct Second;
impl Choreography for Second {
    const NAME: &'static str = "order";
    const VERSION: u32 = 2;
    type Roles = (Front, Side, Back);
    type Input = At<Front, Deal>;
    type Output = At<Front, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, deal: At<Front, Deal>) -> Result<At<Front, u32>, Abort> {
        let (bill, at_side) = ctx.multicast(Front, (Back, Side), &deal).await?;
        let paid = ctx.transact(Pay, &bill).await?;
        ctx.transact(mark(Back, 2), &bill).await?;
        ctx.transact(mark(Side, 2), &at_side).await?;
        ctx.comm(Back, Side, &paid).await?;
        ctx.comm(Side, Front, &at_side).await?;
        ctx.transact(mark(Front, 2), &deal).await?;
        ctx.transact(Dispatch, &deal).await?;
        Ok(ctx.locally(Front, |_| 2))
    }
}

/// `order` as a caller of the versions before cannot follow it: a version, the role that starts it, what it gives.
macro_rules! other_order {
    ($name:ident, $version:literal, $role:ident, $output:ty, $value:expr) => {
        pub struct $name;
        impl Choreography for $name {
            const NAME: &'static str = "order";
            const VERSION: u32 = $version;
            type Roles = (Back, Front, Side);
            type Input = At<$role, Deal>;
            type Output = At<$role, $output>;
            async fn run(&self, ctx: &Context<Self::Roles>, _: Self::Input) -> Result<Self::Output, Abort> {
                Ok(ctx.locally($role, |_| $value))
            }
        }
    };
}
other_order!(Third, 3, Front, String, "three".to_owned());
other_order!(Fourth, 4, Side, u32, 4);

/// `invoice`, with the patches its code knows and how it asks for one.
macro_rules! invoice {
    ($name:ident, $patches:expr, |$ctx:ident| $mark:expr) => {
        pub struct $name;
        impl Choreography for $name {
            const NAME: &'static str = "invoice";
            const PATCHES: &'static [&'static str] = &$patches;
            type Roles = (Back, Front, Side);
            type Input = At<Front, Deal>;
            type Output = At<Front, u32>;
            async fn run(&self, $ctx: &Context<Self::Roles>, deal: At<Front, Deal>) -> Result<At<Front, u32>, Abort> {
                let (bill, at_side) = $ctx.multicast(Front, (Back, Side), &deal).await?;
                let paid = $ctx.transact(Pay, &bill).await?;
                let version = $mark;
                if version > 1 {
                    $ctx.comm(Back, Front, &paid).await?;
                }
                $ctx.transact(mark(Back, version), &bill).await?;
                $ctx.multicast(Back, (Front, Side), &paid).await?;
                $ctx.transact(mark(Side, version), &at_side).await?;
                $ctx.transact(mark(Front, version), &deal).await?;
                Ok($ctx.locally(Front, |_| version))
            }
        }
    };
}
invoice!(Plain, [], |ctx| 1);
invoice!(Patched, ["older", "thanks"], |ctx| if ctx.patched("thanks") { 2 } else { 1 });

/// What a site's binary has of `order` and `invoice`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The first version.
    One,
    /// The first and the second.
    Both,
    /// The second.
    Two,
    /// All there are, of other types, too.
    All,
    /// Invoices without a patch.
    Plain,
    /// Invoices with one.
    Patched,
}

fn with(builder: NodeBuilder, release: Release) -> NodeBuilder {
    match release {
        Release::One => builder.choreography(First),
        Release::Both => builder.choreography(Second).choreography(First),
        Release::Two => builder.choreography(Second),
        Release::All => builder.choreography(First).choreography(Second).choreography(Third).choreography(Fourth),
        Release::Plain => builder.choreography(Plain),
        Release::Patched => builder.choreography(Patched),
    }
}

/// Where the three nodes live: their disks, and what is outside.
#[derive(Default)]
pub struct Sites<N> {
    pub disks: [MemoryDisk; 3],
    pub outside: Arc<Outside>,
    pub network: N,
}

impl<N: Transport + Clone> Sites<N> {
    /// The node of the site with this index (0 the back, 1 the front, 2 the side).
    pub fn builder(&self, index: usize, release: Release) -> NodeBuilder {
        let builder = on_disk(["back", "front", "side"][index], &self.disks[index], self.network.clone());
        let builder = match index {
            0 => builder.role(Back, self.outside.clone()),
            1 => builder.role(Front, Arc::new(())),
            _ => builder.role(Side, Arc::new(())),
        };
        with(builder, release)
    }

    pub async fn start(&self, index: usize, release: Release) -> TestNode {
        TestNode::start(self.builder(index, release)).await
    }

    pub async fn start_all(&self, [back, front, side]: [Release; 3]) -> [TestNode; 3] {
        [self.start(0, back).await, self.start(1, front).await, self.start(2, side).await]
    }
}

/// Waits until something holds of what is open at each node, by version.
pub async fn open_everywhere(nodes: &[TestNode; 3], holds: impl Fn(&[[usize; 2]; 3]) -> bool) {
    let look = async {
        let [back, front, side] = nodes;
        while !holds(&[open_orders(back).await, open_orders(front).await, open_orders(side).await]) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(look).await;
}

/// How many instances of `order` are open at a node, by version.
pub async fn open_orders(node: &Node) -> [usize; 2] {
    let open = node.operator().open_versions().await.unwrap();
    [1, 2].map(|version| open.get(&("order".to_owned(), version)).copied().unwrap_or_default())
}

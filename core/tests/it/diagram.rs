//! Sequence diagrams of choreographies, from runs of them.

use std::ops::ControlFlow;
use std::time::Duration;

use accompanist_core::testing::{Diagram, TestSetup};
use accompanist_core::{
    Abort, At, Choreography, Context, FamilyMember, Known, LocalTransaction, Located, Many, Retry, Role, Services,
    State,
};

use crate::rig::{choreography, roles};

roles! { Buyer "buyer" (), Seller "seller" (), Carrier "carrier" (), Worker "worker" () }

type All = (Buyer, Seller, Carrier);

async fn drawn<C: Choreography>(choreography: C, cases: &[(&str, <C::Input as Located>::Value)]) -> Diagram
where
    <C::Input as Located>::Value: Clone,
{
    let cases = cases.iter().map(|(label, input)| (*label, input.clone(), TestSetup::new(Services::new())));
    Diagram::of_cases(choreography, cases).await.unwrap_or_else(|failure| panic!("{failure}"))
}

/// Takes what its role is asked for, up to ten.
struct Take<R>(&'static str, R);
impl<R: Role> LocalTransaction for Take<R> {
    const NAME: &'static str = R::NAME;
    type Role = R;
    type Input = u32;
    type Output = u32;
    fn commit(&self, _: &mut State<'_>, n: &u32) -> Result<u32, Abort> {
        (*n <= 10).then_some(n * 25).ok_or(Abort::new("too-many", self.0))
    }
    fn compensate(&self, _: &mut State<'_>, _: &u32, _: &u32) -> Result<(), Retry> {
        Ok(())
    }
}

// The seller has enough; the carrier may not, and then the buyer may give up.
choreography!(Order: All, At<Buyer, u32> => At<Buyer, Option<u32>>, |ctx, n| {
    let there = ctx.comm(Buyer, Seller, &n).await?;
    let half = ctx.locally(Seller, |here| here.get(&there) / 2);
    let price = ctx.transact(Take("", Seller), &half).await?;
    let price = ctx.comm(Seller, Buyer, &price).await?;
    let parcel = ctx.comm(Buyer, Carrier, &n).await?;
    if ctx.broadcast(Buyer, &ctx.locally(Buyer, |here| *here.get(&n) == 1)).await? {
        return ctx.abort(Abort::new("alone", "one is not worth it")).await;
    }
    ctx.transact(Take("", Carrier), &parcel).await?;
    Ok(ctx.locally(Buyer, |here| Some(*here.get(&price))))
});

#[tokio::test]
async fn alternatives_are_steps_refusals_aborts_and_compensations() {
    let diagram = drawn(Order, &[("few", 3), ("more", 9), ("many", 12), ("one", 1)]).await;
    insta::assert_snapshot!(diagram.mermaid(), @r"
    sequenceDiagram
        participant r0 as buyer
        participant r1 as seller
        participant r2 as carrier
        Note over r0: starts with u32
        r0->>r1: u32
        Note over r1: seller
        r1->>r0: u32
        alt few, or more
            r0->>r2: u32
            r0->>r1: bool
            r0->>r2: bool
            Note over r2: carrier
            Note over r0: ends with Option#lt;u32#gt;
        else many
            r0->>r2: u32
            r0->>r1: bool
            r0->>r2: bool
            Note over r2: carrier refuses: too-many
            r2--xr0: abort: too-many
            r2--xr1: abort: too-many
            Note over r1: compensate seller
            Note over r0: aborted: too-many
        else one
            Note over r0: abort: alone
            r0--xr1: abort: alone
            r0--xr2: abort: alone
            Note over r1: compensate seller
            Note over r0: aborted: alone
        end
    ");
}

#[tokio::test]
async fn a_diagram_of_one_run_has_no_alternatives() {
    let diagram = Diagram::of(Order, 12, TestSetup::new(Services::new())).await.unwrap();
    assert!(!diagram.mermaid().contains("alt") && diagram.mermaid().contains("refuses: too-many"));
    assert_eq!(diagram, drawn(Order, &[("", 12)]).await, "runs are alike");
}

struct Quote;
impl Choreography for Quote {
    const NAME: &'static str = "quote";
    type Roles = (Buyer, Seller);
    type Input = At<Buyer, u32>;
    type Output = At<Buyer, u32>;
    async fn run(&self, ctx: &Context<Self::Roles>, n: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
        let there = ctx.comm(Buyer, Seller, &n).await?;
        ctx.comm(Seller, Buyer, &there).await
    }
}

choreography!(Scopes: All, At<Buyer, u32> => At<Buyer, (u32, Result<u8, String>)>, |ctx, n| {
    let (left, right) = (ctx.fork(), ctx.fork());
    let (quoted, seen) = tokio::try_join!(
        left.perform(&Quote, n.clone()),
        right.effect(Carrier, "look out of the window", async |_| Ok::<u8, String>(3)),
    )?;
    let alone = ctx.fork();
    alone.sleep(Carrier, Duration::from_hours(1)).await?;
    let seen = ctx.conclave((Seller, Carrier), async |ctx| ctx.comm(Carrier, Seller, &seen).await).await?;
    let tried = ctx.saga((Seller, Carrier), async |ctx| {
        let parcels = ctx.locally(Seller, |_| 4);
        ctx.transact(Take("", Seller), &parcels).await?;
        let parcels = ctx.comm(Seller, Carrier, &ctx.locally(Seller, |_| 11)).await?;
        ctx.transact(Take("", Carrier), &parcels).await
    }).await?;
    assert_eq!(tried.unwrap_err().code(), "too-many");
    ctx.saga((Buyer, Seller), async |ctx| {
        ctx.comm(Seller, Buyer, &seen).await?;
        ctx.abort::<()>(Abort::new("anyway", "a test")).await
    }).await?.unwrap_err();
    let last = ctx.repeat(Known(0), async |ctx, Known(turn)| {
        if turn == 3 { ctx.broadcast(Buyer, &ctx.locally(Buyer, |_| true)).await?; }
        ctx.comm(Seller, Carrier, &ctx.locally(Seller, |_| turn)).await?;
        Ok(if turn < 4 { ControlFlow::Continue(Known(turn + 1)) } else { ControlFlow::Break(()) })
    });
    last.await?;
    ctx.gather((Buyer, Seller), Buyer, (&quoted, &seen)).await
});

#[tokio::test]
async fn scopes_forks_and_loops_are_frames() {
    insta::assert_snapshot!(drawn(Scopes, &[("", 7)]).await.mermaid(), @r"
    sequenceDiagram
        participant r0 as buyer
        participant r1 as seller
        participant r2 as carrier
        Note over r0: starts with u32
        par
            rect rgba(128, 128, 128, 0.12)
                Note over r0,r1: perform quote: buyer, seller
                r0->>r1: u32
                r1->>r0: u32
            end
        and
            Note over r2: look out of the window
        and
            Note over r2: sleep
        end
        rect rgba(128, 128, 128, 0.12)
            Note over r1,r2: conclave: seller, carrier
            r2->>r1: Result#lt;u8, String#gt;
        end
        rect rgba(128, 128, 128, 0.12)
            Note over r1,r2: saga: seller, carrier, aborted: too-many
            Note over r1: seller
            r1->>r2: u32
            Note over r2: carrier refuses: too-many
            Note over r1: compensate seller
        end
        rect rgba(128, 128, 128, 0.12)
            Note over r0,r1: saga: buyer, seller, aborted: anyway
            r1->>r0: Result#lt;u8, String#gt;
            Note over r0,r1: abort: anyway
        end
        loop turns 1 to 3
            r1->>r2: i32
        end
        loop turn 4
            r0->>r1: bool
            r0->>r2: bool
            r1->>r2: i32
        end
        loop turn 5
            r1->>r2: i32
        end
        r1->>r0: Result#lt;u8, String#gt;
        Note over r0: ends with (u32, Result#lt;u8, String#gt;)
    ");
}

choreography!(Signalled: All, At<Buyer, String> => At<Buyer, ()>, |ctx, n| {
    let told: At<Seller, Vec<u8>> = ctx.signal(Seller, "told; #1").await?;
    ctx.multicast(Seller, (Buyer, Carrier), &told).await?;
    ctx.comm_within(Carrier, Buyer, &ctx.locally(Carrier, |_| 0u8), Duration::from_secs(1)).await?;
    Ok(ctx.locally(Buyer, |here| { here.get(&n); }))
});

#[tokio::test]
async fn what_mermaid_and_svg_would_interpret_is_escaped() {
    let setup = TestSetup::new(Services::new()).signal(Seller, "told; #1", "1", &vec![1u8]);
    let diagram = Diagram::of(Signalled, "x".into(), setup).await.unwrap();
    insta::assert_snapshot!(diagram.mermaid(), @r"
    sequenceDiagram
        participant r0 as buyer
        participant r1 as seller
        participant r2 as carrier
        Note over r0: starts with String
        Note over r1: signal told#59; #35;1
        r1->>r0: Vec#lt;u8#gt;
        r1->>r2: Vec#lt;u8#gt;
        r2->>r0: u8
        Note over r0: ends with ()
    ");
    let svg = diagram.svg();
    assert!(svg.contains(">Vec&lt;u8&gt;</text>") && !svg.contains("Vec<u8>"), "{svg}");
}

// Worker 0 takes as many as it is told, each other one more than the one before.
choreography!(Families: (Buyer, Many<Worker>), At<Buyer, u32> => At<Buyer, Vec<u32>>, |ctx, n| {
    let each = ctx.multicast_each(Buyer, Worker, &n).await?;
    let each = ctx.each(Worker, |here, member| here.get(each.at(member)) + u32::try_from(member.number()).unwrap_or(0));
    let each = ctx.transact_each(Take("", Worker), &each).await?;
    let all = ctx.members(Worker);
    ctx.exchange(Worker, &each, |member: FamilyMember<Worker>| all.get(member.number() + 1)).await?;
    if let Some(last) = all.last() {
        ctx.broadcast_from(last, &ctx.each(Worker, |_, _| true)).await?;
        ctx.with_member(last, (Buyer,), async |ctx| {
            ctx.comm(Worker, Buyer, &ctx.locally(Worker, |_| 7u8)).await
        }).await?;
    }
    ctx.for_each(Worker, (), async |ctx, _| ctx.effect(Worker, "rest", async |_| ()).await).await?;
    let asked = ctx.for_each(Worker, (Buyer,), async |ctx, _| ctx.comm(Buyer, Worker, &n).await).await?;
    ctx.gather_each(Worker, Buyer, &asked).await
});

#[tokio::test]
async fn each_member_of_a_role_family_has_a_line() {
    let setup = |members| TestSetup::new(Services::new().members(Worker, members));
    let cases = [("all have enough", 9, setup(2)), ("one has not", 10, setup(2))];
    let diagram = Diagram::of_cases(Families, cases).await.unwrap_or_else(|failure| panic!("{failure}"));
    insta::assert_snapshot!(diagram.mermaid(), @r"
    sequenceDiagram
        participant r0 as buyer
        participant r1 as worker/0
        participant r2 as worker/1
        Note over r0: starts with u32
        r0->>r1: u32
        r0->>r2: u32
        Note over r1: worker
        alt all have enough
            Note over r2: worker
            r1->>r2: u32
            r2->>r0: bool
            r2->>r1: bool
            rect rgba(128, 128, 128, 0.12)
                Note over r0,r2: conclave: buyer, worker/1
                r2->>r0: u8
            end
            par
                Note over r1: rest
            and
                Note over r2: rest
            end
            par
                rect rgba(128, 128, 128, 0.12)
                    Note over r0,r1: conclave: buyer, worker/0
                    r0->>r1: u32
                end
            and
                rect rgba(128, 128, 128, 0.12)
                    Note over r0,r2: conclave: buyer, worker/1
                    r0->>r2: u32
                end
            end
            r1->>r0: u32
            r2->>r0: u32
            Note over r0: ends with Vec#lt;u32#gt;
        else one has not
            Note over r2: worker refuses: too-many
            r1->>r2: u32
            r2--xr0: abort: too-many
            r2--xr1: abort: too-many
            Note over r1: compensate worker
            Note over r0: aborted: too-many
        end
    ");
    let none = Diagram::of(Families, 9, setup(0)).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(!none.mermaid().contains("worker"), "{}", none.mermaid());
    let cases = [("one", 9, setup(1)), ("three", 9, setup(3))];
    let several = Diagram::of_cases(Families, cases).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(several.mermaid().contains("participant r3 as worker/2"), "{}", several.mermaid());
    let unsized_family = Diagram::of(Families, 9, TestSetup::new(Services::new())).await.unwrap_err();
    assert!(unsized_family.what.contains("`worker` has no size"), "{unsized_family}");
}

/// Every text of the Mermaid form is in the image, too, and every frame of it.
#[tokio::test]
async fn an_image_shows_what_the_text_does() {
    for diagram in [drawn(Order, &[("few", 3), ("many", 12)]).await, drawn(Scopes, &[("", 7)]).await] {
        let (mermaid, svg) = (diagram.mermaid(), diagram.svg());
        let count = |text: &str, of: &str| text.matches(of).count();
        let texts = mermaid.lines().filter_map(|line| line.split_once(": "));
        for (_, text) in texts.filter(|(begin, _)| !begin.contains("  loop")) {
            let text = text.replace("#lt;", "&lt;").replace("#gt;", "&gt;");
            assert!(svg.contains(&format!(">{text}</text>")), "{text} is not in {svg}");
        }
        assert_eq!(count(&svg, "marker-end"), count(&mermaid, "->>") + count(&mermaid, "--x"));
        assert_eq!(count(&svg, "class=\"frame\""), count(&mermaid, "end\n") - count(&mermaid, "send\n"));
        assert!(svg.starts_with("<svg xmlns") && svg.ends_with("</svg>\n"));
    }
}

choreography!(Stuck: All, At<Buyer, u32> => At<Buyer, u32>, |ctx, n| {
    let never: At<Buyer, u32> = ctx.signal(Buyer, "never").await?;
    drop(n);
    Ok(never)
});

#[tokio::test]
async fn a_run_that_does_not_end_is_no_diagram() {
    let failure = Diagram::of(Stuck, 7, TestSetup::new(Services::new())).await.unwrap_err();
    assert!(failure.what.contains("waits for signal `never`"), "{failure}");
}

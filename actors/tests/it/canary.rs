//! An errand that takes a secret through all that the library keeps, sends and says: for tests that look where it comes
//! out. Next: `encrypted`, `quiet`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use accompanist::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// What nobody may find.
pub const CANARY: &str = "canary-7f3a9c51e0d24b86";

#[derive(Clone, Copy)]
pub struct Desk;
#[derive(Clone, Copy)]
pub struct Clerk;

impl Role for Desk {
    const NAME: &'static str = "desk";
    type Service = ();
}
impl Role for Clerk {
    const NAME: &'static str = "clerk";
    type Service = Books;
}

/// How an errand goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// To its end.
    Through,
    /// Its last step is refused.
    Refused,
    /// Its program aborts.
    Aborted,
    /// A step on the built-in state panics.
    Panics,
    /// A step outside panics, once for each life of the session.
    PanicsOutside,
    /// A step on the built-in state reads a value as something else than it is.
    Mistyped,
    /// A step on the built-in state reads a key as something else than it is.
    MistypedKey,
    /// What is to be compensated cannot be at first.
    Retried,
    /// It waits for a word.
    Waits,
    /// It waits for a number.
    WaitsForNumber,
    /// A step's output is not what its type says.
    Odd,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    pub number: u32,
    pub way: Way,
    pub secret: String,
}

pub fn errand(number: u32, way: Way) -> Errand {
    Errand { number, way, secret: CANARY.into() }
}

/// A service that honours nothing and keeps nothing, but counts.
pub struct Books {
    asked: watch::Sender<u32>,
    /// How often a compensation or a commit still fails.
    pub failures: AtomicU32,
}

impl Default for Books {
    fn default() -> Self {
        Self { asked: watch::channel(0).0, failures: AtomicU32::new(2) }
    }
}

impl Books {
    fn fails(&self) -> bool {
        self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    pub async fn asked_times(&self, times: u32) {
        self.asked.subscribe().wait_for(|asked| *asked >= times).await.unwrap();
    }
}

/// What was noted, by errand.
pub const NOTES: Table<u32, String> = Table::new("notes");
/// Whose errands there were, by secret.
const OWNERS: Table<String, String> = Table::new("owners");
/// The same rows as something else.
const COUNTS: Table<String, u64> = Table::new("owners");
const NUMBERED: Table<u8, String> = Table::new("owners");

/// Written as a text, read as a number.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Odd(String);
impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(|number| Self(number.to_string()))
    }
}

/// Notes the secret at the desk.
struct Note;
impl LocalTransaction for Note {
    const NAME: &'static str = "note";
    type Role = Desk;
    type Input = Errand;
    type Output = String;
    fn commit(&self, state: &mut State<'_>, errand: &Errand) -> Result<String, Abort> {
        NOTES.put(state, errand.number, &errand.secret)?;
        if matches!(errand.way, Way::Mistyped | Way::MistypedKey) {
            OWNERS.put(state, &errand.secret, &errand.secret)?; // Keys are in clear on disk.
        }
        assert!(errand.way != Way::Panics, "as the test wants");
        match errand.way {
            Way::Mistyped => drop(COUNTS.get(state, &errand.secret)?),
            Way::MistypedKey => drop(NUMBERED.range(state, ..).collect::<Result<Vec<_>, Abort>>()?),
            _ => {}
        }
        Ok(errand.secret.clone())
    }
    fn compensate(&self, state: &mut State<'_>, errand: &Errand, _: &String) -> Result<(), Retry> {
        NOTES.put(state, errand.number, &format!("not {}", errand.secret))?;
        Ok(())
    }
}

/// Has it booked by the clerk.
struct Book;
impl Transaction for Book {
    const NAME: &'static str = "book";
    type Role = Clerk;
    type Input = Errand;
    type Output = String;
    async fn commit(&self, here: &Local<Clerk>, errand: &Errand) -> Result<String, Abort> {
        here.service().asked.send_modify(|asked| *asked += 1);
        assert!(errand.way != Way::PanicsOutside || !here.service().fails(), "as the test wants");
        Ok(format!("booked {}", errand.secret))
    }
    async fn compensate(&self, here: &Local<Clerk>, errand: &Errand, booked: &String) -> Result<(), Retry> {
        assert!(booked.contains(&errand.secret));
        let fails = errand.way == Way::Retried && here.service().fails();
        if fails { Err(Retry::new("the books are closed")) } else { Ok(()) }
    }
}

/// Is refused, or not.
struct Sign;
impl LocalTransaction for Sign {
    const NAME: &'static str = "sign";
    type Role = Desk;
    type Input = Errand;
    type Output = String;
    fn commit(&self, _: &mut State<'_>, errand: &Errand) -> Result<String, Abort> {
        match errand.way {
            Way::Refused | Way::Retried => Err(Abort::new("no-pen", "there is no pen")),
            _ => Ok(format!("signed {}", errand.secret)),
        }
    }
    fn compensate(&self, _: &mut State<'_>, _: &Errand, _: &String) -> Result<(), Retry> {
        Ok(())
    }
}

/// Gives what cannot be recorded.
struct Mumble;
impl Transaction for Mumble {
    const NAME: &'static str = "mumble";
    type Role = Clerk;
    type Input = Errand;
    type Output = Odd;
    async fn commit(&self, _: &Local<Clerk>, errand: &Errand) -> Result<Odd, Abort> {
        Ok(Odd(errand.secret.clone()))
    }
    async fn compensate(&self, _: &Local<Clerk>, _: &Errand, _: &Odd) -> Result<(), Retry> {
        Ok(())
    }
}

/// Notes, books, perhaps waits, signs. Its output is the secret.
pub struct Run;
impl Choreography for Run {
    const NAME: &'static str = "run";
    type Roles = (Desk, Clerk);
    type Input = At<Desk, Errand>;
    type Output = At<Desk, String>;
    async fn run(&self, ctx: &Context<Self::Roles>, errand: At<Desk, Errand>) -> Result<At<Desk, String>, Abort> {
        ctx.publish(Desk, &errand);
        ctx.transact(Note, &errand).await?;
        let there = ctx.comm(Desk, Clerk, &errand).await?;
        let booked = ctx.transact(Book, &there).await?;
        let booked = ctx.comm(Clerk, Desk, &booked).await?;
        let way = ctx.locally(Desk, |desk| desk.get(&errand).way);
        match ctx.broadcast(Desk, &way).await? {
            Way::Aborted => return ctx.abort(Abort::new("enough", "it was enough")).await,
            Way::Waits => {
                let word: At<Desk, String> = ctx.signal(Desk, "word").await?;
                ctx.comm(Desk, Clerk, &word).await?;
            }
            Way::WaitsForNumber => drop(ctx.signal::<Desk, u64, _>(Desk, "number").await?),
            Way::Odd => drop(ctx.transact(Mumble, &there).await?),
            _ => {}
        }
        ctx.transact(Sign, &errand).await?;
        Ok(ctx.locally(Desk, |desk| desk.get(&booked).clone()))
    }
}

/// The same in a release that takes other values, and another way.
pub struct OtherRun;
impl Choreography for OtherRun {
    const NAME: &'static str = "run";
    type Roles = (Desk, Clerk);
    type Input = At<Desk, u64>;
    type Output = At<Desk, u64>;
    async fn run(&self, ctx: &Context<Self::Roles>, number: At<Desk, u64>) -> Result<At<Desk, u64>, Abort> {
        ctx.publish(Desk, &number);
        ctx.now(Desk).await?;
        let there: At<Clerk, u64> = ctx.comm(Desk, Clerk, &number).await?;
        ctx.comm(Clerk, Desk, &there).await
    }
}

/// The same in a release that goes another way.
pub struct OtherWay;
impl Choreography for OtherWay {
    const NAME: &'static str = "run";
    type Roles = (Desk, Clerk);
    type Input = At<Desk, Errand>;
    type Output = At<Desk, String>;
    async fn run(&self, ctx: &Context<Self::Roles>, errand: At<Desk, Errand>) -> Result<At<Desk, String>, Abort> {
        ctx.publish(Desk, &errand);
        ctx.transact(Sign, &errand).await
    }
}

/// In the place of a note.
struct Number;
impl LocalTransaction for Number {
    const NAME: &'static str = "note";
    type Role = Desk;
    type Input = Errand;
    type Output = u64;
    fn commit(&self, _: &mut State<'_>, errand: &Errand) -> Result<u64, Abort> {
        Ok(errand.number.into())
    }
    fn compensate(&self, _: &mut State<'_>, _: &Errand, _: &u64) -> Result<(), Retry> {
        Ok(())
    }
}

/// The same in a release whose clerk takes the errand for a number.
pub struct NumberRun;
impl Choreography for NumberRun {
    const NAME: &'static str = "run";
    type Roles = (Desk, Clerk);
    type Input = At<Desk, Errand>;
    type Output = At<Desk, u64>;
    async fn run(&self, ctx: &Context<Self::Roles>, errand: At<Desk, Errand>) -> Result<At<Desk, u64>, Abort> {
        ctx.publish(Desk, &errand);
        let number = ctx.transact(Number, &errand).await?;
        let there = ctx.comm(Desk, Clerk, &number).await?;
        ctx.comm(Clerk, Desk, &there).await
    }
}

/// Keeps what it is told.
pub struct Diary;
const PAGES: Table<u64, String> = Table::new("pages");
impl DurableActor for Diary {
    const NAME: &'static str = "diary";
    type Message = String;
    type Reply = String;
    fn handle(&self, _: &mut ActorContext<'_>, state: &mut State<'_>, said: String) -> Result<String, Abort> {
        let at = PAGES.last(state, ..)?.map_or(0, |(at, _)| at + 1);
        PAGES.put(state, at, &said)?;
        assert!(!said.starts_with('!'), "as the test wants");
        if said.ends_with('?') { Err(Abort::new("full", "this page is full")) } else { Ok(said) }
    }
}

/// Plays all of it.
pub fn all_of_it(
    store: impl accompanist::contract::Store,
    network: impl accompanist::contract::Transport,
    books: &Arc<Books>,
) -> accompanist::NodeBuilder {
    let builder = Node::builder(crate::support::node_id("home")).store(store).transport(network);
    let builder = builder.settings(crate::support::quick()).role(Desk, Arc::new(())).role(Clerk, books.clone());
    builder.choreography(Run).actor(Diary)
}

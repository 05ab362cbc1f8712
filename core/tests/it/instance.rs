//! One instance, driven by hand: what may leave when, what a crash leaves behind, and what a replay does with it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use accompanist_core::contract::{Environment, Space};
use accompanist_core::frame::{Body, Delivery, Epoch, Frame, Header, Lacks, Operation, Outcome, Receipt};
use accompanist_core::id::{InstanceId, NodeId, Path, RoleIndex, SessionId};
use accompanist_core::machine::{Effects, Limits, Machine, OutgoingKey, Stop};
use accompanist_core::message::encode;
use accompanist_core::record::{Opened, Record, read_value};
use accompanist_core::role_instance::{AnyChoreography, RoleInstance, TurnWaker};
use accompanist_core::{Abort, At, Choreography, Context, Local, Retry, Role, Service, Transaction};

#[derive(Clone, Copy)]
struct Asker;
impl Role for Asker {
    const NAME: &'static str = "asker";
    type Service = ();
}
#[derive(Clone, Copy)]
struct Doer;
impl Role for Doer {
    const NAME: &'static str = "doer";
    type Service = Works;
}

/// What was asked of the service, with the key.
#[derive(Default)]
struct Works(Mutex<Vec<String>>);

impl Works {
    fn read(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

struct Do(u32);
impl Transaction for Do {
    const NAME: &'static str = "do";
    type Role = Doer;
    type Input = u32;
    type Output = u32;
    async fn commit(&self, here: &Local<Doer>, input: &u32) -> Result<u32, Abort> {
        here.service().0.lock().unwrap().push(format!("do {} {input} {}", self.0, here.key().path));
        if *input == 13 { Err(Abort::new("unlucky", "not this number")) } else { Ok(input + 1) }
    }
    async fn compensate(&self, here: &Local<Doer>, input: &u32, output: &u32) -> Result<(), Retry> {
        here.service().0.lock().unwrap().push(format!("undo {} {input} {output} {}", self.0, here.key().path));
        Ok(())
    }
}

/// The doer gets a number, draws another, works twice, and sends both back.
struct Work;
impl Choreography for Work {
    const NAME: &'static str = "work";
    type Roles = (Asker, Doer);
    type Input = At<Asker, u32>;
    type Output = At<Asker, (u32, u64)>;
    async fn run(&self, ctx: &Context<Self::Roles>, n: At<Asker, u32>) -> Result<Self::Output, Abort> {
        let n = ctx.comm(Asker, Doer, &n).await?;
        let drawn = ctx.random(Doer).await?;
        let one = ctx.transact(Do(1), &n).await?;
        let two = ctx.transact(Do(2), &one).await?;
        let both = ctx.locally(Doer, |here| (*here.get(&two), *here.get(&drawn)));
        ctx.comm(Doer, Asker, &both).await
    }
}

/// Every draw is another number.
#[derive(Default)]
struct Counting(AtomicU32);
impl Environment for Counting {
    fn unix_ms(&self) -> u64 {
        0
    }
    fn monotonic_ms(&self) -> u64 {
        0
    }
    fn random(&self) -> u64 {
        u64::from(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// A disk of records, and the life of one instance on it.
struct Bench {
    works: Arc<Works>,
    environment: Arc<Counting>,
    records: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    part: RoleInstance,
}

const ASKER: RoleIndex = RoleIndex(0);
const DOER: RoleIndex = RoleIndex(1);
const ID: InstanceId = InstanceId { session: session(), role: DOER };

const fn session() -> SessionId {
    SessionId::from_bytes([1; 16])
}

fn opened() -> Opened {
    let cast = vec![NodeId::new("a").unwrap(), NodeId::new("b").unwrap()];
    let choreography = "work".into();
    let header = Header {
        choreography,
        version: 1,
        initiator: ASKER,
        cast,
        started_unix_ms: 0,
        deadline_unix_ms: None,
        patches: vec![],
        traceparent: None,
    };
    Opened { header: Arc::new(header), input: None }
}

fn frame(body: Body) -> Frame {
    Frame { session: session(), from: ASKER, to: DOER, header: None, body }
}

fn number(n: u32) -> Frame {
    frame(Body::Deliver {
        path: Path::root().child(0),
        operation: Operation::Comm,
        payload: encode(&n).unwrap().into(),
    })
}

#[expect(clippy::unnecessary_wraps, reason = "as `deliver` takes it")]
fn receipt(number: u64) -> Option<Receipt> {
    Some(Receipt { to: NodeId::new("a").unwrap(), epoch: Epoch(1), number })
}

fn play(works: &Arc<Works>, environment: &Arc<Counting>, instance: Machine) -> RoleInstance {
    let service = Service::of::<Doer>(works.clone());
    Arc::new(Work).part(instance, None, service, environment.clone(), TurnWaker::new(|| ()))
}

impl Bench {
    fn deliver(&self, frame: Frame, receipt: Option<Receipt>) {
        assert!(self.part.deliver(Delivery::of_cast(&self.part.header(), frame, receipt).unwrap()));
    }

    fn new() -> Self {
        let (works, environment) = (Arc::<Works>::default(), Arc::<Counting>::default());
        let instance = Machine::begin(ID, "doer", &opened(), Limits::default());
        Self { part: play(&works, &environment, instance), works, environment, records: Vec::new() }
    }

    fn turn(&mut self) -> Effects {
        self.part.turn(0)
    }

    /// Makes the writes durable, one after the other, and gives what that sets free.
    fn sync(&mut self, effects: Effects) -> Effects {
        let mut all = Effects { writes: Vec::new(), ..effects };
        for write in effects.writes {
            self.keep(&write.changes);
            self.part.synced(write.number, None);
            let next = self.turn();
            all.writes.extend(next.writes);
            all.frames.extend(next.frames);
            all.acks.extend(next.acks);
            all.stopped = all.stopped.or(next.stopped);
            all.closed = all.closed.or(next.closed);
        }
        all
    }

    fn keep(&mut self, changes: &[accompanist_core::contract::Change]) {
        let journal = changes.iter().filter(|change| change.space == Space::Journal);
        self.records.extend(journal.map(|change| (change.key.clone(), change.value.clone())));
    }

    /// Syncs until nothing is left to be written.
    fn settle(&mut self) -> Effects {
        let effects = self.turn();
        self.finish(effects)
    }

    /// Syncs `effects`' writes, and those that follow from them.
    fn finish(&mut self, mut effects: Effects) -> Effects {
        while !effects.writes.is_empty() {
            effects = self.sync(effects);
        }
        effects
    }

    fn journal(&self, length: usize) -> Vec<Record> {
        let mut kept = std::collections::BTreeMap::new();
        for (key, value) in &self.records[..length] {
            kept.insert(key.clone(), value.clone());
        }
        kept.into_values().flatten().map(|value| read_value(Space::Journal, &value).unwrap()).collect()
    }

    /// A crash: what is on the disk is all that is left.
    fn restart(&mut self) {
        let instance = Machine::restore(ID, "doer", &opened(), self.journal(self.records.len()), Limits::default());
        self.part = play(&self.works, &self.environment, instance);
    }
}

#[test]
fn acknowledgements_wait_for_durability() {
    let mut bench = Bench::new();
    bench.deliver(number(5), receipt(1));
    let effects = bench.turn();
    assert!(effects.acks.is_empty() && !effects.writes.is_empty());
    let effects = bench.sync(effects);
    assert_eq!(effects.acks, [receipt(1).unwrap()]);
    bench.finish(effects);
    // Again: known, durable, acknowledged at once, and not written.
    bench.deliver(number(5), receipt(2));
    assert_eq!(bench.settle().acks, Vec::from_iter(receipt(2)));
}

/// Found by the model, whose states had no end otherwise.
#[test]
fn a_duplicate_during_a_write_is_stored_once() {
    let mut bench = Bench::new();
    bench.deliver(number(5), receipt(1));
    let mut effects = bench.turn();
    for _ in 0..3 {
        bench.deliver(number(5), receipt(1));
        effects.writes.extend(bench.turn().writes);
    }
    assert_eq!(bench.sync(effects).acks, Vec::from_iter(receipt(1)));
    bench.deliver(frame(Body::Abort(Abort::new("no", "why"))), receipt(2));
    let mut effects = bench.turn();
    for _ in 0..3 {
        bench.deliver(frame(Body::Nudge(Lacks::default())), None);
        effects.writes.extend(bench.turn().writes);
    }
    let said = bench.sync(effects).frames;
    let answers = said.iter().filter(|outgoing| matches!(outgoing.frame.body, Body::Turns { .. }));
    assert_eq!(answers.count(), 1, "{said:?}");
}

#[test]
fn a_commit_waits_for_its_intent_and_a_frame_for_its_results() {
    let mut bench = Bench::new();
    bench.deliver(number(5), None);
    let effects = bench.turn();
    assert_eq!(bench.works.read(), Vec::<String>::new(), "committed before the intent was durable");
    let effects = bench.sync(effects);
    assert_eq!(bench.works.read(), ["do 1 5 2"]);
    // The first result is written together with the second intent; then the second step runs.
    let effects = bench.sync(effects);
    assert_eq!(bench.works.read(), ["do 1 5 2", "do 2 6 3"]);
    assert!(effects.frames.is_empty(), "said before its results were durable");
    let effects = bench.sync(effects);
    assert_eq!(effects.frames.len(), 1);
}

#[test]
fn other_bytes_under_a_known_id_are_refused() {
    let mut bench = Bench::new();
    bench.deliver(number(5), None);
    bench.settle();
    bench.deliver(number(6), receipt(1));
    let effects = bench.settle();
    assert!(matches!(effects.stopped, Some(Stop::Diverged { .. })), "{:?}", effects.stopped);
    assert!(effects.acks.is_empty());
}

#[test]
fn a_replay_sends_the_same_frames_and_commits_nothing_twice() {
    let mut bench = Bench::new();
    bench.deliver(number(5), None);
    let said = bench.settle().frames;
    bench.restart();
    let again = bench.settle().frames;
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].frame, again[0].frame, "a replay drew or computed something else");
    assert_eq!(bench.works.read().len(), 2);
}

#[test]
fn wherever_the_log_is_cut_the_end_is_the_same() {
    let mut whole = Bench::new();
    whole.deliver(number(5), None);
    let expected = whole.settle().frames[0].frame.clone();
    for length in 0..=whole.records.len() {
        let mut bench = Bench::new();
        bench.environment = whole.environment.clone();
        bench.records = whole.records[..length].to_vec();
        bench.restart();
        bench.deliver(number(5), None);
        let said = bench.settle().frames;
        assert_eq!(said.len(), 1, "cut after {length} records");
        let keys: std::collections::BTreeSet<_> = bench.works.read().into_iter().collect();
        assert!(keys.iter().all(|work| ["do 1 5 2", "do 2 6 3"].contains(&work.as_str())), "{keys:?}");
        // What was drawn is the same as soon as the draw is on the disk, which is before anything depends on it.
        if length > 1 {
            assert_eq!(said[0].frame.body, expected.body, "cut after {length} records");
        }
    }
}

#[test]
fn a_step_in_doubt_is_looked_up_and_then_compensated() {
    let mut bench = Bench::new();
    bench.deliver(number(5), None);
    let effects = bench.turn();
    bench.keep(&effects.writes[0].changes); // Durable, and the machine is gone before it knows.
    bench.restart();
    bench.deliver(frame(Body::Abort(Abort::new("no", "why"))), receipt(1));
    let effects = bench.settle();
    assert_eq!(bench.works.read(), ["do 1 5 2", "undo 1 5 6 2"]);
    let done = effects.frames.last().unwrap();
    assert!(matches!(done.frame.body, Body::Done(Outcome::Compensated(_))), "{done:?}");
    // Ended: a restart does none of it again.
    bench.restart();
    bench.settle();
    assert_eq!(bench.works.read().len(), 2);
}

#[test]
fn an_abort_that_comes_first_is_obeyed() {
    let mut bench = Bench::new();
    bench.deliver(frame(Body::Abort(Abort::new("no", "why"))), receipt(1));
    bench.deliver(number(5), receipt(2));
    let effects = bench.settle();
    assert_eq!(bench.works.read(), Vec::<String>::new());
    assert!(matches!(effects.frames.last().unwrap().frame.body, Body::Done(Outcome::Compensated(_))));
    bench.restart();
    bench.deliver(number(5), receipt(3));
    bench.settle();
    assert_eq!(bench.works.read(), Vec::<String>::new(), "the tombstone was forgotten");
}

#[test]
fn a_finished_role_compensates_on_an_abort_even_after_a_crash() {
    for crash in [false, true] {
        let mut bench = Bench::new();
        bench.deliver(number(5), None);
        bench.settle();
        bench.part.acked(&OutgoingKey::Deliver(Path::root().child(5), ASKER));
        let effects = bench.settle();
        assert!(matches!(effects.frames[0].frame.body, Body::Done(Outcome::Finished)));
        bench.deliver(frame(Body::Abort(Abort::new("no", "why"))), receipt(1));
        let effects = bench.turn();
        let effects = if crash {
            effects.writes.iter().for_each(|write| bench.keep(&write.changes));
            bench.restart();
            bench.settle()
        } else {
            bench.finish(effects)
        };
        assert_eq!(bench.works.read()[2..], ["undo 2 6 7 3", "undo 1 5 6 2"], "crash: {crash}");
        assert!(matches!(effects.frames.last().unwrap().frame.body, Body::Done(Outcome::Compensated(_))));
    }
}

#[test]
fn a_refusal_is_sent_to_all_roles_and_compensated() {
    let mut bench = Bench::new();
    bench.deliver(number(13), None);
    let effects = bench.settle();
    let abort = effects.frames.iter().find(|outgoing| matches!(outgoing.frame.body, Body::Abort(_))).unwrap();
    assert!(abort.frame.header.is_some(), "a role that does not know the session could not obey");
    bench.part.acked(&abort.key);
    let effects = bench.settle();
    assert!(matches!(effects.frames[0].frame.body, Body::Done(Outcome::Compensated(_))));
    assert_eq!(bench.works.read(), ["do 1 13 2"], "what was refused is not compensated");
}

#[test]
fn a_close_leaves_a_tombstone_and_no_journal() {
    let mut bench = Bench::new();
    bench.deliver(number(5), None);
    bench.settle();
    bench.part.acked(&OutgoingKey::Deliver(Path::root().child(5), ASKER));
    bench.settle();
    bench.deliver(frame(Body::Close(Outcome::Finished)), receipt(9));
    let effects = bench.turn();
    assert!(effects.acks.is_empty() && effects.closed.is_none());
    let removed: Vec<_> = effects.writes[0].changes.iter().filter(|change| change.value.is_none()).collect();
    let effects_written = effects.writes[0].changes.iter().any(|change| change.space == Space::Closed);
    assert!(effects_written, "no tombstone");
    assert_eq!(removed.iter().filter(|change| change.space == Space::Journal).count(), bench.records.len());
    let effects = bench.sync(effects);
    assert_eq!(effects.acks, Vec::from_iter(receipt(9)));
    assert!(effects.closed.is_some());
}

#[test]
fn a_program_that_changed_is_stopped_with_both_sides_shown() {
    let mut bench = Bench::new();
    bench.deliver(number(5), None);
    bench.settle();
    for (key, value) in &mut bench.records {
        let record: Record = read_value(Space::Journal, value.as_ref().unwrap()).unwrap();
        if let Record::Intended { path, input, .. } = record {
            let other = Record::Intended { path, name: "sell".into(), input }.change(ID).unwrap();
            (*key, *value) = (other.key, other.value);
        }
    }
    bench.records.retain(|(key, _)| key.last() != Some(&b'c'));
    bench.restart();
    let stopped = bench.settle().stopped.unwrap().to_string();
    assert!(stopped.contains("`sell`") && stopped.contains("`do`"), "{stopped}");
}

//! What users read when something goes wrong: an error and its source do not say the same twice, and nobody has to know
//! what we are made of.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use accompanist::actor::ActorError;
use accompanist::admin::{AdminResponse, ReadReply};
use accompanist::contract::{StoreError, TransportError};
use accompanist::id::{InstanceId, RoleIndex};
use accompanist::machine::{SignalError, Stop};
use accompanist::message::{CodecError, decode};
use accompanist::prelude::*;
use accompanist::ractor::{Actor, ActorProcessingErr, ActorRef};
use accompanist::store::MemoryDisk;
use accompanist::supervision::{Group, Restart};
use accompanist::transport::LocalNetwork;
use accompanist::{Config, CordonError, DrainError, FamilySizeError, ForgetError, LeaveError, MembersError, SealError};
use accompanist_core::frame::{AdvertisementError, Packet, PacketError};

use crate::support::{TestNode, node_id, on_disk, within};
use crate::trade::Front;

/// What is inside of us.
const OURS: [&str; 6] = ["Actor panicked", "actor registry", "ractor", "SpawnErr", "MessagingErr", "RecvError"];

#[track_caller]
fn says_each_thing_once(error: &dyn Error) {
    let text = error.to_string();
    assert!(OURS.iter().all(|ours| !text.contains(ours)), "{text}");
    assert!(!text.ends_with('.') && !text.is_empty(), "{text}");
    let mut above = text;
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        assert!(!above.contains(&text), "`{text}` is said twice: {above}");
        above.push_str(&text);
        next = source.source();
    }
}

fn codec() -> CodecError {
    decode::<u32>(&[0xff]).unwrap_err()
}

fn store() -> StoreError {
    StoreError::Damaged { path: "/data".into(), reason: "its file `version` is missing".into() }
}

fn abort() -> Abort {
    Abort::new("sold-out", "there is none left")
}

/// One error of each type at least: all its variants that hold another error, and one that does not.
fn samples() -> Vec<(&'static str, Box<dyn Error>)> {
    fn of<E: Error + 'static>(error: E) -> (&'static str, Box<dyn Error>) {
        (std::any::type_name::<E>().rsplit("::").next().unwrap(), Box::new(error))
    }
    let config = || Config::from_toml("a.toml", "instances_max = 0\n", []).unwrap_err();
    let start = || StartError::Codec(codec());
    let id = InstanceId { session: SessionId::fresh(0, 1), role: RoleIndex(0) };
    vec![
        of(abort()),
        of(Retry::new("the bank is closed")),
        of(codec()),
        of(NodeId::new("A").unwrap_err()),
        of(store()),
        of(StoreError::NoPath),
        of(TransportError::Config("no".into())),
        of(AdvertisementError::Large(9)),
        of(PacketError::from(codec())),
        of(Packet::from_bytes(&[], &node_id("a"), &node_id("b")).unwrap_err()),
        of(SignalError::Full(7)),
        of(Stop::NoService { role: "shop" }),
        of(accompanist::testing::ReplayError::from(codec())),
        of(accompanist::testing::ReplayError::from(Stop::NoService { role: "shop" })),
        of(AdminResponse::<ReadReply>::from_json(b"{").unwrap_err()),
        of(accompanist::timeline::ExportError::Version(9)),
        of(accompanist::timeline::ExportError::from(codec())),
        of(config()),
        of(NodeError::from(config())),
        of(NodeError::from(store())),
        of(NodeError::from(AdvertisementError::Large(9))),
        of(NodeError::from(MembersError::Missing)),
        of(NodeError::from(SealError::NoMembers)),
        of(NodeError::from(TransportError::NameTaken(node_id("shop")))),
        of(start()),
        of(FamilySizeError::NoFamily),
        of(StartError::Family(FamilySizeError::TooLarge { family: "worker", members: 65 })),
        of(DrainError::from(store())),
        of(LeaveError::from(store())),
        of(LeaveError::from(DrainError::from(store()))),
        of(ForgetError::from(store())),
        of(CordonError::from(store())),
        of(SessionLookupError::from(store())),
        of(SessionError::Aborted(abort())),
        of(SessionError::InTrouble { session: id.session, troubles: Vec::new() }),
        of(SessionError::from(codec())),
        of(AskError::from(codec())),
        of(AskError::from(store())),
        of(AskError::from(SignalError::Full(7))),
        of(ActorError::Unreachable { actor: "far".into(), cause: start() }),
        of(ActorError::Channel { actor: "far".into(), cause: AskError::NotOpen(id) }),
        of(ActorError::Channel { actor: "far".into(), cause: AskError::from(store()) }),
        of(ActorError::Refused { actor: "far".into(), abort: abort() }),
        of(ActorError::from(codec())),
        of(ActorError::from(store())),
        of(MembersError::Missing),
        of(SealError::NoMembers),
        of(accompanist::store::CodecError::Failed("no".into())),
        of("00-no-trace".parse::<accompanist::telemetry::Traceparent>().unwrap_err()),
        #[cfg(feature = "telemetry")]
        of(accompanist::telemetry::Telemetry::builder("shop").share(1.5).build().unwrap_err()),
        #[cfg(feature = "encryption")]
        of(accompanist::store::KeyRingError::Malformed { file: "keys".into(), line: 7 }),
        #[cfg(any(feature = "postgres", feature = "sqlite"))]
        of(accompanist::sql::EffectError::from(abort())),
    ]
}

/// Those that are no error of a caller: a test's, and one that never leaves its module.
const OTHERS: [&str; 4] = ["RunFailure", "Violation", "Failure", "Error"];

#[test]
fn no_error_repeats_the_text_of_its_source() {
    for (_, error) in samples() {
        says_each_thing_once(error.as_ref());
    }
}

/// What `main` and `unwrap` print is what users read.
#[test]
fn every_error_is_text_where_only_debug_is_asked_for() {
    for (name, error) in samples() {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            text = format!("{text}: {cause}");
            next = cause.source();
        }
        assert_eq!(format!("{error:?}"), text, "{name}");
        assert!(format!("{error:#?}").starts_with(&format!("{name} {{")), "{error:#?}");
    }
}

/// Run as a process of its own by the test below it: what it returns is printed as what `main` returns is.
#[tokio::test]
#[ignore = "fails on purpose"]
async fn a_node_that_cannot_start() -> Result<(), NodeError> {
    let folder = tempfile::tempdir().unwrap();
    let _first = FjallStore::open(folder.path())?;
    FjallStore::open(folder.path()).map(drop).map_err(Into::into)
}

#[test]
fn an_error_that_main_returns_is_printed_as_text() {
    let this = std::env::current_exe().unwrap();
    let arguments = ["--exact", "errors::a_node_that_cannot_start", "--ignored", "--nocapture"];
    let output = std::process::Command::new(this).args(arguments).output().unwrap();
    let printed = String::from_utf8(output.stderr).unwrap();
    let line = printed.lines().find(|line| line.starts_with("Error: ")).unwrap_or_else(|| panic!("{printed}"));
    assert!(!output.status.success());
    assert!(
        line.starts_with("Error: the store at `") && line.ends_with("give this node a folder of its own"),
        "{line}"
    );
}

/// The sources of the three crates.
fn sources() -> Vec<(PathBuf, String)> {
    fn below(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                below(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push((path.clone(), fs::read_to_string(path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    for package in ["core", "transport", "actors"] {
        below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(package).join("src"), &mut found);
    }
    found
}

#[test]
fn every_type_of_error_is_looked_at() {
    let mut found = BTreeSet::new();
    for (_, text) in sources() {
        let mut derives = false;
        for line in text.lines() {
            derives |= line.contains("thiserror::Error)]");
            let declared = line.split_once("pub enum ").or(line.split_once("pub struct "));
            let declared = declared.or(line.split_once("pub(crate) struct ").filter(|_| derives)).filter(|_| derives);
            let by_hand = line.strip_prefix("impl std::error::Error for ");
            if let Some(name) = declared.map(|(_, name)| name).or(by_hand) {
                let end = name.find(|c: char| !c.is_alphanumeric()).unwrap_or(name.len());
                found.insert(name[..end].to_owned());
                derives = false;
            }
        }
    }
    let known: BTreeSet<String> = samples().into_iter().map(|(name, _)| name).chain(OTHERS).map(Into::into).collect();
    let mut missing: Vec<_> = found.difference(&known).collect();
    // Of features that this build does not have.
    missing.retain(|name| {
        !(cfg!(not(feature = "encryption")) && *name == "KeyRingError"
            || cfg!(not(any(feature = "postgres", feature = "sqlite"))) && *name == "EffectError")
    });
    assert!(missing.is_empty(), "errors that this test does not know: {missing:?}");
    assert!(found.len() > 20, "{found:?}");
}

/// A variant with a source is transparent, or its text does not show the source: whichever variant it is.
#[test]
fn no_variant_shows_its_source() {
    let mut variants = 0;
    for (path, text) in sources().into_iter().filter(|(_, text)| text.contains("thiserror::Error)]")) {
        for (at, _) in text.match_indices("#[error(") {
            let rest = &text[at..];
            let end = rest.find(")]\n").unwrap();
            let (shown, declared) = rest.split_at(end);
            let declared = &declared[..declared[3..].find("#[error(").map_or(declared.len(), |next| next + 3)];
            let declared = declared.split("\n}\n").next().unwrap();
            let has_source = ["#[from]", "#[source]", " source:"].iter().any(|mark| declared.contains(mark));
            variants += 1;
            if has_source {
                let is_good = shown.contains("transparent") || !(shown.contains("{0") || shown.contains("{source"));
                assert!(is_good, "{}: {shown}", path.display());
            }
        }
    }
    assert!(variants > 100, "{variants}");
}

struct Broken(&'static str);
impl Actor for Broken {
    type Msg = ();
    type State = ();
    type Arguments = ();
    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        match self.0 {
            "fails" => Err("the meter is not plugged in".into()),
            "panics" => panic!("the meter is not plugged in"),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_failed_start_reports_its_cause() {
    let network = LocalNetwork::new();
    let builder = || on_disk("one", &MemoryDisk::default(), network.clone()).role(Front, Arc::new(()));
    let first = TestNode::start(builder()).await;
    let taken = within(builder().start()).await.unwrap_err();
    assert_eq!(taken.to_string(), "a node named `one` is attached already: give each node its own name");
    says_each_thing_once(&taken);
    within(first.shutdown()).await;

    let mut settings = crate::support::quick();
    settings.limits.payload_bytes_max = 2 << 20;
    let large = within(builder().settings(settings).start()).await.unwrap_err();
    assert!(large.to_string().starts_with("`payload_bytes_max` is 2097152, and the transport carries"), "{large}");
    says_each_thing_once(&large);

    for how in ["fails", "panics"] {
        let group = Group::new("meters").child("kitchen", Restart::Permanent, move |supervisor| async move {
            Ok(Actor::spawn_linked(None, Broken(how), (), supervisor).await?.0.get_cell())
        });
        let error = within(builder().supervise(group).start()).await.unwrap_err();
        let expected =
            "group `meters` cannot be started: actor `kitchen` cannot be started: the meter is not plugged in";
        assert_eq!(error.to_string(), expected);
        says_each_thing_once(&error);
    }
    let named = |name: &'static str| {
        move |supervisor| async move {
            let name = Some("the-one-meter".to_owned()).filter(|_| !name.is_empty());
            Ok(Actor::spawn_linked(name, Broken(""), (), supervisor).await?.0.get_cell())
        }
    };
    let group = Group::new("meters").child("kitchen", Restart::Permanent, named("a")).child(
        "bath",
        Restart::Permanent,
        named("b"),
    );
    let error = within(builder().supervise(group).start()).await.unwrap_err();
    assert!(
        error.to_string().contains("an actor named `the-one-meter` is running in this process: give it no name"),
        "{error}"
    );
    says_each_thing_once(&error);
}

//! Histories of sessions, and their replay with the current program.
//!
//! A history contains what one role of an open session has on disk. Save some histories of your services, and let
//! your CI replay them: a change of a program that would stop sessions after the next deployment fails there instead.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::error_text::debug_as_text;
use crate::base::id::{InstanceId, Path};
use crate::base::message::{CodecError, pack, unpack};
use crate::base::role::names_of;
use crate::contract::Environment;
use crate::driver::local::Services;
use crate::driver::role_instance::{AnyChoreography, TurnWaker};
use crate::language::choreography::Choreography;
use crate::machine::{Limits, Machine, Status, Stop};
use crate::record::{Opened, Record};
use crate::timeline::{KnownPart, SessionExport, SessionPart};

/// The first byte of an encoded history.
const HISTORY_VERSION: u8 = 1;

/// The data that one role of one session has on disk. The text form is for people. [`replay`] has an example.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The role instance.
    pub instance: InstanceId,
    /// The record of the beginning.
    pub opened: Opened,
    /// The records since then, in the order of paths.
    pub records: Vec<Record>,
}

impl History {
    /// Encodes the history for a file.
    ///
    /// # Errors
    /// Never for a history that was exported or decoded.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        pack(&(HISTORY_VERSION, self))
    }

    /// Decodes the result of [`History::to_bytes`].
    ///
    /// # Errors
    /// [`ReplayError`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReplayError> {
        match bytes.split_first() {
            Some((&HISTORY_VERSION, rest)) => Ok(unpack(rest)?),
            Some((version, _)) => Err(ReplayError::Version(*version)),
            None => Err(ReplayError::Version(0)),
        }
    }
}

impl History {
    /// The status of the instance.
    pub fn status(&self) -> Status {
        Status::of(&self.records)
    }
}

impl SessionExport {
    /// The histories of the parts that are known and have not been reduced to a tombstone, for [`replay`].
    pub fn histories(&self) -> Vec<History> {
        let history = |part: &SessionPart| {
            let is_tombstone = |known: &&KnownPart| known.status == Status::Closed && known.records.is_empty();
            let known = part.as_known().filter(|known| !is_tombstone(known))?;
            let instance = InstanceId { session: self.session, role: part.role };
            Some(History { instance, opened: known.opened.clone(), records: known.records.clone() })
        };
        self.parts.iter().filter_map(history).collect()
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = &self.opened.header;
        let (name, version, status) = (&header.choreography, header.version, self.status());
        writeln!(f, "{} of `{name}` version {version}: {status:?}", self.instance)?;
        for record in &self.records {
            writeln!(f, "  {record:?}")?;
        }
        Ok(())
    }
}

/// The position that a replay has reached in agreement with its history.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replayed {
    /// Whether the program has ended.
    pub ended: bool,
    /// The waits of a program that has not ended, by the path of the operation.
    pub waits_for: Vec<(Path, String)>,
}

/// The reason why a history cannot be replayed with the program.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The program does something else, or cannot continue: a node would stop the session.
    #[error(transparent)]
    Stopped(#[from] Stop),
    /// The history is of another choreography or version.
    #[error("the history is of `{found}` version {found_version}, not of `{expected}` version {expected_version}")]
    Another {
        /// The choreography of the history.
        found: String,
        /// The version in the history.
        found_version: u32,
        /// The given choreography.
        expected: &'static str,
        /// The version of the given choreography.
        expected_version: u32,
    },
    /// The bytes are a history of a version that this release cannot read.
    #[error("a history of version {0} cannot be read: export it with this release, or read it with a later one")]
    Version(u8),
    /// The bytes are no history.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

debug_as_text!(ReplayError);

/// Replays `history` with the current `choreography`. No service is called; only `locally` may read the given
/// services.
///
/// ```
/// use accompanist_core::testing::{History, ReplayError, Replayed, replay};
/// # use std::sync::Arc;
/// # use accompanist_core::{frame::Header, id::{InstanceId, RoleIndex}, message::encode, record::{Opened, Record}};
/// # use accompanist_core::*;
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
/// struct Sale { checks_first: bool }
/// impl Choreography for Sale {
///     // ..
/// #     const NAME: &'static str = "sale"; type Roles = (Seller,);
/// #     type Input = At<Seller, u32>; type Output = At<Seller, String>;
///     async fn run(&self, ctx: &Context<Self::Roles>, _books: At<Seller, u32>) -> Result<Self::Output, Abort> {
///         if self.checks_first { // The change that a later release wants to make.
///             ctx.effect(Seller, "check", async |_| true).await?;
///         }
///         ctx.effect(Seller, "read the rate", async |_| 4_u32).await?;
///         ctx.signal(Seller, "approved").await
///     }
/// }
///
/// /// What your CI does with each file.
/// fn check(file: &[u8], program: Sale) -> Result<Replayed, ReplayError> {
///     replay(&History::from_bytes(file)?, program, &Services::new())
/// }
///
/// # let header = Header {
/// #     choreography: "sale".into(), version: 1, initiator: RoleIndex(0), cast: vec![NodeId::new("seller-1")?],
/// #     started_unix_ms: 0, deadline_unix_ms: None, patches: Vec::new(), traceparent: None,
/// # };
/// # let rate = Record::Observed {
/// #     path: Path::root().child(0), name: "read the rate".into(), result: encode(&4_u32)?.into(),
/// # };
/// # let exported = History {
/// #     instance: InstanceId { session: SessionId::fresh(0, 0), role: RoleIndex(0) },
/// #     opened: Opened { header: Arc::new(header), input: Some(encode(&3_u32)?.into()) },
/// #     records: vec![rate],
/// # };
/// // `exported` is from a node: the rate is on its disk, and the signal has not arrived.
/// let file = exported.to_bytes()?;
/// let replayed = check(&file, Sale { checks_first: false })?;
/// assert!(!replayed.ended && replayed.waits_for.len() == 1);
/// let difference = check(&file, Sale { checks_first: true }).unwrap_err().to_string();
/// assert!(difference.contains("recorded was effect `read the rate`, the program did effect `check`"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ReplayError`], which shows both sides where they differ. A history of another version is refused, because its
/// sessions stay on their version: replay it with that version, for as long as you deploy that version.
pub fn replay<C: Choreography>(
    history: &History,
    choreography: C,
    services: &Services,
) -> Result<Replayed, ReplayError> {
    let (id, header) = (history.instance, &history.opened.header);
    let names = names_of::<C::Roles>();
    let role = names.members_in(header.cast.len()).and_then(|_| names.provided_as(id.role));
    let (Some(role), true) = (role, (header.choreography.as_str(), header.version) == (C::NAME, C::VERSION)) else {
        return Err(ReplayError::Another {
            found: header.choreography.clone(),
            found_version: header.version,
            expected: C::NAME,
            expected_version: C::VERSION,
        });
    };
    let instance = Machine::restore(id, role, &history.opened, history.records.clone(), Limits::default());
    let service = services.of(names, id.role);
    let (environment, alarm) = (Arc::new(Standstill), TurnWaker::new(|| {}));
    let input = history.opened.input.clone();
    let mut role = Arc::new(choreography).part(instance.rehearsing(), input, service, environment, alarm);
    match role.turn(0).stopped {
        Some(stop) => Err(stop.into()),
        None => Ok(Replayed { ended: role.program_has_ended(), waits_for: role.waits_for() }),
    }
}

/// An environment in which no time passes and nothing is random.
struct Standstill;

impl Environment for Standstill {
    fn unix_ms(&self) -> u64 {
        0
    }
    fn monotonic_ms(&self) -> u64 {
        0
    }
    fn random(&self) -> u64 {
        0
    }
}

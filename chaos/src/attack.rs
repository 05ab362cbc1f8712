//! An attacker: a Zenoh client of its own, no part of the runtime, that overhears what one node sends and sends it
//! again with one change, until its standard input ends.
//!
//! Who it is depends on what protects the nodes. Without certificates it is a stranger, *mallory*. With them it is a
//! traitor,
//! *guest*: a member with a certificate of its own, and no part in any order. In its own name it says what it likes.
//! In other names it sends real packets with a bit flipped and, where certificates or keys are to prevent it,
//! anything at all.
//!
//! Left out is what `docs/security.md` says that one may do: telling a node that its store is not the one that is
//! known, and, in a system without members, offering a role. Next: [`crate::tap`], and `changes`, which has the fields.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::transport::{CA_FILE, CERTIFICATE_FILE, KEY_FILE};
use accompanist_core::frame::{Advertisement, Epoch, Packet};
use anyhow::{Context as _, anyhow};
use clap::Args;
use fastrand::Rng;
use fleet::security::{NAMESPACE, Protection};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::UnixDatagram;
use tokio::time::{sleep, timeout};

use crate::changes::{CHANGES, Values};
use crate::model::RoleName;
use crate::tap::Overheard;

/// The name of a stranger.
const STRANGER: &str = "mallory";
/// The member that has a certificate, and no part in any order; its node and its role.
pub(crate) const TRAITOR: &str = "guest";
/// How long a connection to a node may take; the node may be down.
const OPEN_WAIT_MAX: Duration = Duration::from_secs(3);
const OPEN_RETRY_DELAY: Duration = Duration::from_millis(300);
/// Packets that are sent over one connection.
const PACKETS_PER_CONNECTION: u32 = 60;
/// The pause between two packets.
const PAUSE_MS: std::ops::Range<u64> = 1..30;
/// How many packets it remembers.
const OVERHEARD_MAX: usize = 500;
/// The largest datagram of a tap; longer ones are cut, and ignored.
const DATAGRAM_BYTES_MAX: usize = 1 << 18;

#[derive(Debug, Args)]
pub(crate) struct AttackArguments {
    /// The node to attack
    role: RoleName,
    /// Where it listens
    #[arg(long)]
    connect: String,
    /// The folder with the traitor's certificate
    #[arg(long)]
    security: PathBuf,
    /// Nodes have certificates
    #[arg(long)]
    secured: bool,
    /// Nodes seal what they send
    #[arg(long)]
    sealed: bool,
    /// Where the node tells what it sends
    #[arg(long)]
    tap: PathBuf,
    #[arg(long)]
    seed: u64,
}

/// What it has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attacked {
    pub(crate) connections: u64,
    pub(crate) packets: u64,
}

/// Attacks until standard input ends, then says what it has done.
pub(crate) async fn attack(arguments: AttackArguments) -> anyhow::Result<()> {
    let mut attacker = Attacker::new(&arguments)?;
    let mut told_to_stop = tokio::io::stdin();
    tokio::select! {
        ended = attacker.attack(&arguments) => ended?,
        _ = told_to_stop.read_u8() => {}
    }
    println!("{}", serde_json::to_string(&attacker.attacked)?);
    std::process::exit(0); // Tokio waits for the thread that reads standard input.
}

struct Attacker {
    name: NodeId,
    protection: Protection,
    ears: UnixDatagram,
    overheard: VecDeque<Overheard>,
    random: Rng,
    attacked: Attacked,
}

/// Something to be put to Zenoh.
struct Forged {
    from: String,
    to: Option<String>,
    bytes: Vec<u8>,
}

impl Attacker {
    fn new(arguments: &AttackArguments) -> anyhow::Result<Self> {
        let protection = Protection { secured: arguments.secured, sealed: arguments.sealed };
        let name = NodeId::new(if arguments.secured { TRAITOR } else { STRANGER })?;
        let ears = UnixDatagram::bind(&arguments.tap).context("the tap cannot be bound")?;
        let (overheard, random) = (VecDeque::new(), Rng::with_seed(arguments.seed));
        Ok(Self { name, protection, ears, overheard, random, attacked: Attacked::default() })
    }

    async fn attack(&mut self, arguments: &AttackArguments) -> anyhow::Result<()> {
        let config = client(&arguments.connect, arguments.secured.then_some(arguments.security.as_path()))?;
        loop {
            let Ok(Ok(session)) = timeout(OPEN_WAIT_MAX, zenoh::open(config.clone())).await else {
                sleep(OPEN_RETRY_DELAY).await;
                continue;
            };
            self.attacked.connections += 1;
            for _ in 0..PACKETS_PER_CONNECTION {
                self.listen();
                if let Some(forged) = self.forge(arguments.role) {
                    let Forged { from, to, bytes } = forged;
                    let key = match to {
                        Some(to) => format!("{}/node/{to}/{from}", self.namespace()),
                        None => format!("{}/all/{from}", self.namespace()),
                    };
                    if session.put(key, bytes).await.is_err() {
                        break; // The node has gone.
                    }
                    self.attacked.packets += 1;
                }
                sleep(Duration::from_millis(self.random.u64(PAUSE_MS))).await;
            }
            let _ = timeout(OPEN_WAIT_MAX, session.close()).await; // Its node may have gone.
        }
    }

    fn namespace(&self) -> &'static str {
        if self.protection.secured { NAMESPACE } else { "accompanist" }
    }

    /// Takes in what was overheard since.
    fn listen(&mut self) {
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        while let Ok(length) = self.ears.try_recv(&mut datagram) {
            if let Ok(overheard) =
                datagram.get(..length).map_or(Err(postcard::Error::SerdeDeCustom), postcard::from_bytes)
            {
                self.overheard.push_back(overheard);
            }
            while self.overheard.len() > OVERHEARD_MAX {
                self.overheard.pop_front();
            }
        }
    }

    fn forge(&mut self, at: RoleName) -> Option<Forged> {
        let Self { overheard, random, .. } = self;
        let place = random.usize(..overheard.len().max(1));
        let real = overheard.get(place).cloned();
        match self.random.u8(..10) {
            0 => real.and_then(|real| self.flipped(real)),
            1 if self.protection.is_any() => real.map(|Overheard { from, to, bytes }| Forged { from, to, bytes }),
            2 => Some(self.garbage(at)),
            _ => self.changed(at, real.as_ref()),
        }
    }

    /// A real packet with a bit flipped, where it was to go.
    fn flipped(&mut self, Overheard { from, to, mut bytes }: Overheard) -> Option<Forged> {
        *self.random.choice(&mut bytes)? ^= 1 << self.random.u32(..8);
        Some(Forged { from, to, bytes })
    }

    fn garbage(&mut self, at: RoleName) -> Forged {
        let bytes = (0..self.random.usize(..300)).map(|_| self.random.u8(..)).collect();
        Forged { from: self.name.to_string(), to: Some(at.name().into()), bytes }
    }

    /// A packet with one change, said as oneself or, where that is to be prevented, as a node of the system.
    fn changed(&mut self, at: RoleName, real: Option<&Overheard>) -> Option<Forged> {
        let packets: Vec<_> = self.overheard.iter().filter_map(Overheard::packet).collect();
        let mut packet = real.and_then(Overheard::packet).unwrap_or_else(|| {
            // Sealed: nothing can be read, so it is made up.
            let epoch = Epoch(u128::from(self.random.u64(..)));
            Packet { acks: vec![(epoch, (0..500).collect())], ..Packet::new(epoch) }
        });
        let own = self.name.clone();
        let mut names: Vec<_> = RoleName::ALL.iter().filter_map(|role| NodeId::new(role.name()).ok()).collect();
        let from =
            if self.protection.is_any() && self.random.bool() { self.random.choice(&names)?.clone() } else { own };
        names.push(self.name.clone());
        let values =
            Values::of(packets, &names, &["sale", "hurried sale", "shop", "stock", "bank", TRAITOR, "", "none"]);
        let (name, change) = self.random.choice(CHANGES)?;
        packet.advertisement = name.starts_with("offer").then(Advertisement::default);
        change(&mut packet, &values, &mut self.random)?;
        // What one may do: see the module's documentation.
        let disputes = packet
            .advertisement
            .as_ref()
            .is_some_and(|advertisement| advertisement.knows.is_some() || advertisement.dispute.is_some());
        if disputes || !self.protection.is_any() && *name == "offer.roles" {
            return None;
        }
        let to = NodeId::new(at.name()).ok()?;
        let bytes = packet.to_bytes(&from, Some(&to)).ok()?;
        Some(Forged { from: from.to_string(), to: Some(to.to_string()), bytes })
    }
}

/// A client of Zenoh, with the certificate in `security` if there is one, and no rules of its own.
fn client(connect: &str, security: Option<&Path>) -> anyhow::Result<zenoh::Config> {
    let mut config = zenoh::Config::default();
    let mut set = |key: &str, value: serde_json::Value| {
        config.insert_json5(key, &value.to_string()).map_err(|error| anyhow!("Zenoh does not take {key}: {error}"))
    };
    set("mode", "client".into())?;
    set("connect/endpoints", vec![connect].into())?;
    set("scouting/multicast/enabled", false.into())?;
    if let Some(security) = security {
        let path = |name: &str| security.join(name).display().to_string().into();
        set("transport/link/tls/root_ca_certificate", path(CA_FILE))?;
        set("transport/link/tls/connect_certificate", path(CERTIFICATE_FILE))?;
        set("transport/link/tls/connect_private_key", path(KEY_FILE))?;
        set("transport/link/tls/enable_mtls", true.into())?;
        set("transport/link/tls/verify_name_on_connect", false.into())?;
    }
    Ok(config)
}

//! Where nodes run: in network namespaces with a cable between each two of them, or side by side on the loopback
//! interface, where nothing can be cut.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::model::RoleName;
use crate::sweep::own_name;

/// The port that nodes listen on, each in its own namespace.
const PORT: u16 = 7_447;
/// Ports on the loopback interface are taken below those that the system gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How many ports are tried for each one that is needed.
const PORT_TRIES_MAX: u32 = 200;

/// The two ends of each cable.
const CABLES: [(RoleName, RoleName); 3] =
    [(RoleName::Shop, RoleName::Stock), (RoleName::Stock, RoleName::Bank), (RoleName::Bank, RoleName::Shop)];

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The cable is out: both ends see it.
    Cable(RoleName, RoleName),
    /// What the first one sends to the second one is thrown away, and neither sees why.
    OneWay(RoleName, RoleName),
}

/// Where nodes run.
pub(crate) enum Network {
    /// Namespaces of our own, taken away at the end.
    Namespaces(Namespaces),
    /// Ports on the loopback interface.
    Loopback(Vec<u16>),
}

/// Three namespaces and three cables.
pub(crate) struct Namespaces {
    prefix: String,
}

fn ip(arguments: &str) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments.split_whitespace()).stdin(Stdio::null()).output();
    let output = output.context("`ip` cannot be run")?;
    if !output.status.success() {
        bail!("`ip {arguments}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

impl Namespaces {
    /// Makes them.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let namespaces = Self { prefix: own_name(std::process::id()) };
        for role in RoleName::ALL {
            ip(&format!("netns add {}", namespaces.name(role)))?;
            ip(&format!("-n {} link set lo up", namespaces.name(role)))?;
        }
        for (one, other) in CABLES {
            let (one_space, other_space) = (namespaces.name(one), namespaces.name(other));
            let (one_end, other_end) = (cable_end(other), cable_end(one));
            ip(&format!("link add {one_end} netns {one_space} type veth peer name {other_end} netns {other_space}"))?;
            for (role, peer) in [(one, other), (other, one)] {
                let (space, end) = (namespaces.name(role), cable_end(peer));
                ip(&format!("-n {space} address add {}/30 dev {end}", address(role, peer)))?;
                ip(&format!("-n {space} link set {end} up"))?;
            }
        }
        Ok(namespaces)
    }

    fn name(&self, role: RoleName) -> String {
        format!("{}-{}", self.prefix, role.name())
    }

    fn set(&self, cut: Cut, is_cut: bool) -> anyhow::Result<()> {
        match cut {
            Cut::Cable(one, other) => {
                let state = if is_cut { "down" } else { "up" };
                ip(&format!("-n {} link set {} {state}", self.name(one), cable_end(other)))
            }
            Cut::OneWay(from, to) => {
                let verb = if is_cut { "add" } else { "del" };
                ip(&format!("-n {} route {verb} blackhole {}/32", self.name(from), address(to, from)))
            }
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for role in RoleName::ALL {
            // One that was never made is no loss.
            let _ = Command::new("ip").args(["netns", "del", &self.name(role)]).stderr(Stdio::null()).status();
        }
    }
}

fn cable_end(peer: RoleName) -> String {
    format!("to-{}", peer.name())
}

/// The address of `role` on its cable to `peer`.
fn address(role: RoleName, peer: RoleName) -> String {
    let cable = CABLES.iter().position(|cable| *cable == (role, peer) || *cable == (peer, role)).unwrap_or_default();
    let end = if CABLES.contains(&(role, peer)) { 1 } else { 2 };
    format!("10.77.{cable}.{end}")
}

impl Network {
    /// Ports on the loopback interface that are free now.
    pub(crate) fn loopback() -> anyhow::Result<Self> {
        // Held until all are chosen, so that none is chosen twice.
        let mut held = Vec::new();
        let mut ports = Vec::new();
        for _ in RoleName::ALL {
            let mut tried = (0..PORT_TRIES_MAX).map(|_| fastrand::u16(PORTS));
            let free = tried.find_map(|port| Some((port, std::net::TcpListener::bind(("127.0.0.1", port)).ok()?)));
            let (port, listener) = free.context("there is no free port on the loopback interface")?;
            held.push(listener);
            ports.push(port);
        }
        Ok(Self::Loopback(ports))
    }

    fn port(ports: &[u16], role: RoleName) -> u16 {
        let place = RoleName::ALL.iter().position(|other| *other == role).unwrap_or_default();
        ports.get(place).copied().unwrap_or_default()
    }

    /// Where `role` listens.
    pub(crate) fn listens_at(&self, role: RoleName) -> String {
        match self {
            Self::Namespaces(_) => format!("tcp/0.0.0.0:{PORT}"),
            Self::Loopback(ports) => format!("tcp/127.0.0.1:{}", Self::port(ports, role)),
        }
    }

    /// Where `role` reaches `peer`.
    pub(crate) fn reaches_at(&self, role: RoleName, peer: RoleName) -> String {
        match self {
            Self::Namespaces(_) => format!("tcp/{}:{PORT}", address(peer, role)),
            Self::Loopback(ports) => format!("tcp/127.0.0.1:{}", Self::port(ports, peer)),
        }
    }

    /// Where `role` is reached from where it runs itself.
    pub(crate) fn reached_locally_at(&self, role: RoleName) -> String {
        match self {
            Self::Namespaces(_) => format!("tcp/127.0.0.1:{PORT}"),
            Self::Loopback(_) => self.listens_at(role),
        }
    }

    /// The command that runs this executable as `role`.
    pub(crate) fn command(&self, role: RoleName) -> anyhow::Result<tokio::process::Command> {
        let this = std::env::current_exe().context("this executable has no path")?;
        Ok(match self {
            Self::Namespaces(namespaces) => {
                // It becomes the node itself: the process that is started is the one that is killed.
                let mut command = tokio::process::Command::new("ip");
                command.args(["netns", "exec", &namespaces.name(role)]).arg(this);
                command
            }
            Self::Loopback(_) => tokio::process::Command::new(this),
        })
    }

    /// Whether anything can be cut.
    pub(crate) fn can_cut(&self) -> bool {
        matches!(self, Self::Namespaces(_))
    }

    /// Cuts a connection, or mends it.
    pub(crate) fn set(&self, cut: Cut, is_cut: bool) -> anyhow::Result<()> {
        match self {
            Self::Namespaces(namespaces) => namespaces.set(cut, is_cut),
            Self::Loopback(_) => bail!("nothing can be cut on the loopback interface"),
        }
    }
}

//! The configuration of Zenoh: the builder, and its translation into Zenoh's own configuration.
//!
//! This module also checks what Zenoh would only complain about in a log. It must not know sessions. Next:
//! [`super::wire`].

use std::path::{Path, PathBuf};

use ::zenoh::Config;
use ::zenoh::config::EndPoint;
use accompanist_core::contract::{Exposure, TransportError};
use accompanist_core::id::{NODE_ID_BYTES_MAX, is_name};

use super::{credentials, exposure, plain};
use crate::{PACKET_BYTES_MAX_DEFAULT, ZENOH_NAMESPACE_DEFAULT, ZENOH_PACKET_BYTES_GREATEST, ZENOH_PACKET_BYTES_LEAST};

/// The bytes that Zenoh's own messages need, and that it adds to ours.
const MESSAGE_BYTES_EXTRA: usize = 64 * 1024;

/// Settings that are used unless a configuration file sets them.
///
/// Multicast is off: nodes must not find strangers by accident. Opening does not wait for scouting: the link resends
/// packets lost at the start anyway. Retries are short: a node that was killed is back soon, and its peers wait for
/// it.
const DEFAULTS: [(&str, &str); 6] = [
    ("scouting/multicast/enabled", "false"),
    ("scouting/gossip/enabled", "true"),
    ("open/return_conditions/connect_scouted", "false"),
    ("connect/timeout_ms", "{ router: -1, peer: -1, client: 0 }"),
    ("connect/exit_on_failure", "{ router: false, peer: false, client: true }"),
    ("connect/retry", "{ period_init_ms: 100, period_max_ms: 1000, period_increase_factor: 2 }"),
];

/// The address on which a node listens if none is configured: Zenoh would take a port of all interfaces.
const LISTEN_LOCAL: &str = "{ router: [], peer: [\"tcp/127.0.0.1:0\"], client: [] }";

/// Values that replace Zenoh's defaults: the key, Zenoh's default, and our value. If a configuration file sets
/// another value, that one is used.
const INSTEAD: [(&str, &str, &str); 2] = [BLOCK_WAIT, QUEUE];

/// How many small packets may wait for a connection. With Zenoh's default of two, a packet is lost whenever its
/// sending thread does not run for a millisecond while two others wait: one in a few hundred, on a busy machine.
/// Each place takes 64 KiB, as needed.
const QUEUE: (&str, &str, &str) = ("transport/link/tx/queue/size/data", "2", "16");

/// How long a large packet may wait for a stalled connection before Zenoh closes the connection, in microseconds.
///
/// While such a wait lasts, Zenoh cannot tear down a connection, and does nothing for the other peers on that thread.
/// This is therefore also how long a peer that crashes in a large transfer can hold up the others.
const BLOCK_WAIT: (&str, &str, &str) =
    ("transport/link/tx/queue/congestion_control/block/wait_before_close", "5000000", "1000000");

/// The way in which a node takes part in a Zenoh network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ZenohMode {
    /// Connects to other nodes directly, and keeps trying to reach nodes that are not up.
    Peer,
    /// Communicates through one Zenoh router (or peer), which must be up when the session is opened.
    Client,
}

/// The configuration with which to open a [`super::ZenohTransport`].
///
/// ```
/// use accompanist_transport::ZenohConfig;
///
/// let config = ZenohConfig::new().listen("tcp/127.0.0.1:7447").connect("tcp/127.0.0.1:7448");
/// ```
///
/// Between machines, with certificates and access control that `accompanist security` has created:
///
/// ```
/// use accompanist_transport::ZenohConfig;
///
/// let config = ZenohConfig::new()
///     .config_file("security/shop/zenoh.json5")
///     .listen("tls/0.0.0.0:7447")
///     .connect("tls/warehouse.example:7447");
/// ```
#[derive(Debug, Clone)]
pub struct ZenohConfig {
    listen: Vec<String>,
    connect: Vec<String>,
    mode: Option<ZenohMode>,
    gossip: Option<bool>,
    config_file: Option<PathBuf>,
    namespace: String,
    packet_bytes_max: usize,
    insecure: bool,
    /// The settings that were given, with their values.
    given: Vec<(&'static str, String)>,
}

impl Default for ZenohConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            connect: Vec::new(),
            mode: None,
            gossip: None,
            config_file: None,
            namespace: ZENOH_NAMESPACE_DEFAULT.into(),
            packet_bytes_max: PACKET_BYTES_MAX_DEFAULT,
            insecure: false,
            given: Vec::new(),
        }
    }
}

impl ZenohConfig {
    /// Creates the configuration of a peer that connects to nobody, with multicast scouting off and gossip scouting
    /// on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an address to listen on, such as `tls/0.0.0.0:7447`.
    ///
    /// Without any, and without one in the configuration file, a peer listens on a free TCP port of this machine's
    /// loopback interface, so that nodes which know only one common node find each other by gossip. With TLS an
    /// address must be given.
    #[must_use]
    pub fn listen(mut self, endpoint: impl Into<String>) -> Self {
        self.listen.push(endpoint.into());
        self
    }

    /// Adds an address to connect to, such as `tcp/warehouse.example:7447`.
    #[must_use]
    pub fn connect(mut self, endpoint: impl Into<String>) -> Self {
        self.connect.push(endpoint.into());
        self
    }

    /// Sets the mode. By default it is that of the configuration file, or else peer.
    #[must_use]
    pub fn mode(mut self, mode: ZenohMode) -> Self {
        self.mode = Some(mode);
        self.given("mode", format!("{mode:?}"))
    }

    /// Sets whether nodes find each other through nodes that they have in common; they do, unless a configuration
    /// file says otherwise. Without gossip, a node is connected only to the nodes that it is configured to connect
    /// to, or that are configured to connect to it: each pair of nodes that communicate needs that. For networks with
    /// a fixed topology.
    #[must_use]
    pub fn gossip(mut self, gossip: bool) -> Self {
        self.gossip = Some(gossip);
        self.given("gossip", gossip.to_string())
    }

    /// Starts from a Zenoh configuration file: TLS, access control, shared memory and so on. The settings of this
    /// builder override it, and the largest message always follows [`ZenohConfig::packet_bytes_max`].
    #[must_use]
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = path.display().to_string();
        self.config_file = Some(path);
        self.given("config_file", name)
    }

    /// Sets the namespace, `accompanist` by default: nodes of different namespaces do not see each other.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        let namespace = self.namespace.clone();
        self.given("namespace", namespace)
    }

    /// Allows connections that others can use in the name of any node, and read: plain TCP between machines, TLS
    /// without certificates at both ends, TLS without access control. Such connections are refused by default.
    ///
    /// Anyone who can reach such a node can start sessions, end them, and have steps run. Use it for development, and
    /// for networks that nobody else reaches; the transport logs a warning each hour. A node with members (see
    /// `Members` of the `accompanist` crate) still checks what each name may do there, but cannot know who uses the
    /// name.
    #[must_use]
    pub fn insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self.given("insecure", insecure.to_string())
    }

    /// Sets the largest packet, in bytes, 1 MiB by default; from 1 KiB to 1 GiB. All nodes should have the same
    /// value.
    #[must_use]
    pub fn packet_bytes_max(mut self, bytes: usize) -> Self {
        self.packet_bytes_max = bytes;
        self.given("packet_bytes_max", bytes.to_string())
    }

    fn given(mut self, what: &'static str, value: String) -> Self {
        self.given.push((what, value));
        self
    }

    pub(super) fn packet_bytes_limit(&self) -> usize {
        self.packet_bytes_max
    }

    pub(super) fn config_file_path(&self) -> Option<&Path> {
        self.config_file.as_deref()
    }

    pub(super) fn into_namespace(self) -> String {
        self.namespace
    }

    /// Returns the configuration of a tool that asks the nodes which this one is about: a client that may connect to
    /// the node itself as well. It listens nowhere, so that it does not matter who could reach it.
    pub(super) fn into_tool(mut self) -> Self {
        self.connect.append(&mut self.listen);
        self.mode = Some(ZenohMode::Client);
        self.insecure = true;
        self.given.retain(|(what, _)| !["mode", "insecure"].contains(what));
        self
    }

    /// Returns what to do about `error`, which Zenoh returned on opening.
    pub(super) fn explain(&self, error: &str) -> String {
        if let Ok((config, _)) = self.to_zenoh()
            && let Some(meaning) = credentials::explain(error, &config)
        {
            return meaning;
        }
        let Self { listen, connect, .. } = self;
        let mut checks = Vec::new();
        if !listen.is_empty() {
            checks.push(format!("that {listen:?} are addresses of this machine which no other process uses"));
        }
        if self.mode == Some(ZenohMode::Client) {
            checks.push(format!("that a router or peer is up at one of {connect:?}"));
        } else if !connect.is_empty() {
            checks.push(format!("that the protocols of {connect:?} exist and are built in"));
        }
        if checks.is_empty() {
            checks.push("the zenoh configuration file".into());
        }
        format!("{error}; check {}", checks.join(", and "))
    }

    /// Returns who can reach a node with this configuration; reads the configuration file, and opens nothing.
    ///
    /// # Errors
    /// [`TransportError::Config`] for a configuration that [`ZenohTransport::open`](super::ZenohTransport::open)
    /// refuses.
    pub fn check_exposure(&self) -> Result<Exposure, TransportError> {
        self.to_zenoh().map(|(_, exposure)| exposure)
    }

    /// Checks an address for [`ZenohConfig::listen`] or [`ZenohConfig::connect`], as opening does; opens nothing.
    ///
    /// # Errors
    /// [`TransportError::Config`] for an address that Zenoh would retry for ever, with only a line in the log.
    pub fn check_endpoint(endpoint: &str) -> Result<(), TransportError> {
        check_endpoint(endpoint)
    }

    /// Returns this configuration in Zenoh's terms, and who can reach a node with it.
    pub(super) fn to_zenoh(&self) -> Result<(Config, Exposure), TransportError> {
        self.check()?;
        let mut config = self.base()?;
        if config.get_json("id").is_ok_and(|id| id != "null") {
            return Err(TransportError::Config(
                "the zenoh configuration file sets an `id`: leave it out, since peers tell a session that was opened \
                 anew from the one before by its id"
                    .into(),
            ));
        }
        for (key, value) in DEFAULTS {
            if config.get_json(key).is_ok_and(|set| set == "null") {
                set(&mut config, key, value)?;
            }
        }
        for (key, value_of_zenoh, value) in INSTEAD {
            if config.get_json(key).is_ok_and(|set| set == value_of_zenoh) {
                set(&mut config, key, value)?;
            }
        }
        match self.mode {
            Some(ZenohMode::Peer) => set(&mut config, "mode", "\"peer\"")?,
            Some(ZenohMode::Client) => set(&mut config, "mode", "\"client\"")?,
            None => {}
        }
        if let Some(gossip) = self.gossip {
            set(&mut config, "scouting/gossip/enabled", &gossip.to_string())?;
        }
        if !self.listen.is_empty() {
            set(&mut config, "listen/endpoints", &json_list(&self.listen))?;
            // An unusable address is for the operator to fix: it must not be retried silently.
            set(&mut config, "listen/timeout_ms", "0")?;
            set(&mut config, "listen/exit_on_failure", "true")?;
        }
        if !self.connect.is_empty() {
            set(&mut config, "connect/endpoints", &json_list(&self.connect))?;
        }
        let message_bytes_max = self.packet_bytes_max.saturating_add(MESSAGE_BYTES_EXTRA);
        set(&mut config, "transport/link/rx/max_message_size", &message_bytes_max.to_string())?;
        if self.listen.is_empty() && !self.insecure && !exposure::says_where_to_listen(&config) {
            set(&mut config, "listen/endpoints", LISTEN_LOCAL)?;
        }
        let exposure = exposure::check(&config, self.insecure)?;
        credentials::check(&config)?;
        Ok((config, exposure))
    }

    fn base(&self) -> Result<Config, TransportError> {
        let Some(path) = &self.config_file else { return Ok(Config::default()) };
        Config::from_file(path).map_err(|error| {
            let (path, error) = (path.display(), plain(&error));
            TransportError::Config(format!(
                "`{path}` cannot be used as a zenoh configuration file (JSON5 or YAML): {error}"
            ))
        })
    }

    /// Refuses a setting that was given twice, with two values: the first would be dropped silently.
    fn check_given(&self) -> Result<(), TransportError> {
        for (at, (what, value)) in self.given.iter().enumerate() {
            let before = self.given.iter().take(at).find(|(known, first)| known == what && first != value);
            if let Some((_, first)) = before {
                return Err(TransportError::Config(format!(
                    "`{what}` is given twice, as `{first}` and as `{value}`: leave one out"
                )));
            }
        }
        for (at, endpoint) in self.listen.iter().enumerate() {
            if self.listen.iter().take(at).any(|first| first == endpoint) {
                return Err(TransportError::Config(format!(
                    "`listen` is given twice with `{endpoint}`: an address can be used once, leave one out"
                )));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TransportError> {
        self.check_given()?;
        let namespace = &self.namespace;
        if !is_name(namespace) {
            return Err(TransportError::Config(format!(
                "`{namespace}` is no namespace: use 1 to {NODE_ID_BYTES_MAX} of the characters a-z, 0-9, `-`, `_` and \
                 `.`, the first one a letter or a digit"
            )));
        }
        let packet_bytes_max = self.packet_bytes_max;
        if packet_bytes_max < ZENOH_PACKET_BYTES_LEAST {
            return Err(TransportError::Config(format!(
                "a packet_bytes_max of {packet_bytes_max} is too small: use {ZENOH_PACKET_BYTES_LEAST} or more"
            )));
        }
        if packet_bytes_max > ZENOH_PACKET_BYTES_GREATEST {
            return Err(TransportError::Config(format!(
                "a packet_bytes_max of {packet_bytes_max} is too large: use {ZENOH_PACKET_BYTES_GREATEST} or less"
            )));
        }
        self.listen.iter().chain(&self.connect).try_for_each(|endpoint| check_endpoint(endpoint))
    }
}

/// Refuses an endpoint that Zenoh would retry forever with only a line in the log.
fn check_endpoint(endpoint: &str) -> Result<(), TransportError> {
    let refused = |reason: &str| {
        TransportError::Config(format!(
            "the endpoint `{endpoint}` {reason}: write it as <protocol>/<address>, such as `tcp/192.168.1.7:7447`"
        ))
    };
    let parsed: EndPoint = endpoint.parse().map_err(|_| refused("is malformed"))?;
    if endpoint.chars().any(char::is_control) {
        return Err(refused("has a control character"));
    }
    let (protocol, address) = (parsed.protocol(), parsed.address());
    let has_port =
        address.as_str().rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if matches!(protocol.as_str(), "tcp" | "udp" | "tls" | "quic" | "ws") && !has_port {
        return Err(refused("has no port number from 0 to 65535"));
    }
    Ok(())
}

fn set(config: &mut Config, key: &str, value: &str) -> Result<(), TransportError> {
    config
        .insert_json5(key, value)
        .map_err(|error| TransportError::Config(format!("zenoh refuses `{key}` = {value}: {}", plain(&error))))
}

/// Returns a JSON list of strings; control characters have been refused before.
fn json_list(strings: &[String]) -> String {
    let quoted: Vec<String> =
        strings.iter().map(|text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))).collect();
    format!("[{}]", quoted.join(","))
}

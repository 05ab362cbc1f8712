//! The connection to a system's nodes: asks one node or all, and reads their responses.

use std::path::PathBuf;
use std::time::Duration;

use accompanist::admin::{AdminMessage, AdminResponse, ReadReply, ReadRequest, WriteReply, WriteRequest};
use accompanist::contract::AdminAccess;
use accompanist::transport::{ZenohAdmin, ZenohConfig};
use accompanist::{Config, NodeId};
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Where the nodes are, and in whose name they are asked.
#[derive(Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// An address of a node or a Zenoh router, such as `tcp/127.0.0.1:7447`. One reaches all nodes.
    #[arg(long, global = true, env = "ACCOMPANIST_CONNECT", value_delimiter = ',')]
    connect: Vec<String>,
    /// The namespace of the nodes.
    #[arg(long, global = true, env = "ACCOMPANIST_NAMESPACE")]
    namespace: Option<String>,
    /// A Zenoh configuration file with the tool's certificate, as `accompanist security add-node NAME --operator`
    /// makes.
    #[arg(long, global = true, env = "ACCOMPANIST_ZENOH", value_name = "FILE")]
    zenoh: Option<PathBuf>,
    /// A node's `accompanist.toml`: its section `[zenoh]` says where the others are.
    #[arg(long, global = true, env = "ACCOMPANIST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How long to wait for answers.
    #[arg(long, global = true, default_value = "3s", value_parser = humantime::parse_duration)]
    wait: Duration,
}

/// A response of one node.
pub(crate) struct Answer<T> {
    pub(crate) node: String,
    pub(crate) result: Result<T>,
}

/// Something of each node that has answered, with the name of the node.
pub(crate) type ByNode<T> = Vec<(String, T)>;

/// An open connection.
pub(crate) struct Client {
    runtime: tokio::runtime::Runtime,
    zenoh: ZenohAdmin,
    wait: Duration,
    by: String,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(&self) -> Result<Client> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let zenoh = runtime.block_on(ZenohAdmin::open(self.zenoh_config()?))?;
        let person = std::env::var("USER").or_else(|_| std::env::var("USERNAME")).unwrap_or_else(|_| "somebody".into());
        let by = match std::fs::read_to_string("/etc/hostname") {
            Ok(host) => format!("{person}@{}", host.trim()),
            Err(_) => person,
        };
        Ok(Client { runtime, zenoh, wait: self.wait, by })
    }

    fn zenoh_config(&self) -> Result<ZenohConfig> {
        let mut zenoh = match &self.config {
            Some(file) => {
                let config = Config::load(file)?;
                config.zenoh.with_context(|| format!("`{}` has no section `[zenoh]`", file.display()))?
            }
            None => ZenohConfig::new(),
        };
        if let Some(file) = &self.zenoh {
            zenoh = zenoh.config_file(file);
        }
        if let Some(namespace) = &self.namespace {
            zenoh = zenoh.namespace(namespace);
        }
        // An empty variable is as good as none.
        let mut connect = self.connect.iter().filter(|address| !address.is_empty()).peekable();
        if connect.peek().is_none() && self.zenoh.is_none() && self.config.is_none() {
            bail!(
                "no node to connect to: give an address with `--connect tcp/HOST:PORT` (or ACCOMPANIST_CONNECT), or a \
                 file with `--zenoh` or `--config`"
            );
        }
        Ok(connect.fold(zenoh, ZenohConfig::connect))
    }
}

impl Client {
    /// Asks one node or all to read something.
    pub(crate) fn read(&self, to: Option<&NodeId>, request: &ReadRequest) -> Result<Vec<Answer<ReadReply>>> {
        self.ask(to, AdminAccess::Read, request, self.wait)
    }

    /// Asks all nodes to read something: returns what `pick` finds in each reply, by node, and what was refused.
    pub(crate) fn read_all<T>(
        &self,
        request: &ReadRequest,
        pick: impl Fn(ReadReply) -> Option<T>,
    ) -> Result<(ByNode<T>, Vec<String>)> {
        let (mut found, mut warnings) = (Vec::new(), Vec::new());
        for Answer { node, result } in self.read(None, request)? {
            match result.map(&pick) {
                Ok(Some(picked)) => found.push((node, picked)),
                Ok(None) => warnings.push(format!("node `{node}` answers something else")),
                Err(error) => warnings.push(error.to_string()),
            }
        }
        Ok((found, warnings))
    }

    /// Has one node change something. It may take long: a group commit, or a step that is cut off first.
    pub(crate) fn write(&self, to: &NodeId, request: &WriteRequest) -> Result<WriteReply> {
        let answers = self.ask(Some(to), AdminAccess::Write, request, self.wait.max(Duration::from_secs(30)))?;
        let answer = answers.into_iter().next();
        answer.ok_or_else(|| anyhow!("node `{to}` does not answer: it is down, cut off, or unknown"))?.result
    }

    fn ask<Q: Serialize + Clone, R: DeserializeOwned + Serialize>(
        &self,
        to: Option<&NodeId>,
        access: AdminAccess,
        request: &Q,
        wait: Duration,
    ) -> Result<Vec<Answer<R>>> {
        let message = AdminMessage::new(request.clone()).by(&self.by).to_json();
        let responses = self.runtime.block_on(self.zenoh.ask(to, access, message, wait))?;
        let mut answers: Vec<_> = responses.into_iter().map(|(node, bytes)| answer(&node, &bytes)).collect();
        answers.sort_by(|one, other| one.node.cmp(&other.node));
        Ok(answers)
    }
}

fn answer<R: DeserializeOwned + Serialize>(node: &NodeId, bytes: &[u8]) -> Answer<R> {
    let result = AdminResponse::from_json(bytes).and_then(AdminResponse::into_result);
    Answer { node: node.to_string(), result: result.map_err(|error| anyhow!("node `{node}`: {error}")) }
}

//! `nodes` and `doctor`: the nodes of a system, as each of them sees itself and the others.

use std::collections::{BTreeMap, BTreeSet};

use accompanist::admin::{NodeReply, ReadReply, ReadRequest};
use anyhow::Result;

use super::connect::Client;
use super::text::{lasting, line, now_ms, row, table};

/// A difference between two clocks below this is not worth a word, in milliseconds: it may be the network's.
const CLOCK_DIFFERENCE_MIN_MS: u64 = 2_000;

/// The nodes that have answered, those that others know and that have not, and what was refused.
pub(crate) struct Nodes {
    pub(crate) here: Vec<NodeReply>,
    /// By name: which node knows it, and what it sees.
    away: BTreeMap<String, String>,
    refused: Vec<String>,
}

impl Nodes {
    /// Asks all nodes.
    pub(crate) fn ask(client: &Client) -> Result<Self> {
        let (mut here, mut refused) = (Vec::new(), Vec::new());
        let mut answered = BTreeSet::new();
        for answer in client.read(None, &ReadRequest::Node)? {
            answered.insert(answer.node);
            match answer.result {
                Ok(ReadReply::Node(node)) => here.push(*node),
                Ok(_) => refused.push("a node answers something else".to_owned()),
                Err(error) => refused.push(error.to_string()),
            }
        }
        let mut away = BTreeMap::new();
        for (node, peer) in here.iter().flat_map(|node| node.peers.iter().map(move |peer| (node, peer))) {
            if !answered.contains(&peer.node) && peer.status != "left" {
                let lasting = peer.contact_for_ms.map(|ms| format!(" for {}", lasting(ms))).unwrap_or_default();
                let seen = match peer.contact.as_str() {
                    "good" => format!("`{}` has received it lately", node.node),
                    contact => format!("{contact}{lasting}, as `{}` sees it", node.node),
                };
                away.entry(peer.node.clone()).or_insert(seen);
            }
        }
        Ok(Self { here, away, refused })
    }

    /// Returns a line for each node that has not answered, and each refusal.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let away = self.away.iter().map(|(node, seen)| format!("`{node}` does not answer: {seen}"));
        away.chain(self.refused.iter().cloned()).collect()
    }

    /// Returns the table of nodes.
    pub(crate) fn text(&self) -> String {
        let mut rows =
            vec![row(["NODE", "STATUS", "ROLES", "OPEN", "IN MEMORY", "IN TROUBLE", "DEAD LETTERS", "PEERS"])];
        for node in &self.here {
            let open = node.open.map_or_else(|| "counting".to_owned(), |open| open.to_string());
            let bad = node.peers.iter().filter(|peer| peer.status != "left" && peer.contact != "good").count();
            let peers = match bad {
                0 => format!("{} good", node.peers.len()),
                bad => format!("{bad} of {} not good", node.peers.len()),
            };
            let status = if node.recovered { node.status.clone() } else { format!("{}, recovers", node.status) };
            rows.push(vec![
                node.node.clone(),
                status,
                line(&node.roles.join(","), 40),
                open,
                node.in_memory.to_string(),
                (node.troubles.len() as u64 + node.troubles_left_out).to_string(),
                node.dead_letters.to_string(),
                peers,
            ]);
        }
        for node in self.away.keys() {
            rows.push(row([node, "away", "", "", "", "", "", ""]));
        }
        table(&rows)
    }

    /// Returns what is wrong, a line each; none if all is well.
    pub(crate) fn findings(&self) -> Vec<String> {
        let mut findings = self.warnings();
        let releases: BTreeSet<_> = self.here.iter().map(|node| node.release.as_str()).collect();
        if releases.len() > 1 {
            let releases: Vec<_> = releases.into_iter().collect();
            findings.push(format!("the nodes run different releases: {}", releases.join(", ")));
        }
        for node in &self.here {
            findings.extend(node_findings(node).into_iter().map(|what| format!("`{}`: {what}", node.node)));
        }
        findings
    }
}

fn node_findings(node: &NodeReply) -> Vec<String> {
    let mut findings = Vec::new();
    let apart = now_ms().abs_diff(node.unix_ms);
    if apart >= CLOCK_DIFFERENCE_MIN_MS {
        findings.push(format!("its clock is {} from this machine's: deadlines and times depend on it", lasting(apart)));
    }
    if !node.recovered {
        findings.push("it still recovers what was open at its start".to_owned());
    }
    if node.status != "serving" {
        findings.push(format!("it is {}, and takes no new sessions", node.status));
    }
    for peer in node.peers.iter().filter(|peer| peer.status != "left") {
        if matches!(peer.contact.as_str(), "silent" | "deaf") {
            let lasting = peer.contact_for_ms.map(lasting).unwrap_or_default();
            findings.push(format!("`{}` has been {} for {lasting}", peer.node, peer.contact));
        }
        if peer.store != "known" {
            findings.push(format!("the store of `{}` is {}: see docs/operators.md", peer.node, peer.store));
        }
        if peer.cordoned {
            findings.push(format!("`{}` is cordoned, and gets no new sessions from it", peer.node));
        }
    }
    for database in node.databases.iter().filter(|database| !database.ready) {
        let reason = line(database.reason.as_deref().unwrap_or("it is not reached"), 200);
        findings.push(format!("steps on database `{}` do not run: {reason}", database.name));
    }
    let troubles = node.troubles.len() as u64 + node.troubles_left_out;
    if troubles > 0 {
        findings.push(format!("{troubles} parts of sessions need help: `accompanist sessions --in-trouble`"));
    }
    if node.dead_letters > 0 {
        findings.push(format!("{} messages could not be handled: `accompanist dead-letters`", node.dead_letters));
    }
    findings
}

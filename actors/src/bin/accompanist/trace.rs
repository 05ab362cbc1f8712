//! `trace` and `export`: one session in causal order, put together from the records at all nodes.

use std::collections::{BTreeMap, BTreeSet};

use accompanist::admin::{ReadReply, ReadRequest};
use accompanist::id::RoleIndex;
use accompanist::timeline::{SessionExport, SessionPart};
use accompanist::{NodeId, SessionId};
use anyhow::{Context, Result, bail};

use super::connect::Client;

/// Collects the records of a session; also returns what was refused.
pub(crate) fn collect(client: &Client, session: &str) -> Result<(SessionExport, Vec<String>)> {
    let id: SessionId = session.parse().with_context(|| format!("`{session}` is not the id of a session"))?;
    let request = ReadRequest::Records { session: session.to_owned() };
    let (found, warnings) = client.read_all(&request, |reply| match reply {
        ReadReply::Records(found) => Some(found),
        _ => None,
    })?;
    let (mut export, mut roles, mut answered) = (SessionExport::new(id), BTreeMap::new(), BTreeSet::new());
    for (node, found) in found {
        answered.insert(node);
        export.parts.extend(found.parts);
        roles.extend(found.roles.into_iter().map(|role| (role.index, role)));
    }
    if export.parts.is_empty() {
        bail!("no node that answers has session {session}: it is unknown, or forgotten (`retention` in the settings)");
    }
    let known: BTreeSet<_> = export.parts.iter().map(|part| part.role).collect();
    for role in roles.into_values().filter(|role| !known.contains(&RoleIndex(role.index))) {
        let (index, node) = (RoleIndex(role.index), NodeId::new(&role.node)?);
        export.parts.push(if answered.contains(&role.node) {
            SessionPart::unknown(index, role.name, node)
        } else {
            SessionPart::away(index, role.name, node, "it does not answer")
        });
    }
    export.parts.sort_by_key(|part| part.role);
    Ok((export, warnings))
}

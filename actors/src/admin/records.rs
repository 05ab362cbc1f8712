//! The records of a session at this node, open or closed: the node's share of a timeline.

use accompanist_core::SessionId;
use accompanist_core::contract::{Space, Store, StoreError};
use accompanist_core::frame::Header;
use accompanist_core::id::{InstanceId, RoleIndex};
use accompanist_core::machine::Status;
use accompanist_core::record::{Closed, read_value};
use accompanist_core::timeline::{KnownPart, SessionPart};

use super::error::AdminError;
use super::reply::{RecordsReply, RoleReply};
use super::sessions::role_name;
use crate::runtime::context::NodeContext;
use crate::writer::load_readable;

/// Returns the parts of a session that are open here, or closed and not forgotten.
pub(super) async fn of_session(context: &NodeContext, session: SessionId) -> Result<RecordsReply, AdminError> {
    let found = context.writer.read(move |store| found(store, session)).await?;
    let mut reply = RecordsReply { parts: Vec::new(), roles: Vec::new() };
    for (id, mut part) in found {
        let header = part.opened.header.clone();
        let name = |role| role_name(context, &header, role);
        let Some(node) = header.node_of(id.role).cloned() else { continue };
        part.stopped = context.operator.stopped_because(id);
        reply.roles = roles(&header, name);
        reply.parts.push(SessionPart::known(id.role, name(id.role), node, part));
    }
    Ok(reply)
}

fn roles(header: &Header, name: impl Fn(RoleIndex) -> String) -> Vec<RoleReply> {
    let with_nodes = header.roles().zip(&header.cast);
    with_nodes.map(|(role, node)| RoleReply { index: role.0, name: name(role), node: node.to_string() }).collect()
}

fn found(store: &dyn Store, session: SessionId) -> Result<Vec<(InstanceId, KnownPart)>, StoreError> {
    let prefix = session.as_bytes();
    let mut parts = Vec::new();
    for (key, _) in store.scan(Space::Open, prefix, None, usize::MAX)? {
        let Some(id) = InstanceId::from_bytes(&key) else { continue };
        // What cannot be read has nothing to show.
        if let Ok(Some(readable)) = load_readable(store, id) {
            let status = Status::of(&readable.records);
            parts.push((id, KnownPart::new(readable.opened, readable.records, status)));
        }
    }
    for (key, value) in store.scan(Space::Closed, prefix, None, usize::MAX)? {
        let closed: Result<Closed, _> = read_value(Space::Closed, &value);
        if let (Some(id), Ok(closed)) = (InstanceId::from_bytes(&key), closed) {
            parts.push((id, KnownPart::closed(closed)));
        }
    }
    Ok(parts)
}

//! What a part in memory says of itself.

use std::sync::Arc;
use std::time::Duration;

use accompanist_core::Path;
use accompanist_core::id::InstanceId;
use accompanist_core::machine::Status;

use super::reply::{PartReply, WaitReply};
use super::sessions::state_of;
use crate::operator::handle::{AskError, InstanceHandle};
use crate::runtime::context::NodeContext;

/// How long a part in memory may take to describe itself. One that takes longer has a program that blocks its thread.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What a part in memory says of itself.
pub(super) enum Inspected {
    As(Inspection),
    /// It has not answered in time.
    Late,
    /// It is not in memory (any more).
    Absent,
}

pub(super) struct Inspection {
    status: Status,
    waits: Vec<(Path, String)>,
}

pub(super) async fn ask(context: &Arc<NodeContext>, id: InstanceId) -> Inspected {
    let handle = InstanceHandle::new(id, context.clone());
    let asked =
        async { Ok::<_, AskError>(Inspection { status: handle.status().await?, waits: handle.waits_for().await? }) };
    match tokio::time::timeout(WAIT_MAX, asked).await {
        Ok(Ok(inspection)) => Inspected::As(inspection),
        Ok(Err(AskError::NotOpen(_) | AskError::Stopped { .. })) => Inspected::Absent,
        Ok(Err(_)) | Err(_) => Inspected::Late,
    }
}

/// What is said of a part that has not answered in time.
pub(super) fn late() -> String {
    format!("it does not answer within {WAIT_MAX:?}: its program blocks a thread, or the node is overloaded")
}

impl Inspection {
    pub(super) fn describe(self, part: &mut PartReply) {
        part.state = state_of(self.status);
        part.waits = self
            .waits
            .into_iter()
            .map(|(path, what)| WaitReply {
                path: path.to_string(),
                what,
                role: None,
                node: None,
                since_unix_ms: None,
                until_unix_ms: None,
            })
            .collect();
    }
}

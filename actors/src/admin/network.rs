//! Answers the requests that arrive over a node's network. Several are answered at a time, so that one that waits does
//! not hold up the others; the rest waits in a bounded queue.

use std::sync::Arc;

use accompanist_core::contract::AdminCall;
use tokio::sync::Semaphore;

use super::{Admin, authority};
use crate::runtime::context::NodeContext;

/// The most requests that wait. More are dropped: their callers see the node as away, and ask again.
const CALLS_MAX: usize = 64;
/// The most requests that are answered at a time.
const ANSWERS_MAX: usize = 8;

/// Answers the requests that arrive over the network of a node, until the node ends.
pub(crate) fn answer_network(context: &Arc<NodeContext>) {
    let Some(mut calls) = context.routes.admin().open(CALLS_MAX) else { return };
    let (weak, end) = (Arc::downgrade(context), context.lifecycle.end.clone());
    context.lifecycle.runtime.spawn(async move {
        let answers = Arc::new(Semaphore::new(ANSWERS_MAX));
        loop {
            let call = tokio::select! {
                _ = end.wait() => return,
                call = calls.recv() => call,
            };
            let (Some(call), Ok(permit)) = (call, answers.clone().acquire_owned().await) else { return };
            let Some(context) = weak.upgrade() else { return };
            tokio::spawn(async move {
                answer(Admin::new(context), call).await;
                drop(permit);
            });
        }
    });
}

async fn answer(admin: Admin, call: AdminCall) {
    let AdminCall { caller, access, request, respond } = call;
    let allowed = authority::check(admin.context(), &caller, access);
    let (_, response) = admin.respond(caller.as_str(), access, allowed, &request).await;
    respond(response);
}

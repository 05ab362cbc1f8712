//! Why a session in one process cannot go on: a deadlock, or a program that awaits something that is no operation.
//!
//! A program may only await operations; effects and steps may await anything. A foreign await that wakes the program at
//! once (`yield_now`, an exhausted budget of the executor) is let pass, since it cannot be told from a busy executor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use super::LocalSession;
use crate::base::abort::Abort;
use crate::base::message::Payload;
use crate::base::role_names::role_name;
use crate::driver::RoleDriver;
use crate::driver::role_instance::RoleInstance;

/// How often the task of the run yields to others before a program that awaits no operation, and is not woken, is given
/// up. One yield is enough for what the executor puts off to the end of a poll; another one for a task that it wakes.
const YIELDS: u8 = 2;

/// What else a role might wait for, which does not come here.
const HINT: &str = "here no signal arrives, and only `comm_within` is a limit";

/// How long the run has waited for one program that awaits no operation.
pub(super) struct Patience {
    yields: u8,
    /// Whether the program was woken from outside since it was asked for.
    woken: Arc<AtomicBool>,
}

impl Patience {
    pub(super) fn new(woken: Arc<AtomicBool>) -> Self {
        Self { yields: 0, woken }
    }

    /// Whether the program is given up, which awaits no operation now.
    fn is_over(&mut self) -> bool {
        self.yields = if self.woken.swap(false, Ordering::SeqCst) { 0 } else { self.yields + 1 };
        self.yields > YIELDS
    }
}

impl LocalSession {
    /// Gives up a program that awaits no operation, or yields to what it awaits. `None` if all programs await
    /// operations.
    pub(super) fn foreign_await(&mut self) -> Option<Poll<Result<Payload, Abort>>> {
        let mut yields = false;
        for (role, patience) in self.roles.iter().zip(&mut self.patience) {
            let Some((part, what)) = role.instance().and_then(|part| Some((part, part.foreign_await()?))) else {
                patience.yields = 0;
                continue;
            };
            if patience.is_over() {
                let name = role_name(self.names, part.id().role);
                let abort = Abort::uncut(Abort::FOREIGN_AWAIT, format!("the program of role {name} {what}"));
                return Some(Poll::Ready(Err(abort)));
            }
            yields = true;
        }
        yields.then(|| {
            self.caller.wake();
            Poll::Pending
        })
    }

    /// Describes what each role waits for.
    pub(super) fn deadlock(&self) -> Abort {
        let open = self.instances().map(|part| (role_name(self.names, part.id().role), part));
        let roles: Vec<String> = open.map(|(name, part)| format!("role {name} {}", part.describe())).collect();
        Abort::uncut(Abort::DEADLOCK, format!("no role can go on: {} ({HINT})", roles.join("; ")))
    }
}

/// Fails if the program of `role` has dropped an operation that waited.
pub(super) fn check_dropped(name: impl Fn() -> String, role: &RoleDriver) -> Result<(), Abort> {
    let dropped = role.instance().and_then(RoleInstance::dropped_operation);
    let abort = |what| Abort::uncut(Abort::DROPPED_OPERATION, format!("the program of role {} {what}", name()));
    dropped.map_or(Ok(()), |what| Err(abort(what)))
}

//! The calls of a program's operations: what error texts name, and what a diagram is drawn from.
//!
//! A call is noted when the program makes it, whether or not its role takes part. Without the feature `testing` only
//! the latest call is kept. This module knows neither the machine nor messages.

use std::any::type_name;
use std::fmt;

use crate::base::role::{Role, RoleSet, names_of};
use crate::base::role_names::RoleNames;
use crate::frame::Operation;

/// The names of roles, as [`RoleSet::NAMES`](crate::RoleSet::NAMES) has them.
type Names = &'static [&'static str];

/// The name of one role.
pub(crate) const fn single<R: Role>() -> Names {
    const { &[R::NAME] }
}

/// An operation with which other operations begin their paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Conclave,
    Fork,
    Perform,
    Repeat,
    Saga,
    /// A part that one member of the role family takes, by its number.
    Member(u8),
    /// Such a part for each member, at a child of the path with the member's number.
    EachMember,
}

/// An operation, as the program calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// A value of type `what` goes from each of `from` to each of `to`. Of a gather, `what` is the tuple of what each
    /// of `from` sends.
    Message { operation: Operation, from: Names, to: Names, what: &'static str },
    /// `role` runs the step `name`.
    Step { role: &'static str, name: &'static str },
    /// `role` does something by itself: `locally`, `now`, `effect`, .. with the name that the program gives it.
    Own { role: &'static str, operation: &'static str, name: &'static str },
    /// Some roles enter a scope.
    Scoped { scope: Scope, roles: RoleNames, name: &'static str },
    /// Every role that calls it aborts.
    Abort,
}

impl Call {
    /// A value of type `T` goes from each of `from` to each of `to`.
    pub(crate) fn message<T>(operation: Operation, from: Names, to: Names) -> Self {
        Self::Message { operation, from, to, what: type_name::<T>() }
    }

    /// Some roles enter a scope that has no name.
    pub(crate) const fn scoped<Roles: RoleSet>(scope: Scope) -> Self {
        Self::Scoped { scope, roles: names_of::<Roles>(), name: "" }
    }

    pub(crate) const fn own(role: &'static str, operation: &'static str) -> Self {
        Self::Own { role, operation, name: "" }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Conclave => "conclave",
            Self::Fork => "fork",
            Self::Perform => "perform",
            Self::Repeat => "repeat",
            Self::Saga => "saga",
            Self::Member(_) => "part of one member",
            Self::EachMember => "part for each member",
        })
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { operation, from, to, .. } => {
                write!(f, "a {operation} from {} to {}", listed(from), listed(to))
            }
            Self::Step { name, .. } => write!(f, "step `{name}`"),
            Self::Own { operation, name: "", .. } => write!(f, "`{operation}`"),
            Self::Own { operation, name, .. } => write!(f, "{operation} `{name}`"),
            Self::Scoped { scope, .. } => write!(f, "a {scope}"),
            Self::Abort => f.write_str("an abort"),
        }
    }
}

fn listed(roles: Names) -> String {
    let quoted: Vec<String> = roles.iter().map(|role| format!("`{role}`")).collect();
    quoted.join(", ")
}

#[cfg(feature = "testing")]
pub(crate) use listening::{Called, Calls, called, listen, saga_ended};

#[cfg(not(feature = "testing"))]
pub(crate) fn called(_: crate::base::id::RoleIndex, _: &crate::base::id::Path, _: &Call) {}

#[cfg(not(feature = "testing"))]
pub(crate) fn saga_ended(_: &crate::base::id::Path, _: Option<&crate::base::abort::Abort>) {}

#[cfg(feature = "testing")]
mod listening {
    use std::cell::RefCell;
    use std::collections::{BTreeMap, BTreeSet};

    use super::Call;
    use crate::base::abort::Abort;
    use crate::base::id::{Path, RoleIndex};

    /// A call, and the roles that have made it.
    #[derive(Debug)]
    pub(crate) struct Called {
        pub(crate) call: Call,
        pub(crate) by: BTreeSet<RoleIndex>,
    }

    /// What all roles of a session have called, in the order of the program.
    #[derive(Debug, Default)]
    pub(crate) struct Calls {
        pub(crate) by_path: BTreeMap<Path, Called>,
        /// The aborts of sagas within the session.
        pub(crate) aborts: BTreeMap<Path, Abort>,
    }

    thread_local! {
        /// The calls since listening began on this thread.
        static CALLS: RefCell<Option<Calls>> = const { RefCell::new(None) };
    }

    /// Runs `part` on this thread, and adds to `calls` what programs call meanwhile.
    pub(crate) fn listen<T>(calls: &mut Calls, part: impl FnOnce() -> T) -> T {
        CALLS.replace(Some(std::mem::take(calls)));
        let result = part();
        *calls = CALLS.take().unwrap_or_default();
        result
    }

    /// Notes that `role` calls the operation at `path`.
    pub(crate) fn called(role: RoleIndex, path: &Path, call: &Call) {
        CALLS.with_borrow_mut(|calls| {
            let Some(calls) = calls else { return };
            let known = calls.by_path.entry(path.clone());
            known.or_insert_with(|| Called { call: *call, by: BTreeSet::new() }).by.insert(role);
        });
    }

    /// Notes how the saga at `path` has ended.
    pub(crate) fn saga_ended(path: &Path, abort: Option<&Abort>) {
        CALLS.with_borrow_mut(|calls| {
            let Some(calls) = calls else { return };
            calls.aborts.extend(abort.map(|abort| (path.clone(), abort.clone())));
        });
    }
}

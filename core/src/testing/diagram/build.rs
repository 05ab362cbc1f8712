//! Makes the items of a diagram from a run, in the order of the program.
//!
//! The order of paths is the order of the program, and the same at every role, whatever happened first. This module
//! knows no form of a diagram. Next: `scopes`, for operations that contain others.

use std::collections::BTreeSet;

use super::run::{Run, StepRun};
use super::types::{short_type, tuple_types};
use crate::base::id::{Path, RoleIndex};
use crate::base::located::Located;
use crate::base::role::{Role, names_of};
use crate::base::role_names::RoleNames;
use crate::drawing::item::{ArrowKind, Item, NoteKind};
use crate::frame::Operation;
use crate::language::call::{Call, Called};
use crate::language::choreography::Choreography;

/// Operations of one role that are not shown: they leave no trace outside of it.
const HIDDEN: [&str; 6] = ["locally", "each", "publish", "now", "uuid", "random"];

pub(super) type Entry<'a> = (&'a Path, &'a Called);

#[derive(Clone, Copy)]
pub(super) struct Builder<'a> {
    pub(super) run: &'a Run,
    pub(super) names: RoleNames,
    /// The index of the member of the role family that takes part as a single role.
    member: Option<usize>,
}

/// Returns the items of a run of `C`.
pub(super) fn items<C: Choreography>(run: &Run) -> Vec<Item> {
    let builder = Builder { run, names: names_of::<C::Roles>(), member: None };
    let initiator = builder.index_of(<C::Input as Located>::Role::NAME);
    let type_of = |name| short_type(name);
    let input = type_of(std::any::type_name::<<C::Input as Located>::Value>());
    let output = type_of(std::any::type_name::<<C::Output as Located>::Value>());
    let entries: Vec<Entry<'_>> = run.calls.by_path.iter().collect();

    let mut items = vec![Item::note(initiator, NoteKind::Edge, format!("starts with {input}"))];
    items.extend(builder.in_scope(&entries));
    items.extend(builder.aborts());
    items.extend(builder.compensations(None));
    let end = run.abort.as_ref().map_or(format!("ends with {output}"), |abort| format!("aborted: {}", abort.code()));
    items.push(Item::note(initiator, NoteKind::Edge, end));
    items
}

impl Builder<'_> {
    /// The builder for a part that the member of this number takes as a single role.
    pub(super) fn of_member(&self, number: u8) -> Self {
        Self { member: Some(place(self.names.member(number))), ..*self }
    }

    fn index_of(&self, role: &str) -> usize {
        self.names.index_of(role).map(place).or(self.member).unwrap_or_default()
    }

    pub(super) fn indices_of(&self, roles: RoleNames) -> Vec<usize> {
        let single = roles.single().iter().map(|role| self.index_of(role));
        let members = roles.family().into_iter().flat_map(|_| self.names.single().len()..self.run.names.len());
        single.chain(members).collect()
    }

    /// The items of one call, which `within` follows in its scope.
    pub(super) fn of_call(&self, path: &Path, called: &Called, within: &[Entry<'_>]) -> Vec<Item> {
        match called.call {
            Call::Message { operation, from, to, what } => self.messages(path, operation, from, to, what),
            Call::Step { .. } => self.steps(path),
            Call::Own { role, operation, name } => {
                let role = self.index_of(role);
                let is_shown = called.by.iter().any(|by| place(*by) == role) && !HIDDEN.contains(&operation);
                let text = match (operation, name) {
                    ("effect", name) => name.to_owned(),
                    (operation, "") => operation.to_owned(),
                    (operation, name) => format!("{operation} {name}"),
                };
                is_shown.then(|| Item::note(role, NoteKind::Own, text)).into_iter().collect()
            }
            Call::Scoped { scope, roles, name } => self.scoped(path, scope, roles, name, within),
            Call::Abort => self.abort_call(path, &called.by).into_iter().collect(),
        }
    }

    /// What was sent, in the order in which the program names senders and receivers. Members of a role family come in
    /// the order of their numbers, after the roles that are named.
    fn messages(&self, path: &Path, operation: Operation, from: &[&str], to: &[&str], what: &str) -> Vec<Item> {
        let texts = match operation {
            Operation::Gather => tuple_types(what),
            _ => vec![short_type(what)],
        };
        let position = |names: &[&str], role: usize| {
            let name = self.names.provided_as(RoleIndex(u8::try_from(role).unwrap_or(u8::MAX)));
            names.iter().position(|named| Some(*named) == name).unwrap_or(names.len())
        };
        // What members send to each other has a path for each sender, below that of the operation.
        let sent = self.run.sent.range((path.clone(), 0, 0)..).take_while(|(at, ..)| at.is_in(path));
        let mut sent: Vec<_> = sent
            .map(|(_, sender, receiver)| (position(from, *sender), *sender, position(to, *receiver), *receiver))
            .collect();
        sent.sort_unstable();
        let text = |position| texts.get(position).or_else(|| texts.first()).cloned().unwrap_or_default();
        let arrows = sent.into_iter().map(|(position, from, _, to)| (from, to, text(position)));
        arrows.map(|(from, to, text)| Item::Arrow { from, to, text, kind: ArrowKind::Message }).collect()
    }

    /// A step, or one of each member of a role family.
    fn steps(&self, path: &Path) -> Vec<Item> {
        let steps = self.run.steps.range(path.clone()..).take_while(|(at, _)| at.is_in(path));
        let note = |step: &StepRun| match &step.refusal {
            None => Item::note(step.role, NoteKind::Step, step.name.clone()),
            Some(code) => Item::note(step.role, NoteKind::Refusal, format!("{} refuses: {code}", step.name)),
        };
        steps.map(|(_, step)| note(step)).collect()
    }

    fn abort_call(&self, path: &Path, by: &BTreeSet<RoleIndex>) -> Option<Item> {
        let abort = match self.run.aborted_saga(path) {
            Some(saga) => self.run.calls.aborts.get(&saga),
            None => self.run.abort.as_ref(),
        };
        let (from, to) = (place(*by.first()?), place(*by.last()?));
        Some(Item::Note { from, to, text: format!("abort: {}", abort?.code()), kind: NoteKind::Abort })
    }

    /// The messages of the session's abort, except those to roles that have aborted by themselves.
    fn aborts(&self) -> Vec<Item> {
        let (Some(abort), Some((from, told))) = (&self.run.abort, &self.run.told) else { return Vec::new() };
        let calls = self
            .run
            .calls
            .by_path
            .iter()
            .filter(|(path, called)| called.call == Call::Abort && self.run.aborted_saga(path).is_none());
        let own: BTreeSet<usize> = calls.flat_map(|(_, called)| called.by.iter().copied().map(place)).collect();
        let text = format!("abort: {}", abort.code());
        let told = told.iter().filter(|to| !own.contains(to));
        told.map(|to| Item::Arrow { from: *from, to: *to, text: text.clone(), kind: ArrowKind::Abort }).collect()
    }

    /// The compensations because of an abort of the session, or of the saga at a path.
    pub(super) fn compensations(&self, saga: Option<&Path>) -> Vec<Item> {
        let steps = self.run.compensated.iter().filter(|path| self.run.aborted_saga(path).as_ref() == saga);
        let steps = steps.filter_map(|path| self.run.steps.get(path));
        steps.map(|step| Item::note(step.role, NoteKind::Compensation, format!("compensate {}", step.name))).collect()
    }
}

/// The place of a role in a diagram.
fn place(role: RoleIndex) -> usize {
    usize::from(role.0)
}

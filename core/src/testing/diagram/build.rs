//! Makes the items of a diagram from a run, in the order of the program.
//!
//! The order of paths is the order of the program, and the same at every role, whatever happened first. This module
//! knows no form of a diagram.

use std::collections::BTreeSet;

use super::run::Run;
use super::types::{short_type, tuple_types};
use crate::base::id::Path;
use crate::base::located::Located;
use crate::base::role::{Role, RoleSet};
use crate::drawing::item::{ArrowKind, Block, Frame, Item, NoteKind, Part};
use crate::frame::Operation;
use crate::language::call::{Call, Called, Scope};
use crate::language::choreography::Choreography;

/// Operations of one role that are not shown: they leave no trace outside of it.
const HIDDEN: [&str; 5] = ["locally", "publish", "now", "uuid", "random"];

type Entry<'a> = (&'a Path, &'a Called);

struct Builder<'a> {
    run: &'a Run,
    names: &'static [&'static str],
}

/// Returns the items of a run of `C`.
pub(super) fn items<C: Choreography>(run: &Run) -> Vec<Item> {
    let builder = Builder { run, names: C::Roles::NAMES };
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
    fn index_of(&self, role: &str) -> usize {
        self.names.iter().position(|name| *name == role).unwrap_or_default()
    }

    fn indices_of(&self, roles: &[&str]) -> Vec<usize> {
        roles.iter().map(|role| self.index_of(role)).collect()
    }

    /// The items of the operations of a scope.
    fn in_scope(&self, mut entries: &[Entry<'_>]) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        while let Some(((path, called), rest)) = entries.split_first() {
            let count = rest.iter().take_while(|(inner, _)| inner.is_in(path)).count();
            let (within, after) = rest.split_at(count);
            for item in self.of_call(path, called, within) {
                match (items.last_mut(), item) {
                    // Forks side by side.
                    (Some(Item::Block(before)), Item::Block(fork))
                        if [&before.frame, &fork.frame] == [&Frame::Par; 2] =>
                    {
                        before.parts.extend(fork.parts);
                    }
                    (_, item) => items.push(item),
                }
            }
            entries = after;
        }
        items.into_iter().flat_map(unwrapped).collect()
    }

    fn of_call(&self, path: &Path, called: &Called, within: &[Entry<'_>]) -> Vec<Item> {
        match called.call {
            Call::Message { operation, from, to, what } => self.messages(path, operation, from, to, what),
            Call::Step { .. } => self.step(path).into_iter().collect(),
            Call::Own { role, operation, name } => {
                let is_shown = called.by.contains(role) && !HIDDEN.contains(&operation);
                let text = match (operation, name) {
                    ("effect", name) => name.to_owned(),
                    (operation, "") => operation.to_owned(),
                    (operation, name) => format!("{operation} {name}"),
                };
                is_shown.then(|| Item::note(self.index_of(role), NoteKind::Own, text)).into_iter().collect()
            }
            Call::Scoped { scope: Scope::Repeat, .. } => self.turns(path, within),
            Call::Scoped { scope, roles, name } => self.scoped(path, scope, roles, name, within).into_iter().collect(),
            Call::Abort => self.abort_call(path, &called.by).into_iter().collect(),
        }
    }

    fn messages(&self, path: &Path, operation: Operation, from: &[&str], to: &[&str], what: &str) -> Vec<Item> {
        let texts = match operation {
            Operation::Gather => tuple_types(what),
            _ => vec![short_type(what)],
        };
        let senders = self.indices_of(from).into_iter().zip(texts);
        let pairs =
            senders.flat_map(|(from, text)| self.indices_of(to).into_iter().map(move |to| (from, to, text.clone())));
        let sent = pairs.filter(|(from, to, _)| self.run.sent.contains(&(path.clone(), *from, *to)));
        sent.map(|(from, to, text)| Item::Arrow { from, to, text, kind: ArrowKind::Message }).collect()
    }

    fn step(&self, path: &Path) -> Option<Item> {
        let step = self.run.steps.get(path)?;
        Some(match &step.refusal {
            None => Item::note(step.role, NoteKind::Step, step.name.clone()),
            Some(code) => Item::note(step.role, NoteKind::Refusal, format!("{} refuses: {code}", step.name)),
        })
    }

    fn scoped(&self, path: &Path, scope: Scope, roles: &[&str], name: &str, within: &[Entry<'_>]) -> Option<Item> {
        let mut items = self.in_scope(within);
        let (abort, all) = (self.run.calls.aborts.get(path), roles.join(", "));
        let frame = match (scope, abort) {
            (Scope::Fork | Scope::Repeat, _) => Frame::Par,
            (Scope::Perform, _) => Frame::Scope(format!("perform {name}: {all}")),
            (Scope::Conclave, _) => Frame::Scope(format!("conclave: {all}")),
            (Scope::Saga, None) => Frame::Scope(format!("saga: {all}")),
            (Scope::Saga, Some(abort)) => {
                items.extend(self.compensations(Some(path)));
                Frame::Scope(format!("saga: {all}, aborted: {}", abort.code()))
            }
        };
        let roles = if frame == Frame::Par { Vec::new() } else { self.indices_of(roles) };
        Item::block(frame, roles, items)
    }

    /// The turns of a loop. Turns in a row that look alike are shown once.
    fn turns(&self, path: &Path, within: &[Entry<'_>]) -> Vec<Item> {
        let number = |(inner, _): &Entry<'_>| inner.counter_in(path).unwrap_or_default();
        let turns = within.chunk_by(|one, other| number(one) == number(other));
        let turns: Vec<(u32, Vec<Item>)> = turns
            .map(|turn| (turn.first().map(number).unwrap_or_default() + 1, self.in_scope(turn)))
            .filter(|(_, items)| !items.is_empty())
            .collect();
        let alike = turns.chunk_by(|(_, one), (_, other)| one == other);
        let block = |turns: &[(u32, Vec<Item>)]| {
            let ((first, items), (last, _)) = (turns.first()?, turns.last()?);
            let title = if first == last { format!("turn {first}") } else { format!("turns {first} to {last}") };
            Item::block(Frame::Loop(title), Vec::new(), items.clone())
        };
        alike.filter_map(block).collect()
    }

    fn abort_call(&self, path: &Path, by: &BTreeSet<&str>) -> Option<Item> {
        let abort = match self.run.aborted_saga(path) {
            Some(saga) => self.run.calls.aborts.get(&saga),
            None => self.run.abort.as_ref(),
        };
        let by: Vec<usize> = by.iter().map(|role| self.index_of(role)).collect();
        let (from, to) = (*by.iter().min()?, *by.iter().max()?);
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
        let own: BTreeSet<usize> =
            calls.flat_map(|(_, called)| called.by.iter().map(|role| self.index_of(role))).collect();
        let text = format!("abort: {}", abort.code());
        let told = told.iter().filter(|to| !own.contains(to));
        told.map(|to| Item::Arrow { from: *from, to: *to, text: text.clone(), kind: ArrowKind::Abort }).collect()
    }

    /// The compensations because of an abort of the session, or of the saga at a path.
    fn compensations(&self, saga: Option<&Path>) -> Vec<Item> {
        let steps = self.run.compensated.iter().filter(|path| self.run.aborted_saga(path).as_ref() == saga);
        let steps = steps.filter_map(|path| self.run.steps.get(path));
        steps.map(|step| Item::note(step.role, NoteKind::Compensation, format!("compensate {}", step.name))).collect()
    }
}

/// A fork that nothing runs beside needs no frame.
fn unwrapped(item: Item) -> Vec<Item> {
    match item {
        Item::Block(Block { frame: Frame::Par, parts, .. }) if parts.len() == 1 => {
            parts.into_iter().flat_map(|Part { items, .. }| items).collect()
        }
        item => vec![item],
    }
}

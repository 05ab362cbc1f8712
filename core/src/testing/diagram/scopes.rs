//! The items of operations that contain others: conclaves, sagas, forks, loops, and parts of members of a role family.

use super::build::{Builder, Entry};
use crate::base::id::Path;
use crate::base::role_names::RoleNames;
use crate::drawing::item::{Block, Frame, Item, Part};
use crate::language::call::{Call, Scope};

impl Builder<'_> {
    /// The items of the operations of a scope.
    pub(super) fn in_scope(&self, mut entries: &[Entry<'_>]) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        let mut was_fork = false;
        while let Some(((path, called), rest)) = entries.split_first() {
            let count = rest.iter().take_while(|(inner, _)| inner.is_in(path)).count();
            let (within, after) = rest.split_at(count);
            let is_fork = matches!(called.call, Call::Scoped { scope: Scope::Fork, .. });
            for item in self.of_call(path, called, within) {
                match (items.last_mut(), item) {
                    (Some(Item::Block(before)), Item::Block(fork)) if was_fork && is_fork => {
                        before.parts.extend(fork.parts);
                    }
                    (_, item) => items.push(item),
                }
                was_fork = is_fork;
            }
            entries = after;
        }
        items.into_iter().flat_map(unwrapped).collect()
    }

    pub(super) fn scoped(
        &self,
        path: &Path,
        scope: Scope,
        roles: RoleNames,
        name: &str,
        within: &[Entry<'_>],
    ) -> Vec<Item> {
        match scope {
            Scope::Repeat => self.turns(path, within),
            Scope::Fork => Item::block(Frame::Par, Vec::new(), self.in_scope(within)).into_iter().collect(),
            Scope::Conclave => self.conclave(roles, within),
            Scope::Member(number) => self.of_member(number).conclave(roles, within),
            Scope::EachMember => self.each_member(path, roles, within).into_iter().collect(),
            Scope::Perform => {
                let title = format!("perform {name}: {}", self.listed(roles));
                self.framed(title, roles, self.in_scope(within)).into_iter().collect()
            }
            Scope::Saga => {
                let mut items = self.in_scope(within);
                let mut title = format!("saga: {}", self.listed(roles));
                if let Some(abort) = self.run.calls.aborts.get(path) {
                    items.extend(self.compensations(Some(path)));
                    title = format!("{title}, aborted: {}", abort.code());
                }
                self.framed(title, roles, items).into_iter().collect()
            }
        }
    }

    /// A part that only some roles take. What one role does by itself needs no frame.
    fn conclave(&self, roles: RoleNames, within: &[Entry<'_>]) -> Vec<Item> {
        let items = self.in_scope(within);
        if self.indices_of(roles).len() == 1 {
            return items;
        }
        self.framed(format!("conclave: {}", self.listed(roles)), roles, items).into_iter().collect()
    }

    /// A part for each member, all of them side by side.
    fn each_member(&self, path: &Path, roles: RoleNames, within: &[Entry<'_>]) -> Option<Item> {
        let number = |(inner, _): &Entry<'_>| inner.counter_in(path).unwrap_or_default();
        let parts = within.chunk_by(|one, other| number(one) == number(other)).filter_map(|part| {
            let member = u8::try_from(number(part.first()?)).ok()?;
            let items = self.of_member(member).conclave(roles, part);
            (!items.is_empty()).then(|| Part { label: String::new(), items })
        });
        let parts: Vec<Part> = parts.collect();
        (!parts.is_empty()).then(|| Item::Block(Block { frame: Frame::Par, roles: Vec::new(), parts }))
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

    fn framed(&self, title: String, roles: RoleNames, items: Vec<Item>) -> Option<Item> {
        Item::block(Frame::Scope(title), self.indices_of(roles), items)
    }

    /// The names of roles, for a title.
    fn listed(&self, roles: RoleNames) -> String {
        let indices = self.indices_of(roles);
        let names: Vec<&str> =
            indices.iter().filter_map(|index| self.run.names.get(*index)).map(String::as_str).collect();
        names.join(", ")
    }
}

/// Parts that nothing runs beside need no frame.
fn unwrapped(item: Item) -> Vec<Item> {
    match item {
        Item::Block(Block { frame: Frame::Par, parts, .. }) if parts.len() == 1 => {
            parts.into_iter().flat_map(|Part { items, .. }| items).collect()
        }
        item => vec![item],
    }
}

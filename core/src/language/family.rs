//! Role families in a program: their members, values at each member, and parts that one member takes.
//!
//! This module only holds values; the operations are on [`crate::Context`].

use std::fmt;
use std::marker::PhantomData;

use crate::base::located::{Absent, At, Located};
use crate::base::message::{CodecError, Message, Payload, decode, pack, unpack};
use crate::base::role::{Role, RoleSet};
use crate::language::loop_state::LoopState;

/// A member of the role family of `R` in a session, by its number from 0. All roles know it, so all may branch on it.
///
/// ```
/// # use accompanist_core::*;
/// # #[derive(Clone, Copy)] struct Client;
/// # impl Role for Client { const NAME: &'static str = "client"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Worker;
/// # impl Role for Worker { const NAME: &'static str = "worker"; type Service = (); }
/// # struct Names;
/// # impl Choreography for Names {
/// #     const NAME: &'static str = "names"; type Roles = (Client, Many<Worker>);
/// #     type Input = At<Client, ()>; type Output = At<Client, Vec<String>>;
/// async fn run(&self, ctx: &Context<Self::Roles>, _: At<Client, ()>) -> Result<At<Client, Vec<String>>, Abort> {
///     let names = ctx.each(Worker, |_, member: FamilyMember<Worker>| member.to_string());
///     ctx.gather_each(Worker, Client, &names).await
/// }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let names = run_local(Names, (), &Services::new().members(Worker, 2)).await;
/// assert_eq!(names, Ok(vec!["worker/0".to_owned(), "worker/1".to_owned()]));
/// # }
/// ```
pub struct FamilyMember<R> {
    number: u8,
    role: PhantomData<fn() -> R>,
}

impl<R> FamilyMember<R> {
    pub(crate) fn new(number: u8) -> Self {
        Self { number, role: PhantomData }
    }

    /// The number of the member, from 0.
    pub fn number(self) -> usize {
        usize::from(self.number)
    }

    pub(crate) fn index(self) -> u8 {
        self.number
    }
}

impl<R> Clone for FamilyMember<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for FamilyMember<R> {}

impl<R> PartialEq for FamilyMember<R> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<R> Eq for FamilyMember<R> {}

impl<R: Role> fmt::Display for FamilyMember<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", R::NAME, self.number)
    }
}

impl<R: Role> fmt::Debug for FamilyMember<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// All members of a role family, in the order of their numbers; [`Context::members`](crate::Context::members) has an
/// example.
pub struct FamilyMembers<R> {
    next: u8,
    count: u8,
    role: PhantomData<fn() -> R>,
}

impl<R> FamilyMembers<R> {
    pub(crate) fn new(count: u8) -> Self {
        Self { next: 0, count, role: PhantomData }
    }

    /// The member of this number, if the family has so many.
    pub fn get(&self, number: usize) -> Option<FamilyMember<R>> {
        u8::try_from(number).ok().filter(|number| *number < self.count).map(FamilyMember::new)
    }
}

impl<R> Iterator for FamilyMembers<R> {
    type Item = FamilyMember<R>;
    fn next(&mut self) -> Option<FamilyMember<R>> {
        let member = (self.next < self.count).then(|| FamilyMember::new(self.next))?;
        self.next += 1;
        Some(member)
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(self.count.saturating_sub(self.next));
        (left, Some(left))
    }
}

impl<R> ExactSizeIterator for FamilyMembers<R> {}

impl<R> Clone for FamilyMembers<R> {
    fn clone(&self) -> Self {
        Self { next: self.next, count: self.count, role: PhantomData }
    }
}

impl<R: Role> fmt::Debug for FamilyMembers<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} members of `{}`", self.count, R::NAME)
    }
}

/// A value of type `T` at each member of the role family of `R`: each member has a value of its own, and all other
/// roles have none.
///
/// Like an [`At`], it can be read at its place only: [`Each::at`] gives the part of one member, which that member
/// reads.
pub struct Each<R, T> {
    own: At<R, T>,
    /// What this role has of the other members' values.
    nothing: At<R, T>,
    /// The number of the member that this role is.
    number: Option<u8>,
}

impl<R: Role, T> Each<R, T> {
    pub(crate) fn new(number: Option<u8>, own: At<R, T>) -> Self {
        Self { own, nothing: At::held(None), number }
    }

    /// The value of `member`, which that member can read.
    ///
    /// It belongs to parts in which that member takes part: to the closure of [`Context::each`](crate::Context::each)
    /// for that member, or to its [`Context::with_member`](crate::Context::with_member). A read by another member
    /// stops the program there, as [`Local::get`](crate::Local::get) says.
    pub fn at(&self, member: FamilyMember<R>) -> &At<R, T> {
        if self.number == Some(member.index()) { &self.own } else { &self.nothing }
    }

    /// What this role has: the value of the member that it is.
    pub(crate) fn own(&self) -> &At<R, T> {
        &self.own
    }
}

impl<R: Role, T> Clone for Each<R, T> {
    fn clone(&self) -> Self {
        Self::new(self.number, self.own.clone())
    }
}

impl<R: Role, T> fmt::Debug for Each<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Each<{}, {}>", R::NAME, std::any::type_name::<T>())
    }
}

impl<R: Role, T> Absent for Each<R, T> {
    fn absent() -> Self {
        Self::new(None, At::absent())
    }
}

impl<R: Role, T: Message> LoopState for Each<R, T> {
    fn take_apart(&self, parts: &mut Vec<Vec<u8>>) -> Result<(), CodecError> {
        parts.push(pack(&(self.number, self.own.bytes()?))?);
        Ok(())
    }
    fn put_together(parts: &mut std::vec::IntoIter<Vec<u8>>) -> Result<Self, CodecError> {
        let (number, bytes): (Option<u8>, Option<Payload>) = unpack(&parts.next().unwrap_or_default())?;
        let value = bytes.map(|bytes| Ok((decode(bytes.as_slice())?, bytes)));
        Ok(Self::new(number, At::place(value.transpose()?)))
    }
}

/// The single roles that take part beside one member of a family: `()`, or a tuple such as `(Client,)`;
/// [`Context::with_member`](crate::Context::with_member) has an example.
#[diagnostic::on_unimplemented(
    message = "`{Self}` are no roles that could take part beside a member of a role family",
    label = "expected `()` or a tuple of at most 11 roles, such as `(Client,)`"
)]
pub trait Beside {
    /// The roles together with the member, who takes part as the single role `R`.
    type With<R: Role>: RoleSet;
}

macro_rules! beside {
    ($( ($($role:ident),*) )+) => {$(
        impl<$($role: crate::base::role::Participant),*> Beside for ($($role,)*) {
            type With<Last: Role> = ($($role,)* Last,);
        }
    )+};
}

beside! {
    ()
    (A)
    (A, B)
    (A, B, C)
    (A, B, C, D)
    (A, B, C, D, E)
    (A, B, C, D, E, F)
    (A, B, C, D, E, F, G)
    (A, B, C, D, E, F, G, H)
    (A, B, C, D, E, F, G, H, I)
    (A, B, C, D, E, F, G, H, I, J)
    (A, B, C, D, E, F, G, H, I, J, K)
}

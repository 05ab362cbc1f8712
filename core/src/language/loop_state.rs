//! The state that a loop carries from turn to turn, in a form of which each role can store its own part.

use serde::{Deserialize, Serialize};

use crate::base::located::{At, Located};
use crate::base::message::{CodecError, Message, Payload, decode, encode, pack, unpack};
use crate::base::role::Role;

/// The state that [`Context::repeat`](crate::Context::repeat) carries from one turn to the next: located values,
/// values known to all roles (as [`Known`]), and tuples of those; [`Known`] has an example.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be carried from one turn of a loop to the next",
    label = "must be `()`, an `At<Role, Value>`, a `Known<Value>`, or a tuple of those",
    note = "a value that all roles know, such as one that was broadcast, is carried as `Known(value)`"
)]
pub trait LoopState: Sized + Send {
    #[doc(hidden)]
    fn take_apart(&self, parts: &mut Vec<Vec<u8>>) -> Result<(), CodecError>;
    #[doc(hidden)]
    fn put_together(parts: &mut std::vec::IntoIter<Vec<u8>>) -> Result<Self, CodecError>;
}

/// A value that all roles of a loop know, such as a counter or a broadcast value.
///
/// ```
/// # use std::ops::ControlFlow;
/// # use accompanist_core::*;
/// # #[derive(Clone, Copy)] struct Buyer;
/// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Seller;
/// # impl Role for Seller { const NAME: &'static str = "seller"; type Service = (); }
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
/// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
/// async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
///     let left: u32 = ctx.broadcast(Buyer, &books).await?; // Both know it, so both may end the loop by it.
///     let price = ctx.locally(Seller, |_| 0);
///     let price = ctx.repeat((Known(left), price), async |ctx, (Known(left), price)| {
///         if left == 0 {
///             return Ok(ControlFlow::Break(price));
///         }
///         let price = ctx.locally(Seller, |seller| seller.get(&price) + 25); // One more book.
///         Ok(ControlFlow::Continue((Known(left - 1), price)))
///     });
///     ctx.comm(Seller, Buyer, &price.await?).await
/// }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert_eq!(run_local(Sale, 3, &Services::new()).await, Ok(75));
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known<T>(pub T);

/// One part of a state as it is stored.
#[derive(Serialize, Deserialize)]
enum Part {
    /// A located value that another role has.
    Elsewhere,
    Located(Payload),
    Known(Payload),
}

/// Puts together a state of exactly these parts.
pub(crate) fn put_together<S: LoopState>(parts: Vec<Vec<u8>>) -> Result<S, CodecError> {
    let written = parts.len();
    let mut parts = parts.into_iter();
    let state = S::put_together(&mut parts)?;
    match parts.len() {
        0 => Ok(state),
        left => Err(CodecError::undecodable::<S>(&format!(
            "written was a state of {written} parts, expected is one of {}",
            written - left
        ))),
    }
}

fn next(parts: &mut std::vec::IntoIter<Vec<u8>>) -> Result<Option<Part>, CodecError> {
    parts.next().map(|part| unpack(&part)).transpose()
}

fn other_part<S>(written: Option<&Part>) -> CodecError {
    let written = match written {
        None => "written was a state of fewer parts",
        Some(Part::Known(_)) => "written was a value that all roles know",
        Some(Part::Elsewhere | Part::Located(_)) => "written was a located value",
    };
    CodecError::undecodable::<S>(&format!("{written}, expected is `{}`", std::any::type_name::<S>()))
}

impl<T: Message> LoopState for Known<T> {
    fn take_apart(&self, parts: &mut Vec<Vec<u8>>) -> Result<(), CodecError> {
        parts.push(pack(&Part::Known(encode(&self.0)?.into()))?);
        Ok(())
    }
    fn put_together(parts: &mut std::vec::IntoIter<Vec<u8>>) -> Result<Self, CodecError> {
        match next(parts)? {
            Some(Part::Known(bytes)) => decode(bytes.as_slice()).map(Self),
            part => Err(other_part::<Self>(part.as_ref())),
        }
    }
}

impl<R: Role, T: Message> LoopState for At<R, T> {
    fn take_apart(&self, parts: &mut Vec<Vec<u8>>) -> Result<(), CodecError> {
        parts.push(pack(&self.bytes()?.map_or(Part::Elsewhere, Part::Located))?);
        Ok(())
    }
    fn put_together(parts: &mut std::vec::IntoIter<Vec<u8>>) -> Result<Self, CodecError> {
        match next(parts)? {
            Some(Part::Elsewhere) => Ok(Self::place(None)),
            Some(Part::Located(bytes)) => Ok(Self::place(Some((decode(bytes.as_slice())?, bytes)))),
            part => Err(other_part::<Self>(part.as_ref())),
        }
    }
}

impl LoopState for () {
    fn take_apart(&self, _: &mut Vec<Vec<u8>>) -> Result<(), CodecError> {
        Ok(())
    }
    fn put_together(_: &mut std::vec::IntoIter<Vec<u8>>) -> Result<Self, CodecError> {
        Ok(())
    }
}

macro_rules! carried_tuples {
    ($(($($item:ident $index:tt),+))+) => {$(
        impl<$($item: LoopState),+> LoopState for ($($item,)+) {
            fn take_apart(&self, parts: &mut Vec<Vec<u8>>) -> Result<(), CodecError> {
                $(self.$index.take_apart(parts)?;)+
                Ok(())
            }
            fn put_together(parts: &mut std::vec::IntoIter<Vec<u8>>) -> Result<Self, CodecError> {
                Ok(($($item::put_together(parts)?,)+))
            }
        }
    )+};
}
carried_tuples! {
    (A 0) (A 0, B 1) (A 0, B 1, C 2) (A 0, B 1, C 2, D 3) (A 0, B 1, C 2, D 3, E 4) (A 0, B 1, C 2, D 3, E 4, F 5)
}

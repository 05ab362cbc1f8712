//! Names that are put together when the program is compiled, for types with parameters.

/// The maximum length in bytes of a name that is put together.
const BYTES_MAX: usize = 255;

/// A name out of several, as [`name!`](crate::name) makes it.
#[doc(hidden)]
#[derive(Debug)]
pub struct JoinedName {
    bytes: [u8; BYTES_MAX],
    length: usize,
}

impl JoinedName {
    /// Puts `parts` together. Evaluated by the compiler, so that a name that is too long does not compile.
    #[expect(clippy::indexing_slicing, reason = "the compiler evaluates this, and shows the text")]
    pub const fn of(parts: &[&str]) -> Self {
        let mut joined = Self { bytes: [0; BYTES_MAX], length: 0 };
        let mut part = 0;
        while part < parts.len() {
            let bytes = parts[part].as_bytes();
            let mut at = 0;
            while at < bytes.len() {
                assert!(joined.length < BYTES_MAX, "the parts of this name are longer than 255 bytes together");
                joined.bytes[joined.length] = bytes[at];
                joined.length += 1;
                at += 1;
            }
            part += 1;
        }
        joined
    }

    /// The whole name.
    #[expect(clippy::panic, reason = "the compiler evaluates this, and texts together are a text")]
    pub const fn as_str(&self) -> &str {
        match std::str::from_utf8(self.bytes.split_at(self.length).0) {
            Ok(name) => name,
            Err(_) => panic!("texts together are a text"),
        }
    }
}

/// Puts a name together out of others, for the `NAME` of a choreography, a step or a role with type parameters.
///
/// `concat!` takes literals only. This takes any constant texts, also those that depend on the parameters of the type:
///
/// ```
/// use accompanist_core::{Abort, At, Choreography, Context, Role, name};
/// # #[derive(Role)] struct Buyer;
/// # #[derive(Role)] struct Seller;
///
/// /// Two roles exchange what they have.
/// struct Swap<A, B>(A, B);
/// impl<A: Role, B: Role> Choreography for Swap<A, B> {
///     const NAME: &'static str = name!("swap-", A::NAME, "-", B::NAME);
///     type Roles = (A, B);
///     // ..
/// #   type Input = At<A, u32>;
/// #   type Output = At<A, u32>;
/// #   async fn run(&self, ctx: &Context<(A, B)>, input: At<A, u32>) -> Result<At<A, u32>, Abort> {
/// #       ctx.comm(self.1, self.0, &ctx.comm(self.0, self.1, &input).await?).await
/// #   }
/// }
///
/// assert_eq!(Swap::<Buyer, Seller>::NAME, "swap-buyer-seller");
/// ```
///
/// The name must tell apart what may run differently: two types with one name are one choreography to other nodes. A
/// parameter that is no role needs a constant of its own for that, in a trait of yours; for a number or a flag, choose
/// between literals (`if PARALLEL { "all-at-once" } else { "in-turn" }`). More than 255 bytes do not compile.
#[macro_export]
macro_rules! name {
    ($($part:expr),+ $(,)?) => {
        const { &$crate::JoinedName::of(&[$($part),+]) }.as_str()
    };
}

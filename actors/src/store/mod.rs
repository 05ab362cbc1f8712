//! The stores: fjall for nodes, memory for tests and simulations, and a wrapper over either that encrypts values. All
//! are plain ordered databases; the writer decides what is written and when.

mod codec;
mod commit_row;
mod durability_mark;
mod encoded;
mod fjall;
mod generation;
mod incomplete_open;
mod journals;
#[cfg(feature = "encryption")]
mod key_ring;
mod memory;
mod modes;
mod opening;
mod owner;
mod place;
mod preallocation;
mod trees;
mod unusable;

use accompanist_core::contract::{Change, Space, Store, StoreError};
use accompanist_core::record::{STORE_FORMAT, read_value, value_bytes};

pub use self::codec::{Codec, CodecError, KeyId, Row};
pub use self::encoded::EncodedStore;
pub(crate) use self::encoded::check_decoded;
pub use self::fjall::FjallStore;
#[cfg(feature = "encryption")]
pub use self::key_ring::{KeyRing, KeyRingError};
pub use crate::config::FjallSizes;
pub(crate) use generation::{Halt, claim};
pub use memory::{MemoryDisk, MemoryStore};
pub use modes::private_folder;
pub(crate) use owner::check_owner;

/// The key under which a store holds the number of its format.
const FORMAT_KEY: &[u8] = b"format";

/// The key under which a store holds its node's membership.
pub(crate) const STANDING_KEY: &[u8] = b"standing";

/// The prefix of the keys under which a store holds how far the stores of other nodes were.
pub(crate) const OPENING_KEY: &[u8] = b"opening/";

/// Checks that this release can read the store, and writes the format into a fresh one.
pub(crate) fn check_format(store: &mut dyn Store) -> Result<(), StoreError> {
    match store.get(Space::Meta, FORMAT_KEY)? {
        Some(bytes) => {
            let found: u32 = read_value(Space::Meta, &bytes)?;
            if found > STORE_FORMAT {
                return Err(StoreError::NewerFormat { found, supported: STORE_FORMAT });
            }
            Ok(())
        }
        None => {
            let value = value_bytes(&STORE_FORMAT).map_err(|error| StoreError::Failed(error.to_string()))?;
            store.apply(vec![Change { space: Space::Meta, key: FORMAT_KEY.to_vec(), value: Some(value) }])?;
            store.sync()
        }
    }
}

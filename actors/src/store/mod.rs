//! The stores: fjall for nodes, memory for tests and simulations, and one over either that encrypts values. All are plain
//! ordered databases; who writes what, and when, is the writer's business.

mod ahead;
mod codec;
mod commit_row;
mod encoded;
mod fjall;
mod half_made;
mod journals;
#[cfg(feature = "encryption")]
mod key_ring;
mod mark;
mod memory;
mod opening;
mod place;
mod trees;

use accompanist_core::contract::{Change, Space, Store, StoreError};
use accompanist_core::record::{STORE_FORMAT, read_value, value_bytes};

pub use self::codec::{Codec, CodecError, KeyId, Row};
pub use self::encoded::EncodedStore;
pub(crate) use self::encoded::check_decoded;
pub use self::fjall::{FjallSizes, FjallStore};
#[cfg(feature = "encryption")]
pub use self::key_ring::{KeyRing, KeyRingError};
pub use memory::{MemoryDisk, MemoryStore};

/// Where a store keeps the number of its format.
const FORMAT_KEY: &[u8] = b"format";

/// Makes sure that this release can read the store, and marks a fresh one.
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

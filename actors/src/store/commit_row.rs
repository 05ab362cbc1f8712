//! The row that each batch of a store carries beside the caller's changes: the batch's number, and for each keyspace
//! the last earlier batch that touched it.
//!
//! With this row the journals alone determine what the tables must hold. fjall removes a journal once every keyspace
//! that it touches has been flushed. So if the first remaining batch says that batch S was the last to touch keyspace
//! K, the tables of K reach S, or something is missing (decision 0022).

/// The key of each batch's row. No key of another keyspace equals it.
pub(super) const KEY: &[u8] = b"accompanist commit";

/// The position of the keyspace of these rows; the spaces follow in the order of their tags.
pub(super) const COMMITS_POSITION: usize = 0;

/// The contents of the row. Keyspaces are identified by their positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommitRow {
    /// The number of the batch among all batches of the store, from 1.
    pub(super) commit: u64,
    /// The keyspaces that the batch touches: one bit for each position.
    pub(super) touched: u32,
    /// For each keyspace, the sequence number of the last earlier batch that touched it; 0 if there is none.
    pub(super) before: Vec<u64>,
}

impl CommitRow {
    /// Creates the row of batch `commit`, which touches the keyspaces at the positions that are `true`.
    pub(super) fn next(commit: u64, touched: &[bool], before: Vec<u64>) -> Self {
        let bits = touched.iter().zip(0_u32..).filter(|(touched, _)| **touched).map(|(_, position)| 1 << position);
        Self { commit, touched: bits.fold(0, |all, bit| all | bit), before }
    }

    /// Encodes the row.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(12 + 8 * self.before.len());
        bytes.extend(self.commit.to_le_bytes());
        bytes.extend(self.touched.to_le_bytes());
        bytes.extend(self.before.iter().flat_map(|sequence| sequence.to_le_bytes()));
        bytes
    }

    /// Decodes a row.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (commit, rest) = bytes.split_first_chunk()?;
        let (touched, rest) = rest.split_first_chunk()?;
        let (before, []) = rest.as_chunks::<8>() else { return None };
        Some(Self {
            commit: u64::from_le_bytes(*commit),
            touched: u32::from_le_bytes(*touched),
            before: before.iter().map(|sequence| u64::from_le_bytes(*sequence)).collect(),
        })
    }

    /// Returns, for each keyspace, the last batch that touched it, once this batch has been applied with `sequence`.
    pub(super) fn after(&self, sequence: u64) -> Vec<u64> {
        let touches = |position: usize| u32::try_from(position).is_ok_and(|bit| (self.touched >> bit) & 1 == 1);
        let after = self.before.iter().enumerate();
        after.map(|(position, before)| if touches(position) { sequence } else { *before }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_and_nothing_else_is_a_row() {
        let row = CommitRow { commit: 7, touched: 0b101, before: vec![40, 3, 0] };
        let bytes = row.to_bytes();
        assert_eq!(CommitRow::from_bytes(&bytes), Some(row.clone()));
        for length in [0, 8, 11, bytes.len() - 1] {
            assert_eq!(CommitRow::from_bytes(bytes.get(..length).unwrap_or_default()), None);
        }
        assert_eq!(row.after(41), [41, 3, 41]);
    }
}

//! Messages that were told to an actor and that it refused. Nobody waits for an answer, so they are stored with the
//! refusal until they are handled again, or discarded.
//!
//! The step that refuses a message stores it, in the runtime's own tables at the actor's node. The number is bounded:
//! the oldest is removed first. This module knows nothing about handlers.

use accompanist_core::state::Under;
use accompanist_core::{Abort, NodeId, Payload, State, Table};
use serde::{Deserialize, Serialize};

/// The refused messages, by the actor's instance (the name of its state) and a number.
const REFUSALS: Table<(String, u64), Refusal> = Table::new("refusals");
/// How many messages an instance has refused, so that no number is used twice.
const NUMBERS: Table<String, u64> = Table::new("refused");

/// A message that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) sender: NodeId,
    pub(super) body: Payload,
    pub(super) abort: Abort,
}

/// Stores a refused message, and removes the oldest ones beyond `max`.
pub(super) fn keep(books: &mut State<'_>, instance: &str, refusal: &Refusal, max: usize) -> Result<(), Abort> {
    let number = NUMBERS.get(books, instance)?.unwrap_or_default() + 1;
    NUMBERS.put(books, instance, &number)?;
    put(books, instance, number, refusal)?;
    while REFUSALS.range(books, Under((instance,))).count() > max {
        let Some((oldest, _)) = REFUSALS.first(books, Under((instance,)))? else { break };
        REFUSALS.remove(books, (oldest.0.as_str(), oldest.1))?;
    }
    Ok(())
}

/// Stores a message under its old number after it was refused again.
pub(super) fn put(books: &mut State<'_>, instance: &str, number: u64, refusal: &Refusal) -> Result<(), Abort> {
    REFUSALS.put(books, (instance, number), refusal)
}

/// Removes and returns a refused message, if it still exists.
pub(super) fn take(books: &mut State<'_>, instance: &str, number: u64) -> Result<Option<Refusal>, Abort> {
    REFUSALS.take(books, (instance, number))
}

/// Returns the refused messages of an instance, the oldest first.
pub(super) fn list(books: &State<'_>, instance: &str) -> Result<Vec<(u64, Refusal)>, Abort> {
    let rows = REFUSALS.range(books, Under((instance,)));
    rows.map(|row| row.map(|((_, number), refusal)| (number, refusal))).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use accompanist_core::state::Writes;

    use super::*;

    #[test]
    fn the_oldest_goes_and_no_number_comes_twice() {
        let base = Writes::default();
        let mut books = State::new(&base, "books");
        let refusal = |byte| Refusal {
            sender: NodeId::new("edge").unwrap(),
            body: vec![byte].into(),
            abort: Abort::new("no", "it does not want to"),
        };
        let numbers = |books: &State<'_>, of: &str| -> Vec<u64> {
            list(books, of).unwrap().into_iter().map(|(number, _)| number).collect()
        };
        for byte in 0..5 {
            keep(&mut books, "till", &refusal(byte), 3).unwrap();
        }
        keep(&mut books, "tills", &refusal(9), 3).unwrap();
        assert_eq!((numbers(&books, "till"), numbers(&books, "tills")), (vec![3, 4, 5], vec![1]));
        assert_eq!(take(&mut books, "till", 4).unwrap(), Some(refusal(3)));
        assert_eq!(take(&mut books, "till", 4).unwrap(), None);
        put(&mut books, "till", 4, &refusal(3)).unwrap();
        for number in 3..=5 {
            assert!(take(&mut books, "till", number).unwrap().is_some());
        }
        keep(&mut books, "till", &refusal(6), 3).unwrap();
        assert_eq!(numbers(&books, "till"), [6]);
        keep(&mut books, "till", &refusal(7), 0).unwrap();
        assert!(numbers(&books, "till").is_empty());
    }
}

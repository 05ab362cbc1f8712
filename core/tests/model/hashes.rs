//! What the checker takes for one state is one: whichever way it was come to, what comes of it is the same.

use std::collections::BTreeMap;

use stateright::Model;

use crate::life::Play;
use crate::programs;
use crate::session::{Bounds, Session};

fn is_one(play: &Play, bounds: Bounds) {
    let session = Session::new(play, bounds, None, &[]);
    let mut known: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let (mut open, mut again) = (session.init_states(), 0);
    while let Some(state) = open.pop() {
        let next: Vec<_> = session.next_steps(&state).into_iter().map(|(_, next)| next).collect();
        let mut hashes: Vec<u64> = next.iter().map(|next| next.hash).collect();
        hashes.sort_unstable();
        match known.get(&state.hash) {
            None => {
                known.insert(state.hash, hashes);
                // Each way to a state that leads over another one.
                open.extend(next);
            }
            Some(other) => {
                assert_eq!(*other, hashes, "two states are taken for one:\n{state:?}");
                again += 1;
            }
        }
    }
    println!("{} {bounds:?}: {} states, {again} times come to again", play.choreography.name(), known.len());
    assert!(again > known.len());
}

#[test]
fn a_state_reached_again_has_the_same_future() {
    is_one(&programs::there(), Bounds { crashes: 1, any_time: true, ..Bounds::default() });
    is_one(&programs::pair(), Bounds { crashes: 1, busy: 1, ..Bounds::default() });
    is_one(&programs::within(), Bounds::default());
}

//! When frames are resent.
#![expect(clippy::expect_used, reason = "tests")]

use accompanist_core::SessionId;
use accompanist_core::frame::{Body, Lacks};

use super::*;

/// Sends a frame of session `number` to the one peer, and returns the frame's number.
fn say(outbox: &mut Outbox, number: u128, now_ms: u64) -> u64 {
    let (session, role) = (SessionId::fresh(0, number << 48), RoleIndex(0));
    let node = NodeId::new("peer").expect("a name");
    let frame = Frame { session, from: role, to: RoleIndex(1), header: None, body: Body::Nudge(Lacks::default()) };
    let outgoing = Outgoing { key: OutgoingKey::Close(RoleIndex(1)), node, frame };
    outbox.add(InstanceId { session, role }, outgoing, now_ms).expect("the window has room").number
}

#[test]
fn a_slow_node_gets_a_longer_retransmission_delay() {
    let mut outbox = Outbox::new(&Settings::default());
    for number in 0..50 {
        let sent = say(&mut outbox, number, 0);
        if number == 0 {
            assert_eq!(outbox.next_due_ms(), Some(80), "nothing is known of it yet");
        }
        outbox.acknowledge(sent, 500);
    }
    say(&mut outbox, 50, 1_000);
    assert!((1_500..1_600).contains(&outbox.next_due_ms().unwrap_or(0)), "{:?}", outbox.next_due_ms());
    assert!((500..600).contains(&outbox.ack_latency_ms()), "{}", outbox.ack_latency_ms());
}

/// An outbox that knows that its peer takes 10 ms.
fn usual() -> Outbox {
    let mut outbox = Outbox::new(&Settings::default());
    for number in 0..50 {
        let sent = say(&mut outbox, number, 0);
        outbox.acknowledge(sent, 10);
    }
    outbox
}

struct Unmoved;

impl Environment for Unmoved {
    fn unix_ms(&self) -> u64 {
        0
    }
    fn monotonic_ms(&self) -> u64 {
        0
    }
    fn random(&self) -> u64 {
        0
    }
}

fn due(outbox: &mut Outbox, now_ms: u64) -> Vec<u64> {
    outbox.take_due(now_ms, &Unmoved).into_iter().map(|sent| sent.number).collect()
}

#[test]
fn a_frame_is_resent_after_about_a_round_trip_when_a_later_one_has_arrived() {
    let mut outbox = usual();
    let [lost, stuck, arrived] = [50, 51, 52].map(|number| say(&mut outbox, number, 100));
    outbox.acknowledge(arrived, 110);
    assert_eq!(outbox.next_due_ms(), Some(115), "the usual 10 ms, and 5 for one that waits for company");
    assert_eq!(due(&mut outbox, 115), [lost, stuck]);
    outbox.acknowledge(lost, 125);
    assert_eq!(outbox.ack_latency_ms(), 13, "what was lost says nothing of the pace");
    // The stuck frame, which its receiver does not accept.
    let sent_again: Vec<u64> = (126..1_000).filter(|now_ms| !due(&mut outbox, *now_ms).is_empty()).collect();
    assert_eq!(sent_again, [130, 160, 220, 300, 340, 500, 820], "more and more seldom");
}

#[test]
fn the_first_and_last_frame_are_resent_to_a_silent_node_at_growing_intervals() {
    let mut outbox = usual();
    let [first, between, last] = [50, 51, 52].map(|number| say(&mut outbox, number, 100));
    assert!(due(&mut outbox, 114).is_empty());
    assert_eq!(due(&mut outbox, 115), [first, last]);
    assert_eq!(due(&mut outbox, 130), [between, last]);
    assert!(due(&mut outbox, 159).is_empty());
    assert_eq!(due(&mut outbox, 160), [first, last]);
}

#[test]
fn a_frame_that_could_not_arrive_does_not_change_the_latency() {
    let mut outbox = Outbox::new(&Settings::default());
    let sent = say(&mut outbox, 0, 0);
    outbox.hurry(&NodeId::new("peer").expect("a name"), 60_000);
    outbox.acknowledge(sent, 60_001);
    assert_eq!(outbox.ack_latency_ms(), 0);
    say(&mut outbox, 1, 60_002);
    assert_eq!(outbox.next_due_ms(), Some(60_082));
}

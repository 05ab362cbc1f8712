//! The one change that `capabilities` and the attackers of `chaos` make to a packet: each names the field that it is
//! about. A change that does not fit the packet says so by `None`. Knows nothing of the tests that use it.

use std::sync::Arc;

use accompanist::Path;
use accompanist::id::RoleIndex;
use accompanist::message::Payload;
use accompanist::prelude::*;
use accompanist_core::frame::{
    Advertisement, Body, Dispute, DrainBlocker, Epoch, Frame, Generation, Header, Lacks, Left, OfferedChoreography,
};
use accompanist_core::frame::{Operation, Outcome, Packet, Reception, RoleTrouble, Round};
use fastrand::Rng;

/// What a change may put in the place of what is there: all that was recorded, and what nobody has said.
pub struct Values {
    sessions: Vec<SessionId>,
    epochs: Vec<Epoch>,
    headers: Vec<Arc<Header>>,
    bodies: Vec<Body>,
    pub advertisements: Vec<Advertisement>,
    nodes: Vec<NodeId>,
    texts: Vec<String>,
}

/// Everything that can be said in the name of a role, with and without a number.
pub fn bodies() -> Vec<Body> {
    let abort = Abort::new("stranger", "as it likes");
    let deliver = |path: Path| Body::Deliver { path, operation: Operation::Comm, payload: Payload::from(vec![7, 0]) };
    let paths = (0..4).map(|at| Path::root().child(at));
    let ends = [Outcome::Finished, Outcome::Compensated(abort.clone())];
    let mut bodies = vec![Body::Abort(abort), Body::Compensating(None), Body::Turns { finals: vec![], aborted: true }];
    let troubles = [RoleTrouble::needs_operator("step", "as it likes", 2), RoleTrouble::stopped("as it likes")];
    bodies.extend(troubles.into_iter().map(Some).chain([None]).map(Body::Trouble));
    bodies.push(Body::TroubleAsked);
    bodies.extend(ends.iter().cloned().map(Body::Done));
    bodies.extend(paths.map(deliver));
    bodies.extend(ends.into_iter().map(Body::Close));
    bodies
}

impl Values {
    /// Those of these packets, with names of nodes, and with names of roles and choreographies.
    pub fn of(recorded: impl IntoIterator<Item = Packet>, nodes: &[NodeId], texts: &[&str]) -> Self {
        let none = SessionId::fresh(1, 1 << 64);
        let (mut sessions, mut epochs, mut headers, mut advertisements) = (vec![none], vec![Epoch(0)], vec![], vec![]);
        let mut known = vec![Body::Closed(None), Body::Closed(Some(Outcome::Finished)), Body::Nudge(Lacks::default())];
        let paths = || (0..4).map(|at| Path::root().child(at)).chain([Path::root()]);
        known.extend(paths().map(Body::Gone));
        known.extend(paths().map(|path| Body::Compensating(Some(path))));
        known.extend(paths().map(|path| Body::Turns { finals: vec![(path, 9)], aborted: false }));
        known.push(Body::Nudge(Lacks { awaits: paths().collect(), aborted: true }));
        known.extend(bodies());
        for packet in recorded {
            epochs.push(packet.epoch);
            advertisements.extend(packet.advertisement);
            for (_, frame) in packet.frames {
                sessions.push(frame.session);
                headers.extend(frame.header);
                known.push(frame.body);
            }
        }
        sessions.dedup();
        epochs.dedup();
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        Self { sessions, epochs, headers, bodies: known, advertisements, nodes: nodes.to_vec(), texts }
    }

    /// One of the latest, mostly.
    fn session(&self, random: &mut Rng) -> SessionId {
        let latest = &self.sessions[self.sessions.len().saturating_sub(6)..];
        let some = if random.u8(..4) > 0 { latest } else { &self.sessions };
        *random.choice(some).unwrap()
    }

    fn node(&self, random: &mut Rng) -> NodeId {
        random.choice(&self.nodes).unwrap().clone()
    }

    fn text(&self, random: &mut Rng) -> String {
        random.choice(&self.texts).unwrap().clone()
    }
}

fn near(random: &mut Rng, value: u64) -> u64 {
    let flipped = value ^ (1 << random.u32(..64));
    *random.choice(&[0, 1, value.wrapping_sub(1), value.wrapping_add(1), flipped, 1 << 40, u64::MAX]).unwrap()
}

fn near_epoch(random: &mut Rng, value: Epoch) -> Epoch {
    let flipped = value.0 ^ (1 << random.u32(..128));
    Epoch(*random.choice(&[0, 1, value.0.wrapping_sub(1), value.0.wrapping_add(1), flipped, u128::MAX]).unwrap())
}

fn role(random: &mut Rng) -> RoleIndex {
    RoleIndex(*random.choice(&[0, 1, 2, u8::MAX]).unwrap())
}

fn frame<'a>(packet: &'a mut Packet, random: &mut Rng) -> Option<&'a mut (u64, Frame)> {
    random.choice(packet.frames.iter_mut())
}

fn header<'a>(packet: &'a mut Packet, values: &Values, random: &mut Rng) -> Option<&'a mut Header> {
    let (_, frame) = frame(packet, random)?;
    // One that was left out is there to be changed, too.
    let known = frame.header.get_or_insert(random.choice(&values.headers)?.clone());
    Some(Arc::make_mut(known))
}

fn cast(header: &mut Header, values: &Values, random: &mut Rng) -> Option<()> {
    match random.u8(..4) {
        0 => drop(header.cast.pop()),
        1 => header.cast.push(values.node(random)),
        2 => header.cast.reverse(),
        _ => *random.choice(&mut header.cast)? = values.node(random),
    }
    Some(())
}

fn payload(body: &mut Body, random: &mut Rng) -> Option<()> {
    let Body::Deliver { payload, .. } = body else { return None };
    let mut bytes = payload.as_slice().to_vec();
    match random.u8(..4) {
        0 => bytes.truncate(random.usize(..=bytes.len())),
        1 => bytes.push(random.u8(..)),
        2 => bytes = std::iter::repeat_with(|| random.u8(..)).take(300).collect(),
        _ => *random.choice(&mut bytes)? ^= 1 << random.u8(..8),
    }
    *payload = Payload::from(bytes);
    Some(())
}

fn path(body: &mut Body, random: &mut Rng) -> Option<()> {
    let child = Path::root().child(random.u32(..5));
    let other = random.choice([Path::root(), child, Path::root().child(1).child(0)])?;
    match body {
        Body::Deliver { path, .. } | Body::Gone(path) | Body::Compensating(Some(path)) => *path = other,
        Body::Nudge(lacks) => lacks.awaits.push(other),
        Body::Turns { finals, .. } => finals.push((other, random.u32(..))),
        _ => return None,
    }
    Some(())
}

fn operation(body: &mut Body, random: &mut Rng) -> Option<()> {
    use Operation::{Broadcast, Comm, Gather, Multicast, Verdict, Vote};
    let Body::Deliver { operation, .. } = body else { return None };
    *operation = random.choice([Comm, Multicast, Broadcast, Gather, Vote, Verdict])?;
    Some(())
}

fn acks(packet: &mut Packet, values: &Values, random: &mut Rng) -> Option<()> {
    match random.u8(..3) {
        0 => packet.acks.push((*random.choice(&values.epochs)?, (0..500).collect())),
        1 => {
            let (epoch, _) = random.choice(&mut packet.acks)?;
            *epoch = *random.choice(&values.epochs)?;
        }
        _ => {
            let (_, numbers) = random.choice(&mut packet.acks)?;
            let number = random.choice(numbers)?;
            *number = near(random, *number);
        }
    }
    Some(())
}

fn generation(generation: &mut Generation, random: &mut Rng) {
    match random.u8(..5) {
        0 => generation.restores = near(random, generation.restores),
        1 => generation.number = near(random, generation.number),
        2 => generation.id ^= 1 << random.u32(..128),
        3 => generation.opened = near(random, generation.opened),
        _ => generation.batch = near(random, generation.batch),
    }
}

/// Of any node that has said what it offers.
fn known<'a>(values: &'a Values, random: &mut Rng) -> Option<&'a Advertisement> {
    random.choice(&values.advertisements)
}

/// A change of one field.
pub type Change = fn(&mut Packet, &Values, &mut Rng) -> Option<()>;

/// By name. Those of an offer are made where there is one.
pub const CHANGES: &[(&str, Change)] = &[
    ("nothing", |_, _, _| Some(())),
    ("number", |packet, _, random| frame(packet, random).map(|(number, _)| *number = near(random, *number))),
    ("session", |packet, values, random| {
        frame(packet, random).map(|(_, frame)| frame.session = values.session(random))
    }),
    ("from", |packet, _, random| frame(packet, random).map(|(_, frame)| frame.from = role(random))),
    ("to", |packet, _, random| frame(packet, random).map(|(_, frame)| frame.to = role(random))),
    ("header", |packet, values, random| {
        let other = random.choice(&values.headers).cloned();
        frame(packet, random).map(|(_, frame)| frame.header = if frame.header.is_some() { None } else { other })
    }),
    ("choreography", |packet, values, random| {
        header(packet, values, random).map(|header| header.choreography = values.text(random))
    }),
    ("version", |packet, values, random| {
        header(packet, values, random).map(|header| header.version = random.choice([0, 2, u32::MAX]).unwrap())
    }),
    ("initiator", |packet, values, random| {
        header(packet, values, random).map(|header| header.initiator = role(random))
    }),
    ("cast", |packet, values, random| header(packet, values, random).and_then(|header| cast(header, values, random))),
    ("started", |packet, values, random| {
        header(packet, values, random).map(|header| header.started_unix_ms = near(random, header.started_unix_ms))
    }),
    ("deadline", |packet, values, random| {
        header(packet, values, random)
            .map(|header| header.deadline_unix_ms = random.choice([None, Some(0), Some(1), Some(u64::MAX)]).unwrap())
    }),
    ("patches", |packet, values, random| {
        header(packet, values, random).map(|header| header.patches.push(values.text(random)))
    }),
    ("body", |packet, values, random| {
        frame(packet, random).map(|(_, frame)| frame.body = random.choice(&values.bodies).unwrap().clone())
    }),
    ("path", |packet, _, random| frame(packet, random).and_then(|(_, frame)| path(&mut frame.body, random))),
    ("operation", |packet, _, random| frame(packet, random).and_then(|(_, frame)| operation(&mut frame.body, random))),
    ("payload", |packet, _, random| frame(packet, random).and_then(|(_, frame)| payload(&mut frame.body, random))),
    ("frames", |packet, _, random| {
        let again = frame(packet, random)?.clone();
        match random.u8(..3) {
            0 => packet.frames.push(again),
            1 => packet.frames.reverse(),
            _ => drop(packet.frames.pop()),
        }
        Some(())
    }),
    ("acknowledgements", acks),
    ("epoch", |packet, values, random| {
        packet.epoch =
            if random.bool() { near_epoch(random, packet.epoch) } else { *random.choice(&values.epochs).unwrap() };
        Some(())
    }),
    ("round", |packet, _, random| {
        let number = near(random, 7);
        packet.round = if random.bool() { Round::Direct(number) } else { Round::Broadcast(number) };
        Some(())
    }),
    ("offer.ask", |packet, _, _| {
        packet.advertisement.as_mut().map(|advertisement| advertisement.ask = !advertisement.ask)
    }),
    ("offer.left", |packet, values, random| {
        let (at_unix_ms, node, membership) = (near(random, 7), values.node(random), known(values, random)?.membership);
        packet
            .advertisement
            .as_mut()
            .map(|advertisement| advertisement.left.push(Left { at_unix_ms, node, membership }))
    }),
    ("offer.needs", |packet, values, random| {
        let (node, membership) = (values.node(random), known(values, random)?.membership);
        let need = DrainBlocker { node, membership, change: near(random, 1), open: near(random, 1) };
        packet.advertisement.as_mut().map(|advertisement| advertisement.needs.push(need))
    }),
    ("offer.received", |packet, values, random| {
        let (node, epoch) = (values.node(random), *random.choice(&values.epochs)?);
        let reception = Reception { node, epoch, direct: near(random, 1), broadcast: near(random, 1) };
        packet.advertisement.as_mut().map(|advertisement| advertisement.received.push(reception))
    }),
    ("offer.choreographies", |packet, values, random| {
        let offered = OfferedChoreography {
            choreography: values.text(random),
            version: random.u32(..3),
            patches: vec![values.text(random)],
        };
        packet.advertisement.as_mut().map(|advertisement| {
            if random.bool() {
                advertisement.choreographies.clear();
            } else {
                advertisement.choreographies.push(offered);
            }
        })
    }),
    ("offer.knows", |packet, values, random| {
        let knows = known(values, random)?.membership;
        packet.advertisement.as_mut().map(|advertisement| advertisement.knows = Some(knows).filter(|_| random.bool()))
    }),
    ("offer.roles", |packet, values, random| {
        packet.advertisement.as_mut().map(|advertisement| advertisement.roles.push(values.text(random)))
    }),
    ("offer.membership", |packet, values, random| {
        let other = known(values, random)?.membership;
        let advertisement = packet.advertisement.as_mut()?;
        if random.bool() {
            advertisement.membership = other;
        } else {
            advertisement.membership.0 = near(random, advertisement.membership.0);
        }
        Some(())
    }),
    ("offer.change", |packet, _, random| {
        packet.advertisement.as_mut().map(|advertisement| advertisement.change = near(random, advertisement.change))
    }),
    ("offer.draining", |packet, _, _| {
        packet.advertisement.as_mut().map(|advertisement| advertisement.draining = !advertisement.draining)
    }),
    ("offer.fresh", |packet, _, _| {
        packet.advertisement.as_mut().map(|advertisement| advertisement.fresh = !advertisement.fresh)
    }),
    ("offer.generation", |packet, _, random| {
        packet.advertisement.as_mut().map(|advertisement| generation(&mut advertisement.generation, random))
    }),
    ("offer.dispute", |packet, values, random| {
        let Advertisement { membership, generation: known_one, .. } = *known(values, random)?;
        let mut refused = known_one;
        generation(&mut refused, random);
        let dispute = Dispute { membership, refused, known: refused, both_live: random.bool() };
        packet.advertisement.as_mut().map(|advertisement| advertisement.dispute = Some(dispute))
    }),
    ("offer.accepts", |packet, values, random| {
        let accepts = known(values, random)?.generation.id;
        packet
            .advertisement
            .as_mut()
            .map(|advertisement| advertisement.accepts = Some(accepts).filter(|_| random.bool()))
    }),
];

//! Drives one role of a session by hand: keeps its instance, its writes until they are durable, and its frames until
//! they are acknowledged.
//!
//! [`crate::run_local`], the harness of `check_crashes` and the stage of this crate's own tests share it. They differ
//! in when a write is synced and where it goes, which frames arrive, and what is watched. This module knows no other
//! role and no store. Next: `machine::effects`, which it carries out.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeFrom;

use crate::base::id::{NodeId, Path};
use crate::driver::role_instance::RoleInstance;
use crate::frame::{Epoch, Frame, Receipt};
use crate::machine::{Effects, LocalResult, Outgoing, Write};

/// One role, as a driver sees it; see the module's documentation.
#[derive(Default)]
pub struct RoleDriver {
    instance: Option<RoleInstance>,
    /// The number of the current life. An acknowledgement is valid for one life.
    life: u128,
    writes: VecDeque<Write>,
    outbox: BTreeMap<u64, Outgoing>,
    last_number: u64,
}

impl RoleDriver {
    /// Begins a life.
    pub fn begin(&mut self, instance: RoleInstance) {
        self.instance = Some(instance);
        self.life += 1;
    }

    /// The instance, while it is in memory.
    pub fn instance(&self) -> Option<&RoleInstance> {
        self.instance.as_ref()
    }

    /// The number of writes that are not durable yet.
    pub fn writes(&self) -> usize {
        self.writes.len()
    }

    /// The frames that were sent and are not acknowledged, by number.
    pub fn outbox(&self) -> &BTreeMap<u64, Outgoing> {
        &self.outbox
    }

    /// Gives the instance a turn. Look at the effects (has it stopped? does it need an operator?), and then pass them
    /// to [`RoleDriver::carry_out`].
    pub fn turn(&mut self, now_ms: u64) -> Option<Effects> {
        self.instance.as_mut().map(|instance| instance.turn(now_ms))
    }

    /// Carries out the effects of a turn, as far as they concern this role alone, in this order:
    ///
    /// 1. Its writes wait for [`RoleDriver::sync`], which takes them in order. Its frames need not wait for these
    ///    writes: the instance holds each frame back until what it depends on is durable, and likewise its
    ///    acknowledgements, its output and its end.
    /// 2. Frames of earlier turns are forgotten, before those of this turn are added, which are needed.
    /// 3. The instance is dropped if it has closed.
    ///
    /// What remains in `effects` is for the caller: acknowledgements, the output, and last what is to be sent anew
    /// (see [`Effects::lacking`]), since that ends the life. Returns the numbers of the added frames.
    pub fn carry_out(&mut self, effects: &mut Effects) -> RangeFrom<u64> {
        self.writes.extend(effects.writes.drain(..));
        if let Some(forget) = effects.forget.take() {
            self.outbox.retain(|_, outgoing| !forget.includes(&outgoing.key));
        }
        let added = self.last_number + 1..;
        for outgoing in effects.frames.drain(..) {
            self.last_number += 1;
            self.outbox.insert(self.last_number, outgoing);
        }
        if effects.closed.is_some() {
            self.instance = None;
        }
        added
    }

    /// Makes the next write durable: `store` runs its local transaction and keeps all of it. Returns its number.
    pub fn sync(&mut self, store: impl FnOnce(Write) -> Option<(Path, LocalResult)>) -> Option<u64> {
        let write = self.writes.pop_front()?;
        let number = write.number;
        let local = store(write);
        if let Some(instance) = &mut self.instance {
            instance.synced(number, local);
        }
        Some(number)
    }

    /// The receipt that a frame of the outbox asks `node`'s peers for, if it asks for one.
    pub fn receipt(&self, number: u64, node: &NodeId) -> Option<Receipt> {
        let is_acknowledged = self.outbox.get(&number)?.key.is_acknowledged();
        is_acknowledged.then(|| Receipt { to: node.clone(), epoch: Epoch(self.life), number })
    }

    /// Transmits a frame of the outbox from `node`. A frame that asks for no acknowledgement is transmitted once.
    pub fn transmit(&mut self, number: u64, node: &NodeId) -> Option<(Frame, Option<Receipt>)> {
        let receipt = self.receipt(number, node);
        let outgoing = if receipt.is_some() { self.outbox.get(&number).cloned() } else { self.outbox.remove(&number) };
        Some((outgoing?.frame, receipt))
    }

    /// Whether `receipt` is of a frame of the current life, so that its acknowledgement counts.
    pub fn has_transmitted(&self, receipt: &Receipt) -> bool {
        receipt.epoch == Epoch(self.life)
    }

    /// Notes that a frame of the outbox is acknowledged. Returns it, unless that was known.
    pub fn acked(&mut self, number: u64) -> Option<Outgoing> {
        let outgoing = self.outbox.remove(&number)?;
        if let Some(instance) = &self.instance {
            instance.acked(&outgoing.key);
        }
        Some(outgoing)
    }

    /// Ends a life, by a crash or by passivation, which is a deliberate one: what is not durable and what is not
    /// acknowledged is gone. Returns the instance, for the record that it may leave behind.
    pub fn end(&mut self) -> Option<RoleInstance> {
        self.writes.clear();
        self.outbox.clear();
        self.instance.take()
    }
}

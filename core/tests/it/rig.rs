//! One role instance driven by hand: a disk that keeps what was synced, and the services of the tests.
//!
//! Nothing here decides anything: a test says which write is synced, which frame arrives, which is acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use accompanist_core::contract::{Change, Environment};
use accompanist_core::frame::{Body, Delivery, Epoch, Frame, Header, Operation, Receipt, RoleTrouble};
use accompanist_core::id::{InstanceId, RoleIndex};
use accompanist_core::machine::{Effects, Limits, Machine, Write};
use accompanist_core::message::{decode, encode};
use accompanist_core::record::Opened;
use accompanist_core::role_instance::{AnyChoreography, RoleInstance, TurnWaker};
pub use accompanist_core::testing::Disk;
use accompanist_core::{Choreography, IdempotencyKey, Message, NodeId, Path, Payload, RoleSet, Service, SessionId};

/// A wall clock that a test moves, and numbers that never come twice, in whichever life of an instance.
struct Counting(Arc<AtomicU64>);

impl Counting {
    /// Environment and clock of one life, which begins in second 1.
    fn new() -> (Arc<Self>, Arc<AtomicU64>) {
        let unix_ms = Arc::new(AtomicU64::new(1_000));
        (Arc::new(Self(unix_ms.clone())), unix_ms)
    }
}

impl Environment for Counting {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn monotonic_ms(&self) -> u64 {
        0
    }
    fn random(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }
}

/// The session of all these tests.
pub fn session() -> SessionId {
    static SESSION: LazyLock<SessionId> = LazyLock::new(|| SessionId::keyed("test", "1"));
    *SESSION
}

pub fn path(counters: &[u32]) -> Path {
    counters.iter().fold(Path::root(), |path, counter| path.child(*counter))
}

pub fn payload<T: Message>(value: &T) -> Payload {
    encode(value).unwrap().into()
}

pub fn value<T: Message>(payload: &Payload) -> T {
    decode(payload.as_slice()).unwrap()
}

/// An instance and its disk.
pub struct Rig {
    pub part: RoleInstance,
    pub disk: Disk,
    pub role: u8,
    /// The roles' names, which are their nodes', too.
    names: &'static [&'static str],
    pub now_ms: u64,
    unix_ms: Arc<AtomicU64>,
}

impl Rig {
    /// `role` hears of the session; the initiator (role 0) has the input.
    pub fn begin<C: Choreography>(choreography: C, role: u8, input: Option<Payload>, service: Service) -> Self {
        Self::begin_within(choreography, role, input, service, Limits::default())
    }

    pub fn begin_within<C: Choreography>(
        choreography: C,
        role: u8,
        input: Option<Payload>,
        service: Service,
        limits: Limits,
    ) -> Self {
        let header = Arc::new(Header {
            choreography: C::NAME.into(),
            version: C::VERSION,
            initiator: RoleIndex(0),
            cast: C::Roles::NAMES.iter().map(|name| NodeId::new(name).unwrap()).collect(),
            started_unix_ms: 1,
            deadline_unix_ms: None,
            patches: Vec::new(),
            traceparent: None,
        });
        let opened = Opened { header, input };
        let instance = Machine::begin(id(role), C::Roles::NAMES[usize::from(role)], &opened, limits);
        Self::set(choreography, role, instance, opened.input, service, Disk::default())
    }

    /// The next life of `role`, out of what was synced.
    pub fn restore<C: Choreography>(choreography: C, role: u8, disk: Disk, service: Service) -> Self {
        Self::restore_within(choreography, role, disk, service, Limits::default())
    }

    pub fn restore_within<C: Choreography>(
        choreography: C,
        role: u8,
        disk: Disk,
        service: Service,
        limits: Limits,
    ) -> Self {
        let opened = disk.opened().expect("the instance was never opened");
        let name = C::Roles::NAMES[usize::from(role)];
        let instance = Machine::restore(id(role), name, &opened, disk.records(), limits);
        Self::set(choreography, role, instance, opened.input, service, disk)
    }

    /// The next life of the initiator, whose driver has kept these troubles of other roles.
    pub fn restore_knowing<C: Choreography>(
        choreography: C,
        disk: Disk,
        service: Service,
        troubles: impl IntoIterator<Item = (RoleIndex, RoleTrouble)>,
    ) -> Self {
        let opened = disk.opened().expect("the instance was never opened");
        let (name, limits) = (C::Roles::NAMES[0], Limits::default());
        let instance = Machine::restore(id(0), name, &opened, disk.records(), limits).knowing(troubles);
        Self::set(choreography, 0, instance, opened.input, service, disk)
    }

    fn set<C: Choreography>(
        choreography: C,
        role: u8,
        instance: Machine,
        input: Option<Payload>,
        service: Service,
        disk: Disk,
    ) -> Self {
        let (environment, unix_ms) = Counting::new();
        let part = Arc::new(choreography).part(instance, input, service, environment, TurnWaker::new(|| {}));
        Self { part, disk, role, names: C::Roles::NAMES, now_ms: 0, unix_ms }
    }

    /// Sets the wall clock, before the next turn.
    pub fn set_clock(&self, unix_ms: u64) {
        self.unix_ms.store(unix_ms, Ordering::Relaxed);
    }

    pub fn turn(&mut self) -> Effects {
        self.part.turn(self.now_ms)
    }

    /// Makes `writes` durable, in order.
    pub fn sync(&mut self, writes: Vec<Write>) {
        for write in writes {
            let number = write.number;
            self.part.synced(number, self.disk.write(write));
        }
    }

    /// Turns, with every write synced, until there is nothing to write; gives all that was to be done besides.
    pub fn turn_synced(&mut self) -> Effects {
        let mut all = Effects::default();
        loop {
            let effects = self.turn();
            let writes = gather(&mut all, effects);
            if writes.is_empty() {
                return all;
            }
            self.sync(writes);
        }
    }

    /// The next life of `role`, which sends these again.
    pub fn resend<C: Choreography>(
        choreography: C,
        role: u8,
        mut disk: Disk,
        service: Service,
        lacking: BTreeSet<(Path, RoleIndex)>,
        rest: Option<Change>,
    ) -> Self {
        disk.apply(rest.into_iter().collect());
        let opened = disk.opened().expect("the instance was never opened");
        let name = C::Roles::NAMES[usize::from(role)];
        let instance = Machine::restore(id(role), name, &opened, disk.records(), Limits::default()).resending(lacking);
        Self::set(choreography, role, instance, opened.input, service, disk)
    }

    /// The next life of `role` after an operator has terminated it: with no program and no service.
    pub fn terminated<C: Choreography>(role: u8, disk: Disk) -> Self {
        let opened = disk.opened().expect("the instance was never opened");
        let instance = Machine::restore(id(role), "", &opened, disk.records(), Limits::default());
        let (environment, unix_ms) = Counting::new();
        let part = RoleInstance::terminated(instance, environment, TurnWaker::new(|| {}));
        Self { part, disk, role, names: C::Roles::NAMES, now_ms: 0, unix_ms }
    }

    /// `from` says `body`; it arrives under the receipt `number`.
    pub fn hear(&self, from: u8, body: Body, number: u64) {
        let frame = Frame { session: session(), from: RoleIndex(from), to: RoleIndex(self.role), header: None, body };
        let from = NodeId::new(self.names[usize::from(from)]).unwrap();
        let receipt = Some(Receipt { to: from.clone(), epoch: Epoch(1), number });
        self.part.deliver(Delivery { from, frame, receipt });
    }

    /// `from` says `body`, and asks for no acknowledgement.
    pub fn hear_once(&self, from: u8, body: Body) {
        let frame = Frame { session: session(), from: RoleIndex(from), to: RoleIndex(self.role), header: None, body };
        let from = NodeId::new(self.names[usize::from(from)]).unwrap();
        self.part.deliver(Delivery { from, frame, receipt: None });
    }

    /// The message `at` from `from`.
    pub fn hear_message<T: Message>(&self, from: u8, at: &[u32], message: &T, number: u64) {
        self.hear(
            from,
            Body::Deliver { path: path(at), operation: Operation::Comm, payload: payload(message) },
            number,
        );
    }

    /// Acknowledges all of `effects`' frames.
    pub fn ack(&self, effects: &Effects) {
        for outgoing in &effects.frames {
            self.part.acked(&outgoing.key);
        }
    }
}

/// Adds the effects of a later turn to `all`, except its writes.
pub fn gather(all: &mut Effects, later: Effects) -> Vec<Write> {
    all.frames.extend(later.frames);
    all.acks.extend(later.acks);
    all.opened |= later.opened;
    all.forget = later.forget.or(all.forget);
    all.output = later.output.or(all.output.take());
    all.closed = later.closed.or(all.closed.take());
    all.stopped = later.stopped.or(all.stopped.take());
    all.troubles = later.troubles.or(all.troubles.take());
    all.peer_troubles = later.peer_troubles.or(all.peer_troubles.take());
    all.long_journal = later.long_journal.or(all.long_journal);
    all.lacking.extend(later.lacking);
    all.retries.extend(later.retries);
    later.writes
}

pub fn id(role: u8) -> InstanceId {
    InstanceId { session: session(), role: RoleIndex(role) }
}

/// What the frames of `effects` say, and to whom.
pub fn said(effects: &Effects) -> Vec<(u8, Body)> {
    effects.frames.iter().map(|outgoing| (outgoing.frame.to.0, outgoing.frame.body.clone())).collect()
}

/// Receipts' numbers.
pub fn acked(effects: &Effects) -> Vec<u64> {
    effects.acks.iter().map(|receipt| receipt.number).collect()
}

/// A service that honours idempotency keys and remembers what it was asked.
#[derive(Debug, Default)]
pub struct Bank(Mutex<Accounts>);

#[derive(Debug, Default)]
struct Accounts {
    held: BTreeMap<String, u32>,
    calls: Vec<String>,
    keys: BTreeSet<String>,
    refunded: BTreeSet<String>,
    refusals: BTreeSet<u32>,
    retries: u32,
}

impl Bank {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A bank that does not want this amount.
    pub fn refusing(amount: u32) -> Arc<Self> {
        let bank = Self::default();
        bank.0.lock().unwrap().refusals.insert(amount);
        Arc::new(bank)
    }

    /// A bank that compensates nothing at the first `retries` tries.
    pub fn retrying(retries: u32) -> Arc<Self> {
        let bank = Self::default();
        bank.0.lock().unwrap().retries = retries;
        Arc::new(bank)
    }

    pub fn charge(&self, key: &IdempotencyKey, amount: u32) -> Result<u32, accompanist_core::Abort> {
        let mut accounts = self.0.lock().unwrap();
        accounts.calls.push(format!("charge {amount}"));
        if accounts.refusals.contains(&amount) {
            return Err(accompanist_core::Abort::new("refused", format!("not {amount}")));
        }
        assert!(!accounts.refunded.contains(&key.to_string()), "no commit comes after its compensation");
        accounts.keys.insert(key.to_string());
        accounts.held.entry(key.to_string()).or_insert(amount);
        Ok(amount + 1)
    }

    pub fn refund(&self, key: &IdempotencyKey, amount: u32, receipt: u32) -> Result<(), accompanist_core::Retry> {
        let mut accounts = self.0.lock().unwrap();
        accounts.calls.push(format!("refund {amount}"));
        if accounts.retries > 0 {
            accounts.retries -= 1;
            return Err(accompanist_core::Retry::new("busy"));
        }
        assert_eq!(receipt, amount + 1, "the compensation has the commit's output in hand");
        accounts.held.remove(&key.to_string());
        accounts.refunded.insert(key.to_string());
        Ok(())
    }

    /// What it holds, over all keys.
    pub fn balance(&self) -> u32 {
        self.0.lock().unwrap().held.values().sum()
    }

    /// What it was asked, in order.
    pub fn calls(&self) -> Vec<String> {
        self.0.lock().unwrap().calls.clone()
    }

    /// Under how many keys it was asked to charge.
    pub fn keys(&self) -> Vec<String> {
        self.0.lock().unwrap().keys.iter().cloned().collect()
    }
}

/// Declares roles: visibility, name in code, name, service.
macro_rules! roles {
    ($($vis:vis $role:ident $name:literal $service:ty),+ $(,)?) => {$(
        #[derive(Debug, Clone, Copy)]
        $vis struct $role;
        impl accompanist_core::Role for $role {
            const NAME: &'static str = $name;
            type Service = $service;
        }
    )+};
}

/// Declares a choreography without fields.
macro_rules! choreography {
    ($vis:vis $name:ident: $roles:ty, $input:ty => $output:ty, |$ctx:ident, $in:ident| $body:block) => {
        $vis struct $name;
        impl accompanist_core::Choreography for $name {
            const NAME: &'static str = stringify!($name);
            type Roles = $roles;
            type Input = $input;
            type Output = $output;
            async fn run(
                &self,
                $ctx: &accompanist_core::Context<Self::Roles>,
                $in: $input,
            ) -> Result<$output, accompanist_core::Abort> $body
        }
    };
}

/// Declares a saga step on a [`Bank`]: visibility, name in code, name, role.
macro_rules! bank_step {
    ($vis:vis $step:ident $name:literal $role:ty) => {
        $vis struct $step;
        impl accompanist_core::Transaction for $step {
            const NAME: &'static str = $name;
            type Role = $role;
            type Input = u32;
            type Output = u32;
            async fn commit(
                &self,
                here: &accompanist_core::Local<$role>,
                amount: &u32,
            ) -> Result<u32, accompanist_core::Abort> {
                here.service().charge(here.key(), *amount)
            }
            async fn compensate(
                &self,
                here: &accompanist_core::Local<$role>,
                amount: &u32,
                receipt: &u32,
            ) -> Result<(), accompanist_core::Retry> {
                here.service().refund(here.key(), *amount, *receipt)
            }
        }
    };
}

pub(crate) use {bank_step, choreography, roles};

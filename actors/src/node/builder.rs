//! The parts a node is built from, and its start.

use std::any::type_name;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use accompanist_core::contract::{Environment, Exposure, Store, StoreError, Transport};
use accompanist_core::frame::Membership;
use accompanist_core::role_instance::AnyChoreography;
#[cfg(feature = "testing")]
use accompanist_core::testing::Courier;
use accompanist_core::{Choreography, NodeId, Role, Services};
use ractor::{Actor, SpawnErr};

use super::extension::Extension;
use super::given::Given;
use super::root::{Root, RootArguments};
use super::{Node, configured, life};
use crate::admin::answer_network;
use crate::base::environment::SystemEnvironment;
#[cfg(feature = "testing")]
use crate::base::faults::Forgetting;
use crate::base::metric;
use crate::config::Settings;
use crate::config::{Config, ConfigError, Source};
use crate::error::NodeError;
use crate::peers::Peers;
use crate::runtime::attach::Attach;
#[cfg(feature = "testing")]
use crate::runtime::context::Faults;
use crate::runtime::context::{Access, Catalog, Choreographies, NodeContext, advertisement_of};
use crate::runtime::dead_letters::DeadLetters;
use crate::runtime::oldest;
use crate::security::members::watch::{CurrentMembers, MembersSource};
use crate::security::members::{Members, MembersError};
use crate::security::seal::SealError;
use crate::store::{check_decoded, check_format, check_owner, claim};
use crate::supervision::{Group, Guarded, Supervision, why_not_started};
use crate::writer::{self, Collector, Mode};

/// Collects what a [`Node`] needs: a store, a transport, the roles it plays, and the choreographies it knows.
///
/// ```
/// # use std::sync::Arc;
/// use accompanist::prelude::*;
/// use accompanist::store::MemoryDisk;
/// use accompanist::transport::LocalNetwork;
///
/// # #[derive(Clone, Copy)] struct Buyer;
/// # impl Role for Buyer { const NAME: &'static str = "buyer"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Seller;
/// impl Role for Seller {
///     const NAME: &'static str = "seller";
///     type Service = u32; // The price of a book.
/// }
/// # struct Sale;
/// # impl Choreography for Sale {
/// #     const NAME: &'static str = "sale"; type Roles = (Buyer, Seller);
/// #     type Input = At<Buyer, u32>; type Output = At<Buyer, u32>;
/// #     async fn run(&self, ctx: &Context<Self::Roles>, books: At<Buyer, u32>) -> Result<At<Buyer, u32>, Abort> {
/// #         let books = ctx.comm(Buyer, Seller, &books).await?;
/// #         ctx.comm(Seller, Buyer, &ctx.locally(Seller, |seller| seller.get(&books) * seller.service())).await
/// #     }
/// # }
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let name = NodeId::new("shop-1")?; // The same after every restart, and so is the store.
/// let disk = MemoryDisk::default(); // For tests; others have a `FjallStore`.
/// let builder = || {
///     let builder = Node::builder(name.clone()).transport(LocalNetwork::new()).choreography(Sale);
///     builder.role(Buyer, Arc::new(())).role(Seller, Arc::new(25))
/// };
/// let error = builder().start().await.unwrap_err();
/// assert_eq!(error.to_string(), "the node lacks a store: call `store` of its builder");
///
/// let node = builder().store(disk.open()?).start().await?;
/// let session = node.start(Sale, 3).await?.id();
/// node.shutdown().await;
///
/// let node = builder().store(disk.open()?).start().await?; // What was open goes on by itself.
/// assert_eq!(node.session::<Sale>(session).await?.settled().await?, 75);
/// # node.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub struct NodeBuilder {
    name: NodeId,
    settings: Settings,
    source: Source,
    store: Option<Box<dyn Store>>,
    mode: Mode,
    fresh: bool,
    accept_restore: bool,
    transport: Option<Arc<dyn Transport>>,
    members: Option<MembersSource>,
    seal_key_file: Option<PathBuf>,
    environment: Arc<dyn Environment>,
    pub(crate) services: Services,
    roles: Vec<&'static str>,
    choreographies: Vec<Arc<dyn AnyChoreography>>,
    groups: Vec<Group>,
    /// The roles that are durable actors.
    pub(crate) actors: BTreeSet<&'static str>,
    /// Channels to actors that this node tells. The actors are played elsewhere, unless they are among the
    /// choreographies.
    pub(crate) channels: Vec<Arc<dyn AnyChoreography>>,
    pub(crate) extensions: Vec<Arc<dyn Extension>>,
    attached: Vec<Arc<dyn Attach>>,
    /// The single-valued parts given so far, and the first that was given twice.
    given: Given,
    #[cfg(feature = "testing")]
    forgetting: Option<Forgetting>,
    #[cfg(feature = "testing")]
    courier: Option<Arc<dyn Courier>>,
}

impl std::fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeBuilder").field("name", &self.name).field("roles", &self.roles).finish_non_exhaustive()
    }
}

impl NodeBuilder {
    pub(super) fn new(name: NodeId) -> Self {
        Self {
            name,
            settings: Settings::default(),
            source: Source::default(),
            store: None,
            mode: Mode::Thread,
            fresh: false,
            accept_restore: false,
            transport: None,
            members: None,
            seal_key_file: None,
            environment: Arc::new(SystemEnvironment::default()),
            services: Services::new(),
            roles: Vec::new(),
            choreographies: Vec::new(),
            groups: Vec::new(),
            actors: BTreeSet::new(),
            channels: Vec::new(),
            extensions: Vec::new(),
            attached: Vec::new(),
            given: Given::default(),
            #[cfg(feature = "testing")]
            forgetting: None,
            #[cfg(feature = "testing")]
            courier: None,
        }
    }

    /// Sets the store, which holds all durable data. Each node needs its own store; no other node may use it.
    #[must_use]
    pub fn store<S: Store>(mut self, store: S) -> Self {
        self.given.note("stores", type_name::<S>());
        self.store = Some(Box::new(store));
        self
    }

    /// Sets a store whose calls do not block, with a sync that takes `sync` of tokio's (perhaps paused) time: for
    /// simulations in one thread.
    #[must_use]
    pub fn simulated_store(mut self, store: impl Store, sync: Duration) -> Self {
        self.mode = Mode::Task { sync };
        self.store(store)
    }

    /// Counts some frames of the node's instances as acknowledged without ever sending them: for tests.
    #[cfg(feature = "testing")]
    #[must_use]
    pub(crate) fn forgets(mut self, forgetting: Forgetting) -> Self {
        self.forgetting = Some(forgetting);
        self
    }

    /// Lets `courier` decide how the requests of steps travel: for tests.
    #[cfg(feature = "testing")]
    pub(crate) fn courier(mut self, courier: Arc<dyn Courier>) -> Self {
        self.courier = Some(courier);
        self
    }

    #[cfg(feature = "testing")]
    pub(crate) fn keeps_tombstones(&self, age_min: Duration) -> bool {
        self.settings.retention.age_min >= age_min
    }

    /// Lets passivated instances be reactivated to nudge once in `period`, or more often if the settings say so: for
    /// worlds.
    #[cfg(feature = "testing")]
    #[must_use]
    pub(crate) fn nudging_within(mut self, period: Duration) -> Self {
        self.settings.passivated_nudge_period = self.settings.passivated_nudge_period.min(period);
        self
    }

    /// Starts the node anew, with an empty store, under a name that others may know; the data of its former store is
    /// lost for good. Without this, a node that others know with another store stops with [`StoreError::Replaced`].
    ///
    /// Sessions that were open in the former store stay open at the others until an operator ends them, and steps
    /// that were done may run again under their keys. Call this for one start only, and not for each: the store
    /// remembers it.
    #[must_use]
    pub fn fresh(mut self) -> Self {
        self.fresh = true;
        self
    }

    /// Lets the node continue with an older copy of its store (a backup) in place of the store that others know. What
    /// the node has done since the copy was made is lost in it. From now on the others accept the copy as the known
    /// store and have all open sessions that cast this node ask it anew; `docs/operators.md` says what happens to
    /// them. Without this, such a node stops with [`StoreError::GoneBack`], and a node that runs twice with
    /// [`StoreError::TwoOwners`].
    ///
    /// Call this for one start, and not for each: with it the node is believed, whatever the others know.
    #[must_use]
    pub fn accept_restore(mut self) -> Self {
        self.accept_restore = true;
        self
    }

    /// Sets the transport, by which the node reaches other nodes.
    #[must_use]
    pub fn transport<T: Transport>(mut self, transport: T) -> Self {
        self.given.note("transports", type_name::<T>());
        self.transport = Some(Arc::new(transport));
        self
    }

    /// Sets the file that says who may do what in the system, as written by `accompanist security`. Packets from
    /// others are checked against it, and so is this node. The file is read again within seconds when it changes. A
    /// members file is required on a transport that other machines can reach.
    #[must_use]
    pub fn members_file(mut self, file: impl Into<PathBuf>) -> Self {
        let file = file.into();
        self.given.note("lists of members", format!("`{}`", file.display()));
        self.members = Some(MembersSource::File(file));
        self
    }

    /// Sets the members as [`NodeBuilder::members_file`] does, without a file: they stay fixed while the node runs.
    #[must_use]
    pub fn members(mut self, members: Members) -> Self {
        self.given.note("lists of members", "one of `NodeBuilder::members`");
        self.members = Some(MembersSource::Fixed(members));
        self
    }

    /// Sets the file with the node's secret keys, as made by `accompanist security`. Whatever the node sends to
    /// others is sealed with them, so that routers can neither read nor change it, and the node accepts nothing that
    /// is not sealed for it. Sealing needs a members file with the public keys of all members, and all members have
    /// to seal. Nobody else may read the key file; it is read again within seconds when it changes.
    /// [`Settings::seal_key_file`] may name the same file, but no other.
    #[must_use]
    pub fn seal_key_file(mut self, file: impl Into<PathBuf>) -> Self {
        let file = file.into();
        self.given.note("seal key files", format!("`{}`", file.display()));
        self.seal_key_file = Some(file);
        self
    }

    /// Sets another source of time and randomness than this machine.
    #[must_use]
    pub fn environment(mut self, environment: Arc<dyn Environment>) -> Self {
        self.given.note("environments", "the one of `NodeBuilder::environment`");
        self.environment = environment;
        self
    }

    /// Replaces the default settings.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.given.note("sets of settings", "those of `NodeBuilder::settings`");
        (self.settings, self.source) = (settings, Source::default());
        self
    }

    /// Replaces the default settings as [`NodeBuilder::settings`] does, from a file: errors of the start name the
    /// line. A file that gives the node's name, store or transport, too, is for
    /// [`Node::from_config`](crate::Node::from_config).
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        if let Some(error) = configured::for_whole_nodes(&config) {
            self.given.refuse(error);
        }
        self.settings_of(config)
    }

    pub(super) fn settings_of(mut self, config: Config) -> Self {
        (self.settings, self.source) = config.into_parts();
        self.given.note("sets of settings", format!("those of `{}`", self.source.file()));
        self
    }

    /// Sets settings for a test that gives none itself; settings may still be given once, before or after.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    #[must_use]
    pub fn settings_unless_given(mut self, settings: Settings) -> Self {
        if !self.given.has("sets of settings") {
            self.settings = settings;
        }
        self
    }

    /// Adds a role that the node plays, with the role's service.
    #[must_use]
    pub fn role<R: Role>(mut self, role: R, service: Arc<R::Service>) -> Self {
        self.services = self.services.with(role, service);
        self.roles.push(R::NAME);
        self
    }

    /// Adds a choreography that the node takes part in. Several versions of one choreography may be added.
    #[must_use]
    pub fn choreography(mut self, choreography: impl Choreography) -> Self {
        self.choreographies.push(Arc::new(choreography));
        self
    }

    /// Adds a database that steps run on; `steps` is the identity of those steps.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn attach(mut self, name: &str, steps: usize, attached: Arc<dyn Attach>) -> Self {
        self.given.note_database(name, steps);
        self.attached.push(attached);
        self
    }

    /// Adds a group of the service's own actors to the node's tree. Groups start after the node's own actors, in the
    /// order given. [`Node::shutdown`] stops them before the node's own actors, in the reverse order.
    #[must_use]
    pub fn supervise(mut self, group: Group) -> Self {
        self.groups.push(group);
        self
    }

    /// Returns the node's choreographies, including those of its channels.
    #[cfg(feature = "testing")]
    pub(crate) fn choreographies(&self) -> impl Iterator<Item = &Arc<dyn AnyChoreography>> {
        self.choreographies.iter().chain(&self.channels)
    }

    /// Starts the node: opens the wire, and recovers every session that is open in the store.
    ///
    /// # Errors
    /// Returns [`NodeError`], which says what to do.
    pub async fn start(self) -> Result<Node, NodeError> {
        if cfg!(panic = "abort") {
            return Err(NodeError::PanicAborts);
        }
        self.given.check()?;
        let mut choreographies = by_name_and_version(self.choreographies)?;
        for channel in self.channels {
            choreographies.entry((channel.name().to_owned(), channel.version())).or_insert(channel);
        }
        let mut store = self.store.ok_or(NodeError::Incomplete("a store: call `store` of its builder"))?;
        let transport = self.transport.ok_or(NodeError::Incomplete("a transport: call `transport` of its builder"))?;
        if self.roles.is_empty() {
            return Err(NodeError::Incomplete("a role to play: call `role` of its builder"));
        }
        let played = |name: &&str| self.roles.iter().filter(|role| *role == name).count();
        if let Some(name) = self.actors.iter().find(|name| played(name) > 1) {
            return Err(NodeError::ActorAndRole(name));
        }
        if let Some(name) = self.roles.iter().find(|name| played(name) > 1) {
            return Err(NodeError::RoleTwice(name));
        }
        let (fresh, accept) = (self.fresh || self.settings.fresh, self.accept_restore || self.settings.accept_restore);
        contradictions(&self.settings, self.seal_key_file.as_deref(), fresh && accept)?;
        let seal_key_file = self.seal_key_file.or_else(|| self.settings.seal_key_file.clone());
        let members = match (self.members, seal_key_file) {
            (Some(source), seal_key_file) => Some(CurrentMembers::load(&self.name, source, seal_key_file)?),
            (None, Some(_)) => return Err(SealError::NoMembers.into()),
            (None, None) => None,
        };
        match &members {
            Some(members) => members.check_own(&self.name, &self.roles)?,
            None if transport.exposure() == Exposure::Authenticated => return Err(MembersError::Missing.into()),
            None => {}
        }
        let advertisement = advertisement_of(&self.roles, &choreographies, false);
        advertisement.check()?;
        let known: BTreeSet<_> = choreographies.keys().map(|(name, _)| name.as_str()).collect();
        let groups: Vec<_> = self.groups.iter().map(|group| group.name.as_str()).collect();
        let mut mistakes = self.settings.mistakes();
        mistakes.extend(self.settings.unknown_names(&self.roles, &known, &groups));
        self.source.check(mistakes)?;
        let groups = resolve(self.groups, &self.settings.supervision, &self.source)?;
        let now_ms = self.environment.monotonic_ms();
        let peers = Peers::new(self.name.clone(), advertisement, self.settings.advertisement_period_max, now_ms);
        // Done before the writer owns the store. These few keys may block.
        check_decoded(store.as_ref())?;
        check_format(store.as_mut())?;
        let system = system_of(&self.settings, transport.as_ref(), &self.source)?;
        let mut changes = check_owner(store.as_ref(), &self.name, system.as_deref())?;
        let (generation, claimed) = claim(store.as_ref(), self.environment.random_u128(), accept)?;
        changes.extend(claimed);
        changes.extend(peers.restore(store.as_ref(), Membership(self.environment.random()), fresh, generation)?);
        store.apply(changes)?;
        store.sync()?; // On disk before other nodes can learn of it.
        if accept {
            tracing::warn!(node = %self.name, %generation, "the store is taken as it is, whatever others know: say so for one start only");
        }
        for attached in &self.attached {
            attached.attach(store.as_mut(), self.environment.clone()).await?;
        }
        let settings = self.settings;
        // It may bring the recorder, which is told what each metric means before the first value is counted.
        #[cfg(feature = "admin-http")]
        let http = crate::admin::http::bind(&settings.admin).await?;
        metric::describe();
        let (letters_max, bytes_max) = (settings.dead_letters_max, settings.dead_letter_bytes_max);
        let dead_letters = DeadLetters::restore(store.as_ref(), letters_max, bytes_max)?;
        self.extensions.iter().for_each(|extension| extension.configure(&settings));
        let collector = Collector::new(settings.retention.clone(), self.environment.clone());
        let writer = writer::start(store, self.mode, &settings, collector)
            .map_err(|error| StoreError::Failed(format!("the writer's thread cannot be started: {error}")))?;
        let (node, services, roles, databases) = (self.name, self.services, self.roles, self.attached);
        let catalog = Catalog { node, choreographies, services, roles, databases };
        let (access, environment) = (Access(members), self.environment);
        let context = NodeContext::new(settings, environment, writer.clone(), peers, access, catalog, dead_letters);
        #[cfg(feature = "testing")]
        let context = context.with_faults(Faults::new(self.forgetting, self.courier));
        let context = Arc::new(context);
        let arguments = RootArguments { context: context.clone(), transport, groups };
        match Actor::spawn(None, Guarded(Root), arguments).await {
            Ok((root, task)) => {
                life::watch(&context, root.clone(), task);
                follow(&context);
                answer_network(&context);
                #[cfg(feature = "admin-http")]
                if let Some(http) = http {
                    http.answer(&context);
                }
                oldest::follow(&context);
                context.access.0.iter().for_each(|members| members.follow(context.lifecycle.end.wait()));
                log_start(&context);
                let node = Node { context, root };
                self.extensions.iter().for_each(|extension| extension.started(node.downgrade()));
                Ok(node)
            }
            Err(error) => {
                writer.end().await;
                Err(not_started(error))
            }
        }
    }
}

/// Returns why the actors of a node cannot be started.
fn not_started(error: SpawnErr) -> NodeError {
    match error {
        SpawnErr::StartupFailed(error) => match error.downcast::<NodeError>() {
            Ok(error) => *error,
            Err(error) => NodeError::Transport(error.to_string()),
        },
        error => NodeError::Transport(why_not_started(&error)),
    }
}

/// Logs what the node plays.
fn log_start(context: &NodeContext) {
    let choreographies = context.catalog.choreographies.keys();
    let choreographies = choreographies.map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>();
    tracing::info!(
        node = %context.node, roles = context.catalog.roles.join(", "), choreographies = choreographies.join(", "),
        release = env!("CARGO_PKG_VERSION"),
        "the node has started"
    );
}

/// Continues, while the node runs, the work that the start could not wait for.
fn follow(context: &NodeContext) {
    for database in &context.catalog.databases {
        let work = database.clone().follow(context.writer.clone(), context.environment.clone());
        let end = context.lifecycle.end.wait();
        tokio::spawn(async move {
            tokio::select! {
                _ = end => {}
                () = work => {}
            }
        });
    }
}

/// Refuses settings and builder calls that contradict each other.
fn contradictions(settings: &Settings, seal_key_file: Option<&Path>, begins_twice: bool) -> Result<(), NodeError> {
    let twice = |what, first: String, second: String| Err(NodeError::GivenTwice { what, first, second });
    if let (Some(given), Some(other)) = (seal_key_file, settings.seal_key_file.as_deref())
        && given != other
    {
        let [given, other] = [given, other].map(Path::display);
        return twice("seal key files", format!("`{given}`"), format!("`{other}` of the settings"));
    }
    if begins_twice {
        return twice("ways to begin", "`fresh`".into(), "`accept_restore`".into());
    }
    Ok(())
}

/// Returns the system that the node belongs to, according to its settings and its transport.
fn system_of(settings: &Settings, transport: &dyn Transport, source: &Source) -> Result<Option<String>, ConfigError> {
    let of_transport = transport.system();
    let of_settings = Some(settings.system.as_str()).filter(|system| !system.is_empty());
    match (of_settings, of_transport) {
        (Some(given), Some(other)) if given != other => {
            let what =
                format!("it is `{given}`, and the transport connects the nodes of `{other}`: give both the same");
            Err(source.error(&["system"], &what))
        }
        (given, other) => Ok(given.or(other).map(Into::into)),
    }
}

/// Returns the groups with the policies that the settings give them.
fn resolve(groups: Vec<Group>, supervision: &Supervision, source: &Source) -> Result<Vec<Arc<Group>>, NodeError> {
    let mut names = BTreeSet::new();
    let resolved = groups.into_iter().map(|mut group| {
        group.policy = supervision.of_group(&group.name, &group.policy);
        let table = ["supervision", "groups", &group.name];
        source.check(group.policy.mistakes().into_iter().map(|mistake| mistake.within(&table)).collect())?;
        if let Some(reason) = group.given_twice() {
            return Err(NodeError::Group { name: group.name, reason });
        }
        if !names.insert(group.name.clone()) {
            return Err(NodeError::GroupTwice(group.name));
        }
        Ok(Arc::new(group))
    });
    resolved.collect()
}

fn by_name_and_version(choreographies: Vec<Arc<dyn AnyChoreography>>) -> Result<Choreographies, NodeError> {
    let mut known = Choreographies::new();
    for choreography in choreographies {
        let (name, version) = (choreography.name(), choreography.version());
        let roles = choreography.roles();
        let names: BTreeSet<_> = roles.all().filter(|role| !role.is_empty()).collect();
        if names.len() != roles.all().count() {
            return Err(NodeError::RoleNames { name });
        }
        let role = choreography.interface().initiator;
        if roles.family() == Some(role) {
            return Err(NodeError::StartedByFamily { name, role });
        }
        if known.insert((name.to_owned(), version), choreography).is_some() {
            return Err(NodeError::ChoreographyTwice { name, version });
        }
    }
    Ok(known)
}

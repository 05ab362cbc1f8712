//! A store belongs to one node of one system: opened for another one, nothing of it is served; and nobody but its user
//! reads it.

#[cfg(unix)]
use std::path::Path;
use std::sync::Arc;

use accompanist::contract::{BoxFuture, Change, Inbox, Space, Store, StoreError, Transport, TransportError, Wire};
use accompanist::prelude::*;
use accompanist::store::MemoryDisk;
use accompanist::transport::LocalNetwork;
use accompanist::{Config, NodeBuilder};

use crate::support::{all_roles, quick, within};
use crate::trade::Outside;

/// A network that has a system, as Zenoh has its namespace.
struct OfSystem(LocalNetwork, &'static str);

impl Transport for OfSystem {
    fn attach(&self, node: NodeId, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Arc<dyn Wire>, TransportError>> {
        self.0.attach(node, inbox)
    }
    fn system(&self) -> Option<&str> {
        Some(self.1)
    }
}

fn node(name: &str, store: impl Store, system: &'static str) -> NodeBuilder {
    all_roles(name, store, OfSystem(LocalNetwork::new(), system), &Arc::new(Outside::default()))
}

async fn serves(builder: NodeBuilder) {
    let node = within(builder.start()).await.unwrap();
    within(node.shutdown()).await;
}

async fn refused(builder: NodeBuilder) -> StoreError {
    match within(builder.start()).await {
        Err(NodeError::Store(error)) => error,
        other => panic!("it is not refused: {other:?}"),
    }
}

/// All rows of the store's own facts.
fn facts(store: &dyn Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    store.scan(Space::Meta, b"", None, 1_000).unwrap()
}

#[tokio::test]
async fn a_node_of_another_name_does_not_get_the_store() {
    let disk = MemoryDisk::default();
    serves(node("bank", disk.open().unwrap(), "shop")).await;
    let before = facts(&disk.open().unwrap());
    let error = refused(node("bank-2", disk.open().unwrap(), "shop")).await;
    assert!(
        matches!(&error, StoreError::OtherNode { found, given } if found == "bank" && given == "bank-2"),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.contains("`bank`") && text.contains("`bank-2`") && text.contains("start this one as"), "{text}");
    assert_eq!(facts(&disk.open().unwrap()), before, "it is as it was");
    serves(node("bank", disk.open().unwrap(), "shop")).await;
}

#[tokio::test]
async fn folders_that_were_swapped_are_both_refused() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let open = |index: usize| FjallStore::open(folders[index].path().join("store")).unwrap();
    serves(node("bank", open(0), "shop")).await;
    serves(node("stock", open(1), "shop")).await;
    for (name, index) in [("bank", 1), ("stock", 0)] {
        let error = refused(node(name, open(index), "shop")).await;
        assert!(matches!(&error, StoreError::OtherNode { given, .. } if given == name), "{error}");
    }
    serves(node("bank", open(0), "shop")).await;
}

#[tokio::test]
async fn a_node_of_another_system_does_not_get_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let open = || FjallStore::open(folder.path()).unwrap();
    serves(node("bank", open(), "shop")).await;
    let error = refused(node("bank", open(), "shop-test")).await;
    assert!(
        matches!(&error, StoreError::OtherSystem { found, given } if found == "shop" && given == "shop-test"),
        "{error}"
    );
    // As the settings have it, where the network has no system of its own.
    let alone = |system: &str| {
        let settings = Settings { system: system.into(), ..quick() };
        all_roles("bank", open(), LocalNetwork::new(), &Arc::new(Outside::default())).settings(settings)
    };
    assert!(matches!(refused(alone("other")).await, StoreError::OtherSystem { .. }));
    serves(alone("shop")).await;
    serves(alone("")).await;
}

#[tokio::test]
async fn a_store_of_no_system_belongs_to_the_first_one_that_it_is_opened_in() {
    let disk = MemoryDisk::default();
    let outside = Arc::new(Outside::default());
    serves(all_roles("bank", disk.open().unwrap(), LocalNetwork::new(), &outside)).await;
    serves(node("bank", disk.open().unwrap(), "shop")).await;
    assert!(matches!(refused(node("bank", disk.open().unwrap(), "other")).await, StoreError::OtherSystem { .. }));
}

#[tokio::test]
async fn a_store_of_an_earlier_release_is_pinned_at_its_first_opening() {
    let disk = MemoryDisk::default();
    serves(node("bank", disk.open().unwrap(), "shop")).await;
    let mut store = disk.open().unwrap();
    store.apply(vec![Change { space: Space::Meta, key: b"owner".into(), value: None }]).unwrap();
    store.sync().unwrap();
    serves(node("stock", store, "shop")).await;
    assert!(matches!(refused(node("bank", disk.open().unwrap(), "shop")).await, StoreError::OtherNode { .. }));
}

#[tokio::test]
async fn a_store_that_has_lost_its_membership_is_refused() {
    let disk = MemoryDisk::default();
    serves(node("bank", disk.open().unwrap(), "shop")).await;
    let mut store = disk.open().unwrap();
    store.apply(vec![Change { space: Space::Meta, key: b"standing".into(), value: None }]).unwrap();
    store.sync().unwrap();
    let error = refused(node("bank", store, "shop")).await;
    assert!(matches!(&error, StoreError::Corrupt { space: Space::Meta, .. }), "{error}");
}

#[tokio::test]
async fn a_system_that_the_transport_contradicts_is_an_error_of_the_settings() {
    let file = "callers_max = 7\nsystem = \"shop\"\n";
    let config = Config::from_toml("accompanist.toml", file, []).unwrap();
    let error = within(node("bank", MemoryDisk::default().open().unwrap(), "other").config(config).start()).await;
    let text = error.unwrap_err().to_string();
    assert!(
        text.starts_with("accompanist.toml:2: system: ") && text.contains("`shop`") && text.contains("`other`"),
        "{text}"
    );
}

/// All paths of a folder, itself included, with their modes.
#[cfg(unix)]
fn modes(folder: &Path) -> Vec<(String, u32)> {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let mut found = vec![(folder.display().to_string(), mode(folder))];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(modes(&path)) } else { found.push((path.display().to_string(), mode(&path))) }
    }
    found
}

#[cfg(unix)]
fn is_private(folder: &Path) {
    for (path, mode) in modes(folder) {
        let right = if Path::new(&path).is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, right, "{path} has {mode:o}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_store_is_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("data/bank/store");
    let open = || FjallStore::open(&folder).unwrap();
    let store = open();
    is_private(&outer.path().join("data"));
    serves(node("bank", store, "shop")).await;
    // As an earlier release has left it, or a copy: all may read it.
    for (path, _) in modes(&folder) {
        let mode = if Path::new(&path).is_dir() { 0o755 } else { 0o644 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let store = open();
    is_private(&folder);
    // What is made later is covered by the folder.
    serves(node("bank", store, "shop")).await;
    assert_eq!(modes(&folder)[0].1, 0o700);
    drop(open());
    is_private(&folder);
}

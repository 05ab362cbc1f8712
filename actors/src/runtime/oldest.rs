//! How long the oldest session has been open here, by choreography: found by reading the store, a page at a time.
//!
//! A count that every write keeps up to date would decode each header twice more. Sessions that wait for hours are
//! found as well by reading what is open now and then. Knows no actors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use accompanist_core::contract::{Space, Store, StoreError};
use accompanist_core::record::{Opened, read_value};
use metrics::gauge;

use crate::base::metric;
use crate::runtime::channel::CHANNEL;
use crate::runtime::context::NodeContext;

/// The pause between two readings of all that is open.
const PERIOD: Duration = Duration::from_secs(10);
/// How many open instances one page has, and the pause between two pages: so that the writer can write between them,
/// and that even a large store is read at a few thousand instances a second.
const PAGE: usize = 64;
const PAGE_PAUSE: Duration = Duration::from_millis(20);

/// When the oldest open session of each choreography was started, in milliseconds since 1970.
type Started = BTreeMap<&'static str, u64>;

/// Shows the age of the oldest open sessions for as long as the node runs.
pub(crate) fn follow(context: &Arc<NodeContext>) {
    let names = context.catalog.choreographies.values().map(|choreography| choreography.name());
    let shown = Shown(names.filter(|name| !name.starts_with(CHANNEL)).collect());
    // Weak, so that a node that is killed lets go of its store at once.
    let (context, end) = (Arc::downgrade(context), context.lifecycle.end.wait());
    tokio::spawn(async move {
        tokio::select! {
            biased;
            _ = end => {}
            () = look_periodically(&context, shown) => {}
        }
    });
}

async fn look_periodically(context: &Weak<NodeContext>, shown: Shown) {
    let mut started = Started::new();
    loop {
        tokio::time::sleep(PERIOD).await;
        let Some(open) = context.upgrade().map(|context| context.writer.open()) else { return };
        if open.complete && open.count == 0 {
            started.clear();
        } else {
            let Some(read) = read_all(context, &shown, &started).await else { return };
            started = read;
        }
        let Some(unix_ms) = context.upgrade().map(|context| context.environment.unix_ms()) else { return };
        shown.show(&started, unix_ms);
    }
}

/// Reads all that is open. Returns `None` once the node has stopped. Meanwhile what was known `before` is shown.
async fn read_all(context: &Weak<NodeContext>, shown: &Shown, before: &Started) -> Option<Started> {
    let (mut started, mut after) = (Started::new(), None);
    loop {
        let page = {
            let context = context.upgrade()?;
            shown.show(before, context.environment.unix_ms());
            let (names, after) = (shown.0.clone(), after.take());
            context.writer.read(move |store| page_after(store, after.as_deref(), &names)).await
        };
        let Page { started: found, next } = page.ok()?;
        for (name, unix_ms) in found {
            started.entry(name).and_modify(|known| *known = unix_ms.min(*known)).or_insert(unix_ms);
        }
        if next.is_none() {
            return Some(started);
        }
        after = next;
        tokio::time::sleep(PAGE_PAUSE).await;
    }
}

struct Page {
    started: Vec<(&'static str, u64)>,
    /// The key after which the next page begins, if there is one.
    next: Option<Vec<u8>>,
}

fn page_after(store: &dyn Store, after: Option<&[u8]>, names: &BTreeSet<&'static str>) -> Result<Page, StoreError> {
    let entries = store.scan(Space::Open, &[], after, PAGE)?;
    Ok(Page {
        started: entries.iter().filter_map(|(_, value)| started_of(names, value)).collect(),
        next: entries.last().map(|(key, _)| key.clone()).filter(|_| entries.len() == PAGE),
    })
}

/// Returns the choreography of an opening, and when its session was started. What cannot be read, or has a choreography
/// that this release does not know, is listed among the stopped sessions.
fn started_of(names: &BTreeSet<&'static str>, value: &[u8]) -> Option<(&'static str, u64)> {
    let Opened { header, .. } = read_value(Space::Open, value).ok()?;
    Some((*names.get(header.choreography.as_str())?, header.started_unix_ms))
}

/// The choreographies whose ages are shown. They are 0 once the node has stopped.
struct Shown(BTreeSet<&'static str>);

impl Shown {
    fn show(&self, started: &Started, unix_ms: u64) {
        for name in &self.0 {
            let age_ms = started.get(name).map_or(0, |started| unix_ms.saturating_sub(*started));
            gauge!(metric::OLDEST_OPEN_AGE, "choreography" => *name).set(Duration::from_millis(age_ms));
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.show(&Started::new(), 0);
    }
}

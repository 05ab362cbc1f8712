//! What a collector sees of a session: one trace, with its parents, names and ends, and nothing twice.

use std::collections::BTreeMap;

use accompanist::prelude::*;
use accompanist::telemetry::Traceparent;
use tracing::Instrument;

use crate::collector::{Seen, collect, spans};
use crate::sale::{Sale, Shop, Sites};

/// Three parts, three steps, two compensations, three messages, and the start.
const SPANS: usize = 12;

fn one<'a>(spans: &'a [Seen], name: &str) -> &'a Seen {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} among {:#?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
    found[0]
}

/// Checks the spans of a sale whose card was declined; those of its parts under the start, and the others under these.
fn check_declined(spans: &[Seen], lives_of_shop: usize) {
    let start = one(spans, "start sale");
    assert!(spans.iter().all(|span| span.trace == start.trace), "one trace");
    assert_eq!((start.is("node"), start.is("choreography")), ("shop-1", "sale"));
    let parts: Vec<_> = spans.iter().filter(|span| span.parent == start.id).collect();
    let names: BTreeMap<_, usize> = parts.iter().fold(BTreeMap::new(), |mut names, part| {
        *names.entry(part.name.as_str()).or_default() += 1;
        names
    });
    assert_eq!(names, BTreeMap::from([("sale bank", 1), ("sale carrier", 1), ("sale shop", lives_of_shop)]));
    let ids_of = |role: &str| -> Vec<_> {
        parts.iter().filter(|part| part.is("role") == role).map(|part| part.id.clone()).collect()
    };
    for (name, role, call, outcome) in [
        ("reserve", "shop", "commit", "done"),
        ("book", "carrier", "commit", "done"),
        ("charge", "bank", "commit", "refused"),
        ("compensate book", "carrier", "compensate", "done"),
        ("compensate reserve", "shop", "compensate", "done"),
    ] {
        let step = one(spans, name);
        assert!(ids_of(role).contains(&step.parent), "{name} lies under the part of {role}");
        assert_eq!((step.is("role"), step.is("call"), step.is("outcome")), (role, call, outcome), "{name}");
        assert_eq!((step.is("choreography"), step.is("node")), ("sale", format!("{role}-1").as_str()), "{name}");
        assert_eq!(step.is("step"), name.strip_prefix("compensate ").unwrap_or(name));
        assert!(!step.is("path").is_empty() && !step.is_error, "{name}: {step:?}");
    }
    assert!(one(spans, "charge").is("error").contains("the card is declined"));
    for (name, role, peer) in [
        ("comm to carrier", "shop", "carrier-1"),
        ("comm to shop", "carrier", "shop-1"),
        ("comm to bank", "shop", "bank-1"),
    ] {
        let message = one(spans, name);
        assert!(ids_of(role).contains(&message.parent), "{name} lies under the part of {role}");
        assert_eq!((message.is("role"), message.is("peer")), (role, peer));
    }
    let ended: Vec<_> = parts.iter().filter(|part| part.is("outcome") == "compensated").collect();
    assert!(ended.len() == 3 && ended.iter().all(|part| part.is("error").contains("declined")), "{ended:#?}");
}

async fn declined(session: &Session<Sale>) {
    let error = session.settled().await.unwrap_err();
    assert!(matches!(&error, SessionError::Aborted(abort) if abort.code() == "declined"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declined_card_is_one_trace_over_three_nodes() {
    collect();
    let sites = Sites::new();
    let nodes = [sites.shop().await, sites.carrier().await, sites.bank().await];
    let checkout = tracing::info_span!("checkout", order = "order 7");
    let session = nodes[0].start(Sale, 900).into_future().instrument(checkout.clone()).await.unwrap();
    drop(checkout);
    let shop = nodes[0].instance(Sale, session.id(), Shop);
    shop.signal("confirmed", "once", &()).await.unwrap();
    declined(&session).await;
    let spans_of_it = spans("session", &session.id().to_string(), SPANS);
    check_declined(&spans_of_it, 1);
    // It lies under the caller's span, and what the service's code does in a step under that.
    let caller = &spans("order", "order 7", 1)[0];
    let start = one(&spans_of_it, "start sale");
    assert_eq!((&start.parent, &start.trace), (&caller.id, &caller.trace));
    let book = one(&spans_of_it, "book");
    let inner = spans("target", "telemetry::sale", 1);
    assert!(inner.iter().any(|span| span.name == "ask the carrier" && span.parent == book.id), "{inner:#?}");
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_with_the_trace_and_doubles_no_span() {
    collect();
    let sites = Sites::new();
    let (shop, carrier, bank) = (sites.shop().await, sites.carrier().await, sites.bank().await);
    let session = shop.start(Sale, 901).await.unwrap();
    let id = session.id();
    // Until the answer of the carrier is at the shop, which then waits for the signal.
    let waits = async |shop: &Node| {
        let part = shop.instance(Sale, id, Shop);
        while !part.waits_for().await.unwrap().iter().any(|(_, what)| what.contains("confirmed")) {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    waits(&shop).await;
    drop(session);
    shop.shutdown().await;
    let shop = sites.shop().await;
    waits(&shop).await;
    shop.instance(Sale, id, Shop).signal("confirmed", "once", &()).await.unwrap();
    let session = shop.session::<Sale>(id).await.unwrap();
    declined(&session).await;
    // One more part: the shop's second life.
    check_declined(&spans("session", &id.to_string(), SPANS + 1), 2);
    for node in [shop, carrier, bank] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_joins_the_trace_that_its_caller_gives() {
    collect();
    let sites = Sites::new();
    let (shop, carrier, bank) = (sites.shop().await, sites.carrier().await, sites.bank().await);
    let given: Traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    let session = shop.start(Sale, 902).traceparent(given).await.unwrap();
    let shop_part = shop.instance(Sale, session.id(), Shop);
    shop_part.signal("confirmed", "once", &()).await.unwrap();
    declined(&session).await;
    let spans = spans("session", &session.id().to_string(), SPANS);
    check_declined(&spans, 1);
    let start = one(&spans, "start sale");
    assert_eq!((start.trace.as_slice(), start.parent.as_slice()), (&given.trace_id()[..], &given.span_id()[..]));
    for node in [shop, carrier, bank] {
        node.shutdown().await;
    }
}

/// Who samples sends all of a session, or nothing: what the caller says of it holds at all nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_a_trace_that_is_not_sampled_is_sent_by_no_node() {
    collect();
    let sites = Sites::new();
    let (shop, carrier, bank) = (sites.shop().await, sites.carrier().await, sites.bank().await);
    let unsampled: Traceparent = "00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00".parse().unwrap();
    let sale = async |traceparent: Option<Traceparent>| {
        let session = shop.start(Sale, 1).traceparent(traceparent).await.unwrap();
        shop.instance(Sale, session.id(), Shop).signal("confirmed", "once", &()).await.unwrap();
        assert_eq!(session.settled().await.unwrap(), 1);
        session.id().to_string()
    };
    let unseen = sale(Some(unsampled)).await;
    let seen = sale(None).await;
    // The start, three parts, three steps and four messages of the second, which ended later.
    let seen = spans("session", &seen, 11);
    assert!(seen.iter().filter(|span| span.is("outcome") == "finished").count() == 3, "{seen:#?}");
    assert!(spans("session", &unseen, 0).is_empty());
    for node in [shop, carrier, bank] {
        node.shutdown().await;
    }
}

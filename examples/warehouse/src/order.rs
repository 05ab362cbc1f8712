//! Orders by hand, against a running warehouse role.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use anyhow::Context;
use clap::Args;
use warehouse::{Order, Outcome};

use crate::client::Client;
use crate::wire::Answer;

#[derive(Debug, Args)]
pub(crate) struct OrderArguments {
    /// Where the warehouse role takes orders (its --orders-listen)
    #[arg(long, default_value = "127.0.0.1:7300")]
    to: String,
    /// How many orders
    #[arg(long, default_value_t = 1)]
    count: u32,
    /// Of another item than the catalogue's next one: `unicorn` is never in stock
    #[arg(long)]
    item: Option<String>,
    /// Paid with another card: 4000000000000002 is declined
    #[arg(long)]
    card: Option<String>,
    /// What the order ids begin with. The same id is the same order, however often it is placed
    #[arg(long)]
    id: Option<String>,
}

pub(crate) async fn place(arguments: OrderArguments) -> anyhow::Result<ExitCode> {
    let OrderArguments { to, count, item, card, id } = arguments;
    let desk = || format!("no warehouse role takes orders at {to}");
    let mut client = Client::connect(&to).await.with_context(desk)?;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let prefix = id.unwrap_or_else(|| format!("hand-{}", since.as_millis()));
    let mut open = BTreeMap::new();
    for number in 1..=count {
        let mut order = Order { id: format!("{prefix}-{number}"), ..Order::sample(number) };
        order.item = item.clone().unwrap_or(order.item);
        order.card = card.clone().unwrap_or(order.card);
        client.place(&order).await.with_context(desk)?;
        open.insert(order.id, Instant::now());
    }
    let mut failed = false;
    while !open.is_empty() {
        match client.answer().await.context("the warehouse has gone; place the orders again with the same --id")? {
            Answer::Accepted { .. } => {}
            Answer::Output { id, outcome, detail } => {
                let took_ms = open.get(&id).map_or(0.0, |sent| sent.elapsed().as_secs_f64() * 1e3);
                let word = if outcome == Outcome::Completed { "shipped as" } else { "refused:" };
                println!("{id} {word} {detail} after {took_ms:.1} ms");
            }
            Answer::Settled { id, .. } => {
                open.remove(&id);
            }
            Answer::Failed { id, reason } => {
                eprintln!("{id} failed: {reason}");
                failed = true;
                open.remove(&id);
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

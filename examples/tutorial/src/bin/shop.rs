//! Chapter 3: the shop's process. It takes six orders, one after the other, and ends.

use std::env::args;
use std::error::Error;
use std::sync::Arc;

use accompanist::prelude::*;
use tutorial::sale::{Sale, Shop};

// ANCHOR: main
const ORDERS: [(&str, u32); 6] =
    [("order-1", 2), ("order-2", 3), ("order-3", 9), ("order-4", 2), ("order-5", 20), ("order-6", 4)];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = Config::load(args().nth(1).unwrap_or_else(|| "shop.toml".into()))?;
    let node = Node::from_config(config).await?.role(Shop, Arc::new(())).choreography(Sale).start().await?;
    println!("the shop is open");
    for (order, books) in ORDERS {
        match sell(&node, order, books).await? {
            Ok(sold) => println!("{order}: {sold}"),
            Err(abort) => println!("{order}: {abort}"),
        }
    }
    node.shutdown().await;
    Ok(())
}

/// Sells, once for each order however often it is called: the order is the key of the session.
async fn sell(node: &Node, order: &str, books: u32) -> Result<Result<String, Abort>, Box<dyn Error>> {
    let session = loop {
        match node.start(Sale, books).key(order).await {
            Err(StartError::NobodyPlays { role }) => println!("there is no {role} yet"),
            started => break started?,
        }
    };
    match session.settled().await {
        Ok(sold) => Ok(Ok(sold)),
        Err(SessionError::Aborted(abort)) => Ok(Err(abort)),
        Err(error) => Err(error.into()),
    }
}
// ANCHOR_END: main

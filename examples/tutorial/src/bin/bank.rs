//! Chapter 3: the bank's process.

use std::env::args;
use std::error::Error;
use std::sync::Arc;

use accompanist::prelude::*;
use tutorial::sale::{Bank, Sale};

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = Config::load(args().nth(1).unwrap_or_else(|| "bank.toml".into()))?;
    let node = Node::from_config(config).await?.role(Bank, Arc::new(())).choreography(Sale).start().await?;
    println!("the bank is open");
    tokio::select! {
        error = node.failed() => return Err(error.into()),
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    node.shutdown().await;
    Ok(())
}
// ANCHOR_END: main

//! Chapter 3: the bank's process.

use std::error::Error;

use clap::Parser;
use tutorial::node::{self, Arguments};
use tutorial::sale::Bank;

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let node = node::start(Bank, Arguments::parse()).await?;
    println!("the bank is open");
    tokio::select! {
        error = node.failed() => return Err(error.into()),
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    node.shutdown().await;
    Ok(())
}
// ANCHOR_END: main

//! What each process does: one node, with one role and its service.

use std::path::PathBuf;
use std::sync::Arc;

use accompanist::prelude::*;
use accompanist::transport::{ZenohConfig, ZenohTransport};
use accompanist::{NodeBuilder, store::FjallStore};
use anyhow::{Context as _, bail};
use clap::Args;
use fleet::{StoreArguments, make_data_folder, told_to_stop};
use tokio::net::TcpListener;
use warehouse::sqlite::SqliteService;
use warehouse::{
    Loyalty, LoyaltyApi, NoService, Payment, PaymentApi, Warehouse, WarehouseApi, WarehouseOrder, WarehouseOrderSqlite,
};

use crate::offline::{journal_folder, service_file};
use crate::{Ledger, RoleName, desk};

#[derive(Debug, Args)]
pub(crate) struct RoleArguments {
    /// The role to play
    role: RoleName,
    /// Where to listen for the other roles, such as tcp/127.0.0.1:7301
    #[arg(long)]
    listen: String,
    /// Where another role listens; may be given several times
    #[arg(long)]
    connect: Vec<String>,
    /// The data folder, of this role alone
    #[arg(long)]
    data: PathBuf,
    #[command(flatten)]
    begin: StoreArguments,
    /// Where the service keeps its ledger; the same for all roles
    #[arg(long, value_enum, default_value = "built-in")]
    ledger: Ledger,
    /// Where the warehouse takes orders, such as 127.0.0.1:7300
    #[arg(long)]
    orders_listen: Option<String>,
    /// Stop when standard input ends
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

pub(crate) async fn play(arguments: RoleArguments) -> anyhow::Result<()> {
    let RoleArguments { role, listen, connect, data, begin, ledger, orders_listen, until_stdin_closes } = arguments;
    if orders_listen.is_some() && role != RoleName::Warehouse {
        bail!("orders are taken by the warehouse: leave --orders-listen out for {}", role.name());
    }
    make_data_folder(&data)?;
    let config = connect.iter().fold(ZenohConfig::new().listen(&listen), ZenohConfig::connect);
    let store = FjallStore::open(journal_folder(&data))?;
    let builder = Node::builder(NodeId::new(role.name())?)
        .store(store)
        .transport(ZenohTransport::open(config).await?)
        .choreography(WarehouseOrder)
        .choreography(WarehouseOrderSqlite);
    let builder = match ledger {
        Ledger::BuiltIn => with_role(builder, role, Arc::new(NoService)),
        Ledger::Sqlite => {
            let file = service_file(&data);
            let service = SqliteService::open(&file).await;
            let service = service.with_context(|| format!("the database {} cannot be used", file.display()))?;
            with_role(builder, role, Arc::new(service))
        }
    };
    let node = begin.given_to(builder).start().await?;
    if let Some(address) = &orders_listen {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("orders cannot be taken at {address}"))?;
        match ledger {
            Ledger::BuiltIn => tokio::spawn(desk::serve(listener, node.clone(), WarehouseOrder)),
            Ledger::Sqlite => tokio::spawn(desk::serve(listener, node.clone(), WarehouseOrderSqlite)),
        };
    }
    let desk = orders_listen.map(|address| format!(", takes orders at {address}")).unwrap_or_default();
    println!("{}: ready at {listen}{desk}", role.name());
    tokio::select! {
        error = node.failed() => return Err(error.into()),
        () = told_to_stop(until_stdin_closes) => {}
    }
    node.shutdown().await;
    Ok(())
}

/// Gives the builder the role that is asked for, with a service that could be that of any role.
fn with_role<S>(builder: NodeBuilder, role: RoleName, service: Arc<S>) -> NodeBuilder
where
    S: WarehouseApi + PaymentApi + LoyaltyApi + 'static,
{
    match role {
        RoleName::Warehouse => builder.role(Warehouse, service),
        RoleName::Payment => builder.role(Payment, service),
        RoleName::Loyalty => builder.role(Loyalty, service),
    }
}

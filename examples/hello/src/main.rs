//! A shop and a bank. The shop reserves books; if the bank does not pay, they go back on the shelf.

use std::{error::Error, path::Path, sync::Arc};

use accompanist::{prelude::*, transport::LocalNetwork};

#[derive(Role)]
struct Shop;
#[derive(Role)]
struct Bank;

/// A table of a role's built-in state: how many are left, by what they are.
const SHELF: Table<String, u32> = Table::new("shelf");

/// A step of the saga: `commit` takes books off the shelf, and `compensate` puts them back.
struct Reserve;
impl LocalTransaction for Reserve {
    const NAME: &'static str = "reserve";
    type Role = Shop;
    type Input = u32; // How many books.
    type Output = u32; // Their price.
    fn commit(&self, shop: &mut State<'_>, books: &u32) -> Result<u32, Abort> {
        let sold_out = Abort::new("sold-out", "there are not so many on the shelf");
        SHELF.update(shop, "books", |left| left.unwrap_or(10).checked_sub(*books).ok_or(sold_out))?;
        Ok(books * 25)
    }
    fn compensate(&self, shop: &mut State<'_>, books: &u32, _price: &u32) -> Result<(), Retry> {
        SHELF.update(shop, "books", |left| Ok(left.unwrap_or_default() + books))?;
        Ok(())
    }
}

/// The global program: both roles run it, and each does its own part.
struct Sale;
impl Choreography for Sale {
    const NAME: &'static str = "sale";
    type Roles = (Shop, Bank);
    type Input = At<Shop, u32>;
    type Output = At<Shop, String>;
    async fn run(&self, ctx: &Context<Self::Roles>, books: At<Shop, u32>) -> Result<At<Shop, String>, Abort> {
        let price = ctx.transact(Reserve, &books).await?; // At<Shop, u32>: only the shop can read it.
        let price = ctx.comm(Shop, Bank, &price).await?; // At<Bank, u32>
        let pays = ctx.locally(Bank, |bank| *bank.get(&price) <= 100);
        if !ctx.broadcast(Bank, &pays).await? {
            // A plain bool: both know it, so both may branch on it.
            return ctx.abort(Abort::new("no-cover", "the bank pays 100 at most")).await;
        }
        Ok(ctx.locally(Shop, |shop| format!("sold {} books", shop.get(&books))))
    }
}

/// A node: one role, with its journal on disk. Nodes that share a network find each other.
async fn start<R: Role<Service = ()>>(role: R, folder: &Path, network: &LocalNetwork) -> Result<Node, Box<dyn Error>> {
    let store = FjallStore::open(folder.join(R::NAME))?;
    let node = Node::builder(NodeId::new(R::NAME)?).store(store).transport(network.clone());
    Ok(node.role(role, Arc::new(())).choreography(Sale).start().await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("In one process, with no store and no network:");
    for books in [3, 11, 5] {
        let answer = run_local(Sale, books, &Services::new()).await.unwrap_or_else(|no| no.to_string());
        println!("{books:>4} books? {answer}");
    }
    println!("On two nodes, each with its own store:");
    let (folder, network) = (tempfile::tempdir()?, LocalNetwork::new());
    let (shop, bank) = (start(Shop, folder.path(), &network).await?, start(Bank, folder.path(), &network).await?);
    for books in [3, 11, 5] {
        let answer = shop.start(Sale, books).await?.settled().await.unwrap_or_else(|no| no.to_string());
        let left = shop.read_state(Shop, |shop| SHELF.get(shop, "books")).await??.unwrap_or(10);
        println!("{books:>4} books? {answer}; {left} on the shelf");
    }
    tokio::join!(shop.shutdown(), bank.shutdown());
    Ok(())
}

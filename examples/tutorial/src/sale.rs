//! Chapter 2: the saga. The shop reserves books, the bank charges the buyer's account; either may refuse.

use std::time::Duration;

use accompanist::prelude::*;

/// The shop.
#[derive(Debug, Role)]
pub struct Shop;

/// The bank.
#[derive(Debug, Role)]
pub struct Bank;

// ANCHOR: reserve
/// A table of the shop: how many are left, by what they are.
pub const SHELF: Table<String, u32> = Table::new("shelf");
/// How many books are on the shelf at first.
pub const BOOKS: u32 = 20;
/// The price of a book.
pub const PRICE: u32 = 25;

/// Takes books off the shelf. Compensated, it puts them back.
#[derive(Debug)]
pub struct Reserve;
impl LocalTransaction for Reserve {
    const NAME: &'static str = "reserve";
    type Role = Shop;
    type Input = u32; // How many books.
    type Output = u32; // Their price.

    fn commit(&self, shop: &mut State<'_>, books: &u32) -> Result<u32, Abort> {
        let sold_out = Abort::new("sold-out", "there are not so many books on the shelf");
        SHELF.update(shop, "books", |left| left.unwrap_or(BOOKS).checked_sub(*books).ok_or(sold_out))?;
        Ok(books * PRICE)
    }

    fn compensate(&self, shop: &mut State<'_>, books: &u32, _price: &u32) -> Result<(), Retry> {
        SHELF.update(shop, "books", |left| Ok(left.unwrap_or_default() + books))?;
        Ok(())
    }
}
// ANCHOR_END: reserve

// ANCHOR: charge
/// A table of the bank: what is left on each account.
pub const ACCOUNTS: Table<String, u32> = Table::new("accounts");
/// What is on an account at first.
pub const CREDIT: u32 = 300;

/// Takes the price off Ada's account, and returns what is left on it. Compensated, it pays the price back.
#[derive(Debug)]
pub struct Charge;
impl LocalTransaction for Charge {
    const NAME: &'static str = "charge";
    type Role = Bank;
    type Input = u32;
    type Output = u32;

    fn commit(&self, bank: &mut State<'_>, price: &u32) -> Result<u32, Abort> {
        let no_cover = Abort::new("no-cover", "the account does not cover this");
        ACCOUNTS.update(bank, "ada", |left| left.unwrap_or(CREDIT).checked_sub(*price).ok_or(no_cover))
    }

    fn compensate(&self, bank: &mut State<'_>, price: &u32, _left: &u32) -> Result<(), Retry> {
        ACCOUNTS.update(bank, "ada", |left| Ok(left.unwrap_or_default() + price))?;
        Ok(())
    }
}
// ANCHOR_END: charge

// ANCHOR: sale
/// Ada buys some books.
#[derive(Debug)]
pub struct Sale;
impl Choreography for Sale {
    const NAME: &'static str = "sale";
    type Roles = (Shop, Bank);
    type Input = At<Shop, u32>;
    type Output = At<Shop, String>;

    async fn run(&self, ctx: &Context<Self::Roles>, books: At<Shop, u32>) -> Result<At<Shop, String>, Abort> {
        let price = ctx.transact(Reserve, &books).await?; // Refused: the session aborts.
        let price = ctx.comm(Shop, Bank, &price).await?;
        ctx.sleep(Bank, Duration::from_secs(1)).await?; // The bank takes its time. The timer is on disk.
        let left = ctx.transact(Charge, &price).await?; // Refused: the session aborts, the books go back.
        let left = ctx.comm(Bank, Shop, &left).await?;
        Ok(ctx
            .locally(Shop, |shop| format!("{} books sold, {} left on the account", shop.get(&books), shop.get(&left))))
    }
}
// ANCHOR_END: sale

//! A key of a table has an order of its own, and is of the table's type.

use accompanist_core::{Abort, State, Table};

const PRICES: Table<f64, u32> = Table::new("prices");
const STOCK: Table<String, u32> = Table::new("stock");

fn step(state: &mut State<'_>) -> Result<(), Abort> {
    PRICES.put(state, 1.5, &3)?;
    STOCK.put(state, 17_u64, &3)?;
    Ok(())
}

fn main() {}

//! Chapter 2: the sale in one process, once for each way in which it can end.

use accompanist::prelude::*;
use tutorial::sale::Sale;

// ANCHOR: main
#[tokio::main]
async fn main() {
    for books in [2, 15, 21] {
        match run_local(Sale, books, &Services::new()).await {
            Ok(sold) => println!("{sold}"),
            Err(abort) => println!("{books} books: {abort}"),
        }
    }
}
// ANCHOR_END: main

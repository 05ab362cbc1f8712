//! Functions that make no step: the compensation is missing, or the function is of another form.

use accompanist_core::{Abort, Local, Role, State, local_step, pivot, step};

#[derive(Role)]
struct Shop;

async fn reserve(_shop: &Local<Shop>, books: &u32) -> Result<u32, Abort> {
    Ok(books * 25)
}
async fn owns(_shop: Local<Shop>, books: u32) -> Result<u32, Abort> {
    Ok(books * 25)
}
async fn price(_shop: &Local<Shop>, books: &u32) -> u32 {
    books * 25
}
fn note(_state: &mut State<'_>, _books: &u32) -> Result<(), Abort> {
    Ok(())
}

fn main() {
    step(Shop, "reserve", reserve);
    local_step(Shop, "note", note);
    pivot(Shop, "reserve", owns);
    pivot(Shop, "reserve", price);
}

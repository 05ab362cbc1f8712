//! Carts, in `SQLite`.

use std::path::Path;

use fleet::{Book, open_database};
use sqlx::sqlite::SqlitePool;
use tonic::{Request, Response, Status};

use super::{busy, key_of};
use crate::hipstershop::cart_service_server::CartService;
use crate::hipstershop::{AddItemRequest, Cart, CartItem, Empty, EmptyCartRequest, GetCartRequest};

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS items (
    user TEXT NOT NULL, product TEXT NOT NULL, quantity INTEGER NOT NULL, PRIMARY KEY (user, product)) STRICT;";

/// The service.
#[derive(Debug)]
pub struct Carts {
    items: SqlitePool,
    book: Book,
}

impl Carts {
    /// With its carts in `folder`.
    ///
    /// # Errors
    /// When they cannot be used.
    pub async fn open(folder: &Path, book: Book) -> anyhow::Result<Self> {
        Ok(Self { items: open_database(&folder.join("carts"), SCHEMA).await?, book })
    }
}

#[tonic::async_trait]
impl CartService for Carts {
    async fn add_item(&self, request: Request<AddItemRequest>) -> Result<Response<Empty>, Status> {
        let AddItemRequest { user_id, item } = request.into_inner();
        let item = item.ok_or_else(|| Status::invalid_argument("there is no item"))?;
        let insert = "INSERT INTO items (user, product, quantity) VALUES (?, ?, ?)
            ON CONFLICT (user, product) DO UPDATE SET quantity = quantity + excluded.quantity";
        let insert = sqlx::query(insert).bind(user_id).bind(item.product_id).bind(item.quantity);
        insert.execute(&self.items).await.map_err(busy)?;
        Ok(Response::new(Empty {}))
    }

    async fn get_cart(&self, request: Request<GetCartRequest>) -> Result<Response<Cart>, Status> {
        let user_id = request.into_inner().user_id;
        let select =
            sqlx::query_as("SELECT product, quantity FROM items WHERE user = ? ORDER BY product").bind(&user_id);
        let rows: Vec<(String, i32)> = select.fetch_all(&self.items).await.map_err(busy)?;
        let items = rows.into_iter().map(|(product_id, quantity)| CartItem { product_id, quantity }).collect();
        Ok(Response::new(Cart { user_id, items }))
    }

    async fn empty_cart(&self, request: Request<EmptyCartRequest>) -> Result<Response<Empty>, Status> {
        let key = key_of(&request);
        let user = request.into_inner().user_id;
        let delete = sqlx::query("DELETE FROM items WHERE user = ?").bind(&user);
        delete.execute(&self.items).await.map_err(busy)?;
        // Emptied again it is empty: the note is for those who look at the book.
        super::noted(&self.book, "empty", &key, &user).await?;
        Ok(Response::new(Empty {}))
    }
}

//! The services, with the original's interface. Small, and durable where something must not happen twice: such an
//! effect is in the service's [`Book`], under the idempotency key it came with; without one, each call is an effect of
//! its own.

pub mod cart;
pub mod catalog;
pub mod currency;
pub mod email;
pub mod payment;
pub mod shipping;

use std::path::Path;

use anyhow::bail;
use fleet::Book;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Status};

use crate::call::KEY;
use crate::hipstershop::cart_service_server::CartServiceServer;
use crate::hipstershop::currency_service_server::CurrencyServiceServer;
use crate::hipstershop::email_service_server::EmailServiceServer;
use crate::hipstershop::payment_service_server::PaymentServiceServer;
use crate::hipstershop::product_catalog_service_server::ProductCatalogServiceServer;
use crate::hipstershop::shipping_service_server::ShippingServiceServer;
use crate::reversal::payment_reversal_server::PaymentReversalServer;
use crate::reversal::shipping_reversal_server::ShippingReversalServer;

/// Their names, in the order of the roles.
pub const NAMES: [&str; 6] = ["cart", "catalog", "currency", "payment", "shipping", "email"];

/// Serves one of them until it is dropped. Its book is `folder/book`, its carts are `folder/carts`.
///
/// # Errors
/// When there is no such service, or its files or its port cannot be used.
pub async fn serve(name: &str, listener: TcpListener, folder: &Path) -> anyhow::Result<()> {
    let (mut server, stream) = (Server::builder().tcp_nodelay(true), TcpListenerStream::new(listener));
    let book = Book::open(&folder.join(BOOK)).await?;
    let router = match name {
        "cart" => server.add_service(CartServiceServer::new(cart::Carts::open(folder, book).await?)),
        "catalog" => server.add_service(ProductCatalogServiceServer::new(catalog::Catalog)),
        "currency" => server.add_service(CurrencyServiceServer::new(currency::Currency)),
        "payment" => {
            let payment = payment::Payment(book);
            server
                .add_service(PaymentServiceServer::new(payment.clone()))
                .add_service(PaymentReversalServer::new(payment))
        }
        "shipping" => {
            let shipping = shipping::Shipping(book);
            let router = server.add_service(ShippingServiceServer::new(shipping.clone()));
            router.add_service(ShippingReversalServer::new(shipping))
        }
        "email" => server.add_service(EmailServiceServer::new(email::Email(book))),
        _ => bail!("there is no service `{name}`: the services are {}", NAMES.join(", ")),
    };
    Ok(router.serve_with_incoming(stream).await?)
}

/// The file of a service's book, in its folder.
pub const BOOK: &str = "book";

/// The key that a request came with.
fn key_of<T>(request: &Request<T>) -> String {
    let key = request.metadata().get(KEY).and_then(|key| key.to_str().ok());
    key.map_or_else(|| format!("without a key {}", fastrand::u128(..)), String::from)
}

/// Whoever asked asks again.
fn busy(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

/// Notes an effect under the key of its request.
async fn noted(book: &Book, effect: &str, key: &str, subject: &str) -> Result<i64, Status> {
    let number = book.commit(effect, key, subject).await.map_err(busy)?;
    number.ok_or_else(|| Status::failed_precondition("this was compensated before"))
}

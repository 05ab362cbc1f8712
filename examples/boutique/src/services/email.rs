//! Notes what it would send.

use fleet::Book;
use tonic::{Request, Response, Status};

use super::{key_of, noted};
use crate::hipstershop::email_service_server::EmailService;
use crate::hipstershop::{Empty, SendOrderConfirmationRequest};

/// The service.
#[derive(Debug)]
pub struct Email(pub(super) Book);

#[tonic::async_trait]
impl EmailService for Email {
    async fn send_order_confirmation(
        &self,
        request: Request<SendOrderConfirmationRequest>,
    ) -> Result<Response<Empty>, Status> {
        let key = key_of(&request);
        let SendOrderConfirmationRequest { email, order } = request.into_inner();
        let order = order.ok_or_else(|| Status::invalid_argument("there is no order"))?;
        noted(&self.0, "mail", &key, &format!("{email}: {} is on its way", order.order_id)).await?;
        Ok(Response::new(Empty {}))
    }
}

//! Sends parcels, for the same price to everywhere but where it does not.

use fleet::Book;
use tonic::{Request, Response, Status};

use super::{busy, key_of, noted};
use crate::hipstershop::shipping_service_server::ShippingService;
use crate::hipstershop::{GetQuoteRequest, GetQuoteResponse, ShipOrderRequest, ShipOrderResponse};
use crate::money::dollars;
use crate::reversal::shipping_reversal_server::ShippingReversal;
use crate::reversal::{CancelRequest, Reversed};
use crate::sample::NOWHERE;

/// The service.
#[derive(Debug, Clone)]
pub struct Shipping(pub(super) Book);

#[tonic::async_trait]
impl ShippingService for Shipping {
    async fn get_quote(&self, request: Request<GetQuoteRequest>) -> Result<Response<GetQuoteResponse>, Status> {
        let cost = if request.into_inner().items.is_empty() { dollars(0, 0) } else { dollars(8, 99) };
        Ok(Response::new(GetQuoteResponse { cost_usd: Some(cost) }))
    }

    async fn ship_order(&self, request: Request<ShipOrderRequest>) -> Result<Response<ShipOrderResponse>, Status> {
        let key = key_of(&request);
        let address = request.into_inner().address.ok_or_else(|| Status::invalid_argument("there is no address"))?;
        if address.country == NOWHERE {
            return Err(Status::failed_precondition(format!("nothing is sent to {NOWHERE}")));
        }
        let number = noted(&self.0, "ship", &key, &address.city).await?;
        Ok(Response::new(ShipOrderResponse { tracking_id: format!("parcel-{number}") }))
    }
}

#[tonic::async_trait]
impl ShippingReversal for Shipping {
    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<Reversed>, Status> {
        let key = key_of(&request);
        self.0.undo("ship", &key, &request.into_inner().tracking_id).await.map_err(busy)?;
        Ok(Response::new(Reversed {}))
    }
}

//! Rates that never change.

use tonic::{Request, Response, Status};

use crate::hipstershop::currency_service_server::CurrencyService;
use crate::hipstershop::{CurrencyConversionRequest, Empty, GetSupportedCurrenciesResponse, Money};
use crate::money::{convert, currencies};

/// The service.
#[derive(Debug)]
pub struct Currency;

#[tonic::async_trait]
impl CurrencyService for Currency {
    async fn get_supported_currencies(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<GetSupportedCurrenciesResponse>, Status> {
        Ok(Response::new(GetSupportedCurrenciesResponse { currency_codes: currencies() }))
    }

    async fn convert(&self, request: Request<CurrencyConversionRequest>) -> Result<Response<Money>, Status> {
        let CurrencyConversionRequest { from, to_code } = request.into_inner();
        let money = from.and_then(|from| convert(&from, &to_code));
        money.map(Response::new).ok_or_else(|| Status::invalid_argument("there is no such currency"))
    }
}

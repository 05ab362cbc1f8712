//! Charges cards: VISA and Mastercard that are not out of date.

use std::time::{SystemTime, UNIX_EPOCH};

use fleet::Book;
use tonic::{Request, Response, Status};

use super::{busy, key_of, noted};
use crate::hipstershop::payment_service_server::PaymentService;
use crate::hipstershop::{ChargeRequest, ChargeResponse, CreditCardInfo};
use crate::reversal::payment_reversal_server::PaymentReversal;
use crate::reversal::{RefundRequest, Reversed};

/// The service.
#[derive(Debug, Clone)]
pub struct Payment(pub(super) Book);

#[tonic::async_trait]
impl PaymentService for Payment {
    async fn charge(&self, request: Request<ChargeRequest>) -> Result<Response<ChargeResponse>, Status> {
        let key = key_of(&request);
        let ChargeRequest { amount, credit_card } = request.into_inner();
        let amount = amount.ok_or_else(|| Status::invalid_argument("there is no amount"))?;
        let card = credit_card.ok_or_else(|| Status::invalid_argument("there is no card"))?;
        check(&card, month_now()).map_err(Status::invalid_argument)?;
        let subject = format!("{} {}.{:09}", amount.currency_code, amount.units, amount.nanos);
        let number = noted(&self.0, "charge", &key, &subject).await?;
        Ok(Response::new(ChargeResponse { transaction_id: format!("transaction-{number}") }))
    }
}

#[tonic::async_trait]
impl PaymentReversal for Payment {
    async fn refund(&self, request: Request<RefundRequest>) -> Result<Response<Reversed>, Status> {
        let key = key_of(&request);
        self.0.undo("charge", &key, &request.into_inner().transaction_id).await.map_err(busy)?;
        Ok(Response::new(Reversed {}))
    }
}

/// Months since the year 0, roughly: a card is good to the end of its month.
fn month_now() -> i64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    1970 * 12 + i64::try_from(seconds / 2_629_746).unwrap_or(i64::MAX)
}

/// Whether a card can be charged in that month.
///
/// # Errors
/// Why not.
pub fn check(card: &CreditCardInfo, month: i64) -> Result<(), String> {
    let digits: Vec<u32> = card.credit_card_number.chars().filter_map(|digit| digit.to_digit(10)).collect();
    let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(at, digit)| if at % 2 == 1 { doubled(*digit) } else { *digit }).sum();
    if digits.len() != 16 || !sum.is_multiple_of(10) {
        return Err("the card's number is not right".into());
    }
    match digits.as_slice() {
        [4, ..] | [5, 1..=5, ..] => {}
        _ => return Err("only VISA and Mastercard are accepted".into()),
    }
    let expires = i64::from(card.credit_card_expiration_year) * 12 + i64::from(card.credit_card_expiration_month) - 1;
    if expires < month { Err("the card is out of date".into()) } else { Ok(()) }
}

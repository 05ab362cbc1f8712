//! Orders to play with: some have a card that is not taken, some go where nothing is sent to.

use crate::hipstershop::{Address, CartItem, CreditCardInfo};
use crate::messages::Wish;
use crate::services::catalog::PRODUCTS;

/// A country that is not served.
pub const NOWHERE: &str = "Atlantis";
/// One order in so many has a bad card.
const BAD_CARD_EVERY: u32 = 5;
/// One order in so many goes nowhere.
const NOWHERE_EVERY: u32 = 7;

/// The order of that number.
pub fn wish(number: u32) -> Wish {
    let good = if number.is_multiple_of(BAD_CARD_EVERY) { "4432801561520455" } else { "4432801561520454" };
    let country = if number.is_multiple_of(NOWHERE_EVERY) { NOWHERE } else { "United States" };
    Wish {
        order: format!("order-{number}"),
        user: format!("user-{number}"),
        currency: if number.is_multiple_of(2) { "EUR" } else { "USD" }.into(),
        address: Address {
            street_address: "1600 Amphitheatre Parkway".into(),
            city: "Mountain View".into(),
            state: "CA".into(),
            country: country.into(),
            zip_code: 94_043,
        },
        email: "someone@example.com".into(),
        card: CreditCardInfo {
            credit_card_number: good.into(),
            credit_card_cvv: 672,
            credit_card_expiration_year: 2039,
            credit_card_expiration_month: 1,
        },
    }
}

/// Whether it is to be done, and not refused.
pub fn is_good(number: u32) -> bool {
    !number.is_multiple_of(BAD_CARD_EVERY) && !number.is_multiple_of(NOWHERE_EVERY)
}

/// What is put into the cart for it: two products.
pub fn items(number: u32) -> Vec<CartItem> {
    let product = |number: u32| PRODUCTS.get(number as usize % PRODUCTS.len()).map_or("", |(id, ..)| *id);
    let item = |product: &str, quantity| CartItem { product_id: product.into(), quantity };
    vec![item(product(number), 1), item(product(number + 1), 2)]
}

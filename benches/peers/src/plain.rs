//! An orchestrator as people write it by hand: one call after the other, and nothing is kept.

use anyhow::Result;

use crate::saga::{Answer, Order, Outcome, Services, Step};

#[derive(Debug)]
pub(crate) struct Plain(pub(crate) Services);

impl Plain {
    pub(crate) async fn order(&self, order: &Order) -> Result<Outcome> {
        let Self(services) = self;
        let mut done = Vec::new();
        for step in Step::ALL {
            if services.call(step, order).await? == Answer::Refused {
                for step in done.into_iter().rev() {
                    services.undo(step, order).await?;
                }
                return Ok(Outcome::Refused);
            }
            done.push(step);
        }
        Ok(Outcome::Shipped)
    }
}

//! How the time of one thing grows with how many there are of it or beside it: what the benches of that share.

use std::time::Duration;

use accompanist::Role;
use anyhow::Result;

/// The initiating role.
#[derive(Clone, Copy)]
pub(crate) struct Shop;
/// The other role.
#[derive(Clone, Copy)]
pub(crate) struct Bank;
impl Role for Shop {
    const NAME: &'static str = "shop";
    type Service = ();
}
impl Role for Bank {
    const NAME: &'static str = "bank";
    type Service = ();
}

/// Measures each size in turns. The fastest of the rounds counts, as the others have waited for something else.
pub(crate) async fn fastest(
    sizes: &[u32],
    rounds: usize,
    measure: impl AsyncFn(u32) -> Result<Duration>,
) -> Result<Vec<(u32, Duration)>> {
    let mut best: Vec<(u32, Duration)> = sizes.iter().map(|size| (*size, Duration::MAX)).collect();
    for _ in 0..rounds {
        for (size, time) in &mut best {
            *time = (*time).min(measure(*size).await?);
        }
    }
    Ok(best)
}

/// Each size with its time, and in brackets the ratio to the time of `compared_with`, if that size was measured.
pub(crate) fn line(best: &[(u32, Duration)], compared_with: Option<u32>) -> String {
    let compared = best.iter().find(|(size, _)| Some(*size) == compared_with).map(|(_, time)| time.as_secs_f64());
    let texts = best.iter().map(|(size, time)| {
        let seconds = time.as_secs_f64();
        let ratio = compared.map(|compared| format!(" ({:.2})", seconds / compared)).unwrap_or_default();
        format!("{size}: {:.1} us{ratio}", seconds * 1e6)
    });
    texts.collect::<Vec<_>>().join(", ")
}

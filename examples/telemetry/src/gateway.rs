//! The gateway: an actor that smooths what the sensors measure, and tells the site.

use accompanist::prelude::*;

use crate::model::{Reading, Report};
use crate::site::Site;

/// Each sensor's moving average.
const AVERAGES: Table<String, i32> = Table::new("averages");

/// The average after a reading. The order counts, and so does how often.
pub fn smoothed(average: Option<i32>, centidegrees: i32) -> i32 {
    average.map_or(centidegrees, |average| (average * 7 + centidegrees) / 8)
}

/// Close to the sensors, with a link to the site that comes and goes.
pub struct Gateway;
impl DurableActor for Gateway {
    const NAME: &'static str = "gateway";
    type Message = Reading;
    type Reply = ();

    fn handle(&self, here: &mut ActorContext<'_>, state: &mut State<'_>, reading: Reading) -> Result<(), Abort> {
        let smoothed =
            AVERAGES.update(state, &reading.sensor, |average| Ok(smoothed(average, reading.centidegrees)))?;
        // Leaves once the average is on disk, and arrives once.
        here.tell::<Site>("", &Report { reading, smoothed })
    }
}

//! The site: an actor that writes down all reports, as they come.

use accompanist::prelude::*;

use crate::model::Report;

/// By sensor and place of arrival: not by the number that the sensor gave, so that what came twice is seen twice.
pub const ARRIVED: Table<(String, u32), Report> = Table::new("arrived");
/// How many there are.
pub const COUNT: Table<u8, u32> = Table::new("count");

/// Where people look at the readings.
pub struct Site;
impl DurableActor for Site {
    const NAME: &'static str = "site";
    type Message = Report;
    type Reply = ();

    fn handle(&self, _: &mut ActorContext<'_>, state: &mut State<'_>, report: Report) -> Result<(), Abort> {
        let sensor = &report.reading.sensor;
        let last = ARRIVED.last(state, accompanist::state::Under((sensor.clone(),)))?;
        let place = last.map_or(0, |((_, place), _)| place + 1);
        ARRIVED.put(state, (sensor.as_str(), place), &report)?;
        COUNT.update(state, 0, |count| Ok(count.unwrap_or_default() + 1))?;
        Ok(())
    }
}

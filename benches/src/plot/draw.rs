//! How a plot looks. Knows no bench.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::FontTransform;

use super::{Plot, Series, Sheet};

/// Text and lines: as far from white as from black.
const INK: RGBColor = RGBColor(122, 127, 135);
const COLORS: [RGBColor; 4] =
    [RGBColor(46, 160, 67), RGBColor(47, 129, 247), RGBColor(219, 109, 40), RGBColor(163, 113, 247)];
const WIDTH: u32 = 720;
const LINES_HEIGHT: u32 = 420;
/// A bar with its name above it.
const BAR_HEIGHT: u32 = 34;
const HEAD_HEIGHT: u32 = 44;
const FOOT_HEIGHT: u32 = 26;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub(super) fn draw(out: &Path, sheet: &Sheet) -> Result<()> {
    let height = match &sheet.plot {
        Plot::Lines { .. } => LINES_HEIGHT,
        Plot::Bars { bars, .. } => HEAD_HEIGHT + BAR_HEIGHT * u32::try_from(bars.len())? + FOOT_HEIGHT,
    };
    let area = SVGBackend::new(out, (WIDTH, height)).into_drawing_area();
    let drawn = |area: &Area<'_>| -> Result<(), Box<dyn std::error::Error>> {
        let (plot, foot) = area.split_vertically(height - FOOT_HEIGHT);
        foot.draw_text(&sheet.source, &ink(11), (10, 6))?;
        match &sheet.plot {
            Plot::Lines { words, series } => lines(&plot, &sheet.title, words, series)?,
            Plot::Bars { unit, bars } => self::bars(&plot, &sheet.title, unit, bars)?,
        }
        area.present()?;
        Ok(())
    };
    drawn(&area).map_err(|error| anyhow!("{error}"))
}

fn ink(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().transform(FontTransform::None).color(&INK)
}

fn lines(area: &Area<'_>, title: &str, words: &str, all: &[Series]) -> Result<(), Box<dyn std::error::Error>> {
    let points = all.iter().flat_map(|series| &series.points);
    let (right, top) = points.fold((0.0_f64, 0.0_f64), |(right, top), (x, y)| (right.max(*x), top.max(*y)));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ink(16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..right, 0.0..top * 1.05)?;
    let mesh = chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(INK.mix(0.25))
        .light_line_style(TRANSPARENT)
        .label_style(ink(12))
        .x_desc(format!("delay {words}, one way, ms"))
        .y_desc("p50, ms")
        .axis_desc_style(ink(13))
        .draw();
    mesh?;
    for (Series { name, points }, color) in all.iter().zip(COLORS.into_iter().cycle()) {
        let series = LineSeries::new(points.iter().copied(), color.stroke_width(2)).point_size(3);
        let sample = move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], color.stroke_width(2));
        chart.draw_series(series)?.label(name).legend(sample);
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).label_font(ink(13)).draw()?;
    Ok(())
}

/// Bars that lie: a name above each, its number at its end. As long as the number's logarithm.
fn bars(area: &Area<'_>, title: &str, unit: &str, all: &[(String, f64)]) -> Result<(), Box<dyn std::error::Error>> {
    area.draw_text(&format!("{title}, {unit} (logarithmic)"), &ink(16), (10, 12))?;
    let values = all.iter().map(|(_, value)| value.max(f64::MIN_POSITIVE));
    let (least, most) =
        values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
    let (from, to) = (least.log10() - 0.3, most.log10());
    let mut y = i32::try_from(HEAD_HEIGHT)?;
    for (place, (name, value)) in all.iter().enumerate() {
        let part = ((value.max(f64::MIN_POSITIVE).log10() - from) / (to - from).max(f64::EPSILON)).clamp(0.0, 1.0);
        #[expect(clippy::cast_possible_truncation, reason = "at most the width of the plot")]
        let right = 10 + (part * f64::from(WIDTH - 90)) as i32;
        let [ours, others, ..] = COLORS;
        let color = if place == 0 { ours } else { others };
        area.draw_text(name, &ink(12), (10, y))?;
        area.draw(&Rectangle::new([(10, y + 15), (right, y + 27)], color.filled()))?;
        let digits = if *value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") };
        area.draw_text(&digits, &ink(12), (right + 6, y + 14))?;
        y += i32::try_from(BAR_HEIGHT)?;
    }
    Ok(())
}

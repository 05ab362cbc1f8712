//! Plots out of the raw files of benches: SVG, in colours that can be read on light and on dark ground.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use fleet::Kept;
use plotters::prelude::*;
use plotters::style::FontTransform;
use serde::Deserialize;
use serde_json::Value;

use crate::chain::{Layout, Line, Row};

/// Options.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The raw file: what `chain --json` has printed.
    file: PathBuf,
    /// Where the plots go.
    #[arg(long, default_value = "docs/plots")]
    folder: PathBuf,
}

/// Text and lines: as far from white as from black.
const INK: RGBColor = RGBColor(122, 127, 135);
const SIZE: (u32, u32) = (720, 420);
/// What is drawn, and in which colour.
type Series = (&'static str, fn(&Row) -> Line, RGBColor);
const SERIES: [Series; 3] = [
    ("choreography", |row| row.choreography, RGBColor(46, 160, 67)),
    ("coordinator, as durable", |row| row.coordinator, RGBColor(47, 129, 247)),
    ("HTTP by hand, in memory", |row| row.http, RGBColor(219, 109, 40)),
];

/// A raw file.
#[derive(Deserialize)]
struct Raw {
    facts: Value,
    rows: Vec<Row>,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { file, folder } = arguments;
    let text = fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let raw = serde_json::from_str::<Raw>(&text);
    let raw = raw.with_context(|| format!("{} is not what `chain --json` prints", file.display()))?;
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    for (zones, name, words) in [(false, "even", "on every line"), (true, "zones", "between zones")] {
        for services in [3, 5] {
            let points = points(&raw.rows, zones, services);
            ensure!(!points.is_empty(), "{} has no rows of {services} services, {name}", file.display());
            let out = folder.join(format!("chain-{services}-{name}.svg"));
            let title = format!("A chain of {services} services: p50 by the delay {words}, durable");
            draw(&out, &title, &source(&raw, file), &points).map_err(|error| anyhow!("{}: {error}", out.display()))?;
            println!("{}", out.display());
        }
    }
    Ok(())
}

/// The delay, and the median of each series, of the rows that survive a power cut.
fn points(rows: &[Row], zones: bool, services: usize) -> Vec<(f64, [f64; 3])> {
    let chosen = rows.iter().filter(|row| row.kept == Kept::OverPower && row.services == services);
    let points = chosen.filter_map(|row| {
        let delay_ms = match row.layout {
            Layout::Even { delay_ms } if !zones => delay_ms,
            Layout::Zones { delay_ms } if zones => delay_ms,
            _ => return None,
        };
        let delay_ms = u32::try_from(delay_ms).ok()?;
        Some((delay_ms.into(), SERIES.map(|(_, line, _)| line(row).p50_ms)))
    });
    points.collect()
}

/// Where the numbers come from, in a line.
fn source(raw: &Raw, file: &Path) -> String {
    let facts = raw.facts.get("facts").and_then(Value::as_array);
    let fact = |name: &str| {
        let found = facts.and_then(|facts| facts.iter().find(|fact| fact.get("name").is_some_and(|of| of == name)));
        let value = found.and_then(|fact| fact.get("value"));
        value.map_or_else(|| "unknown".into(), |value| value.as_str().map_or(value.to_string(), String::from))
    };
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let (machine, commit) = (fact("machine"), fact("commit"));
    format!(
        "{machine}; commit {commit}; fdatasync before each acknowledgement; n = {} each; {name}",
        fact("requests of each way, in turns")
    )
}

fn draw(out: &Path, title: &str, source: &str, points: &[(f64, [f64; 3])]) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(out, SIZE).into_drawing_area();
    let ink = |size: u32| ("sans-serif", size).into_font().transform(FontTransform::None).color(&INK);
    let (plot, foot) = area.split_vertically(SIZE.1 - 26);
    foot.draw_text(source, &ink(11), (10, 6))?;
    let right = points.iter().fold(0.0_f64, |most, (delay, _)| most.max(*delay));
    let top = points.iter().flat_map(|(_, medians)| medians).fold(0.0_f64, |most, median| most.max(*median));
    let mut chart = ChartBuilder::on(&plot)
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
        .x_desc("delay of a line, one way, ms")
        .y_desc("p50, ms")
        .axis_desc_style(ink(13))
        .draw();
    mesh?;
    for (place, (name, _, color)) in SERIES.into_iter().enumerate() {
        let line = points.iter().map(|(delay, medians)| (*delay, medians.get(place).copied().unwrap_or_default()));
        let series = LineSeries::new(line, color.stroke_width(2)).point_size(3);
        let sample = move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], color.stroke_width(2));
        chart.draw_series(series)?.label(name).legend(sample);
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).label_font(ink(13)).draw()?;
    area.present()?;
    Ok(())
}

//! Plots and tables out of the raw files of benches: SVG, in colours that can be read on light and on dark ground.
//!
//! [`raw`] knows the files, [`draw`] how lines and bars look.

mod draw;
mod raw;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use self::raw::Raw;
use crate::chain;

/// Options.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The raw file: what `chain --json` has printed, or what the `compare` of an example or of the peers has written.
    file: PathBuf,
    /// Where the plots go.
    #[arg(long, default_value = "docs/plots")]
    folder: PathBuf,
}

/// What is drawn.
enum Plot {
    /// Medians by the delay of a line.
    Lines { words: &'static str, series: Vec<Series> },
    /// One number of each system, in powers of ten: they are far apart.
    Bars { unit: &'static str, bars: Vec<(String, f64)> },
}

struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

/// A plot with its file, and what it says above and below.
struct Sheet {
    name: String,
    title: String,
    source: String,
    plot: Plot,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { file, folder } = arguments;
    let text = fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let raw = Raw::read(&text).with_context(|| format!("{} is no raw file of a bench", file.display()))?;
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    for sheet in raw.sheets(&name).with_context(|| format!("{} is not whole", file.display()))? {
        let out = folder.join(format!("{}.svg", sheet.name));
        draw::draw(&out, &sheet).with_context(|| format!("{} cannot be drawn", out.display()))?;
        println!("{}", out.display());
    }
    if let Raw::Chain { rows, .. } = &raw {
        chain::print(rows); // The others have printed theirs when they were written.
    }
    Ok(())
}

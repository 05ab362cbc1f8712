//! What the disk alone takes: a small append to a growing file, made durable.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Bytes of each append.
pub(crate) const APPEND_BYTES: usize = 256;

/// A file that is appended to.
#[derive(Debug)]
pub(crate) struct Disk(File);

impl Disk {
    /// A new file in `folder`.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let file = File::options().create_new(true).append(true).open(folder.join("appended"));
        Ok(Self(file.context("the file for the disk's measurement")?))
    }

    /// The time of one write and its fdatasync.
    pub(crate) fn append(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        self.0.write_all(&[0x5a; APPEND_BYTES])?;
        self.0.sync_data()?;
        Ok(begun.elapsed())
    }
}

//! File systems of limited size, one for each node: so that a disk can be full.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

/// How large a volume is. A file that is this long takes no room until it is written.
const VOLUME_BYTES: u64 = 1 << 30;
/// What fills a volume is written in pieces of so many bytes, and at last byte by byte of the least piece.
const FILL_BYTES: [usize; 3] = [1 << 20, 4_096, 64];
/// How often and with what pause a volume is taken down that is still in use.
const UNMOUNT_TRIES_MAX: u32 = 50;
const UNMOUNT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// What kind of file system it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VolumeKind {
    /// ext4 in a file, over a loop device.
    Ext4,
    /// In memory.
    Tmpfs,
}

/// A mounted file system, taken down at the end.
pub(crate) struct Volume {
    folder: PathBuf,
    image: Option<PathBuf>,
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("`{program}` cannot be run"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{program} {}` failed: {}", arguments.join(" "), said.trim());
    }
    Ok(())
}

impl Volume {
    /// Makes a file system at `folder`.
    pub(crate) fn new(folder: &Path, kind: VolumeKind) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let at = folder.display().to_string();
        let image = folder.with_extension("image");
        match kind {
            VolumeKind::Ext4 => {
                File::create(&image)?.set_len(VOLUME_BYTES)?;
                let name = image.display().to_string();
                run("mkfs.ext4", &["-q", "-F", "-m", "0", &name])?;
                run("mount", &["-o", "loop", &name, &at])?;
            }
            VolumeKind::Tmpfs => {
                run("mount", &["-t", "tmpfs", "-o", &format!("size={VOLUME_BYTES}"), "chaos", &at])?;
            }
        }
        Ok(Self { folder: folder.into(), image: (kind == VolumeKind::Ext4).then_some(image) })
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let filler = self.filler();
        File::create(&filler).context("a volume cannot be filled")?;
        let (name, available) = (filler.display().to_string(), self.available()?);
        // At once where the file system can; what is left is written.
        let _ = run("fallocate", &["-l", &available.saturating_sub(1 << 20).to_string(), &name]);
        let mut file = File::options().append(true).open(&filler)?;
        for bytes in FILL_BYTES {
            let piece = vec![1; bytes];
            while file.write_all(&piece).and_then(|()| file.sync_data()).is_ok() {}
        }
        Ok(())
    }

    fn available(&self) -> anyhow::Result<u64> {
        let output = Command::new("df").args(["--output=avail", "-B1"]).arg(&self.folder).output();
        let output = String::from_utf8_lossy(&output.context("`df` cannot be run")?.stdout).into_owned();
        let number = output.lines().nth(1).unwrap_or_default().trim();
        number.parse().with_context(|| format!("`df` says `{number}`"))
    }

    /// Makes room again.
    pub(crate) fn free(&self) -> anyhow::Result<()> {
        fs::remove_file(self.filler()).context("a volume cannot be freed")
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let at = self.folder.display().to_string();
        let taken_down = (0..UNMOUNT_TRIES_MAX).any(|attempt| {
            if attempt > 0 {
                std::thread::sleep(UNMOUNT_RETRY_DELAY);
            }
            run("umount", &[&at]).is_ok()
        });
        if !taken_down {
            let _ = run("umount", &["-l", &at]); // As far as it goes: it is gone when nobody uses it any more.
        }
        if let Some(image) = &self.image {
            let _ = fs::remove_file(image); // A temporary folder is around it.
        }
    }
}

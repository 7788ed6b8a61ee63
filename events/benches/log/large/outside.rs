//! What the kernel knows: memory, space, and what of a file is cached.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{Advice, fadvise};

pub(crate) const MIB: u64 = 1 << 20;

/// Memory of this process, in bytes.
pub(crate) fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Every file below a path; the path itself if it is one.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        // What is removed meanwhile is not there.
        found.extend(files(&entry?.path()).unwrap_or_default());
    }
    Ok(found)
}

/// Bytes that are allocated below a path.
pub(crate) fn bytes_below(path: &Path) -> Result<u64> {
    Ok(files(path)?.iter().filter_map(|file| Some(fs::metadata(file).ok()?.blocks() * 512)).sum())
}

/// Makes the next read of these files one from the disk.
pub(crate) fn forget_cached(path: &Path) -> Result<()> {
    for file in files(path)? {
        let file = File::open(file)?;
        // What is not written yet can't be forgotten.
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

//! Opening a log in spite of what sled keeps beside its files.
//!
//! sled's `snap.*` say where its pages are, so that it need not read its whole file, and `conf` says how the file was written. Both
//! follow from the file and from us, and both can be what a power cut or a bit that flipped has spoiled: sled renames and removes
//! snapshots without a sync of their directory, and refuses to open, or opens less, with one that is not right.
//!
//! So a log that can't be opened as it is is tried once more without them, on a copy. Only if the copy reaches what was
//! acknowledged, and its chain holds, they are set aside in the log itself, one file at a time: a crash in between leaves a
//! log that can be tried in the same way.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blobs::Blobs;
use super::boot;
use super::decode::Decoder;
use super::directory::{Directory, store_name, stores, sync_dir};
use super::layers::{Layers, Purpose};
use super::store::{Disk, released};
use super::{OpenError, Options, Visit};
use crate::envelope::Recorded;
use crate::id::Position;

/// Where the copy is made, in the log's directory; what ends like this is removed by the next start.
const SCRATCH: (&str, &str) = ("mending-", ".tmp");

/// sled's own files beside the one that counts.
const SNAPSHOT: &str = "snap.";
const CONF: &str = "conf";

/// A log that was opened without what sled keeps beside its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    /// Why it did not open with it.
    pub reason: String,
    /// Where that is now.
    pub set_aside: Vec<PathBuf>,
}

/// Sets aside what sled keeps beside its files, if the log opens without and is whole. `None`: nothing is there to be set aside.
/// Nobody has the log open. With `decodes`, every fact has to be understood as well, as it will have to be. An error says why it
/// would not help.
pub(super) fn mend(
    directory: &Directory,
    (options, disk): (&Options, &Arc<dyn Disk>),
    acknowledged: Option<Position>,
    decodes: bool,
) -> Result<Option<Vec<PathBuf>>, String> {
    let io_failed = |step: &'static str| move |error: io::Error| format!("{step}: {error}");
    let numbers = directory.stores().map_err(|error| error.to_string())?;
    let (mut beside, mut bytes) = (Vec::new(), 0);
    for &number in &numbers {
        let store = directory.store(number);
        let file = store.join("db");
        released(&file).map_err(io_failed("wait for the store's last holder"))?;
        bytes += fs::metadata(&file).map_or(0, |file| file.len());
        beside.extend(snapshots(&store).map_err(io_failed("list the store"))?);
    }
    if beside.is_empty() && numbers.iter().all(|&number| !directory.store(number).join(CONF).exists()) {
        return Ok(None);
    }
    let free = disk.free_bytes(directory.root()).map_err(io_failed("ask for free space"))?;
    if free < bytes {
        return Err(format!("a copy to try it on takes {bytes} bytes, {free} are free"));
    }
    let scratch = tempfile::Builder::new().prefix(SCRATCH.0).suffix(SCRATCH.1).tempdir_in(directory.root());
    let scratch = scratch.map_err(io_failed("make a directory for a copy"))?;
    let copies = bare_copies(directory.root(), scratch.path()).map_err(io_failed("copy the store"))?;
    try_out(directory, &copies, (options, disk), acknowledged, decodes).map_err(|error| match error {
        // It is the log that is meant, not the copy.
        OpenError::Store { step, reason, .. } => format!("{step}: {reason}"),
        other => other.to_string(),
    })?;
    for (&number, copy) in numbers.iter().zip(&copies) {
        let (ours, right) = (directory.store(number).join(CONF), copy.join(CONF));
        if fs::read(&ours).ok() != fs::read(right).ok() && ours.exists() {
            beside.push(ours);
        }
    }
    set_aside(directory, &beside).map_err(io_failed("set aside")).map(Some)
}

/// What sled calls a snapshot.
pub(super) fn snapshots(store: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(SNAPSHOT) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Copies a log's databases without what sled keeps beside them. Where the copies are, oldest first.
pub(super) fn bare_copies(root: &Path, to: &Path) -> io::Result<Vec<PathBuf>> {
    let mut copies = Vec::new();
    for number in stores(root)? {
        let name = store_name(number);
        let copy = to.join(&name);
        fs::create_dir_all(&copy)?;
        match fs::copy(root.join(name).join("db"), copy.join("db")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(_) | Err(_) => copies.push(copy),
        }
    }
    Ok(copies)
}

/// Whether the log is whole with these databases.
fn try_out(
    directory: &Directory,
    copies: &[PathBuf],
    (options, disk): (&Options, &Arc<dyn Disk>),
    acknowledged: Option<Position>,
    decodes: bool,
) -> Result<(), OpenError> {
    let (layers, heads) = Layers::open(directory, copies, options.cache_bytes, disk, Purpose::Look)?;
    let blobs = Blobs::new(directory.blobs());
    let decoder = Decoder { keys: options.keys.as_deref() };
    let mut seen = |_: &Arc<Recorded>| {};
    let visit: Option<Visit<'_>> = if decodes { Some(&mut seen) } else { None };
    let scanned = boot::scan(directory, (&layers, heads), (&blobs, decoder), visit)?;
    let head = scanned.index.head();
    match acknowledged.filter(|&acknowledged| acknowledged > head) {
        Some(high_water) => Err(OpenError::Lost { path: directory.root().to_owned(), head, high_water }),
        None => Ok(()),
    }
}

/// Moves files to where repairs keep things. Where they are now.
fn set_aside(directory: &Directory, files: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let stamp = chrono::Utc::now().format("%Y%m%dT%H%M%S%.6fZ");
    let mut kept = Vec::new();
    for file in files {
        let name = |path: Option<&Path>| {
            path.and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned()
        };
        let (store, name) = (name(file.parent()), name(Some(file)));
        let to = directory.quarantine().join(format!("{store}-{name}-{stamp}"));
        fs::rename(file, &to)?;
        kept.push(to);
    }
    sync_dir(&directory.quarantine())?;
    for folder in files.iter().filter_map(|file| file.parent()) {
        sync_dir(folder)?;
    }
    Ok(kept)
}

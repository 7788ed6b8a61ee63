//! The snapshots beside a log: which there are, which should be, and which of them can be trusted.
//!
//! They lie on a grid, so that any two runs make the same ones: one each [`EVERY`] facts, and each second one of them is
//! dropped whenever they get too many or too large. They are files of their own, and the log knows nothing of them.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use covalence_events::log::Frames;
use covalence_events::log::removal::KEPT_EVERY;
use covalence_events::{Position, Timestamp};

use super::snapshot::{self, Unusable};
use crate::metrics as names;
use crate::runner::Views;

/// Facts between two snapshots: at about five microseconds to read and fold one, half a second. `events/benches/log/large` measures
/// it.
pub const EVERY: u64 = 100_000;
// A snapshot is a fold up to the fact at its position, and bound to the log by the chain there: that fact has to stay.
const _: () = assert!(EVERY.is_multiple_of(KEPT_EVERY), "retention keeps the facts on the grid");
/// Snapshots kept at most, so that the whole log up to ten million facts has one each [`EVERY`].
const COUNT_MAX: u64 = 128;
/// Bytes of all snapshots together at most, judged by the newest.
const BYTES_MAX: u64 = 1 << 30;
/// As few as this are kept, however large they are.
const COUNT_MIN: u64 = 8;
/// No snapshot is made while less is free: the room belongs to the log.
const FREE_MIN: u64 = 1 << 30;

/// See the module.
#[derive(Debug)]
pub struct Snapshots {
    path: PathBuf,
    log: Arc<dyn Frames>,
    every: u64,
    /// Positions that are there and not known to be unusable.
    there: Mutex<BTreeSet<u64>>,
    /// Size of the newest, for the bound.
    size: AtomicU64,
}

impl Snapshots {
    /// Those below a directory, which is made when the first is written.
    pub(super) fn new(path: PathBuf, log: Arc<dyn Frames>, every: u64) -> Self {
        let there: BTreeSet<u64> = fs::read_dir(&path)
            .into_iter()
            .flatten()
            .filter_map(|entry| position(&entry.ok()?.file_name().into_string().ok()?))
            .collect();
        let newest = there.last().and_then(|at| fs::metadata(file(&path, *at)).ok());
        let size = AtomicU64::new(newest.map_or(0, |newest| newest.len()));
        Self { path, log, every: every.max(1), there: Mutex::new(there), size }
    }

    fn there(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Facts between two snapshots of a log that ends here: so many that they stay within their bounds.
    fn spacing(&self, head: Position) -> u64 {
        let size = self.size.load(Ordering::Relaxed).max(1);
        let most = (BYTES_MAX / size).clamp(COUNT_MIN, COUNT_MAX);
        let mut spacing = self.every;
        while head.0 / spacing > most {
            spacing = spacing.saturating_mul(2);
        }
        spacing
    }

    /// The first position whose snapshot should be there and is not.
    pub(super) fn due(&self, head: Position) -> Option<Position> {
        let (spacing, there) = (self.spacing(head), self.there());
        let due = (1..=head.0 / spacing).map(|number| number * spacing).find(|at| !there.contains(at));
        due.map(Position)
    }

    /// The position at which there is the next one to make, if nothing goes wrong with those before.
    pub(super) fn next_due(&self, head: Position) -> Position {
        let spacing = self.spacing(head);
        Position((head.0 / spacing + 1).saturating_mul(spacing))
    }

    /// The projections from the last usable snapshot after one position and up to another.
    pub(super) fn load(&self, after: Position, through: Position) -> Option<Views> {
        loop {
            let at = *self.there().range(..=through.0).next_back().filter(|at| **at > after.0)?;
            let link = self.log.link(Position(at)).ok().flatten()?;
            let path = file(&self.path, at);
            match snapshot::read(&path, Position(at), &link) {
                Ok(views) => return Some(views),
                Err(unusable) => self.drop_one(at, &unusable),
            }
        }
    }

    /// What can't be used is removed, so that it is made again and nothing is left behind by older programs.
    fn drop_one(&self, at: u64, unusable: &Unusable) {
        let path = file(&self.path, at);
        match unusable {
            Unusable::Foreign(reason) => {
                tracing::info!(path = %path.display(), reason, "a snapshot is not for this log and program: made again");
            }
            Unusable::Damaged(_) | Unusable::Io(_) => {
                tracing::warn!(path = %path.display(), reason = %unusable, "a snapshot is unusable: made again");
                metrics::counter!(names::SNAPSHOTS_DAMAGED).increment(1);
            }
        }
        self.there().remove(&at);
        remove(&path);
    }

    /// Writes one, and drops those that are too many. `false` where that failed; the log has been told why.
    pub(super) fn save(&self, position: Position, views: &Views) -> bool {
        match self.write(position, views) {
            Ok(size) => {
                self.size.store(size, Ordering::Relaxed);
                self.there().insert(position.0);
                self.thin();
                true
            }
            Err(reason) => {
                tracing::warn!(position = position.0, reason, "no snapshot of the projections");
                false
            }
        }
    }

    fn write(&self, position: Position, views: &Views) -> Result<u64, String> {
        let failed = |error: io::Error| format!("{}: {error}", self.path.display());
        let link = self.log.link(position).map_err(|error| error.to_string())?;
        let link = link.ok_or_else(|| "the log does not reach that far".to_owned())?;
        let states = views.encode(position)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path).map_err(failed)?;
        let space = rustix::fs::statvfs(&self.path).map_err(|error| failed(error.into()))?;
        if space.f_bavail.saturating_mul(space.f_frsize) < FREE_MIN {
            return Err(format!("{}: less than {} MiB are free", self.path.display(), FREE_MIN >> 20));
        }
        snapshot::write(&file(&self.path, position.0), position, &link, &states).map_err(failed)
    }

    /// Drops what is off the grid.
    fn thin(&self) {
        let spacing = self.spacing(self.log.head());
        let surplus: Vec<u64> = self.there().iter().copied().filter(|at| at % spacing != 0).collect();
        for at in surplus {
            self.there().remove(&at);
            remove(&file(&self.path, at));
        }
    }

    /// When the oldest of them was written.
    pub(super) fn oldest_written(&self) -> Option<Timestamp> {
        let there = self.there();
        let written = there.iter().filter_map(|at| fs::metadata(file(&self.path, *at)).ok()?.modified().ok());
        written.min().map(Timestamp::from)
    }

    /// Throws away those between two positions.
    pub(super) fn remove_between(&self, first: Position, last: Position) {
        let gone: Vec<u64> = self.there().range(first.0..=last.0).copied().collect();
        for at in gone {
            self.there().remove(&at);
            remove(&file(&self.path, at));
        }
    }

    /// Throws all of them away.
    pub(super) fn remove_all(&self) -> io::Result<()> {
        self.there().clear();
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn file(path: &Path, at: u64) -> PathBuf {
    path.join(format!("snap-{at:020}.zst"))
}

fn position(name: &str) -> Option<u64> {
    name.strip_prefix("snap-")?.strip_suffix(".zst")?.parse().ok()
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a snapshot can't be removed");
    }
}

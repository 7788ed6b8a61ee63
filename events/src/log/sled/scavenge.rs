//! Retention: facts that are too old go, part by part of the archive, and their room is given back.
//!
//! A part is written again without them and takes its own place by one rename; a crash before that leaves what the next start
//! removes, and one after it nothing to do. So every step is whole, and what is due is found out anew each time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Shared;
use crate::envelope::Timestamp;
use crate::id::Position;
use crate::log::ReadError;
use crate::log::archive::{Archive, Part, Thinning, pause, rewrite, sift};
use crate::log::checkpoint::Book;
use crate::metrics as names;
use crate::retention::Rules;

/// How fast the archive is read for what is due, in bytes before compression: a tenth of a core, and ten times as fast as a
/// thousand workspaces fill it.
pub const PACE_BYTES_PER_SECOND: u64 = 16 << 20;

/// One part of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartReport {
    /// Its first position.
    pub first: Position,
    /// Its last position.
    pub last: Position,
    /// Bytes that it takes on disk.
    pub bytes: u64,
    /// Facts that were removed from it.
    pub removed: u64,
    /// Facts in it that are due.
    pub due: u64,
}

/// What there is, and what is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The archive, oldest first.
    pub parts: Vec<PartReport>,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scavenged {
    /// Parts that were written again.
    pub parts: u64,
    /// Facts that went.
    pub events: u64,
    /// Bytes that were given back.
    pub bytes: u64,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

impl Survey {
    /// What is in an archive.
    pub(super) fn of(archive: &Archive, rules: &Rules, now: Timestamp) -> Result<Self, ReadError> {
        let report = |part: &Arc<Part>| {
            Ok(PartReport {
                first: part.first(),
                last: part.last(),
                bytes: part.file_bytes(),
                removed: part.removed(),
                due: sift(part, rules, now, &|_| true)?.map_or(0, |gone| gone.len() as u64),
            })
        };
        Ok(Self { parts: archive.parts().iter().map(report).collect::<Result<_, _>>()? })
    }
}

/// A part as it is, by its first position and its revision, and the limit that was asked about.
type Settled = (Position, u32, Option<chrono::TimeDelta>);

/// See the module. Blocks wherever it reads.
#[derive(Clone, Debug)]
pub struct Retention {
    shared: Arc<Shared>,
    /// Parts whose facts are all old and of which nothing goes any more: they need not be read again.
    settled: Arc<Mutex<BTreeSet<Settled>>>,
}

impl Retention {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, settled: Arc::default() }
    }

    /// What is due by these rules. Reads the parts whose facts are all old enough, and changes nothing.
    ///
    /// # Errors
    /// When the archive can't be read.
    pub fn survey(&self, rules: &Rules, now: Timestamp) -> Result<Survey, ReadError> {
        let archive = self.shared.index().archive();
        Survey::of(&archive, rules, now)
    }

    /// Removes what is due, as far as a position, at so many bytes a second. `goes_on` is asked after each segment.
    ///
    /// # Errors
    /// When the archive can't be read or written. What was done until then stays done.
    pub fn run(
        &self,
        (rules, now): (&Rules, Timestamp),
        through: Position,
        bytes_per_second: u64,
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<Scavenged, ReadError> {
        let mut done = Scavenged::default();
        if rules.heartbeats.is_none() {
            return Ok(done);
        }
        let thinning = Arc::new(self.thinning(rules, now)?);
        let pace = |bytes: usize| {
            std::thread::sleep(pause(bytes, bytes_per_second));
            goes_on()
        };
        // Parts only ever come behind these, so they are these until replaced one by one.
        let parts = self.shared.index().archive().parts().to_vec();
        for part in parts {
            if part.last() > through || done.stopped || !goes_on() {
                done.stopped |= !goes_on();
                break;
            }
            let key = (part.first(), part.revision(), rules.heartbeats);
            if self.settled().contains(&key) {
                continue;
            }
            let Some(gone) = sift(&part, rules, now, &pace)? else { continue };
            if gone.is_empty() {
                self.settled().insert(key);
                continue;
            }
            self.thin(&part, (&thinning, &gone), &pace, &mut done)?;
        }
        Ok(done)
    }

    fn thin(
        &self,
        part: &Part,
        (thinning, gone): (&Arc<Thinning>, &[Position]),
        pace: &dyn Fn(usize) -> bool,
        done: &mut Scavenged,
    ) -> Result<(), ReadError> {
        let failed = |error: std::io::Error| ReadError::Store {
            what: format!("positions {} to {}", part.first(), part.last()),
            reason: error.to_string(),
        };
        let root = self.shared.directory.archive();
        self.make_room(part).map_err(failed)?;
        let Some(path) = rewrite((&root, part), thinning, gone, pace).map_err(failed)? else {
            done.stopped = true;
            return Ok(());
        };
        let held = self.shared.archiving.lock().unwrap_or_else(PoisonError::into_inner);
        let archive = self.shared.index().archive().with_revision(&path).map_err(failed)?;
        let bytes: u64 = archive
            .parts()
            .iter()
            .filter(|new| new.first() == part.first())
            .map(|new| new.file_bytes())
            .sum();
        self.shared.index_mut().scavenged(Arc::new(archive), part.last());
        drop(held);
        let (events, bytes) = (gone.len() as u64, part.file_bytes().saturating_sub(bytes));
        metrics::counter!(names::REMOVED).increment(events);
        metrics::counter!(names::RECLAIMED).increment(bytes);
        tracing::info!(first = %part.first(), last = %part.last(), events, bytes, "old facts were removed from the archive");
        done.parts += 1;
        done.events += events;
        done.bytes += bytes;
        Ok(())
    }

    /// Makes sure that the new revision fits beside the old one without touching the reserve.
    fn make_room(&self, part: &Part) -> std::io::Result<()> {
        let free = self.shared.disk.free_bytes(self.shared.directory.root())?;
        let wanted = part.file_bytes().saturating_add(self.shared.reserve_bytes);
        if free < wanted {
            let text =
                format!("low space: {free} bytes are free, thinning it out needs {wanted} for a moment");
            return Err(std::io::Error::other(text));
        }
        Ok(())
    }

    fn settled(&self) -> MutexGuard<'_, BTreeSet<Settled>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn thinning(&self, rules: &Rules, now: Timestamp) -> Result<Thinning, ReadError> {
        let book = Book::new(self.shared.directory.root());
        let failed = |error: std::io::Error| ReadError::Store {
            what: "the checkpoints and their key".to_owned(),
            reason: error.to_string(),
        };
        let signer = book.signer().map_err(failed)?;
        let links: BTreeSet<Position> =
            book.read().map_err(failed)?.0.iter().map(|checkpoint| checkpoint.position).collect();
        Ok(Thinning { rule: rules.to_string(), now, links, signer })
    }
}

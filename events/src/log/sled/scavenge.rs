//! Retention: facts that are too old go, part by part of the archive, and their room is given back.
//!
//! A part is written again without them and takes its own place by one rename; a crash before that leaves what the next start
//! removes, and one after it nothing to do. So every step is whole, and what is due is found out anew each time.

use std::cell::{Cell, RefCell};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Shared;
use super::read::Query;
use crate::envelope::{StreamId, Timestamp};
use crate::id::Position;
use crate::log::ReadError;
use crate::log::archive::{Part, Thinning, pause, rewrite, sift};
use crate::log::checkpoint::Book;
use crate::metrics as names;
use crate::retention::{Reach, Rhythm, Rules};

/// How fast the archive is read for what is due, in bytes before compression: a tenth of a core, and ten times as fast as a
/// thousand workspaces fill it.
pub const PACE_BYTES_PER_SECOND: u64 = 16 << 20;

/// Facts of one stream that are looked at, going back, for its rhythm. One that was heard from less often than called so many times
/// in between keeps all of its heartbeats.
const RHYTHM_FACTS_MAX: usize = 4096;
/// Facts that are read at a time for it: for most streams once is enough.
const RHYTHM_PAGE: usize = 256;

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
    /// When its last fact happened; a part is too young until that is old.
    pub ended: Option<Timestamp>,
    /// When the log's last fact happened: feeds are shown as of then, so for what they show no more time has passed.
    pub told: Timestamp,
    /// Of which classes it was gone through: nothing more of these goes.
    pub settled: Reach,
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

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of the part that it is at, from 1.
    pub part: usize,
    /// How many there are for it.
    pub parts: usize,
    /// What it did so far.
    pub done: Scavenged,
    /// The first and the last position of a part that was replaced just now.
    pub replaced: Option<(Position, Position)>,
}

impl PartReport {
    /// Whether all of its facts are old enough for something to go, and nobody has gone through them for it yet.
    pub fn is_due(&self, rules: &Rules, now: Timestamp) -> bool {
        let reach = self.ended.map(|ended| reach(rules, ended, (now, self.told))).unwrap_or_default();
        reach.beyond(self.settled).is_any()
    }

    /// Since when that is so, or will be; `None` where nothing ever goes of it any more.
    pub fn due_since(&self, rules: &Rules) -> Option<Timestamp> {
        let limits = [(self.settled.heartbeats, rules.heartbeats), (self.settled.activity, rules.activity)];
        let open = limits.into_iter().filter(|(settled, _)| !settled).filter_map(|(_, limit)| limit).min();
        Some(self.ended? + open?)
    }
}

/// A part as it is, by its first position and its revision, and the rules that were asked about.
type Looked = (Position, u32, Rules);

/// See the module. Blocks wherever it reads.
#[derive(Clone, Debug)]
pub struct Scavenger {
    shared: Arc<Shared>,
    /// Parts of which nothing goes, as far as they were gone through: they need not be read again in this run of the program.
    settled: Arc<Mutex<BTreeMap<Looked, Reach>>>,
}

/// Asked by whoever runs it, after each segment: whether to go on.
pub type Watch<'a> = &'a (dyn Fn(&Progress) -> bool + Sync);

impl Scavenger {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, settled: Arc::default() }
    }

    /// The archive, oldest first, and whether each part was gone through by these rules. Changes nothing.
    ///
    /// # Errors
    /// When the archive can't be read.
    pub fn survey(&self, rules: &Rules) -> Result<Vec<PartReport>, ReadError> {
        let (archive, told) = (self.shared.index().archive(), self.last_at()?);
        let report = |part: &Arc<Part>| {
            Ok(PartReport {
                first: part.first(),
                last: part.last(),
                bytes: part.file_bytes(),
                removed: part.removed(),
                ended: part.ended()?,
                told,
                settled: self.settled(part, rules)?,
            })
        };
        archive.parts().iter().map(report).collect()
    }

    /// Removes what is due, as far as a position, at so many bytes a second.
    ///
    /// # Errors
    /// When the archive can't be read or written. What was done until then stays done.
    pub fn run(
        &self,
        (rules, now): (&Rules, Timestamp),
        through: Position,
        bytes_per_second: u64,
        watch: Watch<'_>,
    ) -> Result<Scavenged, ReadError> {
        let mut progress = Progress::default();
        if rules.keep_all() {
            return Ok(progress.done);
        }
        let told = self.last_at()?;
        let rhythms = Rhythms { shared: &self.shared, known: RefCell::default() };
        let mut thinnings = BTreeMap::new();
        // Parts only ever come behind these, so they are these until replaced one by one.
        let archive = self.shared.index().archive();
        let mut parts = Vec::new();
        for part in archive.parts().iter().filter(|part| part.last() <= through) {
            let reach = part.ended()?.map(|ended| reach(rules, ended, (now, told))).unwrap_or_default();
            if reach.beyond(self.settled(part, rules)?).is_any() {
                parts.push((Arc::clone(part), reach));
            }
        }
        drop(archive);
        progress.parts = parts.len();
        for (part, reach) in parts {
            progress.part += 1;
            if !watch(&progress) {
                progress.done.stopped = true;
                break;
            }
            let so_far = progress;
            let stopped = Cell::new(false);
            let pace = |bytes: usize| {
                std::thread::sleep(pause(bytes, bytes_per_second));
                stopped.set(!watch(&so_far));
                !stopped.get()
            };
            let Some(gone) = sift(&part, reach, &|stream| rhythms.of(stream), &pace)? else {
                progress.done.stopped |= stopped.get();
                continue;
            };
            if gone.is_empty() {
                self.looked().insert((part.first(), part.revision(), *rules), reach);
                continue;
            }
            let thinning = match thinnings.entry(reach) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(Arc::new(self.thinning(rules.applied(reach), now)?)),
            };
            let replaced = self.thin(&part, (thinning, &gone), &pace, &mut progress.done)?;
            if replaced && !watch(&Progress { replaced: Some((part.first(), part.last())), ..progress }) {
                progress.done.stopped = true;
            }
            if progress.done.stopped {
                break;
            }
        }
        Ok(progress.done)
    }

    /// How far a part was gone through by these rules: in this run of the program, or when it was written again.
    fn settled(&self, part: &Part, rules: &Rules) -> Result<Reach, ReadError> {
        let looked = self.looked().get(&(part.first(), part.revision(), *rules)).copied().unwrap_or_default();
        let applied = part.rule()?.map(Reach::of_rule);
        Ok(looked.with(applied.unwrap_or_default()))
    }

    /// When the last fact of the log happened. Feeds are shown as of then: what they show must not go, however much later it is.
    fn last_at(&self) -> Result<Timestamp, ReadError> {
        let (from, limit) = (self.shared.index().head(), 1);
        let gathered = self.shared.index().gather(Query::All { from, limit })?;
        Ok(self.shared.load(gathered)?.last().map(|fact| fact.meta.at).unwrap_or_default())
    }

    /// Replaces a part; whether it did.
    fn thin(
        &self,
        part: &Part,
        (thinning, gone): (&Arc<Thinning>, &[Position]),
        pace: &dyn Fn(usize) -> bool,
        done: &mut Scavenged,
    ) -> Result<bool, ReadError> {
        let failed = |error: std::io::Error| ReadError::Store {
            what: format!("positions {} to {}", part.first(), part.last()),
            reason: error.to_string(),
        };
        let root = self.shared.directory.archive();
        self.make_room(part).map_err(failed)?;
        let Some(path) = rewrite((&root, part), thinning, gone, pace).map_err(failed)? else {
            done.stopped = true;
            return Ok(false);
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
        Ok(true)
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

    fn looked(&self) -> MutexGuard<'_, BTreeMap<Looked, Reach>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn thinning(&self, rule: String, now: Timestamp) -> Result<Thinning, ReadError> {
        let book = Book::new(self.shared.directory.root());
        let failed = |error: std::io::Error| ReadError::Store {
            what: "the checkpoints and their key".to_owned(),
            reason: error.to_string(),
        };
        let signer = book.signer().map_err(failed)?;
        let links: BTreeSet<Position> =
            book.read().map_err(failed)?.0.iter().map(|checkpoint| checkpoint.position).collect();
        Ok(Thinning { rule, now, links, signer })
    }
}

/// How far rules reach into a part that ended then. For activity no more time has passed than the log tells of.
fn reach(rules: &Rules, ended: Timestamp, (now, told): (Timestamp, Timestamp)) -> Reach {
    let told = rules.reach(now.min(told) - ended);
    Reach { activity: told.activity, ..rules.reach(now - ended) }
}

/// Where the rhythm of each stream begins, found out once a run: it only ever moves on.
struct Rhythms<'a> {
    shared: &'a Shared,
    known: RefCell<HashMap<StreamId, Position>>,
}

impl Rhythms<'_> {
    /// The position from which on heartbeats of a stream stay.
    fn of(&self, stream: StreamId) -> Result<Position, ReadError> {
        if let Some(known) = self.known.borrow().get(&stream) {
            return Ok(*known);
        }
        let begins = self.find(stream)?;
        self.known.borrow_mut().insert(stream, begins);
        Ok(begins)
    }

    fn find(&self, stream: StreamId) -> Result<Position, ReadError> {
        let (mut rhythm, mut through, mut seen) = (Rhythm::default(), Position(u64::MAX), 0);
        while seen < RHYTHM_FACTS_MAX {
            let query = Query::Back { stream, through, limit: RHYTHM_PAGE };
            let gathered = self.shared.index().gather(query)?;
            let facts = self.shared.load(gathered)?;
            let Some(first) = facts.first() else { break };
            if facts.iter().rev().any(|fact| rhythm.add(fact)) {
                return Ok(rhythm.begins().unwrap_or_default());
            }
            through = Position(first.position.0 - 1);
            seen += facts.len();
        }
        Ok(Position(0))
    }
}

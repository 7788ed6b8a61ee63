//! The log on disk: sled, one writer, group commit.
//!
//! # Guarantees
//! - An append that was acknowledged as durable survives the process's death at any instant, and a power cut as far as
//!   the disk's own flush does.
//! - What is read back is what was written: each frame has a checksum, each payload a digest, and a hash chain runs
//!   through all of them. Opening checks all but the payloads that lie in files of their own; [`ClosedLog::verify`] and
//!   [`EventLog::verify`] check those too.
//! - A log that lost acknowledged facts is never opened as if it had not (see [`OpenError::Lost`]).
//!
//! # Caveats
//! - One process at a time: the directory is locked while a log is open.
//! - After a failed write or flush the log is read-only until it is opened again, which reads it all and decides anew. While
//!   less than [`Options::reserve_bytes`] is free it is read-only too, and goes on by itself.
//!
//! `docs/event-log.md` describes the layout for operators; [`frame`](self) files hold the details.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};

use super::{
    Ack, Append, AppendError, Appending, Damage, EventLog, Frames, OpenError, ReadError, ReadOnly, Receipt,
    Verified, check_shape, checkpoint,
};
use crate::envelope::{Recorded, StreamId};
use crate::id::{EventId, Position, Version};
use crate::keyring::Keyring;
use crate::log::frame::Link;
use crate::pulse::Pulse;

mod blobs;
mod boot;
mod copy;
mod decode;
mod directory;
mod ending;
mod health;
mod index;
mod layers;
mod mend;
mod opening;
mod pieces;
mod queue;
mod raw;
mod read;
mod rebuild;
mod remains;
mod roll;
mod scavenge;
mod store;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

pub use boot::Repair;
pub use directory::FORMAT;
pub use index::{RECENT_EVENTS_MAX, RECENT_IDS_MAX};
pub use mend::Mended;
pub use queue::{QUEUE_APPENDS_MAX, QUEUE_BYTES_MAX};
pub use raw::ClosedLog;
pub(super) use rebuild::{Rebuild, high_water};
pub(super) use remains::Remains;
pub use scavenge::{PACE_BYTES_PER_SECOND, PartReport, Progress, Scavenged, Scavenger, Watch};
pub use writer::CHUNK_BYTES_MAX;

use blobs::Blobs;
use decode::Decoder;
pub use directory::is_there;
use directory::{Directory, HighWater};
use health::Health;
use index::{Full, Index};
use opening::Opening;
use queue::{Queue, Refused};
use read::{Gathered, Query};
use roll::{Roll, Roller};
use store::{Disk, RealDisk, Store};
use writer::{Request, Writer};

/// sled's cache. It takes up to three times this in memory; reads of recent facts don't need it.
pub const CACHE_BYTES_DEFAULT: u64 = 64 << 20;

/// Free space below which nothing is written any more, so that shutting down, repairing and looking around still work.
pub const RESERVE_BYTES_DEFAULT: u64 = 64 << 20;

/// Facts in one database, after which the log goes on in a new one and the old one is archived: a database replays at open
/// what was written to it, takes six times the room of the archive, and never gives any of it back.
pub const ROLL_EVENTS_DEFAULT: u64 = 1_000_000;

/// The time that one database spans at most, so that a small log is archived too, and what expires in it goes.
pub const ROLL_SPAN: chrono::TimeDelta = chrono::TimeDelta::days(7);

/// What gets to see each fact while a log is opened.
pub type Visit<'a> = &'a mut dyn FnMut(&Arc<Recorded>);

/// How to open a log.
#[derive(Clone, Debug)]
pub struct Options {
    /// sled's cache, in bytes.
    pub cache_bytes: u64,
    /// Free space that is never used up, in bytes.
    pub reserve_bytes: u64,
    /// Open even though acknowledged facts, or keys, are missing. Only ever because a person said so.
    pub accept_loss: bool,
    /// Give up the keys that are missing, for good. Only ever because a person said so.
    pub accept_lost_keys: bool,
    /// Facts in one database before the log is rolled; `None` never rolls it, and leaves the archive alone.
    pub roll_events: Option<u64>,
    /// The keys that fields are sealed by; without, they are kept as they are.
    pub keys: Option<Arc<Keyring>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: CACHE_BYTES_DEFAULT,
            reserve_bytes: RESERVE_BYTES_DEFAULT,
            accept_loss: false,
            accept_lost_keys: false,
            roll_events: Some(ROLL_EVENTS_DEFAULT),
            keys: None,
        }
    }
}

/// What opening found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The last position.
    pub head: Position,
    /// Streams that have facts.
    pub streams: usize,
    /// The repair of a torn end, if one was needed. To be recorded as a fact.
    pub repaired: Option<Repair>,
    /// What was set aside because the log did not open with it. To be recorded as a fact.
    pub mended: Option<Mended>,
    /// The acknowledged position that was given up because [`Options::accept_loss`] said so.
    pub accepted_loss: Option<Position>,
    /// Fields that are sealed by keys which are not there, as far as they were not given up before.
    pub lost_fields: u64,
    /// The log has facts, but nothing says how far it was acknowledged: a loss at its end can't be ruled out.
    pub high_water_missing: bool,
}

/// What the handle, the writer and readers share.
#[derive(Debug)]
struct Shared {
    queue: Queue,
    pulse: Arc<Pulse>,
    index: RwLock<Index>,
    blobs: Blobs,
    keys: Option<Arc<Keyring>>,
    health: Health,
    reserve_bytes: u64,
    disk: Arc<dyn Disk>,
    /// When a database is full; `None`: never.
    full: Option<Full>,
    roll: Roll,
    /// Held by whoever is about to give readers another archive.
    archiving: Mutex<()>,
    // Last, so that the lock outlives the store.
    directory: Directory,
}

/// See the module.
pub struct SledLog {
    shared: Arc<Shared>,
    head: watch::Receiver<Position>,
    /// The writer and the roller.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for SledLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledLog")
            .field("path", &self.shared.directory.root())
            .field("head", &*self.head.borrow())
            .finish_non_exhaustive()
    }
}

impl SledLog {
    /// Opens or creates the log in a directory of its own, without decoding what is in it. Blocks while it reads.
    pub fn open(path: &Path, options: &Options) -> Result<(Self, Opened), OpenError> {
        Self::open_on(Arc::new(RealDisk), path, options, None)
    }

    /// Like [`SledLog::open`], and shows each fact to `visit`, in order, in the same pass. Facts of a torn end are not shown.
    pub fn open_with(path: &Path, options: &Options, visit: Visit<'_>) -> Result<(Self, Opened), OpenError> {
        Self::open_on(Arc::new(RealDisk), path, options, Some(visit))
    }

    /// Like [`SledLog::open`], without the sync that makes commits durable: what the tests of power cuts are tested with.
    #[cfg(any(test, feature = "test-support"))]
    pub fn open_unsynced(path: &Path, options: &Options) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(store::NoSync), path, options, None).map(|(log, _)| log)
    }

    /// Opens a copy of a log that no process has open, in a scratch directory that the caller removes afterwards, and shows
    /// each fact to `visit`. The log itself is not changed in any byte, and is free again once this returns. What a start
    /// would repair is repaired in the copy; what it would miss at the end is missing here too. Takes as long as copying the
    /// store and reading it once do, and as much room below `scratch`. Fields whose key is not in `keys`, which should have
    /// been opened for reading only, are shown as sealed. Blocks.
    pub fn open_copy(
        path: &Path,
        scratch: &Path,
        keys: Option<Arc<Keyring>>,
        visit: Visit<'_>,
    ) -> Result<(Self, Opened), OpenError> {
        copy::copy(path, scratch)?;
        let options = Options { accept_loss: true, roll_events: None, keys, ..Options::default() };
        Self::open_with(scratch, &options, visit)
    }

    /// The writer's pulse: it comes round with each commit, and while there is nothing to write.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.shared.pulse)
    }

    /// What removes facts that are too old.
    pub fn scavenger(&self) -> Scavenger {
        Scavenger::new(Arc::clone(&self.shared))
    }

    /// The roller's pulse.
    pub fn roller_pulse(&self) -> Arc<Pulse> {
        self.shared.roll.pulse()
    }

    /// Waits until everything that was rolled is archived.
    #[cfg(any(test, feature = "test-support"))]
    pub async fn settle(&self) {
        while self.shared.index().sealed().is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    /// Waits until the database to go on in is open, if the one that is written to is full.
    #[cfg(any(test, feature = "test-support"))]
    pub async fn prepared(&self) {
        while self.shared.roll.is_preparing() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    /// The last position that is in the archive.
    pub fn archived(&self) -> Position {
        self.shared.index().archive().last()
    }

    /// Where the checkpoints are, and the key that signs them.
    pub fn checkpoints(&self) -> checkpoint::Book {
        checkpoint::Book::new(self.shared.directory.root())
    }

    fn open_on(
        disk: Arc<dyn Disk>,
        path: &Path,
        options: &Options,
        visit: Option<Visit<'_>>,
    ) -> Result<(Self, Opened), OpenError> {
        let directory = Directory::take(path)?;
        let (high_water, acknowledged) = directory.high_water()?;
        let Opening { layers, blobs, mut scanned, lost, mended } =
            opening::read(&directory, (options, &disk), acknowledged, visit)?;
        let head = scanned.index.head();
        let lost_fields = match &options.keys {
            Some(keys) => scanned.settle_keys(path, keys, options)?,
            None => 0,
        };
        let repaired = scanned.repair(&directory)?;
        if let Some(repair) = &repaired {
            tracing::warn!(
                kept = %repair.kept,
                cut_bytes = repair.cut_bytes,
                reason = %repair.reason,
                quarantined = %repair.quarantined.display(),
                "a torn end of the log was cut off"
            );
        }
        high_water
            .note(head)
            .and_then(|()| high_water.sync())
            .map_err(directory::failed(path, "write the high-water mark"))?;
        if options.roll_events.is_some() && layers.archive.last() > Position(0) {
            blobs.tidy().map_err(directory::failed(path, "remove payloads that are archived"))?;
        }
        let opened = Opened {
            head,
            streams: scanned.index.streams(),
            repaired,
            mended,
            accepted_loss: lost,
            lost_fields,
            high_water_missing: acknowledged.is_none() && head > Position(0),
        };
        let store = layers.stores.last().cloned().ok_or_else(|| OpenError::Store {
            path: path.to_owned(),
            step: "look for the database to go on in",
            reason: "there is none".to_owned(),
        })?;
        let sealed = layers.stores.len() > 1;
        drop(layers);
        let shared = Arc::new(Shared {
            queue: Queue::default(),
            pulse: Pulse::new("log-writer"),
            index: RwLock::new(scanned.index),
            blobs,
            keys: options.keys.clone(),
            health: Health::default(),
            reserve_bytes: options.reserve_bytes,
            disk,
            full: options.roll_events.map(|events| Full { events, span: ROLL_SPAN }),
            roll: Roll::new(sealed),
            archiving: Mutex::default(),
            directory,
        });
        Ok((Self::start(shared, (high_water, store), (head, scanned.link), options)?, opened))
    }

    /// Starts the writer, and the roller if the log is ever rolled.
    fn start(
        shared: Arc<Shared>,
        (high_water, store): (HighWater, Arc<Store>),
        (head, link): (Position, Link),
        options: &Options,
    ) -> Result<Self, OpenError> {
        let root = shared.directory.root().to_owned();
        let failed = |step| directory::failed(&root, step);
        let (publish, receiver) = watch::channel(head);
        let writer = Writer::new((Arc::clone(&shared), store), high_water, publish, link);
        let writer = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(failed("start the log's writer"))?;
        let mut log = Self { shared, head: receiver, threads: Mutex::new(vec![writer]) };
        if options.roll_events.is_some() {
            let roller = Roller::new(Arc::clone(&log.shared), options.cache_bytes);
            let roller = std::thread::Builder::new()
                .name("log-roller".to_owned())
                .spawn(move || roller.run())
                .map_err(failed("start the log's roller"))?;
            log.threads.get_mut().unwrap_or_else(PoisonError::into_inner).push(roller);
        }
        Ok(log)
    }

    /// Finds facts, and reads them on a thread that may block where they are not all in memory.
    async fn fetch(&self, query: Query) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let gathered: Gathered = self.shared.index().gather(query)?;
        if gathered.is_in_memory() {
            return self.shared.load(gathered);
        }
        let shared = Arc::clone(&self.shared);
        let read = move || shared.health.note(shared.load(gathered));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => runtime
                .spawn_blocking(read)
                .await
                .map_err(|error| ReadError::Store { what: "facts".to_owned(), reason: error.to_string() })?,
            Err(_) => read(),
        }
    }
}

impl Drop for SledLog {
    fn drop(&mut self) {
        self.shared.queue.close();
        self.shared.roll.stop();
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // One that panicked has said so; there is nothing left to save.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn decoder(&self) -> Decoder<'_> {
        Decoder { keys: self.keys.as_deref() }
    }

    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl EventLog for SledLog {
    fn append(&self, appends: Vec<Append>, ack: Ack) -> Appending {
        if let Some(read_only) = self.shared.health.read_only() {
            return ready(Err(AppendError::ReadOnly(read_only)));
        }
        if let Err(error) = check_shape(&appends) {
            return ready(Err(error));
        }
        if appends.is_empty() {
            return ready(Ok(Receipt { events: Vec::new() }));
        }
        let (reply, answer) = oneshot::channel();
        let request = match Request::new(appends, ack, reply, self.shared.keys.as_deref()) {
            Ok(request) => request,
            Err(error) => return ready(Err(error)),
        };
        match self.shared.queue.push(request) {
            Ok(()) => {
                Box::pin(async move { answer.await.map_or(Err(AppendError::Closed), |reply| reply.result) })
            }
            Err(Refused::Full) => ready(Err(AppendError::Busy)),
            Err(Refused::Closed) => ready(Err(AppendError::Closed)),
        }
    }

    async fn read(
        &self,
        stream: StreamId,
        from: Version,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        self.fetch(Query::Stream { stream, from, limit }).await
    }

    async fn read_back(
        &self,
        stream: StreamId,
        through: Position,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        self.fetch(Query::Back { stream, through, limit }).await
    }

    async fn read_all(&self, from: Position, limit: usize) -> Result<Vec<Arc<Recorded>>, ReadError> {
        self.fetch(Query::All { from, limit }).await
    }

    async fn find(&self, id: EventId) -> Result<Option<Position>, ReadError> {
        Ok(self.shared.index().find(id))
    }

    fn head(&self) -> Position {
        *self.head.borrow()
    }

    fn watch(&self) -> watch::Receiver<Position> {
        self.head.clone()
    }

    fn read_only(&self) -> Option<ReadOnly> {
        self.shared.health.read_only()
    }

    fn damage(&self) -> Vec<Damage> {
        self.shared.health.known_damage()
    }

    async fn verify(&self) -> Result<Verified, ReadError> {
        let shared = Arc::clone(&self.shared);
        let head = self.head();
        let check = move || {
            let (layers, _) = shared.layers();
            let keys = checkpoint::Book::new(shared.directory.root()).keys();
            let reading = (&shared.blobs, shared.decoder());
            let mut verified = verify::verify(&layers, reading, verify::Until::Position(head), &keys);
            verified.problems.extend(layers.misplaced());
            let verified = checkpoint::complete(verified, shared.directory.root(), &*shared)?;
            shared.health.checked(&verified.problems);
            Ok(verified)
        };
        tokio::task::spawn_blocking(check).await.map_err(|error| ReadError::Store {
            what: "the whole log".to_owned(),
            reason: error.to_string(),
        })?
    }

    fn frames(&self) -> Option<Arc<dyn Frames>> {
        let shared: Arc<dyn Frames> = Arc::<Shared>::clone(&self.shared);
        Some(shared)
    }

    async fn close(&self) {
        self.shared.queue.close();
        // The writer drops its end once everything is written and flushed.
        let mut head = self.head.clone();
        while head.changed().await.is_ok() {}
    }
}

fn ready(result: Result<Receipt, AppendError>) -> Appending {
    Box::pin(std::future::ready(result))
}

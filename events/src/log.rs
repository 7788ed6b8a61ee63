//! The port to the log: what every store offers, however it keeps things.
//!
//! # Guarantees
//! - An append names the version that it expects of each stream and is applied to all of them or to none.
//! - Appends are applied in the order in which [`EventLog::append`] was *called*, not polled.
//! - With [`Ack::Durable`] the answer comes after the flush: it survives `kill -9`, and a power cut as far as the disk's
//!   own flush does. With [`Ack::Accepted`] it comes when the append has its positions; a crash may lose it.
//! - Readers see only what is durable, in gapless order. Positions are dense in the embedded stores, but nothing above
//!   this port may depend on that.
//! - An append whose event ids are already in the log (and recent enough to be remembered) answers with the first
//!   result instead of a conflict. If only some of them are, it is invalid.
//!
//! # Caveats
//! - The queue is bounded: when it is full, [`AppendError::Busy`] comes at once and nothing was queued.
//! - After a failed flush the store is read-only until it is opened again: a failed `fsync` may already have dropped the page.
//!   Where it only refused to begin, because space is short, it goes on by itself ([`ReadOnly::passes`]).

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::codec::CodecError;
use crate::envelope::{NewEvent, Recorded, StreamId, Timestamp};
use crate::id::{EventId, Position, Version};

mod archive;
pub mod checkpoint;
#[cfg(any(test, feature = "test-support"))]
pub mod conformance;
mod frame;
pub mod memory;
mod order;
mod problems;
pub mod removal;
pub mod restore;
pub mod segments;
pub mod sled;

pub use frame::Link;

/// How many facts one append may carry. A commit is one atomic write, so it has to stay small enough to be quick;
/// the largest append of the platform (removing a whole subtree) has a few facts per workspace.
pub const EVENTS_PER_APPEND_MAX: usize = 4096;

/// The version that a writer believes a stream to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The stream must not exist yet.
    NoStream,
    /// Exactly this version.
    Exact(Version),
    /// Whatever it is.
    Any,
}

/// When an append is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// After the flush.
    Durable,
    /// Once positions are assigned, before the flush. For heartbeats and call telemetry only (decision 8).
    Accepted,
}

/// Facts for one stream.
#[derive(Clone, Debug)]
pub struct Append {
    /// Whose facts.
    pub stream: StreamId,
    /// The version that the stream must have.
    pub expected: Expected,
    /// At least one fact, in order.
    pub events: Vec<NewEvent>,
}

/// What an append led to.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The recorded facts, in the order of the append.
    pub events: Vec<Arc<Recorded>>,
}

impl Receipt {
    /// The last position written; `None` for an empty append.
    pub fn last(&self) -> Option<Position> {
        self.events.last().map(|event| event.position)
    }
}

/// Why an append was not applied. Nothing of it is in the log, unless the variant says so.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// Another writer was faster. A single writer that sees this is not the only one any more.
    #[error("stream `{stream}` is at version {actual}, expected {expected:?}")]
    Conflict {
        /// The stream.
        stream: StreamId,
        /// What the writer believed.
        expected: Expected,
        /// What the stream has.
        actual: Version,
    },
    /// The queue is full.
    #[error("the log's queue is full")]
    Busy,
    /// The store takes no facts. Nothing of the append is in the log, unless it was being written when the disk failed.
    #[error("the log is read-only: {}", .0.reason)]
    ReadOnly(ReadOnly),
    /// A fact that can't be expressed, or an append that breaks the port's rules.
    #[error("invalid append: {0}")]
    Invalid(Arc<str>),
    /// The store was closed. The append may or may not be in the log.
    #[error("the log is closed")]
    Closed,
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes are there, and are not a fact.
    #[error("the event at position {position} does not decode")]
    Corrupt {
        /// Where.
        position: Position,
        /// What the codec said.
        #[source]
        source: CodecError,
    },
    /// What was there left the log when it was too old.
    #[error("what was at position {position} was removed by retention")]
    Removed {
        /// Where.
        position: Position,
    },
    /// The store failed.
    #[error("the log's store failed to read {what}: {reason}")]
    Store {
        /// What was read.
        what: String,
        /// What the store said.
        reason: String,
    },
}

/// Why a store takes no facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOnly {
    /// The failure that led here, for people.
    pub reason: Arc<str>,
    /// Since when.
    pub since: Timestamp,
    /// Whether it goes on by itself once the cause is gone; otherwise it has to be opened again.
    pub passes: bool,
}

impl ReadOnly {
    /// What to do about it, for people.
    pub const fn remedy(&self) -> &'static str {
        if self.passes {
            "make room on the disk of the data directory: it goes on by itself"
        } else {
            "see to the disk, then restart the server: workspaces run on meanwhile"
        }
    }
}

/// A place of the log that could not be read as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What is wrong, and where: the position, and the file where that is known.
    pub what: String,
    /// When it was found first.
    pub since: Timestamp,
}

/// What `verify` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Facts looked at.
    pub events: u64,
    /// The last position.
    pub head: Position,
    /// Hex of the chain's last link.
    pub chain: String,
    /// The log's own signed checkpoints that were looked at.
    pub checkpoints: u64,
    /// Fields that can't be read because their key was destroyed. Nothing is wrong with them.
    pub erased: u64,
    /// Fields that can't be read because their key is not at hand.
    pub sealed: u64,
    /// Everything that is wrong, in words with positions; empty means sound.
    pub problems: Vec<String>,
}

/// The port's rules about an append on its own, whatever the log holds.
pub(crate) fn check_shape(appends: &[Append]) -> Result<(), AppendError> {
    // By far the most common append, and one that can't repeat anything.
    if matches!(appends, [append] if append.events.len() == 1) {
        return Ok(());
    }
    let mut ids = HashSet::new();
    let mut streams = HashSet::new();
    for append in appends {
        if append.events.is_empty() {
            return Err(AppendError::Invalid("an append without events".into()));
        }
        if !streams.insert(append.stream) {
            return Err(AppendError::Invalid("a stream twice in one append".into()));
        }
        if !append.events.iter().all(|event| ids.insert(event.meta.id)) {
            return Err(AppendError::Invalid("an event id twice in one append".into()));
        }
    }
    if ids.len() > EVENTS_PER_APPEND_MAX {
        return Err(AppendError::Invalid(
            format!("{} events in one append, at most {EVENTS_PER_APPEND_MAX}", ids.len()).into(),
        ));
    }
    Ok(())
}

impl Expected {
    /// Whether a stream at `actual` is what the writer believes it to be.
    pub(crate) fn agrees(self, actual: Version) -> bool {
        match self {
            Self::NoStream => actual == Version(0),
            Self::Exact(version) => actual == version,
            Self::Any => true,
        }
    }
}

/// Future of an append that is already queued.
pub type Appending = Pin<Box<dyn Future<Output = Result<Receipt, AppendError>> + Send>>;

/// An append-only log of facts.
#[async_trait]
pub trait EventLog: Send + Sync + fmt::Debug {
    /// Queues an append to one or several streams, all or nothing; the order of *calls* is the order in the log.
    fn append(&self, appends: Vec<Append>, ack: Ack) -> Appending;

    /// Facts of one stream from a version on (inclusive), at most `limit`, in order. Unknown stream: empty.
    async fn read(
        &self,
        stream: StreamId,
        from: Version,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, ReadError>;

    /// The last facts of one stream up to a position (inclusive), at most `limit`, oldest first. Unknown stream: empty.
    async fn read_back(
        &self,
        stream: StreamId,
        through: Position,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, ReadError>;

    /// Facts of all streams from a position on (inclusive), at most `limit`, in order.
    async fn read_all(&self, from: Position, limit: usize) -> Result<Vec<Arc<Recorded>>, ReadError>;

    /// The last position that was recorded at a time or before; [`Position`] 0 where nothing was. Reads as many facts as the
    /// head has binary digits.
    ///
    /// Times are those of the edge, so neighbours may be a few milliseconds out of order: who needs every fact of a span
    /// takes a margin that is wider than that.
    async fn position_at(&self, at: Timestamp) -> Result<Position, ReadError> {
        let (mut before, mut after) = (0, self.head().0.saturating_add(1));
        while after > before + 1 {
            let middle = before + (after - before) / 2;
            match self.read_all(Position(middle), 1).await?.first() {
                // Where positions are not dense, the fact found may lie beyond the middle.
                Some(event) if event.meta.at <= at => before = event.position.0.max(middle),
                Some(_) | None => after = middle,
            }
        }
        Ok(Position(before))
    }

    /// The position of an event by its id, if it is remembered.
    async fn find(&self, id: EventId) -> Result<Option<Position>, ReadError>;

    /// The last durable position; [`Position`] 0 for an empty log.
    fn head(&self) -> Position;

    /// Tells of every new head. A wake-up, not a queue.
    fn watch(&self) -> watch::Receiver<Position>;

    /// Why the store is read-only, if it is.
    fn read_only(&self) -> Option<ReadOnly>;

    /// Damage that reads have hit since the log was opened, or since it was found sound by [`EventLog::verify`]; the oldest
    /// first, and not more than a person can look at.
    fn damage(&self) -> Vec<Damage> {
        Vec::new()
    }

    /// Reads everything and checks checksums, order and chain.
    async fn verify(&self) -> Result<Verified, ReadError>;

    /// The bytes behind the facts, of a store that has them.
    fn frames(&self) -> Option<Arc<dyn Frames>> {
        None
    }

    /// Stops taking appends, writes what is queued, and flushes. Idempotent.
    async fn close(&self);
}

/// The log's frames as its store keeps them: what segments are cut from, and what checkpoints are held against.
///
/// Calls block, and never hold up the writer. What is returned is durable.
pub trait Frames: Send + Sync + fmt::Debug {
    /// The last durable position.
    fn head(&self) -> Position;

    /// Whole frames from a position on, about `bytes` of them, at least one if there is one. Empty at the end.
    fn frames(&self, from: Position, bytes: usize) -> Result<Vec<u8>, ReadError>;

    /// The large payload of a position, which lies apart, by its BLAKE3 digest.
    fn payload(&self, position: Position, digest: &[u8; 32]) -> Result<Vec<u8>, ReadError>;

    /// The chain's link of a position; `None` beyond the end.
    fn link(&self, position: Position) -> Result<Option<Link>, ReadError>;

    /// The segment that a position is in, if facts were removed from it: it can only be copied as it is. [`Frames::frames`] ends
    /// before one.
    fn thinned(&self, _position: Position) -> Result<Option<segments::Segment>, ReadError> {
        Ok(None)
    }
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("`{path}` is in use by {holder}")]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// Who holds it, as far as can be told.
        holder: String,
    },
    /// It was written by a newer program.
    #[error("`{path}` has format {found}, this program knows up to {known}")]
    NewerFormat {
        /// The data directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// What was acknowledged is not there. Never opened as if it were empty.
    #[error(
        "`{path}` holds events up to {head}, but {high_water} had been acknowledged: restore a backup, or accept the loss"
    )]
    Lost {
        /// The data directory.
        path: PathBuf,
        /// The last position found.
        head: Position,
        /// The last one acknowledged.
        high_water: Position,
    },
    /// The middle of the log is damaged; only a torn end is ever cut.
    #[error("`{path}` is damaged at position {position}: {reason}")]
    Damaged {
        /// The data directory.
        path: PathBuf,
        /// Where.
        position: Position,
        /// What is wrong.
        reason: String,
    },
    /// Keys are gone that nobody destroyed. Never opened as if what they seal had not been there.
    #[error(
        "`{path}` has {fields} fields, the first at position {position}, that are sealed by keys which are not there: restore the directory of the keys, or accept that they are lost"
    )]
    KeysMissing {
        /// The log's directory.
        path: PathBuf,
        /// Where the first such field is.
        position: Position,
        /// How many there are.
        fields: u64,
    },
    /// The store or the file system failed.
    #[error("`{path}`: {step}: {reason}")]
    Store {
        /// The path.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// What failed.
        reason: String,
    },
}

/// Reads a log from a position on, first what is there, then what comes, without gap or duplicate.
///
/// The reader pulls: a slow one holds up nobody, and misses nothing.
#[derive(Debug)]
pub struct Subscription {
    log: Arc<dyn EventLog>,
    next: Position,
    watch: watch::Receiver<Position>,
}

impl Subscription {
    /// A subscription whose first fact is the first at or after `from`.
    pub fn new(log: Arc<dyn EventLog>, from: Position) -> Self {
        let watch = log.watch();
        Self { log, next: Position(from.0.max(1)), watch }
    }

    /// The next facts, at most `limit`, never empty: waits until there is one. `None` once the log is closed and read.
    pub async fn next(&mut self, limit: usize) -> Result<Option<Vec<Arc<Recorded>>>, ReadError> {
        loop {
            self.watch.borrow_and_update();
            let events = self.log.read_all(self.next, limit).await?;
            if let Some(last) = events.last() {
                self.next = last.position.next();
                return Ok(Some(events));
            }
            if self.watch.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}

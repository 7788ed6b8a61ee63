//! Opening: one pass over everything that checks it, rebuilds the index, and hands each fact to whoever wants it.
//!
//! Who wants no facts does not wait for the archive to be read: its tables say where its streams end, and checking it is what
//! [`verify`](super::verify) is for.
//!
//! Only an end is ever cut: the frames after the last whole append, when something in the last chunk is wrong. What is cut
//! is kept in `quarantine/`. Anything wrong before that means that the log is damaged, and it is not opened.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::sled::IVec;

use super::blobs::Blobs;
use super::decode::Decoder;
use super::directory::{Directory, failed, write_durably};
use super::index::{Index, RECENT_IDS_MAX};
use super::layers::{Heads, Layers};
use super::read::payload;
use super::store::Store;
use super::{Options, Visit};
use crate::envelope::{Recorded, StreamId};
use crate::id::{EventId, Position};
use crate::keyring::{KeyName, Keyring, KeyringError};
use crate::log::OpenError;
use crate::log::frame::{Frame, Frames, Link, Payload, Wrong};
use crate::log::order::Order;
use crate::log::segments::Segment;
use crate::seal;
use crate::workspace;

/// Chunks that change threads together: waking the other one costs more than decoding one chunk.
const CHUNKS_PER_BATCH: usize = 64;

/// Batches that wait to be decoded; with chunks of 6 KiB that is less than 2 MiB, with segments of the archive 16 MiB.
const BATCHES_AHEAD: usize = 4;

/// A repair of the log's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The last position that is whole.
    pub kept: Position,
    /// Bytes that were cut off.
    pub cut_bytes: u64,
    /// What was wrong with them.
    pub reason: String,
    /// Where they are kept.
    pub quarantined: PathBuf,
}

/// What the pass found.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) index: Index,
    /// The chain's link at the index's head.
    pub(super) link: Link,
    torn: Option<Torn>,
    erased: BTreeSet<StreamId>,
    missing: BTreeMap<StreamId, Missing>,
}

/// Fields of one owner whose key is not there.
#[derive(Clone, Debug)]
struct Missing {
    first: Position,
    fields: u64,
    keys: BTreeSet<KeyName>,
}

/// What follows the last whole append.
#[derive(Debug)]
struct Torn {
    reason: String,
    store: Arc<Store>,
    /// The chunk that has to be shortened, with what stays of it.
    shortened: Option<(u64, Vec<u8>)>,
    /// Chunks that go.
    removed: Vec<u64>,
    bytes: Vec<u8>,
}

/// A frame of an append whose end has not been seen.
struct Open {
    position: Position,
    stream: StreamId,
    id: EventId,
    /// Whether it records that the stream's key was destroyed.
    erases: bool,
    event: Option<Arc<Recorded>>,
}

struct Scan<'a, 'v> {
    root: &'a Path,
    blobs: &'a Blobs,
    decoder: Decoder<'a>,
    visit: Option<Visit<'v>>,
    order: Order,
    index: Index,
    link: Link,
    open: Vec<Open>,
    erased: BTreeSet<StreamId>,
    missing: BTreeMap<StreamId, Missing>,
}

/// Reads everything.
pub(super) fn scan(
    directory: &Directory,
    (layers, heads): (&Layers, Heads),
    (blobs, decoder): (&Blobs, Decoder<'_>),
    visit: Option<Visit<'_>>,
) -> Result<Scanned, OpenError> {
    let archived = (layers.archive.last(), layers.archive.link());
    let order = if visit.is_some() {
        Order::default()
    } else {
        Order::after(archived.0.next(), archived.1, heads.clone())
    };
    let mut scan = Scan {
        root: directory.root(),
        blobs,
        decoder,
        visit,
        order,
        index: Index::new(layers, heads),
        link: archived.1,
        open: Vec::new(),
        erased: BTreeSet::new(),
        missing: BTreeMap::new(),
    };
    let last = layers.last().map_err(|reason| scan.failed(reason))?;
    scan.index.expect(Position(last));
    if scan.visit.is_none() {
        scan.remember(layers)?;
    }
    let bad =
        std::thread::scope(|threads| scan.all(layers, read_ahead(threads, layers, scan.visit.is_some())))?;
    for _ in scan.index.layers().stores.len()..layers.stores.len() {
        scan.begin(layers);
    }
    let torn = match bad {
        None if scan.open.is_empty() => return Ok(scan.finish(None)),
        None => scan.torn(layers, None, "the last append is incomplete")?,
        Some((first, wrong)) => scan.torn(layers, Some(first), wrong)?,
    };
    Ok(scan.finish(Some(torn)))
}

/// What the pass reads.
enum Read {
    /// A segment of the archive.
    Segment(Box<Segment>),
    /// A chunk of the database with this number, and its key.
    Chunk(usize, u64, IVec),
    /// Something could not be read.
    Failed(String),
}

/// Reads on a thread of its own, since the store takes about as long to find chunks as decoding them does. Ends early when
/// nobody wants more.
fn read_ahead<'scope>(
    threads: &'scope std::thread::Scope<'scope, '_>,
    layers: &Layers,
    archived: bool,
) -> impl Iterator<Item = Read> + use<> {
    let (send, batches) = std::sync::mpsc::sync_channel::<Vec<Read>>(BATCHES_AHEAD);
    let layers = layers.clone();
    threads.spawn(move || {
        for part in layers.archive.parts().iter().filter(|_| archived) {
            for number in 0..part.segments() {
                let read = part.segment(number).map_or_else(
                    |error| Read::Failed(error.to_string()),
                    |segment| Read::Segment(Box::new(segment)),
                );
                if send.send(vec![read]).is_err() {
                    return;
                }
            }
        }
        for (number, store) in layers.stores.iter().enumerate() {
            let mut chunks = store.chunks(0).map(|chunk| match chunk {
                Ok((first, bytes)) => Read::Chunk(number, first, bytes),
                Err(reason) => Read::Failed(reason),
            });
            loop {
                let batch: Vec<Read> = chunks.by_ref().take(CHUNKS_PER_BATCH).collect();
                if batch.is_empty() {
                    break;
                }
                if send.send(batch).is_err() {
                    return;
                }
            }
        }
    });
    batches.into_iter().flatten()
}

impl Scan<'_, '_> {
    /// Remembers the ids of the archive's last facts.
    fn remember(&mut self, layers: &Layers) -> Result<(), OpenError> {
        let end = layers.archive.last();
        let from = Position(end.0.saturating_sub(RECENT_IDS_MAX as u64).max(1));
        let index = &mut self.index;
        let read = layers.archive.frames_from(from, &mut |frame| {
            index.remember(frame.position, frame.id);
            Ok(true)
        });
        read.map_err(|error| self.failed(error.to_string()))
    }

    /// Goes on with the next database.
    fn begin(&mut self, layers: &Layers) {
        let number = self.index.layers().stores.len();
        self.index.begin(Arc::clone(&layers.stores[number]));
    }

    /// Takes everything; the last chunk, and what is wrong with it, if something is.
    fn all(
        &mut self,
        layers: &Layers,
        mut reads: impl Iterator<Item = Read>,
    ) -> Result<Option<(u64, Wrong)>, OpenError> {
        let mut begun = 0;
        while let Some(read) = reads.next() {
            let (number, first, bytes) = match read {
                Read::Failed(reason) => return Err(self.failed(reason)),
                Read::Segment(segment) => {
                    self.segment(&segment)?;
                    continue;
                }
                Read::Chunk(number, first, bytes) => (number, first, bytes),
            };
            while begun <= number {
                self.begin(layers);
                begun += 1;
            }
            if let Err(wrong) = self.chunk(first, &bytes)? {
                if reads.next().is_some() || first > self.order.next.0 {
                    return Err(self.damaged(wrong.to_owned()));
                }
                return Ok(Some((first, wrong)));
            }
        }
        Ok(None)
    }

    /// Takes a segment of the archive, in which nothing may be wrong.
    fn segment(&mut self, segment: &Segment) -> Result<(), OpenError> {
        self.order.enter(segment);
        for frame in Frames::new(&segment.frames) {
            let frame = frame.and_then(|frame| self.order.follow(&frame).map(|()| frame));
            let frame = frame.map_err(|wrong| self.damaged(wrong.to_owned()))?;
            let payload = match frame.payload() {
                Payload::Inline(payload) => payload,
                Payload::Elsewhere(digest) => {
                    let found = segment.payloads.get(digest.as_bytes());
                    found.ok_or_else(|| {
                        self.damaged_at(frame.position, "its large payload is missing".to_owned())
                    })?
                }
            };
            let event = self.event(&frame, payload)?;
            self.index.remember(frame.position, frame.id);
            if frame.tag() == workspace::ERASED_TAG {
                self.erased.insert(frame.stream);
            }
            if let Some(visit) = &mut self.visit {
                visit(&event);
            }
            self.index.keep(event);
        }
        self.order.leave().map(drop).map_err(|wrong| self.damaged(wrong.to_owned()))
    }

    fn event(&mut self, frame: &Frame<'_>, payload: &[u8]) -> Result<Arc<Recorded>, OpenError> {
        let (event, unread) = self
            .decoder
            .decode(frame, payload)
            .map_err(|undecoded| self.damaged_at(frame.position, undecoded.words()))?;
        if let Some(name) = unread.missing {
            let owner = seal::owner(event.stream, &event.fact);
            let missing = Missing { first: event.position, fields: 0, keys: BTreeSet::new() };
            let missing = self.missing.entry(owner).or_insert(missing);
            missing.fields += unread.sealed;
            missing.keys.insert(name);
        }
        Ok(Arc::new(event))
    }

    /// Takes a chunk's frames up to the first that is wrong.
    fn chunk(&mut self, first: u64, bytes: &[u8]) -> Result<Result<(), Wrong>, OpenError> {
        if first != self.order.next.0 {
            return Ok(Err("a chunk is missing"));
        }
        if bytes.is_empty() {
            return Ok(Err("a chunk is empty"));
        }
        self.index.add_chunk(Position(first));
        for frame in Frames::new(bytes) {
            let next = self.order.next;
            let frame = match frame.and_then(|frame| self.order.follow(&frame).map(|()| frame)) {
                Ok(frame) => frame,
                Err(wrong) => {
                    self.order.next = next;
                    return Ok(Err(wrong));
                }
            };
            if frame.position.0 == first
                && let Ok(at) = frame.at()
            {
                self.index.note_time(at);
            }
            if let Payload::Elsewhere(digest) = frame.payload() {
                self.blobs.note(digest);
            }
            let event = match &self.visit {
                Some(_) => {
                    let payload = payload(&frame, self.blobs);
                    let payload = payload.map_err(|reason| self.damaged_at(frame.position, reason))?;
                    Some(self.event(&frame, &payload)?)
                }
                None => None,
            };
            let erases = frame.tag() == workspace::ERASED_TAG;
            self.open.push(Open {
                position: frame.position,
                stream: frame.stream,
                id: frame.id,
                erases,
                event,
            });
            if frame.last {
                self.link = frame.link;
                self.close_append();
            }
        }
        Ok(Ok(()))
    }

    fn close_append(&mut self) {
        for open in self.open.drain(..) {
            self.index.add(open.position, open.stream, open.id);
            if open.erases {
                self.erased.insert(open.stream);
            }
            if let (Some(visit), Some(event)) = (&mut self.visit, open.event) {
                visit(&event);
                self.index.keep(event);
            }
        }
    }

    /// Gathers what follows the last whole append; `bad` is the chunk that is wrong.
    fn torn(&self, layers: &Layers, bad: Option<u64>, reason: Wrong) -> Result<Torn, OpenError> {
        let kept = self.index.head();
        // An append is in one database, and it is the last that has anything.
        let filled = layers.stores.iter().rev().find(|store| !matches!(store.last(), Ok(None)));
        let store = filled.ok_or_else(|| self.failed("nothing is there to be cut".to_owned()))?;
        let mut torn = Torn {
            reason: reason.to_owned(),
            store: Arc::clone(store),
            shortened: None,
            removed: Vec::new(),
            bytes: Vec::new(),
        };
        let from = store.chunk_of(kept).map_err(|reason| self.failed(reason))?.unwrap_or(0);
        for chunk in store.chunks(from) {
            let (first, bytes) = chunk.map_err(|reason| self.failed(reason))?;
            let mut whole = 0;
            for frame in Frames::new(&bytes) {
                match frame {
                    Ok(frame) if frame.position <= kept && first <= kept.0 => whole += frame.bytes.len(),
                    Ok(_) | Err(_) => break,
                }
            }
            if whole == bytes.len() && bad != Some(first) {
                continue;
            }
            torn.bytes.extend_from_slice(&bytes[whole..]);
            if whole == 0 {
                torn.removed.push(first);
            } else {
                torn.shortened = Some((first, bytes[..whole].to_vec()));
            }
        }
        Ok(torn)
    }

    fn finish(mut self, torn: Option<Torn>) -> Scanned {
        if let Some(torn) = &torn {
            self.index.remove_chunks(torn.removed.len());
        }
        self.index.shrink();
        Scanned { index: self.index, link: self.link, torn, erased: self.erased, missing: self.missing }
    }

    fn damaged(&self, reason: String) -> OpenError {
        self.damaged_at(self.order.next, reason)
    }

    fn damaged_at(&self, position: Position, reason: String) -> OpenError {
        OpenError::Damaged { path: self.root.to_owned(), position, reason }
    }

    fn failed(&self, reason: String) -> OpenError {
        OpenError::Store { path: self.root.to_owned(), step: "read the log", reason }
    }
}

impl Scanned {
    /// What is wrong with the log's end, if something is.
    pub(super) fn torn_reason(&self) -> Option<&str> {
        self.torn.as_ref().map(|torn| torn.reason.as_str())
    }

    /// Finishes erasures whose fact is there and whose key is too, and refuses a log that lost keys which nobody destroyed, or
    /// gives them up where a person says so. Answers in how many fields those are.
    pub(super) fn settle_keys(
        &mut self,
        path: &Path,
        keys: &Keyring,
        options: &Options,
    ) -> Result<u64, OpenError> {
        let failed = |step| {
            move |error: KeyringError| OpenError::Store {
                path: path.to_owned(),
                step,
                reason: match std::error::Error::source(&error) {
                    Some(source) => format!("{error}: {source}"),
                    None => error.to_string(),
                },
            }
        };
        for owner in &self.erased {
            keys.erase(*owner).map_err(failed("finish an erasure"))?;
            self.index.forget(*owner);
        }
        let lost: Vec<_> = self.missing.iter().filter(|(owner, _)| !self.erased.contains(owner)).collect();
        let fields = lost.iter().map(|(_, missing)| missing.fields).sum();
        if options.accept_lost_keys {
            for (owner, missing) in lost {
                keys.give_up(*owner, &missing.keys).map_err(failed("give up lost keys"))?;
            }
            return Ok(fields);
        }
        match lost.iter().map(|(_, missing)| missing.first).min() {
            Some(position) if !options.accept_loss => {
                Err(OpenError::KeysMissing { path: path.to_owned(), position, fields })
            }
            Some(_) | None => Ok(fields),
        }
    }

    /// Cuts what is torn, keeping a copy.
    pub(super) fn repair(&mut self, directory: &Directory) -> Result<Option<Repair>, OpenError> {
        let Some(torn) = self.torn.take() else { return Ok(None) };
        let kept = self.index.head();
        let digest = blake3::hash(&torn.bytes).to_hex();
        let quarantined = directory.quarantine().join(format!("after-{kept}-{}.bin", &digest[..16]));
        write_durably(&quarantined, &torn.bytes).map_err(failed(&quarantined, "keep what is cut off"))?;
        torn.store.repair(&torn.removed, torn.shortened.as_ref()).map_err(|reason| OpenError::Store {
            path: directory.root().to_owned(),
            step: "cut the torn end",
            reason,
        })?;
        Ok(Some(Repair { kept, cut_bytes: torn.bytes.len() as u64, reason: torn.reason, quarantined }))
    }
}

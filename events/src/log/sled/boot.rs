//! Opening: one pass over everything that checks it, rebuilds the index, and hands each fact to whoever wants it.
//!
//! Only an end is ever cut: the frames after the last whole append, when something in the last chunk is wrong. What is cut
//! is kept in `quarantine/`. Anything wrong before that means that the log is damaged, and it is not opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::sled::IVec;

use super::blobs::Blobs;
use super::directory::{Directory, failed, write_durably};
use super::index::Index;
use super::store::Store;
use super::{Visit, decode};
use crate::envelope::{Recorded, StreamId};
use crate::id::{EventId, Position};
use crate::log::OpenError;
use crate::log::frame::{Frames, GENESIS, Link, Wrong};
use crate::log::order::Order;

/// Chunks that change threads together: waking the other one costs more than decoding one chunk.
const CHUNKS_PER_BATCH: usize = 64;

/// Batches that wait to be decoded; with chunks of 6 KiB that is less than 2 MiB.
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
}

/// What follows the last whole append.
#[derive(Debug)]
struct Torn {
    reason: String,
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
    event: Option<Arc<Recorded>>,
}

struct Scan<'a, 'v> {
    root: &'a Path,
    blobs: &'a Blobs,
    visit: Option<Visit<'v>>,
    order: Order,
    index: Index,
    link: Link,
    open: Vec<Open>,
}

/// Reads everything.
pub(super) fn scan(
    directory: &Directory,
    store: &Store,
    blobs: &Blobs,
    visit: Option<Visit<'_>>,
) -> Result<Scanned, OpenError> {
    let mut scan = Scan {
        root: directory.root(),
        blobs,
        visit,
        order: Order::default(),
        index: Index::default(),
        link: GENESIS,
        open: Vec::new(),
    };
    let last = store.last().map_err(|reason| scan.failed(reason))?;
    scan.index.expect(Position(last.unwrap_or(0)));
    let bad = std::thread::scope(|threads| scan.all(read_ahead(threads, store)))?;
    let torn = match bad {
        None if scan.open.is_empty() => return Ok(scan.finish(None)),
        None => scan.torn(store, None, "the last append is incomplete")?,
        Some((first, wrong)) => scan.torn(store, Some(first), wrong)?,
    };
    Ok(scan.finish(Some(torn)))
}

/// A chunk and its key, or why it could not be read.
type Read = Result<(u64, IVec), String>;

/// Reads chunks on a thread of their own, since the store takes about as long to find them as decoding them does. Ends
/// early when nobody wants more.
fn read_ahead<'scope>(
    threads: &'scope std::thread::Scope<'scope, '_>,
    store: &Store,
) -> impl Iterator<Item = Read> + use<> {
    let (send, batches) = std::sync::mpsc::sync_channel::<Vec<Read>>(BATCHES_AHEAD);
    let mut chunks = store.chunks(0);
    threads.spawn(move || {
        loop {
            let batch: Vec<Read> = chunks.by_ref().take(CHUNKS_PER_BATCH).collect();
            if batch.is_empty() || send.send(batch).is_err() {
                return;
            }
        }
    });
    batches.into_iter().flatten()
}

impl Scan<'_, '_> {
    /// Takes all chunks; the last one, and what is wrong with it, if something is.
    fn all(&mut self, mut chunks: impl Iterator<Item = Read>) -> Result<Option<(u64, Wrong)>, OpenError> {
        while let Some(chunk) = chunks.next() {
            let (first, bytes) = chunk.map_err(|reason| self.failed(reason))?;
            if let Err(wrong) = self.chunk(first, &bytes)? {
                if chunks.next().is_some() || first > self.order.next.0 {
                    return Err(self.damaged(wrong.to_owned()));
                }
                return Ok(Some((first, wrong)));
            }
        }
        Ok(None)
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
            let event = match &self.visit {
                Some(_) => Some(Arc::new(
                    decode(&frame, self.blobs).map_err(|reason| self.damaged_at(frame.position, reason))?,
                )),
                None => None,
            };
            self.open.push(Open { position: frame.position, stream: frame.stream, id: frame.id, event });
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
            if let (Some(visit), Some(event)) = (&mut self.visit, open.event) {
                visit(&event);
                self.index.keep(event);
            }
        }
    }

    /// Gathers what follows the last whole append; `bad` is the chunk that is wrong.
    fn torn(&self, store: &Store, bad: Option<u64>, reason: Wrong) -> Result<Torn, OpenError> {
        let kept = self.index.head();
        let mut torn =
            Torn { reason: reason.to_owned(), shortened: None, removed: Vec::new(), bytes: Vec::new() };
        let from = self.index.chunk_of(kept).unwrap_or(0);
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
        Scanned { index: self.index, link: self.link, torn }
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

    /// Cuts what is torn, keeping a copy.
    pub(super) fn repair(
        &mut self,
        directory: &Directory,
        store: &Store,
    ) -> Result<Option<Repair>, OpenError> {
        let Some(torn) = self.torn.take() else { return Ok(None) };
        let kept = self.index.head();
        let digest = blake3::hash(&torn.bytes).to_hex();
        let quarantined = directory.quarantine().join(format!("after-{kept}-{}.bin", &digest[..16]));
        write_durably(&quarantined, &torn.bytes).map_err(failed(&quarantined, "keep what is cut off"))?;
        store.repair(&torn.removed, torn.shortened.as_ref()).map_err(|reason| OpenError::Store {
            path: directory.root().to_owned(),
            step: "cut the torn end",
            reason,
        })?;
        Ok(Some(Repair { kept, cut_bytes: torn.bytes.len() as u64, reason: torn.reason, quarantined }))
    }
}

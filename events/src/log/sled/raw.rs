//! The log's frames as they are, of an open log and of one that nobody has open.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use super::blobs::Blobs;
use super::directory::{Directory, exists};
use super::store::{RealDisk, Store};
use super::{CACHE_BYTES_DEFAULT, Shared, verify};
use crate::id::Position;
use crate::log::frame::{self, Link};
use crate::log::{Frames, OpenError, ReadError, Verified, checkpoint};

impl Frames for Shared {
    fn head(&self) -> Position {
        self.index().head()
    }

    fn frames(&self, from: Position, bytes: usize) -> Result<Vec<u8>, ReadError> {
        frames(&self.store, from..=Frames::head(self), bytes)
    }

    fn payload(&self, position: Position, digest: &[u8; 32]) -> Result<Vec<u8>, ReadError> {
        payload(&self.blobs, position, digest)
    }

    fn link(&self, position: Position) -> Result<Option<Link>, ReadError> {
        link(&self.store, position, Frames::head(self))
    }
}

/// A log that nobody has open, held while it is read. Nothing in it is repaired or changed.
#[derive(Debug)]
pub struct ClosedLog {
    store: Store,
    blobs: Blobs,
    head: Position,
    high_water: Option<Position>,
    // Last, so that the lock outlives the store.
    directory: Directory,
}

impl ClosedLog {
    /// Takes the log in a directory. Blocks.
    ///
    /// # Errors
    /// When there is none, somebody has it open, or the store can't be opened.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        exists(path)?;
        let directory = Directory::take(path)?;
        let (_, high_water) = directory.high_water()?;
        let blobs = Blobs::new(directory.blobs());
        let store = Store::open(&directory.store(), CACHE_BYTES_DEFAULT, Arc::new(RealDisk))?;
        let head = head(&store).map_err(|reason| OpenError::Store {
            path: path.to_owned(),
            step: "look for the log's end",
            reason,
        })?;
        Ok(Self { store, blobs, head, high_water, directory })
    }

    /// Reads everything and checks checksums, order, chain, payloads and the log's own checkpoints. Blocks.
    ///
    /// # Errors
    /// When the checkpoints can't be read.
    pub fn verify(&self) -> Result<Verified, ReadError> {
        let until = verify::Until::End { high_water: self.high_water };
        let verified = verify::verify(&self.store, &self.blobs, until);
        checkpoint::complete(verified, self.directory.root(), self)
    }
}

impl Frames for ClosedLog {
    fn head(&self) -> Position {
        self.head
    }

    fn frames(&self, from: Position, bytes: usize) -> Result<Vec<u8>, ReadError> {
        frames(&self.store, from..=self.head, bytes)
    }

    fn payload(&self, position: Position, digest: &[u8; 32]) -> Result<Vec<u8>, ReadError> {
        payload(&self.blobs, position, digest)
    }

    fn link(&self, position: Position) -> Result<Option<Link>, ReadError> {
        link(&self.store, position, self.head)
    }
}

/// The end of the last whole append in the last chunks; what is torn behind it counts as not written.
fn head(store: &Store) -> Result<Position, String> {
    let mut before = store.last()?;
    while let Some(first) = before {
        let bytes = store.get(first)?.unwrap_or_default();
        let whole = frame::Frames::new(&bytes).map_while(Result::ok).filter(|frame| frame.last).last();
        if let Some(frame) = whole {
            return Ok(frame.position);
        }
        before = match first {
            0 | 1 => None,
            first => store.chunk_of(Position(first - 1))?,
        };
    }
    Ok(Position(0))
}

fn frames(store: &Store, wanted: RangeInclusive<Position>, bytes: usize) -> Result<Vec<u8>, ReadError> {
    let (from, head) = (*wanted.start(), *wanted.end());
    let mut read = Vec::new();
    if from > head {
        return Ok(read);
    }
    let first = store.chunk_of(from).map_err(|reason| failed(from, reason))?;
    for chunk in store.chunks(first.unwrap_or(0)) {
        let (first, chunk) = chunk.map_err(|reason| failed(from, reason))?;
        if first > head.0 || read.len() >= bytes {
            break;
        }
        for frame in frame::Frames::new(&chunk) {
            let frame = frame.map_err(|wrong| failed(Position(first), wrong.to_owned()))?;
            if wanted.contains(&frame.position) {
                read.extend_from_slice(frame.bytes);
            }
        }
    }
    Ok(read)
}

fn payload(blobs: &Blobs, position: Position, digest: &[u8; 32]) -> Result<Vec<u8>, ReadError> {
    blobs
        .get(&blake3::Hash::from_bytes(*digest))
        .map_err(|error| failed(position, format!("read a large payload: {error}")))
}

fn link(store: &Store, position: Position, head: Position) -> Result<Option<Link>, ReadError> {
    if position > head || position == Position(0) {
        return Ok(None);
    }
    let Some(first) = store.chunk_of(position).map_err(|reason| failed(position, reason))? else {
        return Ok(None);
    };
    let chunk = store.get(first).map_err(|reason| failed(position, reason))?.unwrap_or_default();
    let frame = frame::locate(&chunk, position).map_err(|wrong| failed(position, wrong.to_owned()))?;
    Ok(Some(frame.link))
}

fn failed(position: Position, reason: String) -> ReadError {
    ReadError::Store { what: format!("position {position}"), reason }
}

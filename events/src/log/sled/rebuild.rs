//! A log made anew from frames that were read elsewhere: the same bytes in a store of its own.

use std::path::Path;
use std::sync::Arc;

use super::CACHE_BYTES_DEFAULT;
use super::blobs::Blobs;
use super::directory::Directory;
use super::store::{RealDisk, Store};
use super::writer::CHUNK_BYTES_MAX;
use crate::id::Position;
use crate::log::OpenError;
use crate::log::frame::Frame;

/// Chunks per commit: 6 MiB at a flush each.
const CHUNKS_PER_COMMIT: usize = 1024;

/// How far a log was acknowledged that nobody has open, whatever is wrong with it; it is held until the first is dropped.
pub(crate) fn high_water(path: &Path) -> Result<(Directory, Option<Position>), OpenError> {
    let directory = Directory::take(path)?;
    let (_, acknowledged) = directory.high_water()?;
    Ok((directory, acknowledged))
}

/// See the module. Nothing of it counts until [`Rebuild::finish`] has returned.
#[derive(Debug)]
pub(crate) struct Rebuild {
    store: Store,
    blobs: Blobs,
    chunks: Vec<(Position, Vec<u8>)>,
    head: Position,
    // Last, so that the lock outlives the store.
    directory: Directory,
}

impl Rebuild {
    /// Begins in a directory that does not exist yet.
    pub(crate) fn begin(path: &Path) -> Result<Self, OpenError> {
        let directory = Directory::take(path)?;
        let blobs = Blobs::new(directory.blobs());
        let store = Store::open(&directory.store(), CACHE_BYTES_DEFAULT, Arc::new(RealDisk))?;
        Ok(Self { store, blobs, chunks: Vec::new(), head: Position(0), directory })
    }

    /// Keeps a large payload; it has to be there before its frame.
    pub(crate) fn payload(&self, digest: &[u8; 32], payload: &[u8]) -> Result<(), OpenError> {
        let kept = self.blobs.put(&blake3::Hash::from_bytes(*digest), payload);
        kept.map_err(|error| self.failed("write a large payload", error.to_string()))
    }

    /// Adds the next frame, which the caller has checked.
    pub(crate) fn frame(&mut self, frame: &Frame<'_>) -> Result<(), OpenError> {
        match self.chunks.last_mut() {
            Some((_, chunk)) if chunk.len() + frame.bytes.len() <= CHUNK_BYTES_MAX => {
                chunk.extend_from_slice(frame.bytes);
            }
            Some(_) | None => {
                if self.chunks.len() >= CHUNKS_PER_COMMIT {
                    self.commit()?;
                }
                self.chunks.push((frame.position, frame.bytes.to_vec()));
            }
        }
        self.head = frame.position;
        Ok(())
    }

    /// Makes everything durable, and lets go of it.
    pub(crate) fn finish(mut self) -> Result<Position, OpenError> {
        self.commit()?;
        let (high_water, _) = self.directory.high_water()?;
        high_water
            .note(self.head)
            .and_then(|()| high_water.sync())
            .map_err(|error| self.failed("write the high-water mark", error.to_string()))?;
        self.store.flush().map_err(|reason| self.failed("write the facts", reason))?;
        Ok(self.head)
    }

    fn commit(&mut self) -> Result<(), OpenError> {
        let chunks = std::mem::take(&mut self.chunks);
        if chunks.is_empty() {
            return Ok(());
        }
        self.store.commit(&chunks).map_err(|reason| self.failed("write the facts", reason))
    }

    fn failed(&self, step: &'static str, reason: String) -> OpenError {
        OpenError::Store { path: self.directory.root().to_owned(), step, reason }
    }
}

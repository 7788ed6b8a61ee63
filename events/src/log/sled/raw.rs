//! The log's frames as they are, of an open log and of one that nobody has open.

use std::path::Path;
use std::sync::Arc;

use super::blobs::Blobs;
use super::decode::Decoder;
use super::directory::{Directory, exists};
use super::layers::{Layers, Purpose};
use super::scavenge::Survey;
use super::store::{Disk, RealDisk};
use super::{CACHE_BYTES_DEFAULT, Shared, verify};
use crate::envelope::Timestamp;
use crate::id::Position;
use crate::keyring::Keyring;
use crate::log::frame::Link;
use crate::log::segments::Segment;
use crate::log::{Frames, OpenError, ReadError, Verified, checkpoint};
use crate::retention::Rules;

impl Frames for Shared {
    fn head(&self) -> Position {
        self.index().head()
    }

    fn frames(&self, from: Position, bytes: usize) -> Result<Vec<u8>, ReadError> {
        let (layers, head) = self.layers();
        layers.frames(&(from..=head), bytes)
    }

    fn payload(&self, position: Position, digest: &[u8; 32]) -> Result<Vec<u8>, ReadError> {
        let found = self.layers().0.payload(&self.blobs, position, digest);
        // It may have been archived between the two steps, and is gone from where it was.
        found.or_else(|_| self.layers().0.payload(&self.blobs, position, digest))
    }

    fn link(&self, position: Position) -> Result<Option<Link>, ReadError> {
        let (layers, head) = self.layers();
        layers.link(position, head)
    }

    fn thinned(&self, position: Position) -> Result<Option<Segment>, ReadError> {
        let archive = self.index().archive();
        archive.thinned(position)
    }
}

impl Shared {
    /// Where the bytes are, and how far they go.
    pub(super) fn layers(&self) -> (Layers, Position) {
        let index = self.index();
        (index.layers(), index.head())
    }
}

/// A log that nobody has open, held while it is read. Nothing in it is repaired or changed.
#[derive(Debug)]
pub struct ClosedLog {
    layers: Layers,
    blobs: Blobs,
    head: Position,
    high_water: Option<Position>,
    keys: Option<Arc<Keyring>>,
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
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let (layers, _) = Layers::open(&directory, CACHE_BYTES_DEFAULT, &disk, Purpose::Look)?;
        let head = layers.head().map_err(|reason| OpenError::Store {
            path: path.to_owned(),
            step: "look for the log's end",
            reason,
        })?;
        Ok(Self { layers, blobs, head, high_water, keys: None, directory })
    }

    /// The same, with keys to read sealed fields by; nothing else needs them.
    #[must_use]
    pub fn with_keys(self, keys: Option<Arc<Keyring>>) -> Self {
        Self { keys, ..self }
    }

    /// What is due to be removed by these rules, and what was. Blocks.
    ///
    /// # Errors
    /// When the archive can't be read.
    pub fn survey(&self, rules: &Rules, now: Timestamp) -> Result<Survey, ReadError> {
        Survey::of(&self.layers.archive, rules, now)
    }

    /// Reads everything and checks checksums, order, chain, payloads and the log's own checkpoints. Blocks.
    ///
    /// # Errors
    /// When the checkpoints can't be read.
    pub fn verify(&self) -> Result<Verified, ReadError> {
        let until = verify::Until::End { high_water: self.high_water };
        let keys = checkpoint::Book::new(self.directory.root()).keys();
        let decoder = Decoder { keys: self.keys.as_deref() };
        let verified = verify::verify(&self.layers, (&self.blobs, decoder), until, &keys);
        checkpoint::complete(verified, self.directory.root(), self)
    }
}

impl Frames for ClosedLog {
    fn head(&self) -> Position {
        self.head
    }

    fn frames(&self, from: Position, bytes: usize) -> Result<Vec<u8>, ReadError> {
        self.layers.frames(&(from..=self.head), bytes)
    }

    fn payload(&self, position: Position, digest: &[u8; 32]) -> Result<Vec<u8>, ReadError> {
        self.layers.payload(&self.blobs, position, digest)
    }

    fn link(&self, position: Position) -> Result<Option<Link>, ReadError> {
        self.layers.link(position, self.head)
    }

    fn thinned(&self, position: Position) -> Result<Option<Segment>, ReadError> {
        self.layers.archive.thinned(position)
    }
}

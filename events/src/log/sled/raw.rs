//! The log's frames as they are, of an open log and of one that nobody has open.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::blobs::Blobs;
use super::copy::copy_into;
use super::decode::Decoder;
use super::directory::{Directory, exists, failed, hold};
use super::layers::{Layers, Purpose};
use super::mend::bare_copies;
use super::store::{Disk, RealDisk};
use super::{CACHE_BYTES_DEFAULT, Shared, verify};
use crate::id::Position;
use crate::keyring::Keyring;
use crate::log::frame::Link;
use crate::log::segments::Segment;
use crate::log::{Frames, OpenError, ReadError, Verified, checkpoint};

impl Frames for Shared {
    fn head(&self) -> Position {
        self.index().head()
    }

    fn frames(&self, from: Position, bytes: usize) -> Result<Vec<u8>, ReadError> {
        let (layers, head) = self.layers();
        self.health.note(layers.frames(&(from..=head), bytes))
    }

    fn payload(&self, position: Position, digest: &[u8; 32]) -> Result<Vec<u8>, ReadError> {
        let found = self.layers().0.payload(&self.blobs, position, digest);
        // It may have been archived between the two steps, and is gone from where it was.
        self.health.note(found.or_else(|_| self.layers().0.payload(&self.blobs, position, digest)))
    }

    fn link(&self, position: Position) -> Result<Option<Link>, ReadError> {
        let (layers, head) = self.layers();
        self.health.note(layers.link(position, head))
    }

    fn thinned(&self, position: Position) -> Result<Option<Segment>, ReadError> {
        let archive = self.index().archive();
        self.health.note(archive.thinned(position))
    }
}

impl Shared {
    /// Where the bytes are, and how far they go.
    pub(super) fn layers(&self) -> (Layers, Position) {
        let index = self.index();
        (index.layers(), index.head())
    }
}

/// A log that nobody has open, held while it is read. Nothing of it is repaired, or changed in any byte: its databases are
/// read in a copy of their own, below the directory for temporary files, which takes as much room as they do.
#[derive(Debug)]
pub struct ClosedLog {
    root: PathBuf,
    layers: Layers,
    blobs: Blobs,
    head: Position,
    high_water: Option<Position>,
    keys: Option<Arc<Keyring>>,
    /// Why the databases had to be read without what sled keeps beside their files.
    mendable: Option<String>,
    // Last, so that they outlive the databases.
    _copy: TempDir,
    _lock: Option<File>,
}

impl ClosedLog {
    /// Takes the log in a directory. Blocks.
    ///
    /// # Errors
    /// When there is none, somebody has it open, it can't be copied, or the store can't be opened.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        exists(path)?;
        let lock = hold(path)?;
        let copy = tempfile::Builder::new().prefix("covalence-log-").tempdir();
        let copy = copy.map_err(failed(&std::env::temp_dir(), "make a directory for a copy of the log"))?;
        copy_into(path, copy.path())?;
        let directory = Directory::take(copy.path())?;
        let (_, high_water) = directory.high_water()?;
        let reaches = |opened: &Result<(Layers, Position), OpenError>| match opened {
            Ok((_, head)) => Some(*head),
            Err(_) => None,
        };
        let mut opened = open(&directory, &directory.store_places()?);
        let mut mendable = None;
        if reaches(&opened).is_none_or(|head| high_water > Some(head)) {
            let bare = bare_copies(path, &copy.path().join("bare")).map_err(failed(path, "copy the log"))?;
            let without = open(&directory, &bare);
            if reaches(&without) > reaches(&opened) {
                mendable = Some(match &opened {
                    Ok((_, head)) => format!("with it the log ends at {head}"),
                    Err(error) => error.to_string(),
                });
                opened = without;
            }
        }
        let (layers, head) = opened?;
        let blobs = Blobs::new(directory.blobs());
        let root = path.to_owned();
        Ok(Self { root, layers, blobs, head, high_water, keys: None, mendable, _copy: copy, _lock: lock })
    }

    /// The same, with keys to read sealed fields by; nothing else needs them.
    #[must_use]
    pub fn with_keys(self, keys: Option<Arc<Keyring>>) -> Self {
        Self { keys, ..self }
    }

    /// Reads everything and checks checksums, order, chain, payloads and the log's own checkpoints. Blocks.
    ///
    /// # Errors
    /// When the checkpoints can't be read.
    pub fn verify(&self) -> Result<Verified, ReadError> {
        let until = verify::Until::End { high_water: self.high_water };
        let keys = checkpoint::Book::new(&self.root).keys();
        let decoder = Decoder { keys: self.keys.as_deref() };
        let mut verified = verify::verify(&self.layers, (&self.blobs, decoder), until, &keys);
        if let Some(reason) = &self.mendable {
            verified.problems.insert(
                0,
                format!(
                    "what sled keeps beside its files is damaged, the next start sets it aside: {reason}"
                ),
            );
        }
        checkpoint::complete(verified, &self.root, self)
    }
}

/// Opens the databases at these places, and looks how far they go.
fn open(directory: &Directory, places: &[PathBuf]) -> Result<(Layers, Position), OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (layers, _) = Layers::open(directory, places, CACHE_BYTES_DEFAULT, &disk, Purpose::Look)?;
    let head = layers.head().map_err(|reason| OpenError::Store {
        path: directory.root().to_owned(),
        step: "look for the log's end",
        reason,
    })?;
    Ok((layers, head))
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

//! Where the log's bytes are: the archive, and behind it one database of sled after the other. Nearly always that is one; while
//! the one before it is being archived, two.

use std::collections::HashMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use ::sled::IVec;

use super::blobs::Blobs;
use super::directory::{Directory, discard, failed, sync_dir};
use super::store::{Disk, Store};
use crate::envelope::StreamId;
use crate::id::{Position, Version};
use crate::log::archive::Archive;
use crate::log::frame::{self, Link};
use crate::log::{OpenError, ReadError};

/// See the module. Holds what it names: nothing of it is removed while it is there.
#[derive(Clone, Debug)]
pub(super) struct Layers {
    pub(super) archive: Arc<Archive>,
    /// Oldest first. Never empty where the log is written.
    pub(super) stores: Vec<Arc<Store>>,
}

/// What layers are opened for, and so what is removed of what a crash left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To go on with the log: a database that is in the archive as a whole goes, and so do parts that were never finished.
    Write,
    /// To look into a copy, whose archive is not one.
    Copy,
    /// To read it where it is, without a change.
    Look,
}

/// The last version of each stream that is archived.
pub(super) type Heads = HashMap<StreamId, Version>;

impl Layers {
    /// Opens everything, with the databases at these places, oldest first.
    pub(super) fn open(
        directory: &Directory,
        places: &[PathBuf],
        cache_bytes: u64,
        disk: &Arc<dyn Disk>,
        purpose: Purpose,
    ) -> Result<(Self, Heads), OpenError> {
        let mut heads = Heads::new();
        let tidy = purpose != Purpose::Look;
        let tidy_archive = purpose == Purpose::Write;
        let archive = Archive::open(&directory.archive(), tidy_archive, &mut |stream, version| {
            let head = heads.entry(stream).or_default();
            *head = version.max(*head);
        })?;
        if tidy {
            directory.tidy()?;
        }
        let mut stores = Vec::new();
        for (index, path) in places.iter().enumerate() {
            let store = Store::open(path, cache_bytes, Arc::clone(disk))?;
            let first = store.first().map_err(|reason| OpenError::Store {
                path: path.clone(),
                step: "look for the first fact",
                reason,
            })?;
            if first.is_none_or(|first| first > archive.last().0) {
                stores.push(Arc::new(store));
                continue;
            }
            archived_whole(directory, &archive, &store)?;
            drop(store);
            if tidy {
                tracing::info!(store = %path.display(), "a database that is in the archive is removed");
                discard(path).map_err(failed(path, "remove what was archived"))?;
                if index + 1 == places.len() {
                    // Its successor was lost with whatever it held; the high-water mark knows whether that was anything.
                    fs::create_dir(path).map_err(failed(path, "create a directory"))?;
                }
                sync_dir(directory.root()).map_err(failed(directory.root(), "sync the log's directory"))?;
            }
            if index + 1 == places.len() && tidy {
                stores.push(Arc::new(Store::open(path, cache_bytes, Arc::clone(disk))?));
            }
        }
        Ok((Self { archive: Arc::new(archive), stores }, heads))
    }

    /// The key of the last chunk, or else the end of the archive.
    pub(super) fn last(&self) -> Result<u64, String> {
        for store in self.stores.iter().rev() {
            if let Some(last) = store.last()? {
                return Ok(last);
            }
        }
        Ok(self.archive.last().0)
    }

    /// The end of the last whole append; what is torn behind it counts as not written.
    pub(super) fn head(&self) -> Result<Position, String> {
        for store in self.stores.iter().rev() {
            if let Some(head) = store.head()? {
                return Ok(head);
            }
        }
        Ok(self.archive.last())
    }

    /// All chunks from the one on that holds a position, in order.
    pub(super) fn chunks(
        &self,
        from: Position,
    ) -> Result<impl Iterator<Item = Result<(u64, IVec), String>> + use<>, String> {
        let mut chunks = Vec::with_capacity(self.stores.len());
        for store in &self.stores {
            match store.chunk_of(from)? {
                // Later ones begin after it.
                Some(first) => {
                    chunks.clear();
                    chunks.push(store.chunks(first));
                }
                None => chunks.push(store.chunks(0)),
            }
        }
        Ok(chunks.into_iter().flatten())
    }

    /// Whole frames of a range, about `bytes` of them.
    pub(super) fn frames(
        &self,
        wanted: &RangeInclusive<Position>,
        bytes: usize,
    ) -> Result<Vec<u8>, ReadError> {
        let (from, head) = (*wanted.start(), *wanted.end());
        let mut read = Vec::new();
        if from > head {
            return Ok(read);
        }
        if from <= self.archive.last() {
            let (frames, to_its_end) = self.archive.frames(from, bytes)?;
            if frames.len() >= bytes || !to_its_end {
                return Ok(frames);
            }
            read = frames;
        }
        for chunk in self.chunks(from).map_err(|reason| unread(from, reason))? {
            let (first, chunk) = chunk.map_err(|reason| unread(from, reason))?;
            if first > head.0 || read.len() >= bytes {
                break;
            }
            for frame in frame::Frames::new(&chunk) {
                let frame = frame.map_err(|wrong| unread(Position(first), wrong.to_owned()))?;
                if wanted.contains(&frame.position) {
                    read.extend_from_slice(frame.bytes);
                }
            }
        }
        Ok(read)
    }

    /// A large payload, from its own file or from the archive.
    pub(super) fn payload(
        &self,
        blobs: &Blobs,
        position: Position,
        digest: &[u8; 32],
    ) -> Result<Vec<u8>, ReadError> {
        if position <= self.archive.last() {
            return self.archive.payload(position, digest);
        }
        blobs
            .get(&blake3::Hash::from_bytes(*digest))
            .map_err(|error| unread(position, format!("read a large payload: {error}")))
    }

    /// Databases whose file is not where it was opened, in words: what is written goes to a file that no start finds.
    pub(super) fn misplaced(&self) -> Vec<String> {
        self.stores.iter().filter_map(|store| store.in_place().err()).collect()
    }

    /// The chain's link of a position; `None` beyond `head`.
    pub(super) fn link(&self, position: Position, head: Position) -> Result<Option<Link>, ReadError> {
        if position > head || position == Position(0) {
            return Ok(None);
        }
        if position <= self.archive.last() {
            return self.archive.link_at(position);
        }
        for store in self.stores.iter().rev() {
            let Some(first) = store.chunk_of(position).map_err(|reason| unread(position, reason))? else {
                continue;
            };
            let chunk = store.get(first).map_err(|reason| unread(position, reason))?.unwrap_or_default();
            let frame =
                frame::locate(&chunk, position).map_err(|wrong| unread(position, wrong.to_owned()))?;
            return Ok(Some(frame.link));
        }
        Ok(None)
    }
}

/// Makes sure that a database whose beginning is in the archive is there to its end.
fn archived_whole(directory: &Directory, archive: &Archive, store: &Store) -> Result<(), OpenError> {
    let step = "compare what was archived";
    let failed = |reason| OpenError::Store { path: directory.root().to_owned(), step, reason };
    let head = store.head().map_err(failed)?.unwrap_or_default();
    let links = (
        archive.link_at(head).map_err(|error| failed(error.to_string()))?,
        store.link(head).map_err(failed)?,
    );
    let first = store.first().map_err(failed)?.map_or(Position(0), Position);
    for part in archive.parts().iter().filter(|part| part.last() >= first && part.first() <= head) {
        for number in 0..part.segments() {
            // Once the database is gone, this is the only place that has these facts.
            part.segment(number).map_err(|error| failed(error.to_string()))?;
        }
    }
    match links {
        (Some(archived), Some(stored)) if archived == stored => Ok(()),
        _ => Err(OpenError::Damaged {
            path: directory.root().to_owned(),
            position: archive.last().next(),
            reason: "a database goes on behind the part of the archive that was made of it".to_owned(),
        }),
    }
}

pub(super) fn unread(position: Position, reason: String) -> ReadError {
    ReadError::Store { what: format!("position {position}"), reason }
}

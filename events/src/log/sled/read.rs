//! Reading facts: from memory, from a database, from the archive.
//!
//! What is wanted is gathered under the index's lock, in memory alone. What has to be read from a disk is read afterwards; what
//! was gathered holds on to the databases and the archive as they were.

use std::borrow::Cow;
use std::sync::Arc;

use ::sled::IVec;

use super::Shared;
use super::blobs::Blobs;
use super::decode::{Decoder, Undecoded};
use super::index::{Index, Source};
use super::pieces::{in_parallel, pieces};
use crate::envelope::{Recorded, StreamId};
use crate::id::{Position, Version};
use crate::log::ReadError;
use crate::log::archive::Archive;
use crate::log::frame::{self, Frame, Payload};

/// What a reader asks for; see the port's methods.
#[derive(Clone, Copy, Debug)]
pub(super) enum Query {
    Stream { stream: StreamId, from: Version, limit: usize },
    Back { stream: StreamId, through: Position, limit: usize },
    All { from: Position, limit: usize },
}

/// Facts of a page whose successors are likely to be asked for next: who reads less at once looks for something.
const READ_AHEAD_FROM: usize = 2048;

/// Finds the large payload of a position.
pub(super) type LargePayload<'a> = &'a (dyn Fn(Position, &blake3::Hash) -> Result<Vec<u8>, ReadError> + Sync);

/// What is known of the answer without reading.
#[derive(Debug)]
pub(super) struct Gathered {
    archive: Arc<Archive>,
    /// What is to be asked of the archive.
    archived: Option<Query>,
    live: Vec<Source>,
    limit: usize,
}

impl Index {
    /// Finds out where the answer is.
    pub(super) fn gather(&self, query: Query) -> Result<Gathered, ReadError> {
        let archive = self.archive();
        let end = archive.last();
        let (positions, archived, limit) = match query {
            Query::Stream { stream, from, limit } => {
                let archived = end > Position(0) && from < self.first_live_version(stream);
                (self.positions(stream, from, limit), archived, limit)
            }
            Query::Back { stream, through, limit } => {
                let positions = self.positions_back(stream, through, limit);
                let archived = positions.len() < limit && self.first_live_version(stream) > Version(1);
                (positions, archived && end > Position(0), limit)
            }
            Query::All { from, limit } => {
                let live = from.0.max(end.0 + 1)..=self.head().0;
                (live.take(limit).map(Position).collect(), from <= end, limit)
            }
        };
        let live =
            positions.into_iter().map(|position| self.source(position).ok_or_else(|| missing(position)));
        Ok(Gathered {
            live: live.collect::<Result<_, _>>()?,
            archived: (archived && limit > 0).then_some(query),
            archive,
            limit,
        })
    }

    /// One fact, wherever it is.
    pub(super) fn gather_one(&self, position: Position) -> Result<Gathered, ReadError> {
        self.gather(Query::All { from: position, limit: 1 })
    }
}

impl Gathered {
    /// Whether nothing has to be read.
    pub(super) fn is_in_memory(&self) -> bool {
        self.archived.is_none() && self.live.iter().all(|source| matches!(source, Source::Memory(_)))
    }

    /// Reads. `payload` finds large payloads of facts that are not archived. Blocks.
    pub(super) fn load(
        self,
        decoder: Decoder<'_>,
        payload: LargePayload<'_>,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let archive = &self.archive;
        let mut events = match self.archived {
            None => Vec::with_capacity(self.live.len()),
            Some(Query::Stream { stream, from, limit }) => {
                at(archive, &archive.stream(stream, from, limit)?, decoder)?
            }
            Some(Query::Back { stream, through, limit }) => {
                let wanted = limit - self.live.len();
                at(archive, &archive.stream_back(stream, through, wanted)?, decoder)?
            }
            Some(Query::All { from, limit }) => page(archive, from, limit, decoder)?,
        };
        let left = self.limit - events.len().min(self.limit);
        let live = &self.live[..left.min(self.live.len())];
        let parts = pieces(live.len()).map(|piece| &live[piece]);
        for part in in_parallel(parts, |sources| of_databases(sources, decoder, payload)) {
            events.extend(part?);
        }
        Ok(events)
    }
}

impl Shared {
    /// What a reader asks for; see [`Gathered::load`]. Blocks.
    pub(super) fn load(&self, gathered: Gathered) -> Result<Vec<Arc<Recorded>>, ReadError> {
        gathered.load(self.decoder(), &|position, digest| {
            // It may have been archived since, and is gone from where it was.
            let archived = || self.index().archive().payload(position, digest.as_bytes()).ok();
            match self.blobs.get(digest) {
                Ok(payload) => Ok(payload),
                Err(error) => archived().ok_or_else(|| unread_payload(position, &error)),
            }
        })
    }

    /// The same for who holds the index's lock: nothing is archived meanwhile.
    pub(super) fn load_locked(&self, gathered: Gathered) -> Result<Vec<Arc<Recorded>>, ReadError> {
        gathered.load(self.decoder(), &|position, digest| {
            self.blobs.get(digest).map_err(|error| unread_payload(position, &error))
        })
    }
}

/// Facts that are in memory or in a database.
fn of_databases(
    sources: &[Source],
    decoder: Decoder<'_>,
    payload: LargePayload<'_>,
) -> Result<Vec<Arc<Recorded>>, ReadError> {
    let mut events = Vec::with_capacity(sources.len());
    let mut chunk: Option<(u64, IVec)> = None;
    for source in sources {
        let (store, first, position) = match source {
            Source::Memory(event) => {
                events.push(Arc::clone(event));
                continue;
            }
            Source::Chunk { store, first, position } => (store, *first, *position),
        };
        let failed = |reason: String| ReadError::Store { what: format!("position {position}"), reason };
        let bytes = match &chunk {
            Some((loaded, bytes)) if *loaded == first => bytes,
            Some(_) | None => {
                let bytes = store.get(first).map_err(failed)?.ok_or_else(|| missing(position))?;
                &chunk.insert((first, bytes)).1
            }
        };
        let frame = frame::locate(bytes, position).map_err(|wrong| failed(wrong.to_owned()))?;
        events.push(match frame.payload() {
            Payload::Inline(payload) => recorded(&frame, payload, decoder)?,
            Payload::Elsewhere(digest) => recorded(&frame, &payload(position, &digest)?, decoder)?,
        });
    }
    Ok(events)
}

/// A page of the archive. Where facts were removed from it, the threads find fewer than they were sent for, and the rest is
/// read after them.
fn page(
    archive: &Archive,
    from: Position,
    limit: usize,
    decoder: Decoder<'_>,
) -> Result<Vec<Arc<Recorded>>, ReadError> {
    let mut events = Vec::new();
    let there = (archive.last().0 + 1).saturating_sub(from.0);
    let sought = limit.min(usize::try_from(there).unwrap_or(usize::MAX));
    if sought >= READ_AHEAD_FROM {
        // Blocks are read one by one, each from a file that was just opened: the system can't see where this is going.
        let pages = [0, 1, 2].map(|page| Position(from.0 + page * sought as u64));
        for position in pages {
            archive.read_ahead(position);
        }
    }
    let parts = pieces(sought).map(|piece| (from.0 + piece.start as u64, from.0 + piece.end as u64));
    for part in in_parallel(parts, |(from, end)| {
        let mut events = Vec::new();
        archive.frames_from(Position(from), &mut |frame| {
            let within = frame.position.0 < end;
            if within {
                events.push(archived(archive, frame, decoder)?);
            }
            // Asked for once more after the last, it would unpack the next block for nothing.
            Ok(within && frame.position.0 + 1 < end)
        })?;
        Ok::<_, ReadError>(events)
    }) {
        events.extend(part?);
    }
    if events.len() < limit {
        let next = Position(from.0 + sought as u64);
        archive.frames_from(next, &mut |frame| {
            events.push(archived(archive, frame, decoder)?);
            Ok(events.len() < limit)
        })?;
    }
    Ok(events)
}

/// Facts of the archive.
fn at(
    archive: &Archive,
    positions: &[Position],
    decoder: Decoder<'_>,
) -> Result<Vec<Arc<Recorded>>, ReadError> {
    let mut events = Vec::with_capacity(positions.len());
    for &position in positions {
        archive.frame(position, &mut |frame| {
            events.push(archived(archive, frame, decoder)?);
            Ok(())
        })?;
    }
    Ok(events)
}

fn archived(archive: &Archive, frame: &Frame<'_>, decoder: Decoder<'_>) -> Result<Arc<Recorded>, ReadError> {
    match frame.payload() {
        Payload::Inline(payload) => recorded(frame, payload, decoder),
        Payload::Elsewhere(digest) => {
            recorded(frame, &archive.payload(frame.position, digest.as_bytes())?, decoder)
        }
    }
}

fn recorded(frame: &Frame<'_>, payload: &[u8], decoder: Decoder<'_>) -> Result<Arc<Recorded>, ReadError> {
    let position = frame.position;
    match decoder.decode(frame, payload) {
        Ok((event, _)) => Ok(Arc::new(event)),
        Err(Undecoded::Codec(source)) => Err(ReadError::Corrupt { position, source }),
        Err(undecoded @ Undecoded::Envelope(_)) => {
            Err(ReadError::Store { what: format!("position {position}"), reason: undecoded.words() })
        }
    }
}

fn unread_payload(position: Position, error: &std::io::Error) -> ReadError {
    ReadError::Store {
        what: format!("position {position}"),
        reason: format!("read a large payload: {error}"),
    }
}

fn missing(position: Position) -> ReadError {
    ReadError::Store { what: format!("position {position}"), reason: "it is not there".to_owned() }
}

/// A frame's payload, from wherever it is.
pub(super) fn payload<'a>(frame: &Frame<'a>, blobs: &Blobs) -> Result<Cow<'a, [u8]>, String> {
    match frame.payload() {
        Payload::Inline(payload) => Ok(payload.into()),
        Payload::Elsewhere(digest) => {
            blobs.get(&digest).map(Into::into).map_err(|error| format!("read a large payload: {error}"))
        }
    }
}

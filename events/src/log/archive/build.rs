//! Writing a part: beside its place, and moved there when it is whole, durable and has been read back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::part::{PartName, TABLE};
use super::table::{Block, Draft, Extent, Piece};
use super::thin::Thinning;
use crate::envelope::StreamId;
use crate::id::{Position, Version};
use crate::log::frame::{Frame, Frames, Link};
use crate::log::removal::{self, Gap};
use crate::log::segments::{Name, RECORD, SEGMENT_BYTES, Segment, record_len};

/// Frames that are compressed together. Reading one fact costs as much as decompressing this (a tenth of a millisecond);
/// smaller ones compress worse.
const BLOCK_BYTES: usize = 64 << 10;

/// See the module. What was begun and not finished is removed by the next opening of the archive.
#[derive(Debug)]
pub(in crate::log) struct Builder {
    root: PathBuf,
    beside: PathBuf,
    revision: u32,
    table: Draft,
    first: Position,
    before: Link,
    next: Position,
    link: Link,
    open: Open,
    /// How facts are removed, where they are.
    thinning: Option<Arc<Thinning>>,
}

/// The segment that is being filled.
#[derive(Debug)]
struct Open {
    first: Position,
    before: Link,
    frames: Vec<u8>,
    /// Where blocks begin.
    blocks: Vec<(Position, usize)>,
    payloads: BTreeMap<[u8; 32], Vec<u8>>,
    payload_bytes: usize,
    removal: removal::Draft,
}

impl Open {
    fn new(first: Position, before: Link) -> Self {
        Self {
            first,
            before,
            frames: Vec::new(),
            blocks: Vec::new(),
            payloads: BTreeMap::new(),
            payload_bytes: 0,
            removal: removal::Draft::default(),
        }
    }
}

impl Builder {
    /// Begins the part that continues an archive after a position with this link.
    pub(in crate::log) fn begin(root: &Path, after: Position, link: Link) -> io::Result<Self> {
        Self::revise(root, 0, (after, link), None)
    }

    /// Begins another revision of a part.
    pub(super) fn revise(
        root: &Path,
        revision: u32,
        (after, link): (Position, Link),
        thinning: Option<Arc<Thinning>>,
    ) -> io::Result<Self> {
        let first = after.next();
        let beside = root.join(format!("{:020}.{revision}.tmp", first.0));
        if beside.exists() {
            fs::remove_dir_all(&beside)?;
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&beside)?;
        Ok(Self {
            root: root.to_owned(),
            beside,
            revision,
            table: Draft::default(),
            first,
            before: link,
            next: first,
            link,
            open: Open::new(first, link),
            thinning,
        })
    }

    /// The last position that was taken.
    pub(in crate::log) const fn last(&self) -> Position {
        Position(self.next.0 - 1)
    }

    /// How many segments are written.
    pub(in crate::log) const fn segments(&self) -> usize {
        self.table.pieces.len()
    }

    /// Takes the next frame, which the caller has checked, with its payload if that lies apart.
    pub(in crate::log) fn push(
        &mut self,
        frame: &Frame<'_>,
        payload: Option<([u8; 32], Vec<u8>)>,
    ) -> io::Result<()> {
        self.table.fact(frame.stream, frame.position, frame.version);
        if let Some((digest, payload)) = payload {
            self.open.payload_bytes += payload.len();
            self.open.payloads.insert(digest, payload);
        }
        self.take(frame.bytes, frame.position);
        (self.next, self.link) = (frame.position.next(), frame.link);
        // What was removed is counted by segment, so where something is, only the ends of the old ones are ends of new ones.
        if frame.last && self.thinning.is_none() { self.settle() } else { Ok(()) }
    }

    /// Writes the segment that is open, if it is large enough. An append has to end here.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        if self.open.frames.len() + self.open.payload_bytes >= SEGMENT_BYTES { self.cut() } else { Ok(()) }
    }

    /// Leaves facts out.
    pub(super) fn skip(&mut self, gap: Gap) {
        (self.next, self.link) = (gap.last().next(), gap.after());
        let thinning = self.thinning.as_deref();
        let keep_link = |position| thinning.is_some_and(|thinning| thinning.links.contains(&position));
        self.open.removal.gap(gap, keep_link);
    }

    /// What is noted of facts that are left out.
    pub(super) const fn removal(&mut self) -> &mut removal::Draft {
        &mut self.open.removal
    }

    /// Notes versions that a stream went through, whether their facts are there or not.
    pub(super) fn went_through(&mut self, stream: StreamId, first: Version, last: Version) {
        self.table.went_through(stream, first, last);
    }

    /// Takes a segment from which facts were removed, as it is. `ends` are the last versions of the streams that they were removed of.
    pub(in crate::log) fn adopt(
        &mut self,
        segment: &Segment,
        ends: &[(StreamId, Version)],
    ) -> io::Result<()> {
        self.cut()?;
        let mut blocks: Vec<(Position, usize)> = Vec::new();
        let mut at = 0;
        for frame in Frames::new(&segment.frames) {
            let frame = frame.map_err(io::Error::other)?;
            self.table.fact(frame.stream, frame.position, frame.version);
            if blocks.last().is_none_or(|(_, begun)| at - begun >= BLOCK_BYTES) {
                blocks.push((frame.position, at));
            }
            at += frame.bytes.len();
        }
        for &(stream, last) in ends {
            self.table.went_through(stream, last, last);
        }
        (self.next, self.link) = (segment.name.last.next(), segment.after);
        self.open = Open::new(self.next, self.link);
        self.write(segment, blocks)
    }

    fn take(&mut self, bytes: &[u8], first: Position) {
        let open = &mut self.open;
        let begins = open.blocks.last().is_none_or(|(_, at)| open.frames.len() - at >= BLOCK_BYTES);
        if begins {
            open.blocks.push((first, open.frames.len()));
        }
        open.frames.extend_from_slice(bytes);
    }

    /// Writes the segment that is open.
    fn cut(&mut self) -> io::Result<()> {
        let following = Open::new(self.next, self.link);
        let open = std::mem::replace(&mut self.open, following);
        if open.frames.is_empty() && open.removal.gaps.is_empty() {
            return Ok(());
        }
        let name = Name { first: open.first, last: self.last() };
        let links = (&open.before, &self.link);
        let removal = self.thinning.as_ref().and_then(|thinning| {
            let removal = open.removal.finish(&thinning.rule, thinning.now)?;
            Some(removal.sign(&thinning.signer, name, links))
        });
        let segment = Segment {
            name,
            before: open.before,
            after: self.link,
            frames: open.frames,
            payloads: open.payloads,
            removal,
        };
        self.write(&segment, open.blocks)
    }

    fn write(&mut self, segment: &Segment, blocks: Vec<(Position, usize)>) -> io::Result<()> {
        let mut ends: Vec<usize> = blocks.iter().skip(1).map(|(_, at)| *at).collect();
        if !blocks.is_empty() {
            ends.push(segment.frames.len());
        }
        for payload in segment.payloads.values() {
            ends.push(ends.last().copied().unwrap_or_default() + record_len(payload));
        }
        let (file, extents) = segment.encode_blocks(&ends)?;
        let number = u32::try_from(self.table.pieces.len()).map_err(io::Error::other)?;
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let mut extents = extents.iter().zip(starts).zip(&ends).map(|((extent, start), end)| {
            Ok::<_, io::Error>(Extent {
                segment: number,
                offset: u32::try_from(extent.start).map_err(io::Error::other)?,
                compressed: u32::try_from(extent.len()).map_err(io::Error::other)?,
                bytes: u32::try_from(end - start).map_err(io::Error::other)?,
            })
        });
        for (first, _) in blocks {
            let extent = extents.next().transpose()?.ok_or_else(|| io::Error::other("a block is missing"))?;
            self.table.blocks.push(Block { first, extent });
        }
        for (digest, extent) in segment.payloads.keys().zip(extents) {
            self.table.payloads.insert(*digest, extent?);
        }
        let removed = segment.removal.as_ref().map_or(0, |signed| signed.removal.events());
        self.table.pieces.push(Piece { name: segment.name, file_bytes: file.len() as u64, removed });
        write(&self.beside.join(segment.name.to_string()), &file)
    }

    /// Writes what is open, reads everything back, and puts the part in its place; durable on return. `None` if nothing was
    /// taken.
    pub(in crate::log) fn finish(mut self) -> io::Result<Option<PathBuf>> {
        self.cut()?;
        if self.table.pieces.is_empty() {
            fs::remove_dir_all(&self.beside)?;
            return Ok(None);
        }
        let name = PartName { first: self.first, last: self.last(), revision: self.revision };
        let table = self.table.encode(Name { first: name.first, last: name.last }, &self.before, &self.link);
        write(&self.beside.join(TABLE), &table)?;
        File::open(&self.beside)?.sync_all()?;
        self.read_back()?;
        let path = self.root.join(name.to_string());
        fs::rename(&self.beside, &path)?;
        File::open(&self.root)?.sync_all()?;
        Ok(Some(path))
    }

    /// Checks the files as they are, before anything else is given up for them.
    fn read_back(&self) -> io::Result<()> {
        let mut link = self.before;
        for piece in &self.table.pieces {
            let file = fs::read(self.beside.join(piece.name.to_string()))?;
            let wrong = |flaw: &str| {
                io::Error::new(io::ErrorKind::InvalidData, format!("`{}` as written: {flaw}", piece.name))
            };
            let segment = Segment::decode(&file).map_err(|flaw| wrong(&flaw))?;
            if segment.name != piece.name || segment.before != link {
                return Err(wrong("it does not continue the chain"));
            }
            link = segment.after;
        }
        if link == self.link {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the part as written does not end the chain"))
        }
    }
}

/// The payload in a record of a segment's content.
pub(super) fn payload_of(record: &[u8]) -> Option<&[u8]> {
    record.get(RECORD..)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

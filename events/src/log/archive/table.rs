//! A part's table of contents: which facts are where, without reading any of them.
//!
//! ```text
//! size  what                                                        all numbers are big-endian
//!    8  "covpart1"
//!    8  position of the first fact
//!    8  position of the last fact
//!   32  chain before the first fact
//!   32  chain after the last fact
//!    4  segments, then each: first position 8, last position 8, bytes of its file 8, facts removed from it 8
//!    4  blocks, then each: first position 8, segment 4, offset in its file 4, compressed bytes 4, bytes 4
//!    4  large payloads, then each, by digest: digest 32, segment 4, offset in its file 4, compressed bytes 4, bytes 4
//!    4  streams, then each, by key: key 17, first version 8, last version 8, offset of its places 8, their bytes 4
//!  var  places: for each fact of a stream its position and its version, as LEB128, each less the one before it
//!   32  blake3 of everything before
//! ```
//! Segments and blocks are kept in memory, at less than a tenth of a byte for each fact. The rest is looked up in the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::envelope::StreamId;
use crate::id::{Position, Version};
use crate::log::frame::{Link, STREAM_KEY, Wrong, stream_key, stream_of};
use crate::log::segments::Name;

const MAGIC: [u8; 8] = *b"covpart1";
const PAYLOAD_ROW: usize = 32 + 4 + 4 + 4 + 4;
const STREAM_ROW: usize = STREAM_KEY + 8 + 8 + 8 + 4;
const DIGEST: usize = 32;

/// Where a piece of a segment's content lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Which segment of the part.
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) compressed: u32,
    pub(super) bytes: u32,
}

/// A block of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) first: Position,
    pub(super) extent: Extent,
}

/// A segment and the size of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) name: Name,
    pub(super) file_bytes: u64,
    /// Facts that were removed from it.
    pub(super) removed: u64,
}

/// What a part holds of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) first: Version,
    pub(super) last: Version,
    offset: u64,
    bytes: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: Name,
    pub(super) before: Link,
    pub(super) after: Link,
    pub(super) pieces: Vec<Piece>,
    pub(super) blocks: Vec<Block>,
    payloads: (u64, u64),
    streams: (u64, u64),
    file: File,
}

impl Table {
    /// Reads a table and checks that no byte of it has changed. `heads` learns each stream's last version.
    pub(super) fn open(path: &Path, heads: &mut dyn FnMut(StreamId, Version)) -> io::Result<Self> {
        let wrong = |wrong: Wrong| io::Error::new(io::ErrorKind::InvalidData, wrong);
        let file = File::open(path)?;
        let all = std::fs::read(path)?;
        let body = all.len().checked_sub(DIGEST).ok_or_else(|| wrong("it is too short"))?;
        let (body, digest) = all.split_at(body);
        if blake3::hash(body).as_bytes() != digest {
            return Err(wrong("it differs from its digest"));
        }
        Self::parse(body, file, heads).map_err(wrong)
    }

    fn parse(body: &[u8], file: File, heads: &mut dyn FnMut(StreamId, Version)) -> Result<Self, Wrong> {
        let mut fields = Fields { all: body, at: 0 };
        if fields.take()? != MAGIC {
            return Err("it does not begin as a part's table does");
        }
        let name = Name { first: Position(fields.u64()?), last: Position(fields.u64()?) };
        let (before, after) = (fields.take()?, fields.take()?);
        let pieces = fields.rows(|fields| {
            let name = Name { first: Position(fields.u64()?), last: Position(fields.u64()?) };
            Ok(Piece { name, file_bytes: fields.u64()?, removed: fields.u64()? })
        })?;
        let blocks =
            fields.rows(|fields| Ok(Block { first: Position(fields.u64()?), extent: fields.extent()? }))?;
        let payloads = fields.skip(PAYLOAD_ROW)?;
        let streams = fields.count()?;
        let begin = fields.at as u64;
        for _ in 0..streams {
            let (key, row) = fields.row()?;
            heads(stream_of(key)?, row.last);
        }
        let streams = (begin, streams);
        Ok(Self { name, before, after, pieces, blocks, payloads, streams, file })
    }

    /// What the part has of a stream.
    pub(super) fn stream(&self, stream: StreamId) -> io::Result<Option<Row>> {
        let key = stream_key(stream);
        let found = self.search::<STREAM_ROW>(self.streams, &key)?;
        let row = found.map(|row| Fields { all: &row, at: 0 }.row().map(|(_, row)| row));
        row.transpose().map_err(|wrong| io::Error::new(io::ErrorKind::InvalidData, wrong))
    }

    /// The places of a stream's facts, in order.
    pub(super) fn places(&self, row: Row) -> io::Result<Vec<(Position, Version)>> {
        let mut bytes = vec![0; row.bytes as usize];
        self.file.read_exact_at(&mut bytes, row.offset)?;
        let (mut rest, mut places, mut last) = (bytes.as_slice(), Vec::new(), (0, 0));
        while !rest.is_empty() {
            last = (last.0 + number(&mut rest)?, last.1 + number(&mut rest)?);
            places.push((Position(last.0), Version(last.1)));
        }
        Ok(places)
    }

    /// Every stream, with what the part holds of it.
    pub(super) fn all_streams(&self) -> io::Result<Vec<(StreamId, Row)>> {
        let (begin, count) = self.streams;
        let mut rows = vec![0; usize::try_from(count).unwrap_or_default() * STREAM_ROW];
        self.file.read_exact_at(&mut rows, begin)?;
        let row = |row: &[u8]| {
            let (key, row) = Fields { all: row, at: 0 }.row()?;
            Ok((stream_of(key)?, row))
        };
        let rows: Result<Vec<_>, Wrong> = rows.chunks_exact(STREAM_ROW).map(row).collect();
        rows.map_err(|wrong| io::Error::new(io::ErrorKind::InvalidData, wrong))
    }

    /// Where a large payload is.
    pub(super) fn payload(&self, digest: &[u8; 32]) -> io::Result<Option<Extent>> {
        let found = self.search::<PAYLOAD_ROW>(self.payloads, digest)?;
        let extent = found.map(|row| Fields { all: &row, at: DIGEST }.extent());
        extent.transpose().map_err(|wrong| io::Error::new(io::ErrorKind::InvalidData, wrong))
    }

    /// Halves its way through rows that begin with a key, in the file.
    fn search<const N: usize>(&self, (begin, count): (u64, u64), key: &[u8]) -> io::Result<Option<[u8; N]>> {
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut row = [0; N];
            self.file.read_exact_at(&mut row, begin + middle * N as u64)?;
            match row[..key.len()].cmp(key) {
                std::cmp::Ordering::Equal => return Ok(Some(row)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }
}

/// A table in the making.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) pieces: Vec<Piece>,
    pub(super) blocks: Vec<Block>,
    pub(super) payloads: BTreeMap<[u8; 32], Extent>,
    streams: BTreeMap<[u8; STREAM_KEY], Places>,
}

#[derive(Debug)]
struct Places {
    first: u64,
    last: u64,
    /// What the last place was, for the next difference.
    at: (u64, u64),
    bytes: Vec<u8>,
}

impl Draft {
    /// Notes a stream's next fact.
    pub(super) fn fact(&mut self, stream: StreamId, position: Position, version: Version) {
        let places = self.versions(stream, version, version);
        put_number(position.0 - places.at.0, &mut places.bytes);
        put_number(version.0 - places.at.1, &mut places.bytes);
        places.at = (position.0, version.0);
    }

    /// Notes versions that a stream went through, whether their facts are there or not.
    pub(super) fn went_through(&mut self, stream: StreamId, first: Version, last: Version) {
        let places = self.versions(stream, first, last);
        places.first = places.first.min(first.0);
    }

    fn versions(&mut self, stream: StreamId, first: Version, last: Version) -> &mut Places {
        let places = self.streams.entry(stream_key(stream)).or_insert(Places {
            first: first.0,
            last: 0,
            at: (0, 0),
            bytes: Vec::new(),
        });
        places.last = places.last.max(last.0);
        places
    }

    /// The file of a part.
    pub(super) fn encode(&self, name: Name, before: &Link, after: &Link) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        put(&mut file, &[&name.first.0.to_be_bytes(), &name.last.0.to_be_bytes(), before, after]);
        put_count(&mut file, self.pieces.len());
        for Piece { name, file_bytes, removed } in &self.pieces {
            let fields = [name.first.0, name.last.0, *file_bytes, *removed].map(u64::to_be_bytes);
            file.extend_from_slice(fields.as_flattened());
        }
        put_count(&mut file, self.blocks.len());
        for block in &self.blocks {
            put(&mut file, &[&block.first.0.to_be_bytes()]);
            put_extent(&mut file, block.extent);
        }
        put_count(&mut file, self.payloads.len());
        for (digest, extent) in &self.payloads {
            put(&mut file, &[digest]);
            put_extent(&mut file, *extent);
        }
        put_count(&mut file, self.streams.len());
        let mut offset = (file.len() + self.streams.len() * STREAM_ROW) as u64;
        for (key, places) in &self.streams {
            let bytes = u32::try_from(places.bytes.len()).unwrap_or(u32::MAX);
            put(
                &mut file,
                &[
                    key,
                    &places.first.to_be_bytes(),
                    &places.last.to_be_bytes(),
                    &offset.to_be_bytes(),
                    &bytes.to_be_bytes(),
                ],
            );
            offset += u64::from(bytes);
        }
        for places in self.streams.values() {
            file.extend_from_slice(&places.bytes);
        }
        let digest = blake3::hash(&file);
        file.extend_from_slice(digest.as_bytes());
        file
    }
}

fn put(file: &mut Vec<u8>, fields: &[&[u8]]) {
    for field in fields {
        file.extend_from_slice(field);
    }
}

fn put_count(file: &mut Vec<u8>, count: usize) {
    put(file, &[&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes()]);
}

fn put_extent(file: &mut Vec<u8>, extent: Extent) {
    for number in [extent.segment, extent.offset, extent.compressed, extent.bytes] {
        put(file, &[&number.to_be_bytes()]);
    }
}

fn put_number(mut number: u64, bytes: &mut Vec<u8>) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

fn number(rest: &mut &[u8]) -> io::Result<u64> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let Some((&byte, after)) = rest.split_first().filter(|_| shift < 64) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a place is cut off"));
        };
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
        shift += 7;
    }
}

struct Fields<'a> {
    all: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        let end = self.at + N;
        let field = self.all.get(self.at..end).and_then(|field| field.try_into().ok());
        self.at = end;
        field.ok_or("it is too short")
    }

    fn u64(&mut self) -> Result<u64, Wrong> {
        self.take().map(u64::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Wrong> {
        self.take().map(u32::from_be_bytes)
    }

    fn count(&mut self) -> Result<u64, Wrong> {
        self.u32().map(u64::from)
    }

    fn rows<T>(&mut self, row: impl Fn(&mut Self) -> Result<T, Wrong>) -> Result<Vec<T>, Wrong> {
        let count = self.count()?;
        (0..count).map(|_| row(self)).collect()
    }

    /// Where rows of a size begin, and how many there are.
    fn skip(&mut self, size: usize) -> Result<(u64, u64), Wrong> {
        let count = self.count()?;
        let begin = self.at as u64;
        let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(size));
        self.at = bytes.and_then(|bytes| self.at.checked_add(bytes)).ok_or("it is too short")?;
        Ok((begin, count))
    }

    fn extent(&mut self) -> Result<Extent, Wrong> {
        Ok(Extent { segment: self.u32()?, offset: self.u32()?, compressed: self.u32()?, bytes: self.u32()? })
    }

    fn row(&mut self) -> Result<([u8; STREAM_KEY], Row), Wrong> {
        let key = self.take()?;
        let (first, last) = (Version(self.u64()?), Version(self.u64()?));
        Ok((key, Row { first, last, offset: self.u64()?, bytes: self.u32()? }))
    }
}

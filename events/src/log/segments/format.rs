//! One segment as bytes.
//!
//! ```text
//! size  what                                                        numbers are big-endian but for zstd's own two
//!    4  0x184D2A5C, little-endian: zstd skips what follows, so that `zstd -d` alone gets at the content
//!    4  bytes up to the content, little-endian
//!    6  "covseg"
//!    2  format of the segment: 1, or 2 if facts were removed from it
//!    8  position of the first fact
//!    8  position of the last fact
//!   32  chain before the first fact
//!   32  chain after the last fact
//!    8  bytes of frames in the content
//!    8  bytes of the content
//!   32  blake3 of the content
//!   32  seal: blake3 of all bytes of the file but these
//!  var  the content as one zstd frame or several: frames as they are in the log, then each payload that is not in its frame, once:
//!       digest 32, length 4, the payload; in format 2 then what was removed as MessagePack, and its length 4
//! ```
//! The seal covers what the content's digest does not, so that no byte can change unnoticed.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use super::Flaw;
use crate::id::Position;
use crate::log::frame::{Frames, Link, Payload};
use crate::log::removal::{Gap, Signed};

/// The format of a segment with all of its facts.
const FORMAT: u16 = 1;
/// The format of one from which facts were removed, and the newest that is read.
const FORMAT_THINNED: u16 = 2;
const MAGIC: [u8; 6] = *b"covseg";
const SKIPPABLE: u32 = 0x184D_2A5C;
const PREFIX: usize = 8;
const SEAL: usize = PREFIX + 6 + 2 + 8 + 8 + 32 + 32 + 8 + 8 + 32;
const CONTENT: usize = SEAL + 32;
/// What zstd skips.
const SKIPPED: u32 = 6 + 2 + 8 + 8 + 32 + 32 + 8 + 8 + 32 + 32;
/// What stands before a payload in the content: its digest and its length.
pub(in crate::log) const RECORD: usize = 32 + 4;
const _: () = assert!(PREFIX + SKIPPED as usize == CONTENT, "the header is as long as it says");

/// Content over this is not believed. One append is never split, and the log's queue takes at most 64 MiB of one; the rest
/// is for appends that were queued alone.
const CONTENT_BYTES_MAX: u64 = 1 << 30;

/// The quickest of zstd's regular levels: what is sealed does not compress at any, and the rest takes a few percent more
/// than at the default, for half of the processor time. Every fact is compressed twice, exported and archived.
const LEVEL: i32 = 1;

/// What a segment is called: the positions of its first and last fact, so that a listing says what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The first position.
    pub first: Position,
    /// The last position.
    pub last: Position,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seg-{:020}-{:020}.zst", self.first.0, self.last.0)
    }
}

impl Name {
    /// The positions that a file's name says; `None` if it is not a segment's.
    pub fn parse(name: &str) -> Option<Self> {
        let (first, last) = name.strip_prefix("seg-")?.strip_suffix(".zst")?.split_once('-')?;
        let name = Self { first: Position(first.parse().ok()?), last: Position(last.parse().ok()?) };
        (name.first.0 > 0 && name.first <= name.last).then_some(name)
    }
}

/// A stretch of the log: whole appends, with all of their payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its positions.
    pub name: Name,
    /// The chain before its first fact.
    pub before: Link,
    /// The chain after its last fact.
    pub after: Link,
    pub(in crate::log) frames: Vec<u8>,
    /// Large payloads by their digest.
    pub(in crate::log) payloads: BTreeMap<[u8; 32], Vec<u8>>,
    /// What was removed from it.
    pub(in crate::log) removal: Option<Signed>,
}

impl Segment {
    /// The file.
    ///
    /// # Errors
    /// When zstd has no memory.
    pub fn encode(&self) -> std::io::Result<Vec<u8>> {
        self.encode_blocks(&[]).map(|(file, _)| file)
    }

    /// The same file with its content compressed in several zstd frames, one up to each of these offsets and one for the rest, so that
    /// any can be read without the others; whoever decompresses it all does not notice. Where each lies in the file.
    ///
    /// # Errors
    /// When zstd has no memory.
    pub(in crate::log) fn encode_blocks(
        &self,
        ends: &[usize],
    ) -> std::io::Result<(Vec<u8>, Vec<Range<usize>>)> {
        let mut content = self.frames.clone();
        for (digest, payload) in &self.payloads {
            content.extend_from_slice(digest);
            content.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
            content.extend_from_slice(payload);
        }
        if let Some(removal) = &self.removal {
            let removal = removal.encode()?;
            content.extend_from_slice(&removal);
            content.extend_from_slice(&u32::try_from(removal.len()).unwrap_or(u32::MAX).to_be_bytes());
        }
        let rest = (ends.last() != Some(&content.len())).then_some(content.len());
        let format = if self.removal.is_some() { FORMAT_THINNED } else { FORMAT };
        let mut file = Vec::with_capacity(CONTENT + content.len() / 2);
        file.extend_from_slice(&SKIPPABLE.to_le_bytes());
        file.extend_from_slice(&SKIPPED.to_le_bytes());
        file.extend_from_slice(&MAGIC);
        file.extend_from_slice(&format.to_be_bytes());
        file.extend_from_slice(&self.name.first.0.to_be_bytes());
        file.extend_from_slice(&self.name.last.0.to_be_bytes());
        file.extend_from_slice(&self.before);
        file.extend_from_slice(&self.after);
        file.extend_from_slice(&(self.frames.len() as u64).to_be_bytes());
        file.extend_from_slice(&(content.len() as u64).to_be_bytes());
        file.extend_from_slice(blake3::hash(&content).as_bytes());
        let (mut compressed, mut blocks, mut begin) = (Vec::new(), Vec::with_capacity(ends.len() + 1), 0);
        // One for all blocks: its tables take longer to set up than a block to compress.
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        for end in ends.iter().copied().chain(rest) {
            let at = CONTENT + compressed.len();
            compressed.extend_from_slice(&compressor.compress(&content[begin..end])?);
            blocks.push(at..CONTENT + compressed.len());
            begin = end;
        }
        let seal = seal(&file, &compressed);
        file.extend_from_slice(&seal);
        file.extend_from_slice(&compressed);
        Ok((file, blocks))
    }

    /// Reads a file and checks all that can be checked without its neighbours: seal, digests, checksums, positions, chain,
    /// and that every payload is there.
    ///
    /// # Errors
    /// The first thing that is wrong, with its position where it has one.
    pub fn decode(file: &[u8]) -> Result<Self, Flaw> {
        let segment = Self::unpack(file)?;
        segment.check()?;
        Ok(segment)
    }

    /// Reads a file and checks its bytes by seal and digest, for who checks the frames himself.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(in crate::log) fn unpack(file: &[u8]) -> Result<Self, Flaw> {
        let mut fields = Fields { rest: file };
        if u32::from_le_bytes(fields.take()?) != SKIPPABLE
            || u32::from_le_bytes(fields.take()?) != SKIPPED
            || fields.take()? != MAGIC
        {
            return Err("it does not begin as a segment does".into());
        }
        let format = u16::from_be_bytes(fields.take()?);
        if !(FORMAT..=FORMAT_THINNED).contains(&format) {
            return Err(format!("it has format {format}, this program knows up to {FORMAT_THINNED}").into());
        }
        let name = Name { first: Position(fields.number()?), last: Position(fields.number()?) };
        let (before, after) = (fields.take()?, fields.take()?);
        let (frames_len, content_len) = (fields.number()?, fields.number()?);
        let digest: [u8; 32] = fields.take()?;
        let sealed: [u8; 32] = fields.take()?;
        if seal(&file[..SEAL], fields.rest) != sealed {
            return Err("its seal does not fit its bytes".into());
        }
        if content_len > CONTENT_BYTES_MAX {
            return Err(format!("its content would have {content_len} bytes").into());
        }
        let mut content = usize::try_from(content_len)
            .ok()
            .and_then(|len| zstd::bulk::decompress(fields.rest, len).ok())
            .ok_or("its content does not decompress")?;
        if blake3::hash(&content) != digest {
            return Err("its content differs from its digest".into());
        }
        let removal = if format == FORMAT_THINNED {
            let removal = read_removal(&mut content)?;
            if !removal.is_signed(name, (&before, &after)) {
                return Err("what it says of removed facts is not signed by the key that it names".into());
            }
            Some(removal)
        } else {
            None
        };
        let frames_len = usize::try_from(frames_len).ok().filter(|&len| len <= content.len());
        let payloads = content.split_off(frames_len.ok_or("its frames are longer than its content")?);
        Ok(Self { name, before, after, frames: content, payloads: read_payloads(&payloads)?, removal })
    }

    /// Bytes before compression, which is what a segment is cut by.
    pub fn raw_bytes(&self) -> usize {
        self.frames.len() + self.payloads.values().map(Vec::len).sum::<usize>()
    }

    /// Facts in it.
    pub fn events(&self) -> u64 {
        let removed = self.removal.as_ref().map_or(0, |signed| signed.removal.events());
        (self.name.last.0 - self.name.first.0 + 1).saturating_sub(removed)
    }

    /// What was removed from it, if something was.
    pub const fn removal(&self) -> Option<&Signed> {
        self.removal.as_ref()
    }

    pub(in crate::log) fn gaps(&self) -> &[Gap] {
        self.removal.as_ref().map_or(&[], |signed| &signed.removal.gaps)
    }

    fn check(&self) -> Result<(), Flaw> {
        let (mut next, mut link, mut whole) = (self.name.first, self.before, true);
        let mut gaps = self.gaps().iter().peekable();
        for frame in Frames::new(&self.frames) {
            while let Some(gap) = gaps.next_if(|gap| gap.first() == next) {
                (next, link) = (gap.last().next(), gap.after());
            }
            let at = |wrong: &str| Flaw::from(format!("position {next}: {wrong}"));
            let frame = frame.map_err(at)?;
            if frame.position != next {
                return Err(at("position out of order"));
            }
            if !frame.follows(&link) {
                return Err(at("the chain is broken"));
            }
            if !frame.payload_is_sound() {
                return Err(at("the payload differs from its digest"));
            }
            if let Payload::Elsewhere(digest) = frame.payload()
                && !self.payloads.contains_key(digest.as_bytes())
            {
                return Err(at("its payload is missing"));
            }
            (link, whole) = (frame.link, frame.last);
            next = next.next();
        }
        while let Some(gap) = gaps.next_if(|gap| gap.first() == next) {
            (next, link, whole) = (gap.last().next(), gap.after(), gap.is_whole());
        }
        if gaps.next().is_some() {
            return Err("it says that facts were removed which are there".into());
        }
        if next != self.name.last.next() {
            return Err(format!("its facts end before {next}, it should end after {}", self.name.last).into());
        }
        if link != self.after {
            return Err("its chain does not end as it says".into());
        }
        if !whole {
            return Err("it ends within an append".into());
        }
        Ok(())
    }
}

/// Bytes that a payload takes in the content.
pub(in crate::log) const fn record_len(payload: &[u8]) -> usize {
    RECORD + payload.len()
}

fn seal(head: &[u8], compressed: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(head).update(compressed).finalize().as_bytes()
}

/// Takes what was removed off the end of the content.
fn read_removal(content: &mut Vec<u8>) -> Result<Signed, Flaw> {
    let too_short = || Flaw::from("it is too short");
    let len = content.last_chunk().map(|len| u32::from_be_bytes(*len) as usize).ok_or_else(too_short)?;
    let end = content.len() - 4;
    let begin = end.checked_sub(len).ok_or_else(too_short)?;
    let removal = Signed::decode(&content[begin..end])?;
    content.truncate(begin);
    Ok(removal)
}

fn read_payloads(bytes: &[u8]) -> Result<BTreeMap<[u8; 32], Vec<u8>>, Flaw> {
    let mut fields = Fields { rest: bytes };
    let mut payloads = BTreeMap::new();
    while !fields.rest.is_empty() {
        let digest = fields.take()?;
        let len = u32::from_be_bytes(fields.take()?) as usize;
        let payload = fields.slice(len)?;
        if blake3::hash(payload) != digest {
            return Err("a large payload differs from its digest".into());
        }
        payloads.insert(digest, payload.to_vec());
    }
    Ok(payloads)
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn slice(&mut self, len: usize) -> Result<&'a [u8], Flaw> {
        let (slice, rest) = self.rest.split_at_checked(len).ok_or("it is too short")?;
        self.rest = rest;
        Ok(slice)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        let (slice, rest) = self.rest.split_first_chunk().ok_or("it is too short")?;
        self.rest = rest;
        Ok(*slice)
    }

    fn number(&mut self) -> Result<u64, Flaw> {
        self.take().map(u64::from_be_bytes)
    }
}

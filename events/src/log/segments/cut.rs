//! Cutting a segment out of the log.

use super::format::{Name, Segment};
use crate::id::Position;
use crate::log::frame::{self, GENESIS, Link, Payload};
use crate::log::{Frames, ReadError};

/// How much is read from the log at once: enough to make the way there cheap, little enough to wait for nobody.
const READ_BYTES: usize = 256 << 10;

/// Collects frames until there are enough for a segment. Holds at most one segment's frames and one read more.
#[derive(Debug)]
pub struct Cutter {
    before: Link,
    first: Position,
    next: Position,
    link: Link,
    frames: Vec<u8>,
    large: Vec<(Position, blake3::Hash)>,
    raw_bytes: usize,
    /// Whether the last frame ends its append.
    whole: bool,
    /// A segment that is taken as it is, because facts were removed from it.
    thinned: Option<Segment>,
}

impl Cutter {
    /// Begins after a position whose chain link is `before`.
    pub const fn after(position: Position, before: Link) -> Self {
        let first = position.next();
        Self {
            before,
            first,
            next: first,
            link: before,
            frames: Vec::new(),
            large: Vec::new(),
            raw_bytes: 0,
            whole: true,
            thinned: None,
        }
    }

    /// Begins after a position of the log; blocks.
    ///
    /// # Errors
    /// When the log can't be read, or does not reach that far.
    pub fn at(source: &dyn Frames, position: Position) -> Result<Self, ReadError> {
        let before = match position {
            Position(0) => GENESIS,
            position => source.link(position)?.ok_or_else(|| failed(position, "it is not there"))?,
        };
        Ok(Self::after(position, before))
    }

    /// Reads on until `bytes` are there or the log ends; whether they are. Blocks.
    ///
    /// # Errors
    /// When the log can't be read or is damaged.
    pub fn fill(&mut self, source: &dyn Frames, bytes: usize) -> Result<bool, ReadError> {
        while !self.is_full(bytes) {
            if self.whole
                && let Some(segment) = source.thinned(self.next)?
            {
                if self.frames.is_empty() {
                    (self.next, self.link) = (segment.name.last.next(), segment.after);
                    self.thinned = Some(segment);
                }
                return Ok(true);
            }
            let read = source.frames(self.next, READ_BYTES)?;
            if read.is_empty() {
                return Ok(false);
            }
            for frame in frame::Frames::new(&read) {
                let frame = frame.map_err(|wrong| failed(self.next, wrong))?;
                if frame.position != self.next || !frame.follows(&self.link) {
                    return Err(failed(self.next, "the chain is broken"));
                }
                self.raw_bytes += frame.bytes.len();
                if let Payload::Elsewhere(digest) = frame.payload() {
                    self.large.push((frame.position, digest));
                    self.raw_bytes += frame.payload_len();
                }
                self.frames.extend_from_slice(frame.bytes);
                (self.next, self.link, self.whole) = (frame.position.next(), frame.link, frame.last);
                if self.is_full(bytes) {
                    break;
                }
            }
        }
        Ok(true)
    }

    /// The last position that was taken in.
    pub const fn last(&self) -> Position {
        Position(self.next.0 - 1)
    }

    /// Whether nothing was taken in.
    pub const fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.thinned.is_none()
    }

    /// The segment, with its payloads; `None` if nothing was taken in. Can be asked again. Blocks.
    ///
    /// # Errors
    /// When a payload can't be read.
    pub fn segment(&self, source: &dyn Frames) -> Result<Option<Segment>, ReadError> {
        if self.is_empty() || self.thinned.is_some() {
            return Ok(self.thinned.clone());
        }
        if !self.whole {
            return Err(failed(self.last(), "its append is not whole"));
        }
        let mut segment = Segment {
            name: Name { first: self.first, last: self.last() },
            before: self.before,
            after: self.link,
            frames: self.frames.clone(),
            payloads: std::collections::BTreeMap::new(),
            removal: None,
        };
        for (position, digest) in &self.large {
            if let std::collections::btree_map::Entry::Vacant(entry) =
                segment.payloads.entry(*digest.as_bytes())
            {
                entry.insert(source.payload(*position, digest.as_bytes())?);
            }
        }
        Ok(Some(segment))
    }

    /// The one that begins where this one ends.
    #[must_use]
    pub const fn following(&self) -> Self {
        Self::after(self.last(), self.link)
    }

    const fn is_full(&self, bytes: usize) -> bool {
        (self.raw_bytes >= bytes && self.whole) || self.thinned.is_some()
    }
}

fn failed(position: Position, reason: &str) -> ReadError {
    ReadError::Store { what: format!("position {position}"), reason: reason.to_owned() }
}

//! The archive: the older parts of the log as compressed files that never change, read like the rest of it.
//!
//! A part is what one database of the store held when it was rolled: some million facts in segments of the same bytes as
//! those that are [exported](crate::log::segments), with a table that says where each fact is. Nothing is kept in memory for
//! a fact in here, so that a log of any length takes the same. Looking one up costs a few reads of the table and one
//! block of 64 KiB.
//!
//! # Guarantees
//! - A part is in its place whole and durable, or not at all.
//! - Parts follow each other without a gap, from the first position on; if one is missing or has lost a file, the archive does
//!   not open.
//!
//! An [`Archive`] is a snapshot: who holds one reads on undisturbed while parts are added or replaced.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::frame::{self, Frame, Frames, GENESIS, Link};
use super::segments::Segment;
use super::{OpenError, ReadError, removal};
use crate::envelope::StreamId;
use crate::id::{Position, Version};

mod blocks;
mod build;
mod part;
mod table;
#[cfg(test)]
mod tests;
mod thin;

use blocks::Blocks;
pub(super) use build::Builder;
pub(super) use part::Part;
use part::{PartName, failed};
pub(super) use thin::{Thinning, pause, rewrite, sift};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Archive {
    parts: Vec<Arc<Part>>,
    blocks: Arc<Blocks>,
}

impl Archive {
    /// Opens the archive in a directory, which need not be there. `heads` learns each stream's last version. With `tidy`, what a
    /// crash left unfinished is removed, and so are parts that were replaced.
    pub(super) fn open(
        path: &Path,
        tidy: bool,
        heads: &mut dyn FnMut(StreamId, Version),
    ) -> Result<Self, OpenError> {
        let failed = |step, error: io::Error| OpenError::Store {
            path: path.to_owned(),
            step,
            reason: error.to_string(),
        };
        let mut newest = BTreeMap::new();
        let mut surplus = Vec::new();
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed("list the archive", error)),
        };
        if tidy {
            // A process that was killed may have put a part in its place whose name is only in memory. What it replaces is
            // removed below, and the database that it was made of by whoever opens this.
            let synced = fs::File::open(path).and_then(|directory| directory.sync_all());
            synced.map_err(|error| failed("sync the archive", error))?;
        }
        for entry in entries {
            let entry = entry.map_err(|error| failed("list the archive", error))?;
            let file_name = entry.file_name();
            let name = file_name.to_string_lossy();
            match PartName::parse(&name) {
                None if name.ends_with(".tmp") => surplus.push(entry.path()),
                None => {}
                Some(name) => {
                    let older = newest.insert((name.first, name.last), name);
                    let older = older.filter(|older| older.revision > name.revision);
                    if let Some(kept) = older {
                        newest.insert((name.first, name.last), kept);
                    }
                }
            }
        }
        for entry in fs::read_dir(path).map_err(|error| failed("list the archive", error))?.flatten() {
            let name = PartName::parse(&entry.file_name().to_string_lossy());
            if name.is_some_and(|name| newest.get(&(name.first, name.last)) != Some(&name)) {
                surplus.push(entry.path());
            }
        }
        let mut archive = Self::default();
        for name in newest.into_values() {
            let directory = path.join(name.to_string());
            let part = Part::open(&directory, name, Arc::clone(&archive.blocks), heads);
            archive
                .add(part.map_err(|error| OpenError::Damaged {
                    path: path.to_owned(),
                    position: name.first,
                    reason: error.to_string(),
                })?)
                .map_err(|reason| OpenError::Damaged {
                    path: path.to_owned(),
                    position: archive.last().next(),
                    reason: reason.to_owned(),
                })?;
        }
        for path in surplus.iter().filter(|_| tidy) {
            fs::remove_dir_all(path).map_err(|error| failed("remove what was left unfinished", error))?;
        }
        Ok(archive)
    }

    fn add(&mut self, part: Part) -> Result<(), frame::Wrong> {
        if part.first() != self.last().next() {
            return Err("a part of the archive is missing");
        }
        if *part.before() != self.link() {
            return Err("a part of the archive does not continue the chain");
        }
        self.parts.push(Arc::new(part));
        Ok(())
    }

    /// The same archive with the part that was just written.
    pub(super) fn with(&self, path: &Path) -> io::Result<Self> {
        let name = path.file_name().and_then(|name| PartName::parse(&name.to_string_lossy()));
        let name = name.ok_or_else(|| io::Error::other("the name of a part is none"))?;
        let part = Part::open(path, name, Arc::clone(&self.blocks), &mut |_, _| {})?;
        let mut archive = self.clone();
        archive.add(part).map_err(io::Error::other)?;
        Ok(archive)
    }

    /// The same archive with another revision of a part, which was just written; the old one goes when its last reader does.
    pub(super) fn with_revision(&self, path: &Path) -> io::Result<Self> {
        let name = path.file_name().and_then(|name| PartName::parse(&name.to_string_lossy()));
        let name = name.ok_or_else(|| io::Error::other("the name of a part is none"))?;
        let part = Part::open(path, name, Arc::clone(&self.blocks), &mut |_, _| {})?;
        let mut archive = self.clone();
        let old = archive.parts.iter_mut().find(|old| (old.first(), old.last()) == (name.first, name.last));
        let old = old.ok_or_else(|| io::Error::other("there is no such part to be replaced"))?;
        std::mem::replace(old, Arc::new(part)).retire();
        Ok(archive)
    }

    /// The last position in it.
    pub(super) fn last(&self) -> Position {
        self.parts.last().map_or(Position(0), |part| part.last())
    }

    /// The chain after its last position.
    pub(super) fn link(&self) -> Link {
        self.parts.last().map_or(GENESIS, |part| *part.after())
    }

    /// Its parts, in order.
    pub(super) fn parts(&self) -> &[Arc<Part>] {
        &self.parts
    }

    /// The part that a position is in, and its number.
    fn part_of(&self, position: Position) -> Option<(usize, &Arc<Part>)> {
        let number = self.parts.partition_point(|part| part.last() < position);
        self.parts.get(number).map(|part| (number, part))
    }

    /// Shows frames from a position on, until `show` has seen enough.
    pub(super) fn frames_from(
        &self,
        from: Position,
        show: &mut dyn FnMut(&Frame<'_>) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let Some((number, part)) = self.part_of(from) else { return Ok(()) };
        let mut block = part.block_of(from).unwrap_or(0);
        for part in &self.parts[number..] {
            while let Some(bytes) = part.block(block)? {
                for frame in Frames::new(&bytes) {
                    let frame = frame.map_err(|wrong| failed(from, part.damage(block, wrong)))?;
                    if frame.position >= from && !show(&frame)? {
                        return Ok(());
                    }
                }
                block += 1;
            }
            block = 0;
        }
        Ok(())
    }

    /// Says that the facts around a position will be asked for soon.
    pub(super) fn read_ahead(&self, position: Position) {
        if let Some((_, part)) = self.part_of(position) {
            part.read_ahead(part.block_of(position).unwrap_or(0));
        }
    }

    /// Frames from a position on, about `bytes` of them, and whether it was not the beginning of a segment from which facts were
    /// removed that ended them.
    pub(super) fn frames(&self, from: Position, bytes: usize) -> Result<(Vec<u8>, bool), ReadError> {
        let number = self.part_of(from).map_or(self.parts.len(), |(number, _)| number);
        let end = self.parts[number..].iter().find_map(|part| part.next_thinned(from));
        let mut read = Vec::new();
        self.frames_from(from, &mut |frame| {
            if end.is_some_and(|end| frame.position >= end) {
                return Ok(false);
            }
            read.extend_from_slice(frame.bytes);
            Ok(read.len() < bytes)
        })?;
        Ok((read, end.is_none()))
    }

    /// The segment that a position is in, if facts were removed from it.
    pub(super) fn thinned(&self, position: Position) -> Result<Option<Segment>, ReadError> {
        let Some((_, part)) = self.part_of(position) else { return Ok(None) };
        part.thinned(position).map(|number| part.segment(number)).transpose()
    }

    /// The chain's link of a position.
    pub(super) fn link_at(&self, position: Position) -> Result<Option<Link>, ReadError> {
        let mut link = None;
        self.frame(position, &mut |frame| {
            link = Some(frame.link);
            Ok(())
        })?;
        let Some((_, part)) = self.part_of(position).filter(|_| link.is_none()) else { return Ok(link) };
        let removal = part.thinned(position).map(|number| part.removal(number)).transpose()?.flatten();
        let gap = removal.and_then(|signed| {
            signed.removal.gaps.iter().find(|gap| gap.last() == position).map(removal::Gap::after)
        });
        gap.map(Some).ok_or(ReadError::Removed { position })
    }

    /// Shows the frame of a position, if it is there and was not removed.
    pub(super) fn frame(
        &self,
        position: Position,
        show: &mut dyn FnMut(&Frame<'_>) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let Some((_, part)) = self.part_of(position) else { return Ok(()) };
        let Some(block) = part.block_of(position) else { return Ok(()) };
        let Some(bytes) = part.block(block)? else { return Ok(()) };
        match frame::locate(&bytes, position) {
            Ok(frame) => show(&frame),
            Err(_) if part.thinned(position).is_some() => Ok(()),
            Err(wrong) => Err(failed(position, part.damage(block, wrong))),
        }
    }

    /// The large payload of a position, by its digest.
    pub(super) fn payload(&self, position: Position, digest: &[u8; 32]) -> Result<Vec<u8>, ReadError> {
        let found = match self.part_of(position) {
            Some((_, part)) => part.payload(digest)?,
            None => None,
        };
        found.ok_or_else(|| failed(position, "its large payload is not in the archive".to_owned()))
    }

    /// Positions of a stream's facts from a version on, at most `limit`.
    pub(super) fn stream(
        &self,
        stream: StreamId,
        from: Version,
        limit: usize,
    ) -> Result<Vec<Position>, ReadError> {
        let mut found = Vec::new();
        for part in &self.parts {
            if found.len() >= limit {
                break;
            }
            if part.versions(stream)?.is_none_or(|(_, last)| last < from) {
                continue;
            }
            let places = part.places(stream)?;
            let begin = places.partition_point(|&(_, version)| version < from);
            found.extend(places[begin..].iter().take(limit - found.len()).map(|&(position, _)| position));
        }
        Ok(found)
    }

    /// Positions of a stream's last facts up to a position, at most `limit`, oldest first.
    pub(super) fn stream_back(
        &self,
        stream: StreamId,
        through: Position,
        limit: usize,
    ) -> Result<Vec<Position>, ReadError> {
        let mut found: Vec<Position> = Vec::new();
        let parts = self.parts.partition_point(|part| part.first() <= through);
        for part in self.parts[..parts].iter().rev() {
            if found.len() >= limit {
                break;
            }
            let places = part.places(stream)?;
            let end = places.partition_point(|&(position, _)| position <= through);
            found.extend(places[..end].iter().rev().take(limit - found.len()).map(|&(position, _)| position));
        }
        found.reverse();
        Ok(found)
    }
}

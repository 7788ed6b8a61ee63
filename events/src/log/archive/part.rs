//! One part of the archive: a directory with segments and a table that says where each fact is.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::blocks::{Blocks, Key};
use super::build::payload_of;
use super::table::{Extent, Row, Table};
use crate::envelope::{StreamId, Timestamp};
use crate::id::{Position, Version};
use crate::log::ReadError;
use crate::log::frame::{Frames, Link};
use crate::log::removal::Signed;
use crate::log::segments::Segment;

/// The table's file.
pub(super) const TABLE: &str = "table";

/// What a part's directory is called: its positions, and how often it was rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PartName {
    pub(super) first: Position,
    pub(super) last: Position,
    pub(super) revision: u32,
}

impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "part-{:020}-{:020}.{}", self.first.0, self.last.0, self.revision)
    }
}

impl PartName {
    /// `None` if it is not a part's.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (positions, revision) = name.strip_prefix("part-")?.split_once('.')?;
        let (first, last) = positions.split_once('-')?;
        Some(Self {
            first: Position(first.parse().ok()?),
            last: Position(last.parse().ok()?),
            revision: revision.parse().ok()?,
        })
    }
}

/// See the module.
#[derive(Debug)]
pub(in crate::log) struct Part {
    pub(super) name: PartName,
    path: PathBuf,
    table: Table,
    blocks: Arc<Blocks>,
    /// By which rule facts were removed from it last, once somebody has asked. All that was removed takes a thousand times as much, and
    /// there may be thousands of parts.
    rule: OnceLock<Option<String>>,
    /// When its last fact happened, once somebody has asked.
    ended: OnceLock<Option<Timestamp>>,
    /// Whether its directory goes when nobody reads it any more.
    retired: AtomicBool,
}

impl Drop for Part {
    fn drop(&mut self) {
        if *self.retired.get_mut()
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            // The next opening of the archive tries again.
            tracing::warn!(%error, part = %self.name, "a part of the archive that was replaced could not be removed");
        }
    }
}

impl Part {
    /// Opens a part. `heads` learns the last version of each of its streams.
    pub(super) fn open(
        path: &Path,
        name: PartName,
        blocks: Arc<Blocks>,
        heads: &mut dyn FnMut(StreamId, Version),
    ) -> io::Result<Self> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let table = Table::open(&path.join(TABLE), heads).map_err(|error| {
            io::Error::new(error.kind(), format!("`{}`: {error}", path.join(TABLE).display()))
        })?;
        if (table.name.first, table.name.last) != (name.first, name.last) {
            return Err(invalid(format!("`{}` holds other positions than its name says", path.display())));
        }
        let part = Self {
            name,
            path: path.to_owned(),
            table,
            blocks,
            rule: OnceLock::new(),
            ended: OnceLock::new(),
            retired: AtomicBool::new(false),
        };
        for piece in &part.table.pieces {
            let file = path.join(piece.name.to_string());
            let found = fs::metadata(&file)
                .map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", file.display())))?;
            if found.len() != piece.file_bytes {
                return Err(invalid(format!(
                    "`{}` has {} bytes, it had {}",
                    file.display(),
                    found.len(),
                    piece.file_bytes
                )));
            }
        }
        Ok(part)
    }

    pub(in crate::log) const fn first(&self) -> Position {
        self.name.first
    }

    pub(in crate::log) const fn last(&self) -> Position {
        self.name.last
    }

    /// The chain before its first fact.
    pub(in crate::log) const fn before(&self) -> &Link {
        &self.table.before
    }

    /// The chain after its last fact.
    pub(in crate::log) const fn after(&self) -> &Link {
        &self.table.after
    }

    /// How often it was rewritten.
    pub(in crate::log) const fn revision(&self) -> u32 {
        self.name.revision
    }

    /// Bytes that its segments take on disk.
    pub(in crate::log) fn file_bytes(&self) -> u64 {
        self.table.pieces.iter().map(|piece| piece.file_bytes).sum()
    }

    /// Facts that were removed from it.
    pub(in crate::log) fn removed(&self) -> u64 {
        self.table.pieces.iter().map(|piece| piece.removed).sum()
    }

    /// When the last fact of it that is there happened.
    pub(in crate::log) fn ended(&self) -> Result<Option<Timestamp>, ReadError> {
        if let Some(ended) = self.ended.get() {
            return Ok(*ended);
        }
        let block = self.blocks().checked_sub(1).map(|last| self.block(last)).transpose()?.flatten();
        let last =
            block.as_ref().and_then(|block| Frames::new(block).map_while(Result::ok).last()?.at().ok());
        Ok(*self.ended.get_or_init(|| last))
    }

    /// Removes its directory once nobody reads it any more.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// The number of the segment that a position is in, if facts were removed from it.
    pub(super) fn thinned(&self, position: Position) -> Option<usize> {
        let number = self.table.pieces.partition_point(|piece| piece.name.last < position);
        self.table.pieces.get(number).filter(|piece| piece.removed > 0).map(|_| number)
    }

    /// Where the first segment behind a position begins that facts were removed from.
    pub(super) fn next_thinned(&self, position: Position) -> Option<Position> {
        let mut begins =
            self.table.pieces.iter().filter(|piece| piece.removed > 0).map(|piece| piece.name.first);
        begins.find(|&first| first > position)
    }

    /// What was removed from a segment.
    pub(super) fn removal(&self, number: usize) -> Result<Option<Arc<Signed>>, ReadError> {
        self.blocks.removal(self.key(number), || Ok(self.segment(number)?.removal))
    }

    /// By which rule facts were removed from it last; none where nothing was.
    pub(in crate::log) fn rule(&self) -> Result<Option<&str>, ReadError> {
        if let Some(rule) = self.rule.get() {
            return Ok(rule.as_deref());
        }
        let thinned = self.table.pieces.iter().position(|piece| piece.removed > 0);
        let removal =
            thinned.map(|number| self.segment(number)).transpose()?.and_then(|segment| segment.removal);
        Ok(self.rule.get_or_init(|| removal.map(|signed| signed.removal.rule)).as_deref())
    }

    /// Every stream of it.
    pub(super) fn streams(&self) -> io::Result<Vec<(StreamId, Row)>> {
        self.table.all_streams()
    }

    /// Its blocks.
    pub(super) fn blocks(&self) -> usize {
        self.table.blocks.len()
    }

    /// How many segments it has.
    pub(in crate::log) fn segments(&self) -> usize {
        self.table.pieces.len()
    }

    /// One of its segments, its bytes checked, its frames not.
    pub(in crate::log) fn segment(&self, number: usize) -> Result<Segment, ReadError> {
        let Some(piece) = self.table.pieces.get(number) else {
            return Err(failed(self.name.last, format!("`{}` has no segment {number}", self.name)));
        };
        let path = self.path.join(piece.name.to_string());
        let at = |wrong: String| failed(piece.name.first, format!("`{}`: {wrong}", path.display()));
        let file = fs::read(&path).map_err(|error| at(error.to_string()))?;
        let segment = Segment::unpack(&file).map_err(|flaw| at(flaw.into_owned()))?;
        if segment.name == piece.name { Ok(segment) } else { Err(at(format!("it holds `{}`", segment.name))) }
    }

    /// The places of a stream's facts in this part, in order.
    pub(super) fn places(&self, stream: StreamId) -> Result<Vec<(Position, Version)>, ReadError> {
        let row = self.table.stream(stream).map_err(|error| self.failed(&error))?;
        row.map_or(Ok(Vec::new()), |row| self.table.places(row).map_err(|error| self.failed(&error)))
    }

    /// The versions that a stream had in this part: the first and the last.
    pub(super) fn versions(&self, stream: StreamId) -> Result<Option<(Version, Version)>, ReadError> {
        let row = self.table.stream(stream).map_err(|error| self.failed(&error))?;
        Ok(row.map(|row| (row.first, row.last)))
    }

    /// The number of the block that a position is in.
    pub(super) fn block_of(&self, position: Position) -> Option<usize> {
        self.table.blocks.partition_point(|block| block.first <= position).checked_sub(1)
    }

    /// A block's frames; `None` after the last.
    pub(super) fn block(&self, number: usize) -> Result<Option<Arc<Vec<u8>>>, ReadError> {
        let Some(block) = self.table.blocks.get(number) else { return Ok(None) };
        let read = self.blocks.get(self.key(number), || self.read(block.extent));
        read.map(Some).map_err(|error| failed(block.first, error.to_string()))
    }

    /// Has the system read the segment that holds a block into its cache, without waiting. Only a hint: where it fails, the
    /// block is read when somebody wants it.
    pub(super) fn read_ahead(&self, block: usize) {
        let extent = self.table.blocks.get(block).map(|block| block.extent);
        let piece = extent.and_then(|extent| self.table.pieces.get(extent.segment as usize));
        if let Some(file) = piece.and_then(|piece| File::open(self.path.join(piece.name.to_string())).ok()) {
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::WillNeed);
        }
    }

    fn key(&self, block: usize) -> Key {
        (self.name.first.0, self.name.revision, block)
    }

    /// What is wrong with a block's frames, and in which file. It is read anew the next time: the file may be mended by then.
    pub(super) fn damage(&self, block: usize, wrong: &str) -> String {
        self.blocks.forget(self.key(block));
        let extent = self.table.blocks.get(block).map(|block| block.extent);
        let piece = extent.and_then(|extent| self.table.pieces.get(extent.segment as usize));
        let path = piece.map_or_else(|| self.path.clone(), |piece| self.path.join(piece.name.to_string()));
        format!("`{}`: {wrong}", path.display())
    }

    /// A large payload, checked by its digest; `None` if the part has no such.
    pub(super) fn payload(&self, digest: &[u8; 32]) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(extent) = self.table.payload(digest).map_err(|error| self.failed(&error))? else {
            return Ok(None);
        };
        let record = self.read(extent).map_err(|error| self.failed(&error))?;
        match payload_of(&record).filter(|payload| blake3::hash(payload).as_bytes() == digest) {
            Some(payload) => Ok(Some(payload.to_vec())),
            None => Err(failed(self.name.first, "a large payload differs from its digest".to_owned())),
        }
    }

    fn read(&self, extent: Extent) -> io::Result<Vec<u8>> {
        let piece = self.table.pieces.get(extent.segment as usize);
        let piece = piece.ok_or_else(|| io::Error::other("a block of no segment"))?;
        let path = self.path.join(piece.name.to_string());
        let read = || {
            let mut compressed = vec![0; extent.compressed as usize];
            File::open(&path)?.read_exact_at(&mut compressed, u64::from(extent.offset))?;
            zstd::bulk::decompress(&compressed, extent.bytes as usize)
        };
        read().map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", path.display())))
    }

    fn failed(&self, error: &io::Error) -> ReadError {
        failed(self.name.first, format!("`{}`: {error}", self.path.display()))
    }
}

pub(super) fn failed(position: Position, reason: String) -> ReadError {
    ReadError::Store { what: format!("position {position}"), reason }
}

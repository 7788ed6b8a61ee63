//! The end of sled's file as it was before sled opened it.
//!
//! Opening, sled looks for the end of what it wrote, and fills with zeros whatever lies behind the first thing there that it can't
//! read. After a crash in the middle of a write that is as it should be. After a bit has flipped it removes facts that the disk still holds,
//! and that can be read without sled. So the end is read before, and written back if the log turns out not to be whole.
//!
//! The file consists of segments of one size, in no order. Each begins with its place in sled's log, up to where that was stable when the
//! segment was begun, and a checksum over both. sled looks for the end from the segment on in which the highest of these lies.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::store::released;

/// sled's own, which we leave as it is.
const SEGMENT_BYTES: u64 = 512 << 10;

const HEADER_BYTES: usize = 20;

/// Far more than sled has between a position that is stable and its end; where more seems to be there, the newest of it.
const KEPT_SEGMENTS_MAX: usize = 64;

/// See the module.
pub(super) struct Ending {
    file: PathBuf,
    len: u64,
    /// Segments by their offset.
    kept: Vec<(u64, Vec<u8>)>,
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ending").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Ending {
    /// Reads it. `None` where there is no file.
    pub(super) fn read(store: &Path) -> io::Result<Option<Self>> {
        let path = store.join("db");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let len = file.metadata()?.len();
        let mut headers = Vec::new();
        for offset in (0..len.div_ceil(SEGMENT_BYTES)).map(|number| number * SEGMENT_BYTES) {
            let mut header = [0; HEADER_BYTES];
            if len - offset >= HEADER_BYTES as u64 {
                file.read_exact_at(&mut header, offset)?;
                headers.extend(parse(header).map(|(at, stable)| (at, stable, offset)));
            }
        }
        let stable = headers.iter().map(|&(_, stable, _)| stable).max().unwrap_or(0);
        let from = stable / SEGMENT_BYTES * SEGMENT_BYTES;
        headers.retain(|&(at, ..)| at >= from);
        headers.sort_unstable();
        let surplus = headers.len().saturating_sub(KEPT_SEGMENTS_MAX);
        let mut kept = Vec::new();
        for (_, _, offset) in headers.split_off(surplus) {
            let bytes = usize::try_from((len - offset).min(SEGMENT_BYTES)).unwrap_or(0);
            let mut segment = vec![0; bytes];
            file.read_exact_at(&mut segment, offset)?;
            kept.push((offset, segment));
        }
        Ok(Some(Self { file: path, len, kept }))
    }

    /// Writes back what is not as it was, once sled has let go of the file.
    pub(super) fn put_back(&self) -> io::Result<()> {
        if !self.file.exists() {
            // All of it is in the archive.
            return Ok(());
        }
        released(&self.file)?;
        let file = OpenOptions::new().read(true).write(true).open(&self.file)?;
        let len = file.metadata()?.len();
        let mut changed = false;
        for (offset, segment) in &self.kept {
            let mut now = vec![0; segment.len()];
            // What was cut off differs anyhow.
            if file.read_exact_at(&mut now, *offset).is_err() || now != *segment {
                file.write_all_at(segment, *offset)?;
                changed = true;
            }
        }
        if len > self.len {
            file.set_len(self.len)?;
        }
        if changed || len > self.len { file.sync_all() } else { Ok(()) }
    }
}

/// Where a segment begins in sled's log, and up to where that was stable then.
fn parse(header: [u8; HEADER_BYTES]) -> Option<(u64, u64)> {
    let number = |from: usize| header.get(from..from + 8)?.try_into().ok().map(u64::from_le_bytes);
    let crc = u32::from_le_bytes(header.get(..4)?.try_into().ok()?) ^ u32::MAX;
    if crc != crc32fast::hash(&header[4..]) {
        return None;
    }
    // Both are signed in sled, and kept with all bits but the sign's turned round; a negative one is none.
    let turned = |number: u64| u64::try_from(number.cast_signed() ^ i64::MAX).ok();
    Some((turned(number(4)?)?, turned(number(12)?)?))
}

//! A snapshot: the projections at a position, in one file.
//!
//! ```text
//! size  what                                                             numbers are big-endian
//!    8  `covsnap1`
//!    8  position
//!   32  the log's chain at that position: a snapshot of another log is none of this one
//!   32  BLAKE3 of all that follows
//!  var  zstd: for each projection its name (length: 1), its version (4), its state (length: 8) as MessagePack
//! ```
//!
//! It is disposable: whatever is wrong with one, it is made again from the log.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use covalence_events::Position;
use covalence_events::log::Link;

use crate::runner::{Restored, Views};
use crate::view::EncodedState;

const MAGIC: &[u8; 8] = b"covsnap1";
const HEADER: usize = 8 + 8 + 32 + 32;
/// Fast: a state of heartbeats shrinks to a tenth at any level, and a slow one would take longer than the fold.
const LEVEL: i32 = 1;

/// Why a file is no snapshot to start from.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// The file system failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// It is sound, and not for us.
    #[error("{0}")]
    Foreign(String),
}

/// Writes the projections' states: whole or not at all, durable on return. Answers the file's size.
pub(super) fn write(
    path: &Path,
    position: Position,
    link: &Link,
    states: &[EncodedState],
) -> io::Result<u64> {
    let mut body = zstd::stream::Encoder::new(Vec::new(), LEVEL)?;
    for state in states {
        let name = state.name.as_bytes();
        body.write_all(&[u8::try_from(name.len()).map_err(io::Error::other)?])?;
        body.write_all(name)?;
        body.write_all(&state.version.to_be_bytes())?;
        body.write_all(&(state.bytes.len() as u64).to_be_bytes())?;
        body.write_all(&state.bytes)?;
    }
    let body = body.finish()?;
    let temporary = path.with_extension("tmp");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    for part in [MAGIC, &position.0.to_be_bytes()[..], link, blake3::hash(&body).as_bytes(), &body] {
        file.write_all(part)?;
    }
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok((HEADER + body.len()) as u64)
}

/// The projections as a snapshot has them, if it is of this position of the log with this chain and of these versions.
pub(super) fn read(path: &Path, position: Position, link: &Link) -> Result<Views, Unusable> {
    let mut file = File::open(path)?;
    let mut header = [0; HEADER];
    file.read_exact(&mut header).map_err(|_| Unusable::Damaged("it is too short"))?;
    let (magic, rest) = header.split_at(8);
    let (at, rest) = rest.split_at(8);
    let (of, digest) = rest.split_at(32);
    if magic != MAGIC {
        return Err(Unusable::Damaged("it does not begin like a snapshot"));
    }
    let mut body = Vec::new();
    file.read_to_end(&mut body)?;
    if blake3::hash(&body).as_bytes() != digest {
        return Err(Unusable::Damaged("its checksum is wrong"));
    }
    if at != position.0.to_be_bytes() || of != link {
        return Err(Unusable::Foreign("it is of another log".to_owned()));
    }
    let body = zstd::stream::decode_all(body.as_slice())?;
    let mut rest = body.as_slice();
    let mut restored = Restored::default();
    while !rest.is_empty() {
        let short = Unusable::Damaged("a state is cut off");
        let Some((name, version, bytes)) = state(&mut rest) else { return Err(short) };
        restored.add(name, version, bytes).map_err(Unusable::Foreign)?;
    }
    restored.views(position).map_err(Unusable::Foreign)
}

fn state<'a>(rest: &mut &'a [u8]) -> Option<(&'a str, u32, &'a [u8])> {
    let (length, after) = rest.split_first()?;
    let (name, after) = after.split_at_checked(usize::from(*length))?;
    let (version, after) = after.split_first_chunk::<4>()?;
    let (length, after) = after.split_first_chunk::<8>()?;
    let (bytes, after) = after.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)?;
    *rest = after;
    Some((std::str::from_utf8(name).ok()?, u32::from_be_bytes(*version), bytes))
}

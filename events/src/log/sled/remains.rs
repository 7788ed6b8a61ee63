//! What is left of a log whose databases can't be opened: frames that lie intact in their files, and segments of its archive.
//!
//! A frame is found by its checksum alone, so nothing of sled's has to be right. The same fact may lie there several times, and a position may have
//! two facts, of which one was cut off by a repair; only what continues the chain is taken, and of two ways that do, the one that leads
//! further. So what is taken is what was written, or nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::blobs::Blobs;
use super::directory::{ARCHIVE, BLOBS, store_name, stores};
use crate::id::Position;
use crate::log::frame::{FRAME_BYTES_MAX, Frame, Frames, Link, Payload};
use crate::log::segments::{Name, Segment};

/// Bytes of a file that are looked through at a time.
const WINDOW_BYTES: usize = 8 << 20;

/// Frames that one piece takes, about.
const PIECE_BYTES: usize = 4 << 20;

/// Where a frame lies.
#[derive(Clone, Copy, Debug)]
struct Found {
    file: usize,
    offset: u64,
    bytes: usize,
    last: bool,
    /// The chain behind the frame that follows it on the way that leads furthest.
    next: Option<Link>,
    /// The last position on that way at which an append ends.
    whole: Option<Position>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Remains {
    files: Vec<File>,
    /// By position and the chain behind them.
    frames: BTreeMap<(Position, Link), Found>,
    segments: Vec<(Name, PathBuf)>,
    blobs: Blobs,
}

impl Remains {
    /// Looks through what lies in a log's directory, for facts from a position on. Blocks; takes as long as reading the databases does.
    pub(crate) fn of(root: &Path, from: Position) -> io::Result<Self> {
        let mut remains = Self {
            files: Vec::new(),
            frames: BTreeMap::new(),
            segments: segments(&root.join(ARCHIVE))?,
            blobs: Blobs::new(root.join(BLOBS)),
        };
        for number in stores(root)? {
            match File::open(root.join(store_name(number)).join("db")) {
                Ok(file) => remains.search(file, from)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        remains.link_up()?;
        Ok(remains)
    }

    fn search(&mut self, file: File, from: Position) -> io::Result<()> {
        let number = self.files.len();
        let len = file.metadata()?.len();
        let (mut window, mut begin) = (Vec::new(), 0);
        while begin < len {
            let bytes = usize::try_from(len - begin).unwrap_or(usize::MAX).min(WINDOW_BYTES);
            window.resize(bytes, 0);
            file.read_exact_at(&mut window, begin)?;
            let to_the_end = begin + bytes as u64 == len;
            let mut at = 0;
            // What begins in the last part of a window is found in the next one.
            let end = if to_the_end { bytes } else { bytes - FRAME_BYTES_MAX };
            while at < end {
                let Some(frame) = Frame::find(&window[at..]) else {
                    at += 1;
                    continue;
                };
                if frame.position >= from {
                    let found = Found {
                        file: number,
                        offset: begin + at as u64,
                        bytes: frame.bytes.len(),
                        last: frame.last,
                        next: None,
                        whole: None,
                    };
                    self.frames.insert((frame.position, frame.link), found);
                }
                at += frame.bytes.len();
            }
            begin += at as u64;
        }
        self.files.push(file);
        Ok(())
    }

    /// Whole appends that continue the chain behind `link` from `next` on. `None` where there are none.
    pub(crate) fn piece(&self, next: Position, link: Link) -> io::Result<Option<Segment>> {
        match self.archived(next, &link) {
            Some(segment) => Ok(Some(segment)),
            None => self.found(next, link),
        }
    }

    /// A segment of the archive that continues the chain.
    fn archived(&self, next: Position, link: &Link) -> Option<Segment> {
        let holding = self.segments.iter().filter(|(name, _)| name.first <= next && next <= name.last);
        holding.map(|(_, path)| fs::read(path)).find_map(|file| {
            let segment = Segment::decode(&file.ok()?).ok()?;
            let continues = if segment.name.first == next {
                segment.before == *link
            } else {
                let mut frames = Frames::new(&segment.frames).flatten();
                segment.removal().is_none()
                    && frames.find(|frame| frame.position == next).is_some_and(|frame| frame.follows(link))
            };
            continues.then_some(segment)
        })
    }

    fn found(&self, next: Position, link: Link) -> io::Result<Option<Segment>> {
        let mut best: Option<(Link, Found)> = None;
        for (&(_, after), found) in self.at(next) {
            let leads = follows(&self.read(found)?, &link) && found.whole >= Some(next);
            if leads && best.is_none_or(|(_, best)| best.whole < found.whole) {
                best = Some((after, *found));
            }
        }
        let mut segment = Segment {
            name: Name { first: next, last: next },
            before: link,
            after: link,
            frames: Vec::new(),
            payloads: BTreeMap::new(),
            removal: None,
        };
        let (mut whole, mut payloads, mut position) = (0, Vec::new(), next);
        while let Some((after, found)) = best.filter(|_| whole < PIECE_BYTES) {
            let bytes = self.read(&found)?;
            if let Ok(Payload::Elsewhere(digest)) = Frame::read(&bytes).map(|frame| frame.payload()) {
                // An append without one of its payloads is not whole, and neither is what follows.
                let Ok(payload) = self.blobs.get(&digest) else { break };
                payloads.push((*digest.as_bytes(), payload));
            }
            segment.frames.extend_from_slice(&bytes);
            if found.last {
                whole = segment.frames.len();
                (segment.name.last, segment.after) = (position, after);
                segment.payloads.extend(payloads.drain(..));
            }
            position = position.next();
            best = found.next.and_then(|next| Some((next, *self.frames.get(&(position, next))?)));
        }
        segment.frames.truncate(whole);
        Ok((whole > 0).then_some(segment))
    }

    /// Finds out which frames follow which, from the end on.
    fn link_up(&mut self) -> io::Result<()> {
        let mut behind: Vec<(Link, Option<Position>, Vec<u8>)> = Vec::new();
        let mut position = Position(u64::MAX);
        while let Some((&(at, _), _)) = self.frames.range(..(position, Link::default())).next_back() {
            if at.next() != position {
                behind.clear();
            }
            let here: Vec<(Link, Found)> = self.at(at).map(|(&(_, after), found)| (after, *found)).collect();
            let mut frames = Vec::with_capacity(here.len());
            for (after, mut found) in here {
                found.whole = found.last.then_some(at);
                for (next, whole, bytes) in &behind {
                    if *whole > found.whole && follows(bytes, &after) {
                        (found.next, found.whole) = (Some(*next), *whole);
                    }
                }
                frames.push((after, found.whole, self.read(&found)?));
                self.frames.insert((at, after), found);
            }
            (behind, position) = (frames, at);
        }
        Ok(())
    }

    /// The frames of a position.
    fn at(&self, position: Position) -> impl Iterator<Item = (&(Position, Link), &Found)> {
        self.frames.range((position, Link::default())..=(position, [u8::MAX; 32]))
    }

    fn read(&self, found: &Found) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; found.bytes];
        self.files[found.file].read_exact_at(&mut bytes, found.offset)?;
        Ok(bytes)
    }
}

fn follows(frame: &[u8], before: &Link) -> bool {
    Frame::read(frame).is_ok_and(|frame| frame.follows(before))
}

/// The segments of an archive, those of the newest revisions first.
fn segments(archive: &Path) -> io::Result<Vec<(Name, PathBuf)>> {
    let mut parts = Vec::new();
    match fs::read_dir(archive) {
        Ok(entries) => {
            for entry in entries {
                parts.push(entry?.path());
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // A part that was never finished has segments that are whole.
    parts.sort_unstable();
    let mut segments = Vec::new();
    for part in parts.iter().rev() {
        for entry in fs::read_dir(part)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| Name::parse(&name.to_string_lossy()));
            segments.extend(name.map(|name| (name, path)));
        }
    }
    Ok(segments)
}

//! Removing facts from a part: what is left is written as another revision of it, which takes its place by one rename.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::build::Builder;
use super::part::Part;
use crate::envelope::{Fact, StreamId, Timestamp};
use crate::id::Position;
use crate::log::ReadError;
use crate::log::checkpoint::Signer;
use crate::log::frame::{Frame, Frames, Payload};
use crate::log::removal::{Gap, KEPT_EVERY};
use crate::retention::{Class, Hour, Reach, Seen, Sieve};
use crate::seal;
use crate::workspace::{Event, HeartbeatReceived};

/// By which rule, when, and signed by whom facts are removed.
#[derive(Debug)]
pub(in crate::log) struct Thinning {
    /// The rule in words.
    pub(in crate::log) rule: String,
    pub(in crate::log) now: Timestamp,
    /// Positions whose links stay known: there are checkpoints of them.
    pub(in crate::log) links: BTreeSet<Position>,
    pub(in crate::log) signer: Signer,
}

/// How fast, and whether at all any more: asked after each segment with its bytes; `false` stops.
pub(in crate::log) type Pace<'a> = &'a dyn Fn(usize) -> bool;

/// The position from which on heartbeats of a stream stay.
pub(in crate::log) type Kept<'a> = &'a dyn Fn(StreamId) -> Result<Position, ReadError>;

/// The positions of what goes, in order; `None` if it was stopped. Only whole parts are gone through, since one of which a fact is too
/// young would have to be written again soon: `reach` says of which classes all are old.
pub(in crate::log) fn sift(
    part: &Part,
    reach: Reach,
    kept: Kept<'_>,
    pace: Pace<'_>,
) -> Result<Option<Vec<Position>>, ReadError> {
    let (mut sieve, mut said) = (Sieve::default(), Vec::new());
    for number in 0..part.segments() {
        let segment = part.segment(number)?;
        for frame in Frames::new(&segment.frames) {
            let frame = frame.map_err(|wrong| super::failed(part.first(), wrong.to_owned()))?;
            let failed = |wrong: &str| super::failed(frame.position, wrong.to_owned());
            let (beat, class) = (beat(&frame), Class::of(frame.tag()));
            let seen = match (&beat, class) {
                (Some(beat), _) if reach.heartbeats && frame.position < kept(frame.stream)? => {
                    Seen::Beat(beat, frame.boot().map_err(failed)?)
                }
                (None, Some(Class::Call)) => Seen::Call,
                _ => Seen::Other,
            };
            if reach.activity && class == Some(Class::Activity) {
                said.push(frame.position);
            }
            sieve.add(frame.stream, frame.position, seen);
        }
        if !pace(segment.raw_bytes()) {
            return Ok(None);
        }
    }
    let mut gone = sieve.finish();
    gone.append(&mut said);
    gone.sort_unstable();
    gone.retain(|position| !position.0.is_multiple_of(KEPT_EVERY));
    Ok(Some(gone))
}

/// The heartbeat in a frame, if it is one.
fn beat(frame: &Frame<'_>) -> Option<HeartbeatReceived> {
    let (Some(Class::Heartbeat), Payload::Inline(payload)) = (Class::of(frame.tag()), frame.payload()) else {
        return None;
    };
    // Without keys: what is sealed says nothing that is summed up.
    let opened = seal::open((frame.id, frame.tag()), frame.stream, payload, None);
    match opened.and_then(|(payload, _)| Fact::decode(frame.tag(), &payload)) {
        Ok(Fact::Workspace(Event::HeartbeatReceived(beat))) => Some(beat),
        // What can't be read is not thrown away.
        Ok(_) | Err(_) => None,
    }
}

/// Writes a part without the facts at some positions. Where it lies then; `None` if it was stopped.
pub(in crate::log) fn rewrite(
    (root, part): (&Path, &Part),
    thinning: &Arc<Thinning>,
    gone: &[Position],
    pace: Pace<'_>,
) -> io::Result<Option<PathBuf>> {
    let after = (Position(part.first().0 - 1), *part.before());
    let mut builder = Builder::revise(root, part.revision() + 1, after, Some(Arc::clone(thinning)))?;
    let mut beats: HashMap<StreamId, Timestamp> = HashMap::new();
    for number in 0..part.segments() {
        let segment = part.segment(number).map_err(io::Error::other)?;
        if let Some(earlier) = &segment.removal {
            builder.removal().take_over(&earlier.removal);
        }
        let mut gaps = segment.gaps().iter().peekable();
        for frame in Frames::new(&segment.frames) {
            let frame = frame.map_err(io::Error::other)?;
            while let Some(gap) = gaps.next_if(|gap| gap.first() < frame.position) {
                builder.skip(gap.clone());
            }
            let before = match (beat(&frame), frame.at()) {
                (Some(_), Ok(at)) => beats.insert(frame.stream, at),
                _ => None,
            };
            if gone.binary_search(&frame.position).is_err() {
                let payload = match frame.payload() {
                    Payload::Inline(_) => None,
                    Payload::Elsewhere(digest) => {
                        let payload = segment.payloads.get(digest.as_bytes()).cloned();
                        payload.map(|payload| (*digest.as_bytes(), payload))
                    }
                };
                builder.push(&frame, payload)?;
                continue;
            }
            let removal = builder.removal();
            removal.bytes += frame.bytes.len() as u64;
            let (events, hours) = removal.stream(frame.stream);
            *events += 1;
            if let (Some(beat), Ok(at)) = (beat(&frame), frame.at()) {
                Hour::add(hours, &beat, at, before);
            }
            builder.skip(Gap::new(frame.position, frame.position, frame.link, frame.last));
        }
        for gap in gaps {
            builder.skip(gap.clone());
        }
        builder.settle()?;
        if !pace(segment.raw_bytes()) {
            return Ok(None);
        }
    }
    for (stream, row) in part.streams()? {
        builder.went_through(stream, row.first, row.last);
    }
    builder.finish()
}

/// The pause after so many bytes that keeps to a rate.
pub(in crate::log) fn pause(bytes: usize, per_second: u64) -> Duration {
    Duration::from_millis(bytes as u64 * 1000 / per_second.max(1))
}

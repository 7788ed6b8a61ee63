//! Whether segments are sound, each and all of them together: said of all that is wrong, not only of the first.

use std::collections::BTreeMap;

use super::{Name, Place, Segment, SegmentError};
use crate::envelope::Fact;
use crate::id::Position;
use crate::log::checkpoint::{self, Checkpoint, PublicKey};
use crate::log::frame::{Frame, Frames, GENESIS, Link, Payload};
use crate::log::order::Order;
use crate::log::problems::Problems;
use crate::log::{ReadError, Verified};
use crate::seal::{self, Unread};

/// Reads every segment of a place, and holds them against its own checkpoints and the given ones. With `keys`, only
/// checkpoints of these keys are believed.
///
/// # Errors
/// When the place does not answer, or has no segments. What is wrong with them is in the result.
pub async fn check(
    place: &Place,
    checkpoints: &[Checkpoint],
    keys: &[PublicKey],
) -> Result<Verified, SegmentError> {
    let names = place.segments().await?;
    if names.is_empty() {
        return Err(SegmentError::None { place: place.shown().to_owned() });
    }
    let (mut all, unreadable) = place.checkpoints(Position(u64::MAX)).await?;
    all.extend_from_slice(checkpoints);
    let mut findings = Findings::new(keys, &all, Problems::after(unreadable));
    for name in names {
        match place.get(name).await {
            Ok(segment) => findings.segment(&segment),
            Err(SegmentError::Damaged { flaw, .. }) => {
                findings.problems.note(format!("segment `{name}`: {flaw}"));
                findings.skip(name);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(findings.finish(&all))
}

struct Findings<'a> {
    keys: &'a [PublicKey],
    events: u64,
    order: Order,
    problems: Problems,
    unread: Unread,
    /// Links at the positions of checkpoints, as far as they were found.
    links: BTreeMap<Position, Option<Link>>,
}

impl<'a> Findings<'a> {
    fn new(keys: &'a [PublicKey], checkpoints: &[Checkpoint], problems: Problems) -> Self {
        let links = checkpoints.iter().map(|checkpoint| (checkpoint.position, None)).collect();
        Self { keys, events: 0, order: Order::default(), problems, unread: Unread::default(), links }
    }

    fn segment(&mut self, segment: &Segment) {
        let name = segment.name;
        if name.last < self.order.next {
            return;
        }
        if name.first > self.order.next {
            let last = Position(name.first.0 - 1);
            self.problems.note(format!("positions {} to {last} are in no segment", self.order.next));
            self.order = Order::within(name.first, segment.before);
        } else if name.first == self.order.next {
            if self.order.is_unlinked() {
                self.order = Order::within(name.first, segment.before);
            } else if segment.before != self.order.link {
                self.problems
                    .note(format!("segment `{name}`: it does not continue the chain of the one before"));
            }
        }
        if let Some(signed) = segment.removal()
            && !self.keys.is_empty()
            && !self.keys.contains(&signed.key())
        {
            let key = signed.key();
            self.problems
                .note(format!("segment `{name}`: what was removed from it is signed by another key, {key}"));
        }
        self.order.enter(segment);
        for frame in Frames::new(&segment.frames).flatten() {
            if frame.position < self.order.next {
                continue;
            }
            self.events += 1;
            if let Err(wrong) = self.order.follow(&frame) {
                self.problems.note(format!("segment `{name}`, position {}: {wrong}", frame.position));
            }
            match understood(&frame, segment) {
                Ok(unread) => self.unread.add(&unread),
                Err(wrong) => {
                    self.problems.note(format!("segment `{name}`, position {}: {wrong}", frame.position));
                }
            }
            if let Some(link) = self.links.get_mut(&frame.position) {
                *link = Some(frame.link);
            }
        }
        for gap in segment.gaps() {
            if let Some(link) = self.links.get_mut(&gap.last()) {
                *link = Some(gap.after());
            }
        }
        if let Err(wrong) = self.order.leave() {
            self.problems.note(format!("segment `{name}`: {wrong}"));
        }
    }

    /// Goes on behind a segment that can't be read.
    fn skip(&mut self, name: Name) {
        if name.last >= self.order.next {
            self.order = Order::unlinked(name.last.next());
        }
    }

    fn finish(mut self, checkpoints: &[Checkpoint]) -> Verified {
        let head = Position(self.order.next.0 - 1);
        let links = std::mem::take(&mut self.links);
        let link = |position: Position| match links.get(&position) {
            Some(Some(link)) => Ok(Some(*link)),
            Some(None) | None if position > head => Ok(None),
            Some(None) | None => Err(ReadError::Store {
                what: format!("position {position}"),
                reason: "it is in no sound segment".to_owned(),
            }),
        };
        let flaws: Vec<_> =
            checkpoints.iter().filter_map(|one| checkpoint::flaw(one, self.keys, &link, head)).collect();
        for flaw in flaws {
            self.problems.note(flaw);
        }
        let chain = if self.order.is_unlinked() { GENESIS } else { self.order.link };
        Verified {
            events: self.events,
            head,
            chain: checkpoint::hex(&chain),
            checkpoints: checkpoints.len() as u64,
            erased: self.unread.erased,
            sealed: self.unread.sealed,
            problems: self.problems.finish(),
        }
    }
}

/// Segments come without keys, so what is sealed is counted and otherwise taken as it is.
fn understood(frame: &Frame<'_>, segment: &Segment) -> Result<Unread, String> {
    let payload = match frame.payload() {
        Payload::Inline(payload) => payload,
        Payload::Elsewhere(digest) => {
            segment.payloads.get(digest.as_bytes()).ok_or("its payload is missing")?.as_slice()
        }
    };
    let (payload, unread) = seal::open((frame.id, frame.tag()), frame.stream, payload, None)
        .map_err(|error| error.to_string())?;
    Fact::decode(frame.tag(), &payload).map(|_| unread).map_err(|error| error.to_string())
}

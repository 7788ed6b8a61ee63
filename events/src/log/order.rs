//! The order that frames have to be in, wherever they are read from.

use std::collections::{HashMap, VecDeque};

use super::frame::{Frame, GENESIS, Link, Wrong};
use super::removal::Gap;
use super::segments::Segment;
use crate::envelope::StreamId;
use crate::id::{Position, Version};

/// Follows the order of frames: positions, versions, chain.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) next: Position,
    pub(super) link: Link,
    versions: HashMap<StreamId, Version>,
    /// Whether facts before `next` were not seen: a stream's first version is not known then.
    partial: bool,
    /// Whether not even the link is known.
    unlinked: bool,
    /// Where facts were removed, in the segment that is followed.
    gaps: VecDeque<Gap>,
    /// How many of each stream are yet to be passed there.
    removed: HashMap<StreamId, u64>,
}

impl Default for Order {
    fn default() -> Self {
        Self {
            next: Position(1),
            link: GENESIS,
            versions: HashMap::new(),
            partial: false,
            unlinked: false,
            gaps: VecDeque::new(),
            removed: HashMap::new(),
        }
    }
}

impl Order {
    /// Behind what was seen as a whole, with the last version of each stream.
    pub(super) fn after(next: Position, link: Link, versions: HashMap<StreamId, Version>) -> Self {
        Self { next, link, versions, ..Self::default() }
    }

    /// From the middle of a log on.
    pub(super) fn within(next: Position, link: Link) -> Self {
        Self { next, link, partial: true, ..Self::default() }
    }

    /// From a position on whose link can't be known.
    pub(super) fn unlinked(next: Position) -> Self {
        Self { unlinked: true, ..Self::within(next, GENESIS) }
    }

    /// Whether the link before the next frame is not known.
    pub(super) const fn is_unlinked(&self) -> bool {
        self.unlinked
    }

    /// Learns what was removed from a segment whose frames come next. Of one that begins earlier, only what is still to come.
    pub(super) fn enter(&mut self, segment: &Segment) {
        let next = self.next;
        self.gaps = segment.gaps().iter().filter(|gap| gap.first() >= next).cloned().collect();
        let removed = segment.removal.iter().flat_map(|signed| &signed.removal.streams);
        self.removed = removed.filter_map(|removed| Some((removed.stream()?, removed.events))).collect();
    }

    /// Goes past the end of that segment. The last versions of the streams that facts were removed of.
    pub(super) fn leave(&mut self) -> Result<Vec<(StreamId, Version)>, Wrong> {
        self.pass_gaps();
        let mut ends = Vec::new();
        for (stream, left) in self.removed.drain() {
            let version = self.versions.entry(stream).or_default();
            version.0 += left;
            ends.push((stream, *version));
        }
        if self.gaps.drain(..).next().is_some() {
            return Err("facts are there that are said to have been removed");
        }
        Ok(ends)
    }

    fn pass_gaps(&mut self) {
        while let Some(gap) = self.gaps.front().filter(|gap| gap.first() == self.next) {
            (self.next, self.link) = (gap.last().next(), gap.after());
            self.gaps.pop_front();
        }
    }

    /// Checks that a frame comes next, and goes on from it even if it does not.
    pub(super) fn follow(&mut self, frame: &Frame<'_>) -> Result<(), Wrong> {
        self.pass_gaps();
        let unseen = if self.partial { Version(frame.version.0.saturating_sub(1)) } else { Version(0) };
        let version = self.versions.entry(frame.stream).or_insert(unseen);
        if let Some(left) = self.removed.get_mut(&frame.stream) {
            let passed = frame.version.0.saturating_sub(version.next().0).min(*left);
            (version.0, *left) = (version.0 + passed, *left - passed);
        }
        let result = if frame.position != self.next {
            Err("position out of order")
        } else if frame.version != version.next() {
            Err("version out of order")
        } else if !self.unlinked && !frame.follows(&self.link) {
            Err("the chain is broken")
        } else {
            Ok(())
        };
        *version = frame.version;
        self.next = frame.position.next();
        self.link = frame.link;
        self.unlinked = false;
        result
    }
}

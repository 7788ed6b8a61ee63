//! The order that frames have to be in, wherever they are read from.

use std::collections::HashMap;

use super::frame::{Frame, GENESIS, Link, Wrong};
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
}

impl Default for Order {
    fn default() -> Self {
        Self { next: Position(1), link: GENESIS, versions: HashMap::new(), partial: false, unlinked: false }
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

    /// Checks that a frame comes next, and goes on from it even if it does not.
    pub(super) fn follow(&mut self, frame: &Frame<'_>) -> Result<(), Wrong> {
        let unseen = if self.partial { Version(frame.version.0.saturating_sub(1)) } else { Version(0) };
        let version = self.versions.entry(frame.stream).or_insert(unseen);
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

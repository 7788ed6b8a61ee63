//! What is kept in memory about the log: where things are, not what they are.
//!
//! About 30 bytes a fact, and 100 a stream. Rebuilt at open by one pass over the log.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::envelope::{Recorded, StreamId};
use crate::id::{EventId, Position, Version};

/// Event ids that are remembered for idempotence and `find`. A repeated append comes within a client's retries, so
/// minutes; at 1 000 facts a second this is two of them, and it costs about 6 MiB.
pub const RECENT_IDS_MAX: usize = 131_072;

/// Facts kept decoded, so that live readers never go to the disk. At about 1 KiB each this is 16 MiB.
pub const RECENT_EVENTS_MAX: usize = 16_384;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Index {
    streams: HashMap<StreamId, Vec<u64>>,
    /// First position of each chunk, which is its key. Ascending.
    chunks: Vec<u64>,
    ids: HashMap<EventId, u64>,
    id_order: VecDeque<EventId>,
    recent: VecDeque<Arc<Recorded>>,
    head: u64,
    /// What the log is known to reach, while it is read for the first time: what would be forgotten again until there is
    /// not taken up.
    expected: u64,
}

impl Index {
    /// The last position.
    pub(super) const fn head(&self) -> Position {
        Position(self.head)
    }

    /// A stream's version; 0 if there is none.
    pub(super) fn version(&self, stream: StreamId) -> Version {
        Version(self.streams.get(&stream).map_or(0, Vec::len) as u64)
    }

    /// Streams that have facts.
    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// The position of a remembered event.
    pub(super) fn find(&self, id: EventId) -> Option<Position> {
        self.ids.get(&id).copied().map(Position)
    }

    /// Positions of a stream's facts from a version on.
    pub(super) fn positions(&self, stream: StreamId, from: Version, limit: usize) -> Vec<Position> {
        let start = usize::try_from(from.0.saturating_sub(1)).unwrap_or(usize::MAX);
        let positions = self.streams.get(&stream).map_or(&[][..], Vec::as_slice);
        positions.iter().skip(start).take(limit).copied().map(Position).collect()
    }

    /// Positions of a stream's last facts up to a position, oldest first.
    pub(super) fn positions_back(&self, stream: StreamId, through: Position, limit: usize) -> Vec<Position> {
        let positions = self.streams.get(&stream).map_or(&[][..], Vec::as_slice);
        let end = positions.partition_point(|&position| position <= through.0);
        positions[end.saturating_sub(limit)..end].iter().copied().map(Position).collect()
    }

    /// The key of the chunk that holds a position.
    pub(super) fn chunk_of(&self, position: Position) -> Option<u64> {
        let after = self.chunks.partition_point(|&first| first <= position.0);
        after.checked_sub(1).map(|index| self.chunks[index])
    }

    /// A fact that is still decoded.
    pub(super) fn recent(&self, position: Position) -> Option<&Arc<Recorded>> {
        let first = self.recent.front()?.position.0;
        let offset = position.0.checked_sub(first)?;
        self.recent.get(usize::try_from(offset).ok()?)
    }

    /// Notes that a chunk begins at a position.
    pub(super) fn add_chunk(&mut self, first: Position) {
        self.chunks.push(first.0);
    }

    /// Forgets the last chunks, which a repair removes. Their facts were never added.
    pub(super) fn remove_chunks(&mut self, count: usize) {
        self.chunks.truncate(self.chunks.len().saturating_sub(count));
    }

    /// Says how far the log reaches at least, before it is read.
    pub(super) fn expect(&mut self, position: Position) {
        self.expected = position.0;
    }

    /// Notes the next fact.
    pub(super) fn add(&mut self, position: Position, stream: StreamId, id: EventId) {
        self.head = position.0;
        self.streams.entry(stream).or_default().push(position.0);
        if self.will_be_forgotten(position, RECENT_IDS_MAX) {
            return;
        }
        if self.id_order.len() == RECENT_IDS_MAX
            && let Some(oldest) = self.id_order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        self.ids.insert(id, position.0);
        self.id_order.push_back(id);
    }

    /// Keeps a fact decoded. They come in order of their positions, without gaps.
    pub(super) fn keep(&mut self, event: Arc<Recorded>) {
        if self.will_be_forgotten(event.position, RECENT_EVENTS_MAX) {
            return;
        }
        if self.recent.len() == RECENT_EVENTS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(event);
    }

    /// Whether so many facts are known to come after this one.
    const fn will_be_forgotten(&self, position: Position, kept: usize) -> bool {
        self.expected.saturating_sub(position.0) >= kept as u64
    }

    /// Gives back memory that growing left over, after the pass that builds the index.
    pub(super) fn shrink(&mut self) {
        self.chunks.shrink_to_fit();
        self.streams.values_mut().for_each(Vec::shrink_to_fit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::WorkspaceId;

    #[test]
    fn a_log_whose_length_is_known_leaves_the_same_ids_behind() {
        let (mut known, mut unknown) = (Index::default(), Index::default());
        let stream = StreamId::Workspace(WorkspaceId::generate());
        // Its last chunk begins here, and has a few facts more.
        let last_chunk = RECENT_IDS_MAX as u64 + 5;
        known.expect(Position(last_chunk));
        let ids: Vec<_> = (0..last_chunk + 3).map(|_| EventId::generate()).collect();
        for (id, position) in ids.iter().zip(1..) {
            known.add(Position(position), stream, *id);
            unknown.add(Position(position), stream, *id);
        }
        assert_eq!(known.head(), unknown.head());
        assert_eq!(known.version(stream), unknown.version(stream));
        assert_eq!(known.ids.len(), RECENT_IDS_MAX);
        assert!(ids.iter().all(|id| known.find(*id) == unknown.find(*id)));
        assert_eq!(known.find(ids[7]), None);
        assert_eq!(known.find(ids[8]), Some(Position(9)));
    }
}

//! What is kept in memory about the log: where things are, not what they are.
//!
//! About 30 bytes for each fact that is not archived yet, so for some million of them at most, and 100 for each stream. Rebuilt at
//! open by one pass over the databases. What is archived is looked up there.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::layers::{Heads, Layers};
use super::store::Store;
use crate::envelope::{Recorded, StreamId, Timestamp};
use crate::id::{EventId, Position, Version};
use crate::log::archive::Archive;
use crate::seal;

/// Event ids that are remembered for idempotence and `find`. A repeated append comes within a client's retries, so
/// minutes; at 1 000 facts a second this is two of them, and it costs about 6 MiB.
pub const RECENT_IDS_MAX: usize = 131_072;

/// Facts kept decoded, so that live readers never go to the disk. At about 1 KiB each this is 16 MiB.
pub const RECENT_EVENTS_MAX: usize = 16_384;

/// A map by ids. The platform draws them itself, so nobody can choose ones that collide; and each fact asks ten maps.
pub(super) type ById<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// What is known of one database.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) store: Arc<Store>,
    /// First position of each chunk, which is its key. Ascending.
    chunks: Vec<u64>,
    streams: ById<StreamId, Places>,
    facts: u64,
    /// When its first fact happened.
    began: Option<Timestamp>,
}

/// The facts of one stream in one database.
#[derive(Debug)]
struct Places {
    first: u64,
    positions: Vec<u64>,
}

impl Live {
    fn new(store: Arc<Store>) -> Self {
        Self { store, chunks: Vec::new(), streams: ById::default(), facts: 0, began: None }
    }

    /// The key of the chunk that holds a position, if this database reaches back to it.
    fn chunk_of(&self, position: Position) -> Option<u64> {
        let after = self.chunks.partition_point(|&first| first <= position.0);
        after.checked_sub(1).map(|index| self.chunks[index])
    }
}

/// Where a fact is read from.
#[derive(Debug)]
pub(super) enum Source {
    Memory(Arc<Recorded>),
    Chunk { store: Arc<Store>, first: u64, position: Position },
}

/// When a database is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full {
    /// It has this many facts …
    pub(super) events: u64,
    /// … or this much time lies between its first and its last.
    pub(super) span: chrono::TimeDelta,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Index {
    archive: Arc<Archive>,
    /// Databases that are not in the archive, oldest first; the last is written to.
    live: Vec<Live>,
    /// The last version of each stream.
    heads: ById<StreamId, u64>,
    ids: ById<EventId, u64>,
    id_order: VecDeque<EventId>,
    recent: VecDeque<Arc<Recorded>>,
    head: u64,
    /// What the log is known to reach, while it is read for the first time: what would be forgotten again until there is
    /// not taken up.
    expected: u64,
}

impl Index {
    /// An index of what is archived; the databases are yet to be read.
    pub(super) fn new(layers: &Layers, heads: Heads) -> Self {
        Self {
            archive: Arc::clone(&layers.archive),
            live: Vec::new(),
            heads: heads.into_iter().map(|(stream, version)| (stream, version.0)).collect(),
            ids: ById::default(),
            id_order: VecDeque::new(),
            recent: VecDeque::new(),
            head: layers.archive.last().0,
            expected: 0,
        }
    }

    /// The last position.
    pub(super) const fn head(&self) -> Position {
        Position(self.head)
    }

    /// What is archived.
    pub(super) fn archive(&self) -> Arc<Archive> {
        Arc::clone(&self.archive)
    }

    /// Where the bytes are.
    pub(super) fn layers(&self) -> Layers {
        let stores = self.live.iter().map(|live| Arc::clone(&live.store)).collect();
        Layers { archive: self.archive(), stores }
    }

    /// A stream's version; 0 if there is none.
    pub(super) fn version(&self, stream: StreamId) -> Version {
        Version(self.heads.get(&stream).copied().unwrap_or_default())
    }

    /// Streams that have facts.
    pub(super) fn streams(&self) -> usize {
        self.heads.len()
    }

    /// The position of a remembered event.
    pub(super) fn find(&self, id: EventId) -> Option<Position> {
        self.ids.get(&id).copied().map(Position)
    }

    /// The first version of a stream that is not archived; the one that comes next, if all are.
    pub(super) fn first_live_version(&self, stream: StreamId) -> Version {
        let first = self.live.iter().find_map(|live| live.streams.get(&stream)).map(|places| places.first);
        first.map_or_else(|| self.version(stream).next(), Version)
    }

    /// Positions of a stream's facts from a version on, as far as they are not archived.
    pub(super) fn positions(&self, stream: StreamId, from: Version, limit: usize) -> Vec<Position> {
        let all = self.live.iter().filter_map(|live| live.streams.get(&stream)).flat_map(|places| {
            let skipped = usize::try_from(from.0.saturating_sub(places.first)).unwrap_or(usize::MAX);
            places.positions.iter().skip(skipped)
        });
        all.take(limit).copied().map(Position).collect()
    }

    /// Positions of a stream's last facts up to a position, oldest first, as far as they are not archived.
    pub(super) fn positions_back(&self, stream: StreamId, through: Position, limit: usize) -> Vec<Position> {
        let all = self.live.iter().rev().filter_map(|live| live.streams.get(&stream)).flat_map(|places| {
            let end = places.positions.partition_point(|&position| position <= through.0);
            places.positions[..end].iter().rev()
        });
        let mut found: Vec<_> = all.take(limit).copied().map(Position).collect();
        found.reverse();
        found
    }

    /// Where a fact is that is not archived.
    pub(super) fn source(&self, position: Position) -> Option<Source> {
        if let Some(event) = self.recent(position) {
            return Some(Source::Memory(Arc::clone(event)));
        }
        let found =
            self.live.iter().rev().find_map(|live| live.chunk_of(position).map(|first| (live, first)));
        found.map(|(live, first)| Source::Chunk { store: Arc::clone(&live.store), first, position })
    }

    /// A fact that is still decoded.
    pub(super) fn recent(&self, position: Position) -> Option<&Arc<Recorded>> {
        let found = self.recent.binary_search_by_key(&position, |event| event.position).ok()?;
        self.recent.get(found)
    }

    /// Goes on in another database.
    pub(super) fn begin(&mut self, store: Arc<Store>) {
        self.live.push(Live::new(store));
    }

    /// Whether the database that is written to has enough.
    pub(super) fn is_full(&self, full: Full, now: Timestamp) -> bool {
        self.live.last().is_some_and(|live| {
            live.facts >= full.events || live.began.is_some_and(|began| now - began >= full.span)
        })
    }

    /// The oldest database, if it is not written to any more.
    pub(super) fn sealed(&self) -> Option<Arc<Store>> {
        (self.live.len() > 1).then(|| Arc::clone(&self.live[0].store))
    }

    /// Takes the archive that the oldest database is now in, and gives back what was known of that.
    pub(super) fn archived(&mut self, archive: Arc<Archive>) -> Live {
        self.archive = archive;
        self.live.remove(0)
    }

    /// Takes an archive in which facts up to a position may have been removed.
    pub(super) fn scavenged(&mut self, archive: Arc<Archive>, through: Position) {
        self.archive = archive;
        while self.recent.front().is_some_and(|event| event.position <= through) {
            self.recent.pop_front();
        }
    }

    /// Notes that a chunk begins at a position.
    pub(super) fn add_chunk(&mut self, first: Position) {
        if let Some(live) = self.live.last_mut() {
            live.chunks.push(first.0);
        }
    }

    /// Forgets the last chunks, which a repair removes. Their facts were never added.
    pub(super) fn remove_chunks(&mut self, count: usize) {
        if let Some(live) = self.live.iter_mut().rev().find(|live| !live.chunks.is_empty()) {
            live.chunks.truncate(live.chunks.len().saturating_sub(count));
        }
    }

    /// Says how far the log reaches at least, before it is read.
    pub(super) const fn expect(&mut self, position: Position) {
        self.expected = position.0;
    }

    /// Notes the next fact.
    pub(super) fn add(&mut self, position: Position, stream: StreamId, id: EventId) {
        let head = self.heads.entry(stream).or_default();
        *head += 1;
        if let Some(live) = self.live.last_mut() {
            let places = live.streams.entry(stream);
            let first = *head;
            places.or_insert_with(|| Places { first, positions: Vec::new() }).positions.push(position.0);
            live.facts += 1;
        }
        self.remember(position, id);
    }

    /// Notes when a fact happened that the database which is written to got, in order.
    pub(super) fn note_time(&mut self, at: Timestamp) {
        if let Some(live) = self.live.last_mut() {
            live.began.get_or_insert(at);
        }
    }

    /// Remembers an id. In order of their positions.
    pub(super) fn remember(&mut self, position: Position, id: EventId) {
        self.head = position.0.max(self.head);
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

    /// Keeps a fact decoded. They come in order of their positions. Answers the one that is not kept any more instead.
    pub(super) fn keep(&mut self, event: Arc<Recorded>) -> Option<Arc<Recorded>> {
        if self.will_be_forgotten(event.position, RECENT_EVENTS_MAX) {
            return Some(event);
        }
        let oldest = if self.recent.len() == RECENT_EVENTS_MAX { self.recent.pop_front() } else { None };
        self.recent.push_back(event);
        oldest
    }

    /// Forgets the text of an owner's facts that are kept decoded.
    pub(super) fn forget(&mut self, owner: StreamId) {
        for event in &mut self.recent {
            if seal::owner(event.stream, &event.fact) == owner {
                *event = erased(event);
            }
        }
    }

    /// Whether so many facts are known to come after this one.
    const fn will_be_forgotten(&self, position: Position, kept: usize) -> bool {
        self.expected.saturating_sub(position.0) >= kept as u64
    }

    /// Gives back memory that growing left over, after the pass that builds the index.
    pub(super) fn shrink(&mut self) {
        for live in &mut self.live {
            live.chunks.shrink_to_fit();
            live.streams.values_mut().for_each(|places| places.positions.shrink_to_fit());
        }
    }
}

/// A fact without its text. One that can't be made stays out of reach of everybody but its own reader: there is none, since
/// placeholders fit every field that is sealed.
pub(super) fn erased(event: &Arc<Recorded>) -> Arc<Recorded> {
    match seal::erased(&event.fact) {
        Ok(fact) => Arc::new(Recorded { fact, meta: event.meta.clone(), ..**event }),
        Err(error) => {
            tracing::error!(%error, position = %event.position, "a fact could not be rid of its text in memory");
            Arc::clone(event)
        }
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

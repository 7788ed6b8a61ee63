//! One commit in the making: what each request of it gets, and the chunks that are written.

use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;
use tokio::sync::oneshot;

use super::super::index::{ById, Index};
use super::request::{Reply, Request, StreamDraft, answer};
use super::{CHUNK_BYTES_MAX, Meters};
use crate::envelope::{Recorded, StreamId};
use crate::id::{EventId, Position, Version};
use crate::log::frame::{Draft, Link};
use crate::log::{Ack, AppendError, Receipt};

/// Buffers for chunks that are kept for the next commit: enough for some hundred appends.
const SPARE_CHUNKS_MAX: usize = 64;

/// See the module.
pub(super) struct Plan {
    next: Position,
    /// The chain behind its last fact.
    pub(super) link: Link,
    /// What is written, with the position of each chunk's first fact.
    pub(super) chunks: Vec<(Position, Vec<u8>)>,
    /// Its facts, in order.
    pub(super) events: Vec<Arc<Recorded>>,
    versions: ById<StreamId, Version>,
    /// Where in `events` a fact is.
    pub(super) ids: ById<EventId, usize>,
    /// Payloads that have to be in files of their own first.
    pub(super) elsewhere: Vec<(blake3::Hash, Vec<u8>)>,
    pending: Vec<Pending>,
}

/// An answer that waits for the flush.
struct Pending {
    reply: oneshot::Sender<Reply>,
    receipt: Receipt,
    spent: Vec<StreamDraft>,
    queued: Instant,
}

/// Memory that is used again.
#[derive(Debug, Default)]
pub(super) struct Spare {
    /// Buffers of chunks.
    chunks: Vec<Vec<u8>>,
    /// Facts that are not kept decoded any more. Whoever brings new ones takes them along, and drops them.
    pub(super) forgotten: Vec<Arc<Recorded>>,
}

impl Plan {
    /// One of so many requests, behind what the log has.
    pub(super) fn new(index: &Index, link: Link, requests: usize) -> Self {
        Self {
            next: index.head().next(),
            link,
            chunks: Vec::new(),
            events: Vec::with_capacity(requests),
            versions: ById::with_capacity_and_hasher(requests, RandomState::default()),
            ids: ById::with_capacity_and_hasher(requests, RandomState::default()),
            elsewhere: Vec::new(),
            pending: Vec::with_capacity(requests),
        }
    }

    /// Answers a request with what an earlier one of the same facts came to.
    pub(super) fn repeat(&mut self, request: Request, receipt: Receipt) {
        let Request { streams: spent, ack, reply, queued, .. } = request;
        self.reply(ack, Pending { reply, receipt, spent, queued });
    }

    /// Why a request can't be part of it.
    pub(super) fn conflict(&self, request: &Request, index: &Index) -> Option<AppendError> {
        request.streams.iter().find_map(|draft| {
            let actual = self.version(draft.stream, index);
            (!draft.expected.agrees(actual)).then_some(AppendError::Conflict {
                stream: draft.stream,
                expected: draft.expected,
                actual,
            })
        })
    }

    /// Gives a request its positions and puts its frames into chunks.
    pub(super) fn take(&mut self, request: Request, index: &Index, spare: &mut Spare) {
        let Request { mut streams, ack, reply, queued, mut receipt, .. } = request;
        let total = streams.iter().map(|draft| draft.facts.len()).sum::<usize>();
        let first = self.events.len();
        for draft in &mut streams {
            let mut version = self.version(draft.stream, index);
            for (event, frame) in &mut draft.facts {
                version = version.next();
                let place = (self.next, version);
                // Nobody else has it yet, so nothing is cloned.
                let fresh = Arc::make_mut(event);
                (fresh.position, fresh.version) = place;
                let last = self.events.len() + 1 == first + total;
                self.push(frame, place, last, spare);
                self.elsewhere.extend(frame.elsewhere.take());
                self.ids.insert(event.meta.id, self.events.len());
                self.events.push(Arc::clone(event));
                receipt.push(Arc::clone(event));
                if let Some(forgotten) = spare.forgotten.pop() {
                    *event = forgotten;
                }
                self.next = self.next.next();
            }
            self.versions.insert(draft.stream, version);
        }
        self.reply(ack, Pending { reply, receipt: Receipt { events: receipt }, spent: streams, queued });
    }

    fn push(&mut self, frame: &mut Draft, place: (Position, Version), last: bool, spare: &mut Spare) {
        let fits = self
            .chunks
            .last()
            .is_some_and(|(_, chunk)| chunk.len() + frame.finished_len() <= CHUNK_BYTES_MAX);
        if !fits {
            let empty = spare.chunks.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES_MAX));
            self.chunks.push((place.0, empty));
        }
        if let Some((_, chunk)) = self.chunks.last_mut() {
            self.link = frame.finish(place, last, &self.link, chunk);
        }
    }

    fn version(&self, stream: StreamId, index: &Index) -> Version {
        self.versions.get(&stream).copied().unwrap_or_else(|| index.version(stream))
    }

    fn reply(&mut self, ack: Ack, pending: Pending) {
        match ack {
            Ack::Accepted => answer(pending.reply, Ok(pending.receipt), pending.spent),
            Ack::Durable => self.pending.push(pending),
        }
    }

    /// Nothing of it was written.
    pub(super) fn refuse(self, error: &AppendError) {
        for pending in self.pending {
            answer(pending.reply, Err(error.clone()), pending.spent);
        }
    }

    /// Everything is durable.
    pub(super) fn answer(self, meters: &Meters) {
        for pending in self.pending {
            answer(pending.reply, Ok(pending.receipt), pending.spent);
            meters.duration.record(pending.queued.elapsed());
        }
    }
}

impl Spare {
    /// Keeps the buffers of a commit that is done.
    pub(super) fn keep(&mut self, chunks: &mut Vec<(Position, Vec<u8>)>) {
        for (_, mut buffer) in chunks.drain(..) {
            // A frame alone in its chunk may be larger than others.
            if self.chunks.len() < SPARE_CHUNKS_MAX && buffer.capacity() <= CHUNK_BYTES_MAX {
                buffer.clear();
                self.chunks.push(buffer);
            }
        }
    }
}

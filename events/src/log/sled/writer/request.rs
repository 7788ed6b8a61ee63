//! An append that waits for the writer, and the answer that it gets.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::codec::CodecError;
use crate::envelope::{NewEvent, Recorded, StreamId};
use crate::id::{EventId, Position, Version};
use crate::keyring::Keyring;
use crate::log::frame::Draft;
use crate::log::{Ack, Append, AppendError, Expected, Receipt};
use crate::seal;

/// An append that waits, encoded.
#[derive(Debug)]
pub(in crate::log::sled) struct Request {
    pub(super) streams: Vec<StreamDraft>,
    pub(super) ack: Ack,
    pub(super) reply: oneshot::Sender<Reply>,
    pub(super) queued: Instant,
    weight: usize,
    /// Room for the answer.
    pub(super) receipt: Vec<Arc<Recorded>>,
}

/// The facts for one stream.
#[derive(Debug)]
pub(super) struct StreamDraft {
    pub(super) stream: StreamId,
    pub(super) expected: Expected,
    /// Each as readers will see it, but for its place, and as it will be on disk.
    pub(super) facts: Vec<(Arc<Recorded>, Draft)>,
}

/// What a caller gets.
#[derive(Debug)]
pub(in crate::log::sled) struct Reply {
    pub(in crate::log::sled) result: Result<Receipt, AppendError>,
    /// What is left of the request, for the caller to drop.
    _spent: Vec<StreamDraft>,
}

impl Request {
    /// Encodes an append.
    pub(in crate::log::sled) fn new(
        appends: Vec<Append>,
        ack: Ack,
        reply: oneshot::Sender<Reply>,
        keys: Option<&Keyring>,
    ) -> Result<Self, AppendError> {
        let queued = Instant::now();
        let (mut weight, mut count) = (0, 0);
        let mut streams = Vec::with_capacity(appends.len());
        for Append { stream, expected, events } in appends {
            count += events.len();
            let mut facts = Vec::with_capacity(events.len());
            for mut event in events {
                // The log keeps microseconds; a receipt says what a reader will see.
                event.meta.at = chrono::DateTime::from_timestamp_micros(event.meta.at.timestamp_micros())
                    .unwrap_or(event.meta.at);
                let payload = encode(stream, &mut event, keys)
                    .map_err(|error| AppendError::Invalid(error.to_string().into()))?;
                let draft = Draft::new(stream, &event, payload);
                weight += draft.weight();
                let NewEvent { meta, fact } = event;
                let place = (Position::default(), Version::default());
                let recorded = Recorded { position: place.0, stream, version: place.1, meta, fact };
                facts.push((Arc::new(recorded), draft));
            }
            streams.push(StreamDraft { stream, expected, facts });
        }
        Ok(Self { streams, ack, reply, queued, weight, receipt: Vec::with_capacity(count) })
    }

    /// Bytes that it holds.
    pub(in crate::log::sled) const fn weight(&self) -> usize {
        self.weight
    }

    /// Whether its caller waits for the flush.
    pub(in crate::log::sled) fn is_awaited(&self) -> bool {
        self.ack == Ack::Durable
    }

    /// The ids of its facts.
    pub(super) fn ids(&self) -> impl Iterator<Item = EventId> + Clone {
        self.streams.iter().flat_map(|draft| &draft.facts).map(|(event, _)| event.meta.id)
    }

    /// Answers it with an error.
    pub(super) fn refuse(self, error: AppendError) {
        answer(self.reply, Err(error), self.streams);
    }
}

/// Packs a fact and seals its fields. Of what was erased, nothing is recorded any more.
fn encode(stream: StreamId, event: &mut NewEvent, keys: Option<&Keyring>) -> Result<Vec<u8>, CodecError> {
    let Some(keys) = keys else { return event.fact.encode() };
    let owner = seal::owner(stream, &event.fact);
    if keys.is_erased(owner) {
        event.fact = seal::erased(&event.fact)?;
    }
    seal::seal((event.meta.id, event.fact.tag()), owner, event.fact.encode()?, keys)
}

/// Answers a caller, and gives it back what it brought.
pub(super) fn answer(
    reply: oneshot::Sender<Reply>,
    result: Result<Receipt, AppendError>,
    spent: Vec<StreamDraft>,
) {
    // Nobody listens where the caller dropped its future; the append counts all the same.
    let _ = reply.send(Reply { result, _spent: spent });
}

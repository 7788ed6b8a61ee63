//! What stands where facts were removed: which, by which rule, what they amounted to, and the chain on both sides of them, signed.
//!
//! A chain of hashes ends where a fact is missing. The one who removed it knew the link behind it, and says so with the key
//! that signs checkpoints: somebody without that key can't remove anything unnoticed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use super::checkpoint::{self, PublicKey, Signer};
use super::frame::{Link, STREAM_KEY, stream_key, stream_of};
use super::segments::{Flaw, Name};
use crate::envelope::{StreamId, Timestamp};
use crate::id::Position;
use crate::retention::Hour;

/// Before what is signed, so that a signature can't be taken for one of anything else.
const DOMAIN: &[u8] = b"covalence removal 1\n";

/// The fact at each position that is a multiple of this stays, whatever it says: what is kept beside the log at such positions is bound
/// to it by the chain's link there, and is a fold up to just that fact.
pub const KEPT_EVERY: u64 = 10_000;

/// Positions in a row whose facts were removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    first: u64,
    last: u64,
    after: ByteArray<32>,
    whole: bool,
}

impl Gap {
    /// A gap of one or several facts; `after` is the chain's link behind them, `whole` whether an append ended there.
    pub(super) const fn new(first: Position, last: Position, after: Link, whole: bool) -> Self {
        Self { first: first.0, last: last.0, after: ByteArray::new(after), whole }
    }

    /// The first position.
    pub const fn first(&self) -> Position {
        Position(self.first)
    }

    /// The last position.
    pub const fn last(&self) -> Position {
        Position(self.last)
    }

    /// The chain behind it.
    pub(super) fn after(&self) -> Link {
        self.after.into_array()
    }

    /// Whether an append ended with its last fact.
    pub(super) const fn is_whole(&self) -> bool {
        self.whole
    }
}

/// What was removed of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    stream: ByteArray<STREAM_KEY>,
    /// How many facts.
    pub events: u64,
    /// What they amounted to, hour by hour.
    pub hours: Vec<Hour>,
}

impl Removed {
    /// Whose facts.
    pub fn stream(&self) -> Option<StreamId> {
        stream_of(self.stream.into_array()).ok()
    }
}

/// See the module: all that was removed within one segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// The rule, in words.
    pub rule: String,
    /// When, in microseconds since 1970.
    pub at: i64,
    /// Bytes that the facts had in the log.
    pub bytes: u64,
    /// Where, in order.
    pub gaps: Vec<Gap>,
    /// What, by stream.
    pub streams: Vec<Removed>,
}

/// A removal with its signature, as it stands in a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// What was removed.
    pub removal: Removal,
    key: ByteArray<32>,
    signature: ByteArray<64>,
}

impl Signed {
    /// Who signed it.
    pub const fn key(&self) -> PublicKey {
        PublicKey::new(self.key.into_array())
    }

    pub(super) fn encode(&self) -> std::io::Result<Vec<u8>> {
        rmp_serde::to_vec(self).map_err(std::io::Error::other)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Flaw> {
        rmp_serde::from_slice(bytes).map_err(|_| "what it says of removed facts can't be read".into())
    }

    /// Whether it is signed by the key that it names, for the segment that it is in.
    pub(super) fn is_signed(&self, name: Name, (before, after): (&Link, &Link)) -> bool {
        let message = self.removal.message(name, (before, after));
        checkpoint::is_signed_by(&self.key.into_array(), &message, &self.signature.into_array())
    }
}

impl Removal {
    /// Signs it for a segment.
    pub(super) fn sign(self, signer: &Signer, name: Name, links: (&Link, &Link)) -> Signed {
        let (key, signature) = signer.sign_message(&self.message(name, links));
        Signed { removal: self, key: ByteArray::new(key), signature: ByteArray::new(signature) }
    }

    /// How many facts.
    pub fn events(&self) -> u64 {
        self.streams.iter().map(|removed| removed.events).sum()
    }

    fn message(&self, name: Name, (before, after): (&Link, &Link)) -> Vec<u8> {
        // The same bytes each time: no map is in it.
        let body = rmp_serde::to_vec(self).unwrap_or_default();
        let mut message = DOMAIN.to_vec();
        message.extend_from_slice(&name.first.0.to_be_bytes());
        message.extend_from_slice(&name.last.0.to_be_bytes());
        message.extend_from_slice(before);
        message.extend_from_slice(after);
        message.extend_from_slice(blake3::hash(&body).as_bytes());
        message
    }
}

/// A removal in the making.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) gaps: Vec<Gap>,
    streams: BTreeMap<[u8; STREAM_KEY], (u64, Vec<Hour>)>,
    pub(super) bytes: u64,
}

impl Draft {
    /// Adds a gap; one that continues the last is put together with it, unless the chain's link between them has to stay known.
    pub(super) fn gap(&mut self, gap: Gap, keep_link: impl Fn(Position) -> bool) {
        match self.gaps.last_mut() {
            Some(last) if last.last + 1 == gap.first && !keep_link(Position(last.last)) => {
                (last.last, last.after, last.whole) = (gap.last, gap.after, gap.whole);
            }
            Some(_) | None => self.gaps.push(gap),
        }
    }

    /// The counts and the hours of a stream.
    pub(super) fn stream(&mut self, stream: StreamId) -> &mut (u64, Vec<Hour>) {
        self.streams.entry(stream_key(stream)).or_default()
    }

    /// Takes over what was removed before.
    pub(super) fn take_over(&mut self, earlier: &Removal) {
        self.bytes += earlier.bytes;
        for removed in &earlier.streams {
            let (events, hours) = self.streams.entry(removed.stream.into_array()).or_default();
            *events += removed.events;
            hours.extend_from_slice(&removed.hours);
        }
    }

    /// `None` where nothing was removed.
    pub(super) fn finish(self, rule: &str, at: Timestamp) -> Option<Removal> {
        if self.gaps.is_empty() {
            return None;
        }
        let streams = self.streams.into_iter().map(|(stream, (events, hours))| Removed {
            stream: ByteArray::new(stream),
            events,
            hours,
        });
        Some(Removal {
            rule: rule.to_owned(),
            at: at.timestamp_micros(),
            bytes: self.bytes,
            gaps: self.gaps,
            streams: streams.collect(),
        })
    }
}

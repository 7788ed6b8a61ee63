//! One fact as bytes on disk, and the hash chain through all of them.
//!
//! ```text
//! offset  size  what
//!      0     4  length of everything after the first eight bytes, big-endian like all numbers here
//!      4     4  crc32 of everything after the first eight bytes
//!      8     1  format of the frame, 1
//!      9     1  flags: what is present, see the constants
//!     10     8  position
//!     18     8  version
//!     26     1  kind of the stream: 0 fleet, 1 workspace
//!     27    16  the workspace, zero for the fleet
//!     43   var  envelope: id 16, time 8, boot 16, monotonic 8, correlation 16,
//!               then as flagged: causation 16, acting workspace or token 16, policy 8
//!          var  wire tag: length 1, text
//!           32  blake3 of the payload as stored
//!            4  length of the payload
//!          var  the payload, unless it is in a file of its own
//!           32  chain: blake3 of the link before, then of bytes 8 up to the payload
//! ```
//! The payload enters the chain by its digest only, so that a chain can still be checked when a payload is gone.
//! [`LAST`] marks the end of an append: whatever a repair cuts, it never leaves half of one.

use crate::envelope::{Fact, Meta, NewEvent, Principal, Recorded, StreamId, Timestamp};
use crate::id::{BootId, CorrelationId, EventId, PolicyHash, Position, TokenId, Version, WorkspaceId};
use chrono::DateTime;
use uuid::Uuid;

/// One link of the chain that runs through all facts.
pub type Link = [u8; 32];

/// The link before the first fact.
pub(super) const GENESIS: Link = [0; 32];

/// A payload over this goes to a file of its own, so that every value in the store stays small (see `writer`).
pub(super) const INLINE_PAYLOAD_MAX: usize = 4096;

const FORMAT: u8 = 1;
const PREFIX: usize = 8;
const FLAGS: usize = 9;
const POSITION: usize = 10;
const VERSION: usize = 18;
const STREAM: usize = 26;
const ENVELOPE: usize = 43;
const LINK: usize = 32;
/// Bytes of a [`stream_key`].
pub(super) const STREAM_KEY: usize = 17;

const HAS_CAUSATION: u8 = 1;
const HAS_POLICY: u8 = 1 << 1;
/// The payload is in a file that is named by its digest.
const ELSEWHERE: u8 = 1 << 2;
/// The last fact of its append.
const LAST: u8 = 1 << 3;
const PRINCIPAL_SHIFT: u8 = 4;
/// Principals that have an id.
const WORKSPACE: u8 = 2;
const ORG_TOKEN: u8 = 4;

/// A fact that is encoded but for what the writer assigns.
#[derive(Debug)]
pub(super) struct Draft {
    bytes: Vec<u8>,
    /// End of what enters the chain.
    header_end: usize,
    /// A payload that has to be in its file before the commit, with its digest.
    pub(super) elsewhere: Option<(blake3::Hash, Vec<u8>)>,
}

impl Draft {
    /// Encodes one fact for a stream.
    pub(super) fn new(stream: StreamId, event: &NewEvent, payload: Vec<u8>) -> Self {
        let tag = event.fact.tag();
        let meta = &event.meta;
        let digest = blake3::hash(&payload);
        let inline = payload.len() <= INLINE_PAYLOAD_MAX;
        let mut bytes = Vec::with_capacity(260 + tag.len() + if inline { payload.len() } else { 0 });
        bytes.extend_from_slice(&[0; STREAM]);
        bytes[PREFIX] = FORMAT;
        bytes[FLAGS] = flags(meta, inline);
        bytes.extend_from_slice(&stream_key(stream));
        bytes.extend_from_slice(meta.id.0.as_bytes());
        bytes.extend_from_slice(&meta.at.timestamp_micros().to_be_bytes());
        bytes.extend_from_slice(meta.boot.0.as_bytes());
        bytes.extend_from_slice(&meta.mono_ns.to_be_bytes());
        bytes.extend_from_slice(meta.correlation.0.as_bytes());
        if let Some(causation) = meta.causation {
            bytes.extend_from_slice(causation.0.as_bytes());
        }
        match &meta.principal {
            Principal::Workspace(id) => bytes.extend_from_slice(id.0.as_bytes()),
            Principal::OrgToken(id) => bytes.extend_from_slice(id.0.as_bytes()),
            Principal::System | Principal::Admin | Principal::Anonymous | Principal::Session => {}
        }
        if let Some(policy) = meta.policy {
            bytes.extend_from_slice(&policy.0.to_be_bytes());
        }
        bytes.push(u8::try_from(tag.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(&tag.as_bytes()[..tag.len().min(usize::from(u8::MAX))]);
        bytes.extend_from_slice(digest.as_bytes());
        bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
        let header_end = bytes.len();
        let elsewhere = if inline {
            bytes.extend_from_slice(&payload);
            None
        } else {
            Some((digest, payload))
        };
        Self { bytes, header_end, elsewhere }
    }

    /// Bytes that the finished frame will have.
    pub(super) fn finished_len(&self) -> usize {
        self.bytes.len() + LINK
    }

    /// Bytes that this holds in memory.
    pub(super) fn weight(&self) -> usize {
        self.bytes.len() + self.elsewhere.as_ref().map_or(0, |(_, payload)| payload.len())
    }

    /// Completes the frame and appends it to `chunk`. Returns the chain's new link.
    pub(super) fn finish(
        &mut self,
        place: (Position, Version),
        last: bool,
        before: &Link,
        chunk: &mut Vec<u8>,
    ) -> Link {
        let bytes = &mut self.bytes;
        bytes[POSITION..VERSION].copy_from_slice(&place.0.0.to_be_bytes());
        bytes[VERSION..STREAM].copy_from_slice(&place.1.0.to_be_bytes());
        if last {
            bytes[FLAGS] |= LAST;
        }
        let link = next_link(before, &bytes[PREFIX..self.header_end]);
        let length = u32::try_from(bytes.len() - PREFIX + LINK).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[PREFIX..]);
        crc.update(&link);
        bytes[4..PREFIX].copy_from_slice(&crc.finalize().to_be_bytes());
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(&link);
        link
    }
}

fn flags(meta: &Meta, inline: bool) -> u8 {
    let principal = match meta.principal {
        Principal::System => 0,
        Principal::Admin => 1,
        Principal::Workspace(_) => WORKSPACE,
        Principal::Anonymous => 3,
        Principal::OrgToken(_) => ORG_TOKEN,
        Principal::Session => 5,
    };
    let mut flags = principal << PRINCIPAL_SHIFT;
    if meta.causation.is_some() {
        flags |= HAS_CAUSATION;
    }
    if meta.policy.is_some() {
        flags |= HAS_POLICY;
    }
    if !inline {
        flags |= ELSEWHERE;
    }
    flags
}

fn next_link(before: &Link, header: &[u8]) -> Link {
    *blake3::Hasher::new().update(before).update(header).finalize().as_bytes()
}

/// A stream as it stands in a frame: its kind, and the workspace.
pub(super) fn stream_key(stream: StreamId) -> [u8; STREAM_KEY] {
    let (kind, workspace) = match stream {
        StreamId::Fleet => (0, Uuid::nil()),
        StreamId::Workspace(id) => (1, id.0),
    };
    let mut key = [kind; STREAM_KEY];
    key[1..].copy_from_slice(workspace.as_bytes());
    key
}

/// The stream behind a [`stream_key`].
pub(super) fn stream_of(key: [u8; STREAM_KEY]) -> Result<StreamId, Wrong> {
    let [kind, workspace @ ..] = key;
    match kind {
        0 => Ok(StreamId::Fleet),
        1 => Ok(StreamId::Workspace(WorkspaceId(Uuid::from_bytes(workspace)))),
        _ => Err("unknown kind of stream"),
    }
}

/// Where a payload is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payload<'a> {
    /// In the frame.
    Inline(&'a [u8]),
    /// In the file of this digest.
    Elsewhere(blake3::Hash),
}

/// A frame whose checksum holds, read in place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    /// All of it.
    pub(super) bytes: &'a [u8],
    pub(super) position: Position,
    pub(super) version: Version,
    pub(super) stream: StreamId,
    pub(super) id: EventId,
    /// Whether its append ends here.
    pub(super) last: bool,
    pub(super) link: Link,
    header_end: usize,
    tag: &'a str,
    digest: blake3::Hash,
}

/// More bytes than any frame has: an envelope takes a few hundred, and a payload that is larger than [`INLINE_PAYLOAD_MAX`] lies apart.
pub(super) const FRAME_BYTES_MAX: usize = 2 * INLINE_PAYLOAD_MAX;

/// What is wrong with bytes that should be a frame.
pub(super) type Wrong = &'static str;

/// Takes bytes off the front, or says that there are too few.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        let slice = self.slice(N)?;
        slice.try_into().map_err(|_| "frame too short")
    }

    fn slice(&mut self, len: usize) -> Result<&'a [u8], Wrong> {
        let end = self.at.checked_add(len).ok_or("length out of range")?;
        let slice = self.bytes.get(self.at..end).ok_or("frame too short")?;
        self.at = end;
        Ok(slice)
    }

    fn uuid(&mut self) -> Result<Uuid, Wrong> {
        self.take::<16>().map(Uuid::from_bytes)
    }
}

impl<'a> Frame<'a> {
    /// Reads a frame that may begin here, among bytes of any kind; `None` where none does. Quick where none does.
    pub(super) fn find(bytes: &'a [u8]) -> Option<Self> {
        let length = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
        let likely = length < FRAME_BYTES_MAX && bytes.get(PREFIX) == Some(&FORMAT);
        if likely { Self::read(bytes).ok() } else { None }
    }

    /// Reads the first frame of `bytes` and checks its checksum. Not its place, and not the chain.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Wrong> {
        let mut cursor = Cursor { bytes, at: 0 };
        let length = u32::from_be_bytes(cursor.take()?) as usize;
        let crc = u32::from_be_bytes(cursor.take()?);
        let body = cursor.slice(length)?;
        let bytes = &bytes[..PREFIX + length];
        if crc32fast::hash(body) != crc {
            return Err("checksum differs");
        }
        if body.len() < ENVELOPE - PREFIX + LINK {
            return Err("frame too short");
        }
        if body[0] != FORMAT {
            return Err("unknown frame format");
        }
        let flags = bytes[FLAGS];
        let mut cursor = Cursor { bytes, at: POSITION };
        let position = Position(u64::from_be_bytes(cursor.take()?));
        let version = Version(u64::from_be_bytes(cursor.take()?));
        let stream = stream_of(cursor.take()?)?;
        let id = EventId(cursor.uuid()?);
        cursor.slice(envelope_rest(flags))?;
        let tag_len = usize::from(cursor.take::<1>()?[0]);
        let tag = std::str::from_utf8(cursor.slice(tag_len)?).map_err(|_| "tag is not text")?;
        let digest = blake3::Hash::from_bytes(cursor.take()?);
        let payload_len = u32::from_be_bytes(cursor.take()?) as usize;
        let header_end = cursor.at;
        if flags & ELSEWHERE == 0 {
            cursor.slice(payload_len)?;
        }
        let link = cursor.take()?;
        if cursor.at != bytes.len() {
            return Err("frame too long");
        }
        let last = flags & LAST != 0;
        Ok(Self { bytes, position, version, stream, id, last, link, header_end, tag, digest })
    }

    /// Whether the chain leads from `before` to this frame.
    pub(super) fn follows(&self, before: &Link) -> bool {
        next_link(before, &self.bytes[PREFIX..self.header_end]) == self.link
    }

    /// Whether an inline payload is what its digest says. The checksum covers both, so only tampering fails here.
    pub(super) fn payload_is_sound(&self) -> bool {
        match self.payload() {
            Payload::Inline(payload) => blake3::hash(payload) == self.digest,
            Payload::Elsewhere(_) => true,
        }
    }

    /// Where the payload is.
    pub(super) fn payload(&self) -> Payload<'a> {
        if self.bytes[FLAGS] & ELSEWHERE == 0 {
            Payload::Inline(&self.bytes[self.header_end..self.bytes.len() - LINK])
        } else {
            Payload::Elsewhere(self.digest)
        }
    }

    /// Bytes of the payload, wherever it is.
    pub(super) fn payload_len(&self) -> usize {
        self.bytes[..self.header_end].last_chunk().map_or(0, |length| u32::from_be_bytes(*length)) as usize
    }

    /// When it happened.
    pub(super) fn at(&self) -> Result<Timestamp, Wrong> {
        self.meta().map(|meta| meta.at)
    }

    /// The run of the platform that recorded it.
    pub(super) fn boot(&self) -> Result<BootId, Wrong> {
        self.meta().map(|meta| meta.boot)
    }

    /// The wire tag.
    pub(super) const fn tag(&self) -> &'a str {
        self.tag
    }

    /// The fact with its envelope, given the decoded payload.
    pub(super) fn recorded(&self, fact: Fact) -> Result<Recorded, Wrong> {
        let meta = self.meta()?;
        Ok(Recorded { position: self.position, stream: self.stream, version: self.version, meta, fact })
    }

    fn meta(&self) -> Result<Meta, Wrong> {
        let flags = self.bytes[FLAGS];
        let mut cursor = Cursor { bytes: self.bytes, at: ENVELOPE };
        let id = EventId(cursor.uuid()?);
        let at = DateTime::from_timestamp_micros(i64::from_be_bytes(cursor.take()?));
        let boot = BootId(cursor.uuid()?);
        let mono_ns = u64::from_be_bytes(cursor.take()?);
        let correlation = CorrelationId(cursor.uuid()?);
        let causation = if flags & HAS_CAUSATION == 0 { None } else { Some(EventId(cursor.uuid()?)) };
        let principal = match flags >> PRINCIPAL_SHIFT {
            0 => Principal::System,
            1 => Principal::Admin,
            WORKSPACE => Principal::Workspace(WorkspaceId(cursor.uuid()?)),
            3 => Principal::Anonymous,
            ORG_TOKEN => Principal::OrgToken(TokenId(cursor.uuid()?)),
            5 => Principal::Session,
            _ => return Err("unknown principal"),
        };
        let policy =
            if flags & HAS_POLICY == 0 { None } else { Some(PolicyHash(u64::from_be_bytes(cursor.take()?))) };
        let at = at.ok_or("time out of range")?;
        Ok(Meta { id, at, boot, mono_ns, correlation, causation, principal, policy })
    }
}

/// Bytes of the envelope after the id.
const fn envelope_rest(flags: u8) -> usize {
    let mut len = 8 + 16 + 8 + 16;
    if flags & HAS_CAUSATION != 0 {
        len += 16;
    }
    if matches!(flags >> PRINCIPAL_SHIFT, WORKSPACE | ORG_TOKEN) {
        len += 16;
    }
    if flags & HAS_POLICY != 0 {
        len += 8;
    }
    len
}

/// The frames of one chunk. Ends after the first that is wrong.
#[derive(Debug)]
pub(super) struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    /// All frames of a chunk.
    pub(super) const fn new(chunk: &'a [u8]) -> Self {
        Self { rest: chunk }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Wrong>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let frame = Frame::read(self.rest);
        self.rest = frame.as_ref().map_or(&[][..], |frame| &self.rest[frame.bytes.len()..]);
        Some(frame)
    }
}

/// Finds a frame in a chunk by its position, skipping others by their length alone.
pub(super) fn locate(chunk: &[u8], position: Position) -> Result<Frame<'_>, Wrong> {
    let mut rest = chunk;
    while rest.len() >= VERSION {
        let mut cursor = Cursor { bytes: rest, at: 0 };
        let length = u32::from_be_bytes(cursor.take()?) as usize;
        let mut cursor = Cursor { bytes: rest, at: POSITION };
        if u64::from_be_bytes(cursor.take()?) == position.0 {
            return Frame::read(rest);
        }
        rest = rest.get(PREFIX + length..).ok_or("frame too short")?;
    }
    Err("no such frame in its chunk")
}

//! Reading everything and saying all that is wrong, instead of stopping at the first.

use super::blobs::Blobs;
use super::decode::{Decoder, Undecoded};
use super::layers::Layers;
use super::read::payload;
use crate::id::Position;
use crate::log::Verified;
use crate::log::checkpoint::PublicKey;
use crate::log::frame::{Frame, Frames, Link, Payload};
use crate::log::order::Order;
use crate::log::problems::Problems;
use crate::log::segments::Segment;
use crate::seal::Unread;

/// How far to look.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// Up to a position that is known to be durable, while others append.
    Position(Position),
    /// To the end of a log that nobody writes, which should reach what was acknowledged.
    End {
        /// The last acknowledged position, where it is known.
        high_water: Option<Position>,
    },
}

struct Findings<'a> {
    keys: &'a [PublicKey],
    events: u64,
    order: Order,
    link: Link,
    problems: Problems,
    unread: Unread,
}

/// Checks checksums, order, chain, payload digests, and that every fact decodes.
/// What was removed has to be signed by one of `keys`.
pub(super) fn verify(
    layers: &Layers,
    (blobs, decoder): (&Blobs, Decoder<'_>),
    until: Until,
    keys: &[PublicKey],
) -> Verified {
    let order = Order::default();
    let (problems, unread) = (Problems::default(), Unread::default());
    let mut findings = Findings { events: 0, link: order.link, order, problems, unread, keys };
    for part in layers.archive.parts() {
        for number in 0..part.segments() {
            match part.segment(number) {
                Ok(segment) => findings.segment(&segment, decoder),
                Err(error) => findings.problems.note(format!("in the archive, {error}")),
            }
        }
    }
    let chunks = layers.chunks(layers.archive.last().next());
    let (chunks, unread) = match chunks {
        Ok(chunks) => (Some(chunks), None),
        Err(reason) => (None, Some(Err(reason))),
    };
    for chunk in chunks.into_iter().flatten().chain(unread) {
        let (first, bytes) = match chunk {
            Ok(chunk) => chunk,
            Err(reason) => {
                findings.problems.note(format!("after position {}: {reason}", findings.order.next.0 - 1));
                break;
            }
        };
        if matches!(until, Until::Position(head) if first > head.0) {
            break;
        }
        findings.chunk(first, &bytes, (blobs, decoder));
    }
    let head = Position(findings.order.next.0 - 1);
    let acknowledged = match until {
        Until::Position(head) => Some(head),
        Until::End { high_water } => high_water,
    };
    if let Some(acknowledged) = acknowledged.filter(|&acknowledged| acknowledged > head) {
        findings
            .problems
            .note(format!("positions {} to {acknowledged} were acknowledged and are not there", head.next()));
    }
    Verified {
        events: findings.events,
        head,
        chain: blake3::Hash::from_bytes(findings.link).to_hex().to_string(),
        checkpoints: 0,
        erased: findings.unread.erased,
        sealed: findings.unread.sealed,
        problems: findings.problems.finish(),
    }
}

impl Findings<'_> {
    fn chunk(&mut self, first: u64, bytes: &[u8], (blobs, decoder): (&Blobs, Decoder<'_>)) {
        if first != self.order.next.0 {
            self.problems.note(format!(
                "position {}: expected here, found a chunk that begins at {first}",
                self.order.next
            ));
        }
        for frame in Frames::new(bytes) {
            let frame = match frame {
                Ok(frame) => frame,
                Err(wrong) => {
                    self.problems.note(format!("position {}: {wrong}", self.order.next));
                    return;
                }
            };
            let understood = payload(&frame, blobs).and_then(|payload| understood(decoder, &frame, &payload));
            self.fact(&frame, understood);
        }
    }

    fn segment(&mut self, segment: &Segment, decoder: Decoder<'_>) {
        if segment.name.first != self.order.next {
            // The segments between could not be read, which was said.
            self.order = Order::within(segment.name.first, segment.before);
        }
        if let Some(signed) = segment.removal()
            && !self.keys.contains(&signed.key())
        {
            self.problems.note(format!(
                "position {}: facts were removed, which is signed by a key that is not the log's",
                segment.name.first
            ));
        }
        self.order.enter(segment);
        for frame in Frames::new(&segment.frames) {
            let frame = match frame {
                Ok(frame) => frame,
                Err(wrong) => {
                    self.problems.note(format!("position {}: {wrong}", self.order.next));
                    return;
                }
            };
            let understood = match frame.payload() {
                Payload::Inline(payload) => understood(decoder, &frame, payload),
                Payload::Elsewhere(digest) => match segment.payloads.get(digest.as_bytes()) {
                    Some(payload) => understood(decoder, &frame, payload),
                    None => Err("its large payload is missing".to_owned()),
                },
            };
            self.fact(&frame, understood);
        }
        if let Err(wrong) = self.order.leave() {
            self.problems.note(format!("position {}: {wrong}", self.order.next));
        }
        self.link = self.order.link;
    }

    fn fact(&mut self, frame: &Frame<'_>, understood: Result<Unread, String>) {
        self.events += 1;
        if let Err(wrong) = self.order.follow(frame) {
            self.problems.note(format!("position {}: {wrong}", frame.position));
        }
        self.link = frame.link;
        if !frame.payload_is_sound() {
            self.problems.note(format!("position {}: the payload differs from its digest", frame.position));
        }
        match understood {
            Ok(unread) => self.unread.add(&unread),
            Err(reason) => self.problems.note(format!("position {}: {reason}", frame.position)),
        }
    }
}

fn understood(decoder: Decoder<'_>, frame: &Frame<'_>, payload: &[u8]) -> Result<Unread, String> {
    decoder.decode(frame, payload).map(|(_, unread)| unread).map_err(Undecoded::words)
}

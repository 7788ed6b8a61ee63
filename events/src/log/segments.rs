//! Segments: the log as files of its own, each a stretch of whole appends with their payloads.
//!
//! A segment holds frames byte for byte as the log has them, so that the hash chain can be followed from the files
//! alone: within each, and from one to the next. [`Cutter`] cuts them, [`export`] does so all the time, [`walk`] reads
//! them back in order, [`check`] says whether they are sound, and [`restore`](crate::log::restore) makes a log of them.
//!
//! # Guarantees
//! - A segment is in its place whole or not at all.
//! - It never ends within an append, and never goes beyond what the log had made durable.
//! - No byte of it can change without being noticed.

use std::borrow::Cow;

use super::{OpenError, ReadError};
use crate::id::Position;

pub mod check;
mod cut;
pub mod export;
mod format;
mod place;
#[cfg(test)]
mod tests;
pub mod walk;

pub use cut::Cutter;
pub use format::{Name, Segment};
pub(in crate::log) use format::{RECORD, record_len};
pub use place::Place;

/// A segment is cut when it has this many bytes before compression: a few seconds of the fastest writer, and for
/// a store in the network large enough to be worth a request.
pub const SEGMENT_BYTES: usize = 4 << 20;

/// What is wrong with a segment, in words.
pub type Flaw = Cow<'static, str>;

/// Why segments could not be written, read or used.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// Their place failed.
    #[error("`{place}`: {step}")]
    Place {
        /// Which.
        place: String,
        /// Doing what.
        step: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// A segment is not what it was.
    #[error("segment `{name}` in `{place}` is damaged: {flaw}")]
    Damaged {
        /// Where.
        place: String,
        /// Which.
        name: Name,
        /// What is wrong.
        flaw: Flaw,
    },
    /// Facts are in no segment.
    #[error("`{place}` has no segment with positions {from} to {to}")]
    Gap {
        /// Where.
        place: String,
        /// The first that is missing.
        from: Position,
        /// The last that is missing.
        to: Position,
    },
    /// There are none.
    #[error("`{place}` has no segments")]
    None {
        /// Where.
        place: String,
    },
    /// They are of another log, or of one that has taken another turn.
    #[error("`{place}` has segments up to position {last} of another history: {reason}")]
    Foreign {
        /// Where.
        place: String,
        /// The last position that they have.
        last: Position,
        /// How that shows.
        reason: String,
    },
    /// The log could not be read.
    #[error("the log could not be read")]
    Read(#[from] ReadError),
    /// A log could not be made or looked at.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The machine failed.
    #[error("{step}")]
    Io {
        /// Doing what.
        step: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

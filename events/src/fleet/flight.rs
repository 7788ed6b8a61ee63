//! What the flight recorder kept when a brake engaged, and that it kept nothing.

use serde::{Deserialize, Serialize};

use crate::envelope::Timestamp;
use crate::flight::Packed;
use crate::workspace::BackendKind;

/// See [`super::Event::FlightRecorded`]. The brake's fact is its cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlightRecorded {
    /// The cell whose brake engaged. Observations of all cells are in it: what hits one engine often comes from elsewhere.
    pub cell: BackendKind,
    /// From here on the observations are complete, heartbeats excepted.
    pub since: Timestamp,
    /// From here on heartbeats are complete: they are many, and have their own room.
    pub beats_since: Timestamp,
    /// Up to here.
    pub until: Timestamp,
    /// Whether there was no room for all of the last quarter of an hour; else this run of the platform began then.
    pub cut: bool,
    /// What is in it, counted.
    pub counts: FlightCounts,
    /// The observations themselves.
    pub observations: Packed,
}

/// See [`super::Event::FlightLost`]. The brake's fact is its cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlightLost {
    /// The cell whose brake engaged.
    pub cell: BackendKind,
    /// A stable word: `platform_ended` (the process that had observed ended before it wrote), `not_packed`.
    pub reason: String,
}

/// What a flight holds, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlightCounts {
    /// All observations.
    pub observations: u32,
    /// Lists; what failed is one that brought nothing.
    pub lists: Answers,
    /// Looks at one instance; what failed is one after which nothing is known.
    pub looks: Answers,
    /// Requests for agents' cards; what failed is one without an answer.
    pub probes: Answers,
    /// Starts, looks before restarts, looks for callers; what failed says something about the engine.
    pub calls: Answers,
    /// Ends of instances that were told unasked.
    pub exits: u32,
    /// Heartbeats.
    pub beats: u32,
    /// Those among them that were refused.
    pub beats_refused: u32,
    /// Turns of an observer that came late.
    pub late_turns: u32,
    /// How late the latest was, in milliseconds.
    pub latest_turn_ms: u64,
    /// Turns before which an append to the log had failed.
    pub appends_failed: u32,
    /// The highest 99th percentile of appends, in milliseconds.
    pub append_p99_ms: u64,
}

/// How one kind of question was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// Answers that came, failed ones among them.
    pub answered: u32,
    /// Those that failed.
    pub failed: u32,
    /// Those that took a second or more.
    pub slow: u32,
    /// How long the slowest took, in milliseconds.
    pub slowest_ms: u64,
    /// Questions that had no answer yet.
    pub pending: u32,
}

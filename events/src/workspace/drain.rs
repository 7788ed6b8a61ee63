//! Draining: before something that works is replaced, the calls that it has under way may finish.

use serde::{Deserialize, Serialize};

use crate::id::{Generation, RestartId};

/// See [`Event::DrainRequested`](super::Event::DrainRequested).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrainRequested {
    /// The restart that waits for it.
    pub restart: RestartId,
    /// The generation that takes no new calls.
    pub generation: Generation,
    /// How long its open calls may take, in milliseconds.
    pub within_ms: u64,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainOutcome {
    /// No call is open any more.
    Drained,
    /// Time is up; what is still open is cut off.
    TimedOut,
    /// The instance died, or a person wanted something else, before it was over.
    Overtaken,
}

impl DrainOutcome {
    /// The word used everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::TimedOut => "timed_out",
            Self::Overtaken => "overtaken",
        }
    }
}

/// See [`Event::DrainEnded`](super::Event::DrainEnded).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrainEnded {
    /// The restart that waited for it.
    pub restart: RestartId,
    /// How.
    pub outcome: DrainOutcome,
    /// Calls that were still open; none where nobody counted them.
    pub open: Option<u32>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

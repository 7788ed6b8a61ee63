//! What a flight recorder keeps: raw observations, as they came, before anybody judged them.
//!
//! They are kept as JSON lines in one zstd frame, so that `zstd -d` and any reader of JSON get at them, and so that a later
//! program may say more in a line without a reader of today being lost. No line has text that a person, an agent or an engine
//! wrote: only numbers, ids, names of instances, and stable words of ours.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::envelope::Timestamp;
use crate::fleet::{Answers, FlightCounts};
use crate::id::{Generation, WorkspaceId};
use crate::workspace::BackendKind;

/// An answer that took this long counts as slow. An engine that is well takes a hundredth of it, and one that is asked with
/// the usual patience is given three times as much.
pub const SLOW_US: u64 = 1_000_000;
/// Bytes of a packed flight; of more, the oldest part is left out.
pub const PACKED_BYTES_MAX: usize = 1 << 20;
/// Bytes that a packed flight may unpack to: many times what is ever packed, and a bound for one that somebody made.
pub const UNPACKED_BYTES_MAX: usize = 64 << 20;
/// zstd's level: higher ones take longer, at a time when the machine may be short of it.
const LEVEL: i32 = 3;

/// A stable word of ours.
pub type Word = Cow<'static, str>;

/// One line of a flight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// When it was made: for an answer, when it came.
    pub at: Timestamp,
    /// Which engine's observer made it; none for what is about the platform as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<BackendKind>,
    /// What was observed.
    #[serde(flatten)]
    pub what: Observed,
}

/// See [`Observation::what`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Observed {
    /// What the last list before this flight showed: where the changes of later lists begin.
    ShownBefore {
        /// Every instance of ours.
        instances: Vec<Shown>,
    },
    /// A question of the observer went out.
    Asked {
        /// What was asked.
        question: Question,
        /// About whom; none for a list.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        workspace: Option<WorkspaceId>,
        /// Which generation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<Generation>,
    },
    /// A list came back.
    Listed {
        /// How long it took, in microseconds.
        took_us: u64,
        /// Instances that run.
        running: u32,
        /// Instances that are there and stopped.
        stopped: u32,
        /// Instances that are neither: created, paused, being removed.
        between: u32,
        /// What the list before showed otherwise.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        changed: Vec<Shown>,
    },
    /// A list failed.
    ListFailed {
        /// How long that took, in microseconds.
        took_us: u64,
        /// How: `timeout`, `refused`, `eof`, `http_500` and the like.
        code: Word,
    },
    /// A look at one instance came back.
    Inspected {
        /// Whose.
        workspace: WorkspaceId,
        /// Which generation.
        generation: Generation,
        /// Which instance.
        instance: Arc<str>,
        /// How long it took, in microseconds.
        took_us: u64,
        /// What was seen.
        answer: Answer,
        /// How it ended, or why nothing is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<Word>,
        /// Its exit status, where the engine told one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_status: Option<i32>,
    },
    /// A request for an agent's card came back.
    Probed {
        /// Whose.
        workspace: WorkspaceId,
        /// Which generation.
        generation: Generation,
        /// How long it took, in microseconds.
        took_us: u64,
        /// `running`: it answered, whatever it said; `not_there`: nobody did; `unknown`: it was not even asked.
        answer: Answer,
        /// The HTTP status of the answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// Why there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<Word>,
    },
    /// The engine or the kernel said unasked that an instance ended.
    Exited {
        /// Whose.
        workspace: WorkspaceId,
        /// Which generation.
        generation: Generation,
        /// Which instance.
        instance: Arc<str>,
        /// Its exit status, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_status: Option<i32>,
    },
    /// Something that the engine said unasked may have been missed.
    Gap,
    /// The engine's own stream says that it does not answer.
    Lost {
        /// How.
        code: Word,
    },
    /// The engine's own stream is back.
    Found,
    /// A call of somebody else than the observer ended.
    Called {
        /// What was called for.
        call: Call,
        /// How long it took, in microseconds.
        took_us: u64,
        /// Whether it failed in a way that says something about the engine.
        failed: bool,
    },
    /// A turn of the observer came late: it is us who are slow.
    Late {
        /// How late, in microseconds.
        late_us: u64,
    },
    /// How hard the platform itself was pressed, where that changed.
    Pressed {
        /// The 99th percentile of recent appends to the log, in microseconds.
        append_p99_us: u64,
        /// Whether one failed since the last turn.
        append_failed: bool,
        /// Whether a heartbeat was refused since the last turn.
        beat_refused: bool,
    },
    /// A heartbeat arrived.
    Beat {
        /// Whose.
        workspace: WorkspaceId,
        /// Whether it was refused because we were too busy, or the log was.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        refused: bool,
    },
}

/// What an observer asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// The engine for everything of ours.
    List,
    /// The engine about one instance.
    Inspect,
    /// An agent for its card.
    Probe,
}

/// What was seen of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It runs.
    Running,
    /// It is not there.
    NotThere,
    /// Nothing is known.
    Unknown,
}

/// Calls to an engine that are not the observer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// A start.
    Start,
    /// A fresh look before a restart.
    Confirm,
    /// A look because a caller could not reach an agent.
    Examine,
}

/// One instance in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Which.
    pub instance: Arc<str>,
    /// The workspace that its labels name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceId>,
    /// The generation that its labels name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// How it was shown.
    pub state: ShownState,
    /// Its exit status, where it is stopped and the list told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
}

/// See [`Shown::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShownState {
    /// It runs.
    Running,
    /// It is there and stopped.
    Stopped,
    /// Neither.
    Between,
    /// The list before showed it, this one does not.
    Gone,
}

/// Counts observations, in their order.
#[derive(Debug, Default)]
pub struct Counter {
    counts: FlightCounts,
    pending: BTreeSet<(Option<BackendKind>, Question, Option<WorkspaceId>)>,
}

impl Counter {
    /// Takes the next one.
    pub fn add(&mut self, observation: &Observation) {
        let Observation { cell, what, .. } = observation;
        let counts = &mut self.counts;
        counts.observations = counts.observations.saturating_add(1);
        let answered = match what {
            Observed::ShownBefore { .. } | Observed::Gap | Observed::Lost { .. } | Observed::Found => return,
            Observed::Asked { question, workspace, .. } => {
                self.pending.insert((*cell, *question, *workspace));
                return;
            }
            Observed::Listed { took_us, .. } => {
                counts.lists.add(*took_us, false);
                (Question::List, None)
            }
            Observed::ListFailed { took_us, .. } => {
                counts.lists.add(*took_us, true);
                (Question::List, None)
            }
            Observed::Inspected { workspace, took_us, answer, .. } => {
                counts.looks.add(*took_us, *answer == Answer::Unknown);
                (Question::Inspect, Some(*workspace))
            }
            Observed::Probed { workspace, took_us, answer, .. } => {
                counts.probes.add(*took_us, *answer != Answer::Running);
                (Question::Probe, Some(*workspace))
            }
            Observed::Called { took_us, failed, .. } => return counts.calls.add(*took_us, *failed),
            Observed::Exited { .. } => return counts.exits = counts.exits.saturating_add(1),
            Observed::Late { late_us } => {
                counts.late_turns = counts.late_turns.saturating_add(1);
                return counts.latest_turn_ms = counts.latest_turn_ms.max(late_us / 1000);
            }
            Observed::Pressed { append_p99_us, append_failed, .. } => {
                counts.appends_failed = counts.appends_failed.saturating_add(u32::from(*append_failed));
                return counts.append_p99_ms = counts.append_p99_ms.max(append_p99_us / 1000);
            }
            Observed::Beat { refused, .. } => {
                counts.beats = counts.beats.saturating_add(1);
                return counts.beats_refused = counts.beats_refused.saturating_add(u32::from(*refused));
            }
        };
        self.pending.remove(&(*cell, answered.0, answered.1));
    }

    /// The counts.
    pub fn finish(self) -> FlightCounts {
        let mut counts = self.counts;
        for (_, question, _) in &self.pending {
            let answers = match question {
                Question::List => &mut counts.lists,
                Question::Inspect => &mut counts.looks,
                Question::Probe => &mut counts.probes,
            };
            answers.pending = answers.pending.saturating_add(1);
        }
        counts
    }
}

impl Answers {
    fn add(&mut self, took_us: u64, failed: bool) {
        self.answered = self.answered.saturating_add(1);
        self.failed = self.failed.saturating_add(u32::from(failed));
        self.slow = self.slow.saturating_add(u32::from(took_us >= SLOW_US));
        self.slowest_ms = self.slowest_ms.max(took_us / 1000);
    }
}

/// Observations as they are kept in a fact: see the module.
#[derive(Clone, PartialEq, Eq)]
pub struct Packed(Arc<[u8]>);

impl Packed {
    /// Packs observations, in their order.
    pub fn of<'a>(observations: impl IntoIterator<Item = &'a Observation>) -> io::Result<Self> {
        let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
        for observation in observations {
            serde_json::to_writer(&mut encoder, observation)?;
            encoder.write_all(b"\n")?;
        }
        Ok(Self(encoder.finish()?.into()))
    }

    /// Bytes that it takes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is not even a frame: never so for what was packed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lines, at most [`UNPACKED_BYTES_MAX`] of them.
    pub fn lines(&self) -> io::Result<Vec<u8>> {
        let mut lines = Vec::new();
        let limit = UNPACKED_BYTES_MAX as u64 + 1;
        zstd::Decoder::new(&*self.0)?.take(limit).read_to_end(&mut lines)?;
        if lines.len() > UNPACKED_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more than a flight may unpack to"));
        }
        Ok(lines)
    }
}

impl From<Vec<u8>> for Packed {
    /// What was packed before.
    fn from(frame: Vec<u8>) -> Self {
        Self(frame.into())
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed({} bytes)", self.len())
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&STANDARD.encode(&self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Packed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes, or base64 where the format has none")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Packed, E> {
                Ok(Packed(bytes.into()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Packed, E> {
                STANDARD.decode(text).map(|bytes| Packed(bytes.into())).map_err(E::custom)
            }
        }

        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Either)
        } else {
            deserializer.deserialize_bytes(Either)
        }
    }
}

#[cfg(test)]
mod tests;

//! Evidence, and the verdicts that rest on it.

use serde::{Deserialize, Serialize};

use super::InstanceRef;
use crate::id::{EventId, Generation};

/// Where evidence comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceSource {
    /// The exit of a process, or the engine's event stream.
    Exit,
    /// One inspect of one instance.
    Inspect,
    /// The list of all instances.
    List,
    /// Heartbeats, or their absence.
    Heartbeat,
    /// An A2A call's transport.
    Call,
    /// A request for the agent's card, made while its heartbeat is late.
    Probe,
}

/// What evidence is worth (`docs/supervision` names the classes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceClass {
    /// The engine or the kernel *said* that this very instance is not there.
    Death,
    /// Any sign of life.
    Life,
    /// Ambiguous: it speaks against the workspace, and proves nothing.
    Suspicion,
    /// No sign of life for the whole liveness window.
    Silence,
    /// Says something about the observer, nothing about the target.
    ObserverFailure,
    /// We caused it, or it is about an older generation.
    Expected,
}

/// See [`Event::EvidenceObserved`](super::Event::EvidenceObserved).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvidenceObserved {
    /// Where it comes from.
    pub source: EvidenceSource,
    /// What it is worth.
    pub class: EvidenceClass,
    /// The generation that it speaks of.
    pub generation: Generation,
    /// The instance that it speaks of.
    pub instance: Option<InstanceRef>,
    /// A stable word: `exited`, `not_found`, `timeout`, `refused`, `eof`, `http_500`, `garbage` and the like.
    pub code: String,
    /// For people: exit status, error text, age of the last beat.
    pub detail: String,
    /// Exit status, where there is one; a signal as 128 + its number.
    #[serde(default)]
    pub exit_status: Option<i32>,
}

/// See [`Event::VerdictReached`](super::Event::VerdictReached).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It lives.
    Alive,
    /// Nothing is proved; it stays on its alive path.
    Unknown,
    /// It is not there.
    Dead,
}

/// See [`Event::VerdictReached`](super::Event::VerdictReached).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictReached {
    /// The verdict.
    pub verdict: Verdict,
    /// The rule that led to it, a stable word such as `proof_of_death` or `liveness_ttl`.
    pub rule: String,
    /// The generation judged.
    pub generation: Generation,
    /// The facts that it rests on.
    pub evidence: Vec<EventId>,
    /// The observer's own score when it was reached, 0 (well) to 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer_score: Option<u32>,
}

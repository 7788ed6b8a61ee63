//! What speaks against a workspace without proving anything, what was not concluded from it, and what a second look found.

use serde::{Deserialize, Serialize};

use super::{EvidenceSource, InstanceRef};
use crate::id::{EventId, Generation, Position, RestartId};

/// See [`super::Event::SuspicionRaised`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuspicionRaised {
    /// The generation suspected.
    pub generation: Generation,
    /// The first source that speaks against it.
    pub source: EvidenceSource,
    /// How surprising its silence is (phi accrual: 8 is one in a hundred million), where heartbeats are the source.
    pub phi: Option<f64>,
    /// Since its last sign of life, in milliseconds.
    pub silent_ms: u64,
    /// The observer's own score at that moment, 0 (well) to 8.
    pub observer_score: u32,
    /// The facts that it rests on.
    pub evidence: Vec<EventId>,
}

/// See [`super::Event::SuspicionCleared`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuspicionCleared {
    /// The generation that was suspected.
    pub generation: Generation,
    /// What spoke for it: `heartbeat`, `registration`, `answer`, `probe`, `gone`.
    pub by: String,
    /// How long it was suspected, in milliseconds.
    pub lasted_ms: u64,
}

/// See [`super::Event::VerdictWithheld`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictWithheld {
    /// The generation that is silent.
    pub generation: Generation,
    /// The rule that withholds it: `one_source`, `observer_unwell`, `brake`, `grace`.
    pub rule: String,
    /// Sources that speak against it.
    pub sources: Vec<EvidenceSource>,
    /// Since its last sign of life, in milliseconds.
    pub silent_ms: u64,
    /// The observer's own score at that moment, 0 (well) to 8.
    pub observer_score: u32,
}

/// See [`super::Event::ConfirmRequested`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfirmRequested {
    /// The admitted restart that waits for it.
    pub restart: RestartId,
    /// Where the fleet's stream admits it.
    pub admission: Position,
    /// The generation to look at.
    pub generation: Generation,
    /// The exact instance to look at.
    pub instance: InstanceRef,
}

/// See [`super::Event::DeathRefuted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeathRefuted {
    /// The restart that is not needed.
    pub restart: RestartId,
    /// The generation that lives.
    pub generation: Generation,
    /// The instance that was seen running.
    pub instance: InstanceRef,
    /// Where it answers.
    pub url: Option<String>,
}

/// See [`super::Event::OutcomeUnknown`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeUnknown {
    /// The generation that the operation was about.
    pub generation: Generation,
    /// The operation: `provision` or `stop`.
    pub operation: String,
    /// What the backend said, redacted.
    pub detail: String,
}

/// See [`super::Event::RestartProved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartProved {
    /// The restart that brought it back.
    pub restart: RestartId,
    /// The generation that has proved itself.
    pub generation: Generation,
    /// How long it has been well, in milliseconds.
    pub after_ms: u64,
}

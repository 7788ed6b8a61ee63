//! Restarts: why one is asked for, and what becomes of it.

use serde::{Deserialize, Serialize};

use super::CallOutcome;
use crate::id::{EventId, Generation, Position, RestartId};

/// Why a restart is asked for (decision 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartCause {
    /// Proof of death.
    Death,
    /// No sign of life for the whole liveness window.
    Hung,
    /// A person asked.
    Operator,
    /// Its configuration changed.
    Configuration,
    /// Its session is poisoned.
    Session,
    /// It was stopped together with the platform, whose next start brings it back.
    Shutdown,
    /// Another member of its team died, and the team's strategy takes it along.
    Team,
}

impl RestartCause {
    /// Whether restarts for this cause count towards, and are held by, the workspace's own limits.
    pub const fn is_automatic(self) -> bool {
        matches!(self, Self::Death | Self::Hung)
    }

    /// The word used everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Death => "death",
            Self::Hung => "hung",
            Self::Operator => "operator",
            Self::Configuration => "configuration",
            Self::Session => "session",
            Self::Shutdown => "shutdown",
            Self::Team => "team",
        }
    }
}

/// See [`Event::RestartRequested`](super::Event::RestartRequested).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartRequested {
    /// This restart's name, from here to its outcome.
    pub restart: RestartId,
    /// Why.
    pub cause: RestartCause,
    /// The generation to replace.
    pub generation: Generation,
    /// Whether the runtime's session is thrown away first (R15).
    pub reset_session: bool,
    /// The facts that it rests on.
    pub evidence: Vec<EventId>,
    /// Whether a person asked to pass over holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
    /// What the person said about it; always there where holds are passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// See [`Event::RestartStarted`](super::Event::RestartStarted).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartStarted {
    /// Which restart.
    pub restart: RestartId,
    /// Where the fleet's stream admits it.
    pub admission: Position,
}

/// See [`Event::RestartAbandoned`](super::Event::RestartAbandoned).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartAbandoned {
    /// Which restart.
    pub restart: RestartId,
    /// A stable word: `paused`, `removed`, `evidence_refuted`, `superseded`, `died`, `provision_failed`,
    /// `not_started`, `not_stopped`, `shutdown`.
    pub reason: String,
}

/// See [`Event::Quarantined`](super::Event::Quarantined).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Which restart was refused.
    pub restart: RestartId,
    /// The rule that refused it.
    pub rule: String,
    /// For people.
    pub message: String,
}

/// See [`Event::RestartAnnounced`](super::Event::RestartAnnounced). Not evidence: how this ends says nothing about whether the agent lives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartAnnounced {
    /// Which restart; also the id of the message.
    pub restart: RestartId,
    /// The generation that was told.
    pub generation: Generation,
    /// How it ended, seen from the transport.
    pub outcome: CallOutcome,
    /// What went wrong, redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

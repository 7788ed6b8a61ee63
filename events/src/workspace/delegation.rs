//! Tasks that one workspace hands to another. All of it is in the stream of whoever hands it on.

use serde::{Deserialize, Serialize};

use super::Text;
use crate::id::{DelegationId, WorkspaceId};

/// Who carries the task to the other agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DelegationRunner {
    /// The platform, in the background.
    Platform,
    /// The agent itself; it only has it recorded.
    Agent,
}

/// See [`Event::DelegationRequested`](super::Event::DelegationRequested).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DelegationRequested {
    /// Its name; also the id of the message that carries the task.
    pub delegation: DelegationId,
    /// Who is to do it.
    pub target: WorkspaceId,
    /// What is to be done.
    pub task: String,
    /// A digest of the caller's own key for it, by which a repetition is recognised.
    pub key: Option<String>,
    /// Who carries it there.
    pub runner: DelegationRunner,
}

/// See [`Event::DelegationDispatched`](super::Event::DelegationDispatched).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DelegationDispatched {
    /// Which.
    pub delegation: DelegationId,
}

/// See [`Event::DelegationQueued`](super::Event::DelegationQueued).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DelegationQueued {
    /// Which.
    pub delegation: DelegationId,
}

/// What came of a delegated task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DelegationOutcome {
    /// The other agent did it, and said this.
    Completed,
    /// It was not done, or nobody knows.
    Failed,
}

impl DelegationOutcome {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// See [`Event::DelegationEnded`](super::Event::DelegationEnded).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DelegationEnded {
    /// Which.
    pub delegation: DelegationId,
    /// Who was to do it.
    pub target: WorkspaceId,
    /// What came of it.
    pub outcome: DelegationOutcome,
    /// A stable word for why it failed: `access_denied`, `target_removed`, `target_paused`, `target_hibernated`,
    /// `target_unavailable`, `target_busy`, `agent_error`, `empty_response`, `outcome_unknown`, `expired`, `reported`.
    pub reason: Option<String>,
    /// What the other agent said.
    pub response: Option<Text>,
    /// What went wrong, for people.
    pub error: Option<String>,
}

//! Which model is assigned to a workspace. A record that people keep (contract 1.10): nothing is started or stopped by it.

use serde::{Deserialize, Serialize};

use crate::id::{AgentId, WorkspaceId};

/// An assignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Its name.
    pub agent: AgentId,
    /// What is assigned.
    pub model: String,
}

/// See [`Event::AgentAssigned`](super::Event::AgentAssigned).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentAssigned {
    /// Its name.
    pub agent: AgentId,
    /// What is assigned.
    pub model: String,
    /// What it takes the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Assigned>,
    /// The workspace that it moved from, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<WorkspaceId>,
}

/// See [`Event::AgentRemoved`](super::Event::AgentRemoved).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentRemoved {
    /// Its name.
    pub agent: AgentId,
    /// What was assigned.
    pub model: String,
    /// The workspace that it moves to, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<WorkspaceId>,
}

/// See [`Event::AgentMoveEnded`](super::Event::AgentMoveEnded).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentMoveEnded {
    /// Its name.
    pub agent: AgentId,
    /// Whether the other workspace has it now.
    pub taken: bool,
}

//! The team below a workspace, as its template describes it (contract 1.11): made, and taken away again.

use serde::{Deserialize, Serialize};

use crate::id::WorkspaceId;

/// One of a team.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeamMember {
    /// Which workspace it is.
    pub id: WorkspaceId,
    /// What it was called then.
    pub name: String,
    /// What its job was then.
    pub role: Option<String>,
}

/// See [`Event::TeamExpanded`](super::Event::TeamExpanded).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TeamExpanded {
    /// All whom its template asks for, those that were there before too.
    pub children: Vec<TeamMember>,
}

/// See [`Event::TeamCollapsed`](super::Event::TeamCollapsed).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TeamCollapsed {
    /// The workspaces right below it that were removed, each with everything below it.
    pub children: Vec<TeamMember>,
}

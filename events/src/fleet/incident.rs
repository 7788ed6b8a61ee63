//! Incidents: what belongs together and is worth being looked at by a person, with what people said about it.

use serde::{Deserialize, Serialize};

use crate::envelope::Timestamp;
use crate::id::{IncidentId, WorkspaceId};
use crate::workspace::BackendKind;

/// See [`super::Event::IncidentOpened`]. The incident's id is the id of this very fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentOpened {
    /// Its name.
    pub incident: IncidentId,
    /// What it is about, in a line.
    pub title: String,
    /// The cell whose brake opened it; none where a person did.
    pub cell: Option<BackendKind>,
    /// When it began, as far as a person said; what opened by itself begins with what led to the brake.
    pub since: Option<Timestamp>,
    /// When it ended, as far as a person said.
    pub until: Option<Timestamp>,
    /// Whom a person named; everybody where none.
    pub workspaces: Vec<WorkspaceId>,
}

/// See [`super::Event::IncidentNoted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentNoted {
    /// Which.
    pub incident: IncidentId,
    /// What a person has to say about it.
    pub text: String,
}

/// See [`super::Event::IncidentClosed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentClosed {
    /// Which.
    pub incident: IncidentId,
    /// What it was in the end, in a person's words.
    pub comment: Option<String>,
}

//! What happened outside the log: what the engine did, what went wrong, when the platform came and went.

use covalence_events::{Generation, WorkspaceId};

use super::Millis;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A container began to run.
    Started {
        /// Whose.
        workspace: WorkspaceId,
        /// Which generation.
        generation: Generation,
        /// The engine's name for it.
        instance: String,
        /// Generations of the same workspace that were running already.
        others: Vec<Generation>,
    },
    /// A container ended.
    Exited {
        /// Whose.
        workspace: WorkspaceId,
        /// Which generation.
        generation: Generation,
        /// The engine's name for it.
        instance: String,
        /// With which status.
        status: i32,
    },
    /// A running container was removed so that another generation could be started.
    Replaced {
        /// Whose.
        workspace: WorkspaceId,
        /// The generation that takes its place.
        by: Generation,
        /// For how long its agent had been well; 0 if it was not.
        well_ms: Millis,
    },
    /// The platform asked the engine to change something.
    Mutation {
        /// Whose; none for one that was removed meanwhile.
        workspace: Option<WorkspaceId>,
        /// What.
        op: String,
    },
    /// The platform asked the engine for the list.
    ListAsked,
    /// The platform got an answer from the engine.
    Answered {
        /// Whether it is the list.
        list: bool,
    },
    /// The platform asked an agent for its card.
    CardAsked {
        /// Whose.
        workspace: WorkspaceId,
        /// Which generation.
        generation: Generation,
        /// Whether it is answered.
        answered: bool,
    },
    /// The platform was refused a write by its log.
    NotRecorded,
    /// The platform's process began.
    Boot,
    /// The platform's process was killed.
    Killed,
    /// Something went wrong, or a person did something.
    Fault(super::Fault),
}

/// When what happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// Since the world began.
    pub at: Millis,
    /// What.
    pub what: What,
}

//! What a read model is: a fold, with a name.

use covalence_events::{Position, Recorded, WorkspaceId};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A fold over the log that answers one question.
///
/// # Guarantees
/// - Deterministic: the same facts in the same order make equal states. No clock, no dice, no I/O.
/// - A failed [`apply`](Projection::apply) has changed nothing.
/// - A state that was written and read back is equal, and equal states are written as equal bytes.
///
/// # Assumptions
/// - Facts come in the log's order, each once; the runner drops repeated ones before they get here.
pub trait Projection: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What logs, metrics and `/ready` call it.
    const NAME: &'static str;
    /// Changes when the same facts lead to another state.
    const VERSION: u32;

    /// Takes in one fact.
    fn apply(&mut self, recorded: &Recorded) -> Result<(), ApplyError>;
}

/// A fact that cannot follow what came before it: a damaged log, or a bug. Never skipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Its stream does not begin with `created`.
    #[error("`{tag}` at position {position} is about workspace `{workspace}`, which was never created")]
    UnknownWorkspace {
        /// Where.
        position: Position,
        /// The fact's tag.
        tag: &'static str,
        /// Whom it is about.
        workspace: WorkspaceId,
    },
    /// The workspace exists already.
    #[error("a second `created` at position {position} for workspace `{workspace}`")]
    CreatedTwice {
        /// Where.
        position: Position,
        /// Whom it is about.
        workspace: WorkspaceId,
    },
    /// A fact about a workspace in the fleet's stream, or the reverse.
    #[error("`{tag}` at position {position} stands in the wrong kind of stream")]
    WrongStream {
        /// Where.
        position: Position,
        /// The fact's tag.
        tag: &'static str,
    },
}

impl ApplyError {
    pub(crate) fn unknown(recorded: &Recorded, workspace: WorkspaceId) -> Self {
        Self::UnknownWorkspace { position: recorded.position, tag: recorded.fact.tag(), workspace }
    }
}

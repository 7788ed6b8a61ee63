//! What the observer has to know of a workspace, and how its state shows it.

use covalence_events::workspace::{DeliveryMode, InstanceRef};
use covalence_events::{Generation, Timestamp, WorkspaceId};

use crate::workspace::state::{Instance, Operation, State};

/// What the observer has to know of one workspace of its cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which.
    pub workspace: WorkspaceId,
    /// Its current generation.
    pub generation: Generation,
    /// Whether its instance should be running.
    pub desired: bool,
    /// Whether a start or a stop of ours is under way.
    pub between: bool,
    /// What the backend said that runs.
    pub instance: Option<InstanceRef>,
    /// Where to ask for its card; none for agents that only poll.
    pub url: Option<String>,
    /// The last sign of life.
    pub heard: Timestamp,
    /// Since when it has been suspect.
    pub suspect: Option<Timestamp>,
    /// A start or a stop whose outcome nobody knows.
    pub unknown: Option<Unknown>,
}

/// See [`Seen::unknown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Since when.
    pub since: Timestamp,
    /// Whether it was a start; else it was a stop.
    pub start: bool,
}

impl Seen {
    /// What this state shows.
    pub fn of(state: &State) -> Self {
        Self {
            workspace: state.id,
            generation: state.generation,
            desired: state.is_desired(),
            between: is_between(state),
            instance: instance(state).cloned(),
            url: url(state).cloned(),
            heard: state.last_heard(),
            suspect: suspect(state),
            unknown: unknown(state),
        }
    }
}

/// What the backend said that runs.
pub(crate) fn instance(state: &State) -> Option<&InstanceRef> {
    match &state.instance {
        Instance::Running { instance } => instance.as_ref(),
        Instance::None | Instance::Starting { .. } | Instance::Stopping { .. } | Instance::Unknown { .. } => {
            None
        }
    }
}

/// Where to ask for its card.
pub(crate) fn url(state: &State) -> Option<&String> {
    let pushes = state.delivery_mode != Some(DeliveryMode::Poll);
    state.url.as_ref().filter(|_| pushes && !state.is_external())
}

/// Whether a start or a stop of ours is under way.
pub(crate) fn is_between(state: &State) -> bool {
    matches!(state.instance, Instance::Starting { .. } | Instance::Stopping { failed: false, .. })
}

/// A start or a stop whose outcome nobody knows.
pub(crate) fn unknown(state: &State) -> Option<Unknown> {
    match &state.instance {
        Instance::Unknown { since, operation } => {
            Some(Unknown { since: *since, start: matches!(operation, Operation::Provision { .. }) })
        }
        Instance::None | Instance::Starting { .. } | Instance::Running { .. } | Instance::Stopping { .. } => {
            None
        }
    }
}

/// Since when it has been suspect.
pub(crate) fn suspect(state: &State) -> Option<Timestamp> {
    state.doubts.values().min().copied()
}

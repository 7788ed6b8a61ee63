//! What the log knows, folded in one pass at boot, before any actor runs.

use std::collections::HashMap;

use covalence_events::workspace::BackendKind;
use covalence_events::{Recorded, StreamId, Version, WorkspaceId};
use tracing::error;

use crate::context::Corrupt;
use crate::{fleet, workspace};

/// The states of all actors as of the log's head.
#[derive(Debug, Default)]
pub struct Recovery {
    pub(super) workspaces: HashMap<WorkspaceId, (workspace::State, Version)>,
    pub(super) fleet: (fleet::State, Version),
    corrupt: HashMap<WorkspaceId, Corrupt>,
}

impl Recovery {
    /// Takes the next fact. A stream that can't be folded is reported and left out; the others go on.
    pub fn fold(&mut self, recorded: &Recorded) {
        match recorded.stream {
            StreamId::Fleet => match fleet::evolve(std::mem::take(&mut self.fleet.0), recorded) {
                Ok(state) => self.fleet = (state, recorded.version),
                Err(corrupt) => error!(%corrupt, "a fact of the fleet can't be folded"),
            },
            StreamId::Workspace(id) => self.fold_workspace(id, recorded),
        }
    }

    fn fold_workspace(&mut self, id: WorkspaceId, recorded: &Recorded) {
        if self.corrupt.contains_key(&id) {
            return;
        }
        let before = self.workspaces.remove(&id).map(|(state, _)| state);
        match workspace::evolve(before, recorded) {
            Ok(state) => {
                self.workspaces.insert(id, (state, recorded.version));
            }
            Err(corrupt) => {
                error!(workspace = %id, %corrupt, "this workspace's stream can't be folded, its actor is not started");
                self.corrupt.insert(id, corrupt);
            }
        }
    }

    /// What a start of the platform has to ask for.
    pub(super) fn returning(&self) -> Vec<WorkspaceId> {
        let returning = self.workspaces.iter().filter(|(_, (state, _))| state.comes_back());
        returning.map(|(id, _)| *id).collect()
    }

    /// Adapters that some workspace which is not removed needs.
    pub fn backends(&self) -> impl Iterator<Item = BackendKind> + '_ {
        let present =
            self.workspaces.values().filter(|(state, _)| state.status != workspace::Status::Removed);
        present.map(|(state, _)| state.profile.backend)
    }

    /// Workspaces that are not removed.
    pub fn workspaces(&self) -> usize {
        self.workspaces.values().filter(|(state, _)| state.status != workspace::Status::Removed).count()
    }
}

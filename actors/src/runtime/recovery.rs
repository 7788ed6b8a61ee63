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
    /// `None` only while a fact is folded: taking a state out of its place and putting it back is what costs least.
    workspaces: HashMap<WorkspaceId, Option<(workspace::State, Version)>>,
    /// In the order of their creation, on which a team's strategy rests.
    order: Vec<WorkspaceId>,
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
        let order = &mut self.order;
        let known = self.workspaces.entry(id).or_insert_with(|| {
            order.push(id);
            None
        });
        match workspace::evolve(known.take().map(|(state, _)| state), recorded) {
            Ok(state) => *known = Some((state, recorded.version)),
            Err(corrupt) => {
                self.workspaces.remove(&id);
                error!(workspace = %id, %corrupt, "this workspace's stream can't be folded, its actor is not started");
                self.corrupt.insert(id, corrupt);
            }
        }
    }

    /// What a start of the platform has to ask for.
    pub(super) fn returning(&self) -> Vec<WorkspaceId> {
        self.present().filter(|state| state.comes_back()).map(|state| state.id).collect()
    }

    /// Adapters that some workspace which is not removed needs.
    pub fn backends(&self) -> impl Iterator<Item = BackendKind> + '_ {
        self.present().map(|state| state.profile.backend)
    }

    /// Workspaces that are not removed.
    pub fn workspaces(&self) -> usize {
        self.present().count()
    }

    fn present(&self) -> impl Iterator<Item = &workspace::State> {
        let states = self.workspaces.values().flatten().map(|(state, _)| state);
        states.filter(|state| state.status != workspace::Status::Removed)
    }

    /// All of them, removed ones too, in the order of their creation.
    pub(super) fn into_workspaces(
        mut self,
    ) -> impl Iterator<Item = (WorkspaceId, (workspace::State, Version))> {
        let order = std::mem::take(&mut self.order);
        order.into_iter().filter_map(move |id| Some((id, self.workspaces.remove(&id)??)))
    }
}

//! Everybody, as decisions may know of the others: the table that a replay of the log fills.

use std::collections::BTreeMap;

use covalence_events::WorkspaceId;
use covalence_events::workspace::BackendKind;

use crate::context::Roster;
use crate::workspace::{State, Status};

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Its place among the creations.
    order: usize,
    cell: BackendKind,
    desired: bool,
    paused: bool,
    parent: Option<WorkspaceId>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    entries: BTreeMap<WorkspaceId, Entry>,
}

impl Table {
    /// Takes down what is known of one of them.
    pub(crate) fn note(&mut self, state: &State) {
        let order = self.entries.get(&state.id).map_or(self.entries.len(), |entry| entry.order);
        let entry = Entry {
            order,
            cell: state.profile.backend,
            desired: state.is_desired(),
            paused: state.status == Status::Paused,
            parent: state.profile.parent,
        };
        self.entries.insert(state.id, entry);
    }
}

impl Roster for Table {
    fn cell(&self, workspace: WorkspaceId) -> Option<BackendKind> {
        self.entries.get(&workspace).map(|entry| entry.cell)
    }

    fn size(&self, cell: BackendKind) -> u32 {
        let desired = self.entries.values().filter(|entry| entry.cell == cell && entry.desired);
        u32::try_from(desired.count()).unwrap_or(u32::MAX)
    }

    fn parent(&self, workspace: WorkspaceId) -> Option<WorkspaceId> {
        self.entries.get(&workspace).and_then(|entry| entry.parent)
    }

    fn is_paused(&self, workspace: WorkspaceId) -> bool {
        self.entries.get(&workspace).is_some_and(|entry| entry.paused)
    }

    fn team(&self, parent: WorkspaceId) -> Vec<WorkspaceId> {
        let members = self.entries.iter().filter(|(_, entry)| entry.parent == Some(parent) && entry.desired);
        let mut members: Vec<_> = members.map(|(workspace, entry)| (entry.order, *workspace)).collect();
        members.sort_unstable();
        members.into_iter().map(|(_, workspace)| workspace).collect()
    }
}

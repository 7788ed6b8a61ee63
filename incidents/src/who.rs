//! What workspaces are called, and what is above them.

use std::collections::BTreeMap;

use covalence_events::seal::ERASED;
use covalence_events::{Fact, Recorded, StreamId, WorkspaceId, workspace};

/// A hierarchy deeper than this is damaged; nothing above it is looked at.
const DEPTH_MAX: usize = 64;

/// Names and parents as they are now, whatever moment is asked about. Who is not known is shown by the beginning of its id.
#[derive(Clone, Debug, Default)]
pub struct Who(BTreeMap<WorkspaceId, Known>);

#[derive(Clone, Debug, Default)]
struct Known {
    name: String,
    parent: Option<WorkspaceId>,
    removed: bool,
}

impl Who {
    /// Notes a workspace's name and parent.
    pub fn know(&mut self, id: WorkspaceId, name: &str, parent: Option<WorkspaceId>) {
        self.0.insert(id, Known { name: name.to_owned(), parent, removed: false });
    }

    /// Learns from a fact about names or the hierarchy; any other teaches nothing.
    pub fn learn(&mut self, recorded: &Recorded) {
        let (StreamId::Workspace(id), Fact::Workspace(event)) = (recorded.stream, &recorded.fact) else {
            return;
        };
        if let workspace::Event::Created(created) = event {
            self.know(id, &created.name, created.parent);
        } else if let workspace::Event::Renamed(renamed) = event {
            renamed.name.clone_into(&mut self.0.entry(id).or_default().name);
        } else if let workspace::Event::Moved(moved) = event {
            self.0.entry(id).or_default().parent = moved.parent;
        } else if let workspace::Event::Removed(_) = event {
            self.0.entry(id).or_default().removed = true;
        } else if let workspace::Event::Erased(_) = event {
            ERASED.clone_into(&mut self.0.entry(id).or_default().name);
        }
    }

    /// Its name, else the beginning of its id.
    pub fn name(&self, id: WorkspaceId) -> String {
        match self.0.get(&id) {
            Some(known) if !known.name.is_empty() => known.name.clone(),
            Some(_) | None => id.to_string().chars().take(8).collect(),
        }
    }

    /// Everything above a workspace, the nearest first.
    pub fn above(&self, id: WorkspaceId) -> Vec<WorkspaceId> {
        let parent = |id: &WorkspaceId| self.0.get(id).and_then(|known| known.parent);
        std::iter::successors(parent(&id), parent).take(DEPTH_MAX).collect()
    }

    /// Everybody who is not removed, with names.
    pub fn living(&self) -> impl Iterator<Item = (WorkspaceId, &str)> {
        let living = self.0.iter().filter(|(_, known)| !known.removed);
        living.map(|(id, known)| (*id, known.name.as_str()))
    }
}

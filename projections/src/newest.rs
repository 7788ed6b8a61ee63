//! The newest entries overall and of each workspace, within a fixed budget of memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use covalence_events::{Position, WorkspaceId};
use serde::{Deserialize, Serialize};

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Entries of one workspace.
    pub per_workspace: usize,
    /// Sum of the entries' weights, whatever their owner counts as weight.
    pub weight_max: usize,
}

/// Entries by position. Beyond its limits the oldest go first, of the workspace or of all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Newest<T> {
    limits: Limits,
    weight: usize,
    entries: BTreeMap<Position, Entry<T>>,
    #[serde(serialize_with = "crate::state::sorted")]
    by_workspace: HashMap<WorkspaceId, VecDeque<Position>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry<T> {
    workspace: WorkspaceId,
    weight: usize,
    value: Arc<T>,
}

impl<T> Newest<T> {
    /// Nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, weight: 0, entries: BTreeMap::new(), by_workspace: HashMap::new() }
    }

    /// Adds the newest entry.
    pub fn push(&mut self, position: Position, workspace: WorkspaceId, weight: usize, value: T) {
        self.entries.insert(position, Entry { workspace, weight, value: Arc::new(value) });
        self.weight += weight;
        let own = self.by_workspace.entry(workspace).or_default();
        own.push_back(position);
        if own.len() > self.limits.per_workspace
            && let Some(oldest) = own.pop_front()
            && let Some(entry) = self.entries.remove(&oldest)
        {
            self.weight -= entry.weight;
        }
        while self.weight > self.limits.weight_max && self.entries.len() > 1 {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((_, entry)) = self.entries.pop_first() else { return };
        self.weight -= entry.weight;
        if let Some(own) = self.by_workspace.get_mut(&entry.workspace) {
            // Positions grow, so the oldest of all is the oldest of its workspace.
            own.pop_front();
            if own.is_empty() {
                self.by_workspace.remove(&entry.workspace);
            }
        }
    }

    /// Drops the oldest for as long as they are this.
    pub fn drop_while(&mut self, old: impl Fn(&T) -> bool) {
        while self.entries.first_key_value().is_some_and(|(_, entry)| old(&entry.value)) {
            self.drop_oldest();
        }
    }

    /// Drops everything of one workspace.
    pub fn forget(&mut self, workspace: WorkspaceId) {
        for position in self.by_workspace.remove(&workspace).unwrap_or_default() {
            if let Some(entry) = self.entries.remove(&position) {
                self.weight -= entry.weight;
            }
        }
    }

    /// The newest of all, newest first.
    pub fn overall(&self, limit: usize) -> Vec<Arc<T>> {
        self.entries.values().rev().take(limit).map(|entry| Arc::clone(&entry.value)).collect()
    }

    /// The newest of one workspace, newest first.
    pub fn of(&self, workspace: WorkspaceId, limit: usize) -> Vec<Arc<T>> {
        let Some(own) = self.by_workspace.get(&workspace) else { return Vec::new() };
        own.iter()
            .rev()
            .take(limit)
            .filter_map(|position| self.entries.get(position))
            .map(|entry| Arc::clone(&entry.value))
            .collect()
    }

    /// Those of one workspace, oldest first.
    pub fn iter_of(
        &self,
        workspace: WorkspaceId,
    ) -> impl DoubleEndedIterator<Item = &Arc<T>> + ExactSizeIterator {
        let own = self.by_workspace.get(&workspace).map(VecDeque::iter).unwrap_or_default();
        // Every position of a workspace has an entry; `filter_map` would not know how many there are.
        own.map(|position| &self.entries[position].value)
    }

    /// Those after a position, oldest first.
    pub fn since(&self, after: Position, limit: usize) -> Vec<Arc<T>> {
        self.entries.range(after.next()..).take(limit).map(|(_, entry)| Arc::clone(&entry.value)).collect()
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

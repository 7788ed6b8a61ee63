//! Who is there: the address of every workspace's actor, and a glance at what each is about.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use actix::Addr;
use covalence_events::workspace::{BackendKind, InstanceRef};
use covalence_events::{Generation, WorkspaceId};

use super::Examined;
use super::cell::Cell;
use super::domain::Workspace;
use crate::workspace::State;
use crate::workspace::state::Instance;

/// What the observer has to know of a workspace without asking its mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glance {
    pub(super) backend: BackendKind,
    pub(super) generation: Generation,
    /// Whether we run it and it was not removed: it counts for the fleet's size.
    pub(super) counts: bool,
    /// Whether its instance should be running.
    pub(super) desired: bool,
    /// Whether a start or a stop of ours is under way.
    pub(super) between: bool,
    /// What the backend said that runs.
    pub(super) instance: Option<InstanceRef>,
}

impl Glance {
    fn of(state: &State) -> Self {
        Self {
            backend: state.profile.backend,
            generation: state.generation,
            counts: !state.is_external() && state.status != crate::workspace::Status::Removed,
            desired: state.is_desired(),
            between: matches!(
                state.instance,
                Instance::Starting { .. } | Instance::Stopping { failed: false, .. }
            ),
            instance: match &state.instance {
                Instance::Running { instance } => instance.clone(),
                Instance::None | Instance::Starting { .. } | Instance::Stopping { .. } => None,
            },
        }
    }
}

/// One workspace.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) address: Addr<Cell<Workspace>>,
    glance: Mutex<Option<Glance>>,
    /// The last fresh look, so that many callers whose call failed share one inspect.
    pub(super) examined: tokio::sync::Mutex<Option<(Instant, Examined)>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Registry {
    entries: RwLock<HashMap<WorkspaceId, Arc<Entry>>>,
    counting: AtomicUsize,
}

impl Registry {
    pub(super) fn get(&self, id: WorkspaceId) -> Option<Arc<Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// The entry of this id; made by `start` if there is none, or if its actor is gone.
    pub(super) fn get_or_start(
        &self,
        id: WorkspaceId,
        start: impl FnOnce() -> Addr<Cell<Workspace>>,
    ) -> Arc<Entry> {
        if let Some(entry) = self.get(id).filter(|entry| entry.address.connected()) {
            return entry;
        }
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(&id).filter(|entry| entry.address.connected()) {
            return Arc::clone(entry);
        }
        let glance = entries.get(&id).and_then(|entry| entry.glance());
        let entry = Arc::new(Entry {
            address: start(),
            glance: Mutex::new(glance),
            examined: tokio::sync::Mutex::new(None),
        });
        entries.insert(id, Arc::clone(&entry));
        entry
    }

    /// Everybody, in no order.
    pub(super) fn all(&self) -> Vec<(WorkspaceId, Arc<Entry>)> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|(id, entry)| (*id, Arc::clone(entry))).collect()
    }

    /// How many workspaces the platform runs.
    pub(super) fn fleet_size(&self) -> usize {
        self.counting.load(Ordering::Relaxed)
    }

    /// Takes note of a state; cheap when nothing of the glance changed.
    pub(super) fn note(&self, state: &State) {
        let Some(entry) = self.get(state.id) else { return };
        let new = Glance::of(state);
        let mut glance = entry.glance.lock().unwrap_or_else(PoisonError::into_inner);
        if glance.as_ref() == Some(&new) {
            return;
        }
        let before = glance.as_ref().is_some_and(|old| old.counts);
        match (before, new.counts) {
            (false, true) => drop(self.counting.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.counting.fetch_sub(1, Ordering::Relaxed)),
            (true, true) | (false, false) => {}
        }
        *glance = Some(new);
    }
}

impl Entry {
    pub(super) fn glance(&self) -> Option<Glance> {
        self.glance.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

//! Who is there: the address of every workspace's actor, and a glance at what each is about.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use actix::Addr;
use chrono::DateTime;
use covalence_events::workspace::{BackendKind, InstanceRef};
use covalence_events::{Generation, Timestamp, Version, WorkspaceId};

use super::Examined;
use super::cell::Cell;
use super::domain::Workspace;
use super::permits::Permits;
use crate::context::Roster;
use crate::watch::seen::{instance, is_between, suspect, unknown, url};
use crate::watch::{Seen, Unknown};
use crate::workspace::{State, Status};

/// What others have to know of a workspace without asking its mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that somebody else asks")]
pub(super) struct Glance {
    pub(super) backend: BackendKind,
    pub(super) generation: Generation,
    pub(super) parent: Option<WorkspaceId>,
    pub(super) paused: bool,
    /// Whether we run it and it was not removed: a shutdown that stops the workspaces stops it.
    pub(super) counts: bool,
    /// Whether its instance should be running.
    pub(super) desired: bool,
    /// Whether a start or a stop of ours is under way.
    pub(super) between: bool,
    /// What the backend said that runs.
    pub(super) instance: Option<InstanceRef>,
    /// Where to ask for its card; none for agents that only poll.
    url: Option<String>,
    suspect: Option<Timestamp>,
    unknown: Option<Unknown>,
}

impl Glance {
    /// Whether it still shows this state. Asked at every heartbeat, so it copies nothing.
    fn shows(&self, state: &State) -> bool {
        self.generation == state.generation
            && self.parent == state.profile.parent
            && self.paused == (state.status == Status::Paused)
            && self.counts == (!state.is_external() && state.status != Status::Removed)
            && self.desired == state.is_desired()
            && self.between == is_between(state)
            && self.instance.as_ref() == instance(state)
            && self.url.as_ref() == url(state)
            && self.suspect == suspect(state)
            && self.unknown == unknown(state)
    }

    fn of(state: &State) -> Self {
        let external = state.is_external();
        Self {
            backend: state.profile.backend,
            generation: state.generation,
            parent: state.profile.parent,
            paused: state.status == Status::Paused,
            counts: !external && state.status != Status::Removed,
            desired: state.is_desired(),
            between: is_between(state),
            instance: instance(state).cloned(),
            url: url(state).cloned(),
            suspect: suspect(state),
            unknown: unknown(state),
        }
    }

    fn seen(&self, workspace: WorkspaceId, heard: Timestamp) -> Seen {
        Seen {
            workspace,
            generation: self.generation,
            desired: self.desired,
            between: self.between,
            instance: self.instance.clone(),
            url: self.url.clone(),
            heard,
            suspect: self.suspect,
            unknown: self.unknown,
        }
    }
}

/// One workspace.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) address: Addr<Cell<Workspace>>,
    /// The right to call its agent.
    pub(super) permits: Arc<Permits>,
    glance: Mutex<Option<Glance>>,
    /// The last sign of life, in microseconds; beside the glance, since every heartbeat moves it.
    heard: AtomicI64,
    /// The last fresh look, so that many callers whose call failed share one inspect.
    pub(super) examined: tokio::sync::Mutex<Option<(Instant, Examined)>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Registry {
    entries: RwLock<HashMap<WorkspaceId, Arc<Entry>>>,
    kin: RwLock<Kin>,
}

/// Who belongs where, kept apart so that a decision about one needs no look at all.
#[derive(Debug, Default)]
struct Kin {
    sizes: BTreeMap<BackendKind, u32>,
    /// Below each parent, in the order of arrival, which is that of creation.
    teams: BTreeMap<WorkspaceId, BTreeSet<(u64, WorkspaceId)>>,
    arrivals: HashMap<WorkspaceId, u64>,
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
        let before = entries.get(&id);
        let entry = Arc::new(Entry {
            address: start(),
            permits: before.map(|entry| Arc::clone(&entry.permits)).unwrap_or_default(),
            glance: Mutex::new(before.and_then(|entry| entry.glance())),
            heard: AtomicI64::new(before.map_or(0, |entry| entry.heard.load(Ordering::Relaxed))),
            examined: tokio::sync::Mutex::new(None),
        });
        entries.insert(id, Arc::clone(&entry));
        entry
    }

    /// The entry of a workspace that the log knows. It shows what is known before its actor has had its first turn: an
    /// observer's first list may come sooner.
    pub(super) fn introduce(
        &self,
        known: (State, Version),
        start: impl FnOnce((State, Version)) -> Addr<Cell<Workspace>>,
    ) {
        let state = &known.0;
        let (id, glance, permits) = (state.id, Glance::of(state), Arc::<Permits>::default());
        permits.post(Some(state));
        let heard = state.last_heard();
        self.kin.write().unwrap_or_else(PoisonError::into_inner).note(id, None, &glance);
        let entry = Entry {
            address: start(known),
            permits,
            glance: Mutex::new(Some(glance)),
            heard: AtomicI64::new(heard.timestamp_micros()),
            examined: tokio::sync::Mutex::new(None),
        };
        self.entries.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::new(entry));
    }

    /// Everybody, in no order.
    pub(super) fn all(&self) -> Vec<(WorkspaceId, Arc<Entry>)> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|(id, entry)| (*id, Arc::clone(entry))).collect()
    }

    /// What the observer of a cell has to know, of everybody in it.
    pub(super) fn seen(&self, cell: BackendKind) -> Vec<Seen> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let of = |(id, entry): (&WorkspaceId, &Arc<Entry>)| {
            let glance = entry.glance.lock().unwrap_or_else(PoisonError::into_inner);
            let glance = glance.as_ref().filter(|glance| glance.backend == cell)?;
            Some(glance.seen(*id, entry.heard()))
        };
        entries.iter().filter_map(of).collect()
    }

    /// Takes note of a state; cheap when nothing of the glance changed.
    pub(super) fn note(&self, state: &State) {
        let Some(entry) = self.get(state.id) else { return };
        entry.heard.store(state.last_heard().timestamp_micros(), Ordering::Relaxed);
        entry.permits.post(Some(state));
        let mut glance = entry.glance.lock().unwrap_or_else(PoisonError::into_inner);
        if glance.as_ref().is_some_and(|glance| glance.shows(state)) {
            return;
        }
        let new = Glance::of(state);
        self.kin.write().unwrap_or_else(PoisonError::into_inner).note(state.id, glance.as_ref(), &new);
        *glance = Some(new);
    }

    fn glance(&self, id: WorkspaceId) -> Option<Glance> {
        self.get(id)?.glance()
    }

    /// Takes note that nothing is known of a workspace any more: nobody may call it.
    pub(super) fn withdraw(&self, id: WorkspaceId) {
        if let Some(entry) = self.get(id) {
            entry.permits.post(None);
        }
    }
}

impl Kin {
    fn note(&mut self, id: WorkspaceId, old: Option<&Glance>, new: &Glance) {
        let counted = |glance: &Glance| glance.desired;
        match (old.is_some_and(counted), counted(new)) {
            (false, true) => *self.sizes.entry(new.backend).or_default() += 1,
            (true, false) => {
                let size = self.sizes.entry(new.backend).or_default();
                *size = size.saturating_sub(1);
            }
            (true, true) | (false, false) => {}
        }
        let next = self.arrivals.len() as u64;
        let arrival = *self.arrivals.entry(id).or_insert(next);
        let place = |glance: &Glance| glance.parent.filter(|_| glance.desired);
        let (before, after) = (old.and_then(place), place(new));
        if before != after {
            if let Some(team) = before.and_then(|parent| self.teams.get_mut(&parent)) {
                team.remove(&(arrival, id));
            }
            if let Some(parent) = after {
                self.teams.entry(parent).or_default().insert((arrival, id));
            }
        }
    }
}

impl Roster for Registry {
    fn cell(&self, workspace: WorkspaceId) -> Option<BackendKind> {
        self.glance(workspace).map(|glance| glance.backend)
    }

    fn size(&self, cell: BackendKind) -> u32 {
        let kin = self.kin.read().unwrap_or_else(PoisonError::into_inner);
        kin.sizes.get(&cell).copied().unwrap_or(0)
    }

    fn parent(&self, workspace: WorkspaceId) -> Option<WorkspaceId> {
        self.glance(workspace)?.parent
    }

    fn is_paused(&self, workspace: WorkspaceId) -> bool {
        self.glance(workspace).is_some_and(|glance| glance.paused)
    }

    fn team(&self, parent: WorkspaceId) -> Vec<WorkspaceId> {
        let kin = self.kin.read().unwrap_or_else(PoisonError::into_inner);
        kin.teams.get(&parent).into_iter().flatten().map(|(_, id)| *id).collect()
    }
}

impl Entry {
    /// The last sign of life.
    pub(super) fn heard(&self) -> Timestamp {
        DateTime::from_timestamp_micros(self.heard.load(Ordering::Relaxed)).unwrap_or_default()
    }

    pub(super) fn glance(&self) -> Option<Glance> {
        self.glance.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

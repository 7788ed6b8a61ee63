//! Tasks that a workspace handed to others, as far as decisions rest on them.

use std::collections::{BTreeMap, VecDeque};

use chrono::TimeDelta;
use covalence_events::workspace::{
    DelegationEnded, DelegationOutcome, DelegationRequested, DelegationRunner,
};
use covalence_events::{DelegationId, EventId, Timestamp, WorkspaceId};

/// Tasks of one workspace that may be open at once. An agent that waits for more has lost count.
pub const OPEN_MAX: usize = 200;
/// Ended ones that are remembered, so that a repeated request is known.
const ENDED_MAX: usize = 1_000;
/// A task that nobody has fetched or answered for so long is given up.
pub const QUEUED_MAX: TimeDelta = TimeDelta::hours(24);

/// How far a task has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has not left yet.
    Requested,
    /// It may have arrived.
    Dispatched,
    /// It waits at the other agent.
    Queued,
}

/// A task that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Who is to do it.
    pub target: WorkspaceId,
    /// What is to be done.
    pub task: String,
    /// The caller's own key for it, as a digest.
    pub key: Option<String>,
    /// Who carries it there.
    pub runner: DelegationRunner,
    /// The fact that asked.
    pub requested: EventId,
    /// How far it has come.
    pub stage: Stage,
    /// Since when.
    pub since: Timestamp,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delegations {
    open: BTreeMap<DelegationId, Open>,
    ended: VecDeque<(DelegationId, Option<String>, DelegationOutcome)>,
}

impl Delegations {
    /// Those that are not over.
    pub fn open(&self) -> impl Iterator<Item = (DelegationId, &Open)> {
        self.open.iter().map(|(id, open)| (*id, open))
    }

    /// One that is not over.
    pub fn get(&self, delegation: DelegationId) -> Option<&Open> {
        self.open.get(&delegation)
    }

    /// Whether it ever was, as far as that is remembered.
    pub fn knows(&self, delegation: DelegationId) -> bool {
        self.open.contains_key(&delegation) || self.ended.iter().any(|(id, ..)| *id == delegation)
    }

    /// Whether a task with this key is open or done. One that failed may be tried again under its key.
    pub fn has_key(&self, key: &str) -> bool {
        let same = |known: &Option<String>| known.as_deref() == Some(key);
        self.open.values().any(|open| same(&open.key))
            || self
                .ended
                .iter()
                .any(|(_, known, outcome)| *outcome == DelegationOutcome::Completed && same(known))
    }

    /// Whether one more may be begun.
    pub fn is_full(&self) -> bool {
        self.open.len() >= OPEN_MAX
    }

    /// The task that an answer from `target` is to: the one that it names, or else the one that has waited for it for longest.
    pub fn answered(&self, target: WorkspaceId, named: Option<DelegationId>) -> Option<DelegationId> {
        let waits = |(_, open): &(DelegationId, &Open)| open.target == target && open.stage == Stage::Queued;
        if let Some(named) = named {
            return self.open().filter(waits).map(|(id, _)| id).find(|id| *id == named);
        }
        self.open().filter(waits).min_by_key(|(_, open)| open.since).map(|(id, _)| id)
    }

    /// When the first of those that wait at another agent is given up.
    pub fn due(&self) -> Option<Timestamp> {
        self.open.values().filter(|open| waits(open)).map(|open| open.since + QUEUED_MAX).min()
    }

    /// Those that are given up at this time.
    pub fn overdue(&self, now: Timestamp) -> impl Iterator<Item = (DelegationId, &Open)> {
        self.open().filter(move |(_, open)| waits(open) && open.since + QUEUED_MAX <= now)
    }

    pub(super) fn requested(&mut self, e: &DelegationRequested, requested: EventId, since: Timestamp) {
        let open = Open {
            target: e.target,
            task: e.task.clone(),
            key: e.key.clone(),
            runner: e.runner,
            requested,
            stage: Stage::Requested,
            since,
        };
        self.open.insert(e.delegation, open);
    }

    pub(super) fn moved(&mut self, delegation: DelegationId, stage: Stage, since: Timestamp) {
        if let Some(open) = self.open.get_mut(&delegation) {
            (open.stage, open.since) = (stage, since);
        }
    }

    pub(super) fn ended(&mut self, e: &DelegationEnded) {
        let Some(open) = self.open.remove(&e.delegation) else { return };
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back((e.delegation, open.key, e.outcome));
    }

    /// Nobody waits for what a removed workspace handed on.
    pub(super) fn abandoned(&mut self) {
        self.open.clear();
    }
}

/// The platform's own runs end by themselves; what waits elsewhere has nobody who watches it.
fn waits(open: &Open) -> bool {
    open.stage == Stage::Queued || open.runner == DelegationRunner::Agent
}

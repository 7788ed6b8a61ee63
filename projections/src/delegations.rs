//! Tasks that workspaces handed on: where each of them is. What they say is read from their facts.

use std::collections::HashMap;
use std::sync::Arc;

use covalence_events::workspace::{DelegationOutcome, DelegationRequested, Event};
use covalence_events::{DelegationId, EventId, Fact, Position, Recorded, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::projection::{ApplyError, Projection};

/// Tasks kept of one workspace. Clients look at the newest fifty.
pub const PER_WORKSPACE: usize = 500;

/// How far a task has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It has not left yet.
    Pending,
    /// It is with the other agent, or on its way there.
    Dispatched,
    /// It waits for the other agent to fetch it.
    Queued,
    /// It is done.
    Completed,
    /// It was not done, or nobody knows.
    Failed,
}

impl Stage {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Dispatched => "dispatched",
            Self::Queued => "queued",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// Where in the log something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The fact's place.
    pub position: Position,
    /// Its id.
    pub id: EventId,
    /// When.
    pub at: Timestamp,
}

impl Mark {
    pub(crate) const fn of(recorded: &Recorded) -> Self {
        Self { position: recorded.position, id: recorded.meta.id, at: recorded.meta.at }
    }
}

/// One task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// Its name.
    pub delegation: DelegationId,
    /// Who handed it on.
    pub source: WorkspaceId,
    /// Who is to do it.
    pub target: WorkspaceId,
    /// The digest of the caller's own key for it.
    pub key: Option<String>,
    /// How far it has come.
    pub stage: Stage,
    /// Where it was asked for.
    pub requested: Mark,
    /// Where it ended.
    pub ended: Option<Mark>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delegations {
    /// Oldest first.
    #[serde(serialize_with = "crate::state::sorted")]
    by_source: HashMap<WorkspaceId, Vec<Arc<Delegation>>>,
}

impl Delegations {
    /// The newest of a workspace, newest first.
    pub fn of(&self, source: WorkspaceId, limit: usize) -> Vec<Arc<Delegation>> {
        self.tasks(source).iter().rev().take(limit).cloned().collect()
    }

    /// One of them.
    pub fn find(&self, source: WorkspaceId, delegation: DelegationId) -> Option<Arc<Delegation>> {
        self.tasks(source).iter().rev().find(|known| known.delegation == delegation).cloned()
    }

    /// The one that has the caller's own key: open, done, or else the last that failed.
    pub fn by_key(&self, source: WorkspaceId, key: &str) -> Option<Arc<Delegation>> {
        self.tasks(source).iter().rev().find(|known| known.key.as_deref() == Some(key)).cloned()
    }

    fn tasks(&self, source: WorkspaceId) -> &[Arc<Delegation>] {
        self.by_source.get(&source).map(Vec::as_slice).unwrap_or_default()
    }

    fn begin(&mut self, source: WorkspaceId, e: &DelegationRequested, requested: Mark) {
        let tasks = self.by_source.entry(source).or_default();
        if tasks.len() == PER_WORKSPACE {
            // One that is over goes first; the oldest open one only where all are open.
            let over = tasks.iter().position(|task| task.ended.is_some()).unwrap_or(0);
            tasks.remove(over);
        }
        tasks.push(Arc::new(Delegation {
            delegation: e.delegation,
            source,
            target: e.target,
            key: e.key.clone(),
            stage: Stage::Pending,
            requested,
            ended: None,
        }));
    }

    fn change(
        &mut self,
        source: WorkspaceId,
        delegation: DelegationId,
        change: impl FnOnce(&mut Delegation),
    ) {
        let tasks = self.by_source.get_mut(&source).map(Vec::as_mut_slice).unwrap_or_default();
        if let Some(task) = tasks.iter_mut().rev().find(|task| task.delegation == delegation) {
            change(Arc::make_mut(task));
        }
    }
}

impl Projection for Delegations {
    const NAME: &'static str = "delegations";
    const VERSION: u32 = 1;

    fn apply(&mut self, recorded: &Recorded) -> Result<(), ApplyError> {
        let (Fact::Workspace(event), Some(source)) = (&recorded.fact, recorded.subject()) else {
            return Ok(());
        };
        match event {
            Event::DelegationRequested(e) => self.begin(source, e, Mark::of(recorded)),
            Event::DelegationDispatched(e) => {
                self.change(source, e.delegation, |task| task.stage = Stage::Dispatched);
            }
            Event::DelegationQueued(e) => {
                self.change(source, e.delegation, |task| task.stage = Stage::Queued);
            }
            Event::DelegationEnded(e) => self.change(source, e.delegation, |task| {
                task.stage = match e.outcome {
                    DelegationOutcome::Completed => Stage::Completed,
                    DelegationOutcome::Failed => Stage::Failed,
                };
                task.ended = Some(Mark::of(recorded));
            }),
            Event::Erased(_) => _ = self.by_source.remove(&source),
            _ => {}
        }
        Ok(())
    }
}

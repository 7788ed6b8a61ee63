//! Calls that wait until an agent has time, and those that did: where each of them is. What they say is read from their facts.

use std::collections::HashMap;
use std::sync::Arc;

use covalence_events::workspace::{CallQueued, Event, QueueOutcome};
use covalence_events::{CallId, Principal, QueueId, Recorded, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::delegations::Mark;

/// Calls kept of one workspace; those that are over go first.
pub const PER_WORKSPACE: usize = 500;

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It waits.
    Queued,
    /// It is with the agent, or on its way there.
    Dispatched,
    /// It is over.
    Over(QueueOutcome),
}

impl Stage {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Dispatched => "dispatched",
            Self::Over(outcome) => outcome.as_str(),
        }
    }

    /// Whether it waits, or is with the agent.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Dispatched)
    }
}

/// One call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Queued {
    /// Its name.
    pub queue: QueueId,
    /// Who is called.
    pub workspace: WorkspaceId,
    /// Who called.
    pub caller: Principal,
    /// The JSON-RPC method.
    pub method: String,
    /// By what a repetition is known.
    pub digest: Option<String>,
    /// How far it has come.
    pub stage: Stage,
    /// How often it left.
    pub attempts: u32,
    /// When it began to wait.
    pub enqueued_at: Timestamp,
    /// From then on it is not wanted any more.
    pub expires_at: Timestamp,
    /// When it left last.
    pub dispatched_at: Option<Timestamp>,
    /// When it was over.
    pub completed_at: Option<Timestamp>,
    /// A stable word for why it was not answered.
    pub reason: Option<String>,
    /// What went wrong last, for people.
    pub last_error: Option<String>,
    /// What it is called as a call, since it left.
    pub call: Option<CallId>,
    /// Where what was said in it is recorded.
    pub answer: Option<Mark>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Queues {
    /// Oldest first.
    #[serde(serialize_with = "crate::state::sorted")]
    by_workspace: HashMap<WorkspaceId, Vec<Arc<Queued>>>,
}

impl Queues {
    /// The calls of a workspace that are kept, in the order in which they came.
    pub fn of(&self, workspace: WorkspaceId) -> &[Arc<Queued>] {
        self.by_workspace.get(&workspace).map(Vec::as_slice).unwrap_or_default()
    }

    /// One of them.
    pub fn find(&self, workspace: WorkspaceId, queue: QueueId) -> Option<Arc<Queued>> {
        self.of(workspace).iter().rev().find(|known| known.queue == queue).cloned()
    }

    /// The one that is not over and has this digest.
    pub fn open_with(&self, workspace: WorkspaceId, digest: &str) -> Option<Arc<Queued>> {
        let same = |known: &&Arc<Queued>| known.stage.is_open() && known.digest.as_deref() == Some(digest);
        self.of(workspace).iter().rev().find(same).cloned()
    }

    /// How many wait.
    pub fn depth(&self, workspace: WorkspaceId) -> usize {
        self.of(workspace).iter().filter(|known| known.stage == Stage::Queued).count()
    }

    /// Workspaces for which a call waits.
    pub fn waiting(&self) -> impl Iterator<Item = WorkspaceId> + '_ {
        let waits = |known: &Arc<Queued>| known.stage == Stage::Queued;
        self.by_workspace.iter().filter(move |(_, calls)| calls.iter().any(waits)).map(|(id, _)| *id)
    }

    pub(super) fn apply(&mut self, workspace: WorkspaceId, event: &Event, recorded: &Recorded) {
        let at = recorded.meta.at;
        // A chain, not a match: all other facts are not about these calls.
        if let Event::CallQueued(e) = event {
            self.begin(workspace, e, at);
        } else if let Event::CallDispatched(e) = event {
            self.change(
                workspace,
                |known| known.queue == e.queue,
                |known| {
                    known.stage = Stage::Dispatched;
                    known.attempts += 1;
                    known.dispatched_at = Some(at);
                    known.call = Some(e.call);
                },
            );
        } else if let Event::CallReturned(e) = event {
            self.change(
                workspace,
                |known| known.queue == e.queue,
                |known| {
                    known.stage = Stage::Queued;
                    known.last_error = Some(e.error.clone());
                },
            );
        } else if let Event::CallDequeued(e) = event {
            self.change(
                workspace,
                |known| known.queue == e.queue,
                |known| {
                    known.stage = Stage::Over(e.outcome);
                    known.completed_at = Some(at);
                    known.reason.clone_from(&e.reason);
                    if e.error.is_some() {
                        known.last_error.clone_from(&e.error);
                    }
                },
            );
        } else if let Event::CallRecorded(e) = event {
            let is_it = |known: &Queued| known.call == Some(e.call);
            self.change(workspace, is_it, |known| known.answer = Some(Mark::of(recorded)));
        } else if let Event::Removed(_) = event {
            self.removed(workspace, at);
        } else if let Event::Erased(_) = event {
            self.by_workspace.remove(&workspace);
        }
    }

    fn begin(&mut self, workspace: WorkspaceId, e: &CallQueued, at: Timestamp) {
        let calls = self.by_workspace.entry(workspace).or_default();
        if calls.len() == PER_WORKSPACE {
            let over = calls.iter().position(|known| !known.stage.is_open()).unwrap_or(0);
            calls.remove(over);
        }
        calls.push(Arc::new(Queued {
            queue: e.queue,
            workspace,
            caller: e.caller.clone(),
            method: e.method.clone(),
            digest: e.digest.clone(),
            stage: Stage::Queued,
            attempts: 0,
            enqueued_at: at,
            expires_at: e.expires,
            dispatched_at: None,
            completed_at: None,
            reason: None,
            last_error: None,
            call: None,
            answer: None,
        }));
    }

    /// Nobody brings them any more.
    fn removed(&mut self, workspace: WorkspaceId, at: Timestamp) {
        let calls = self.by_workspace.get_mut(&workspace).map(Vec::as_mut_slice).unwrap_or_default();
        for call in calls.iter_mut().filter(|call| call.stage.is_open()) {
            let call = Arc::make_mut(call);
            call.stage = Stage::Over(QueueOutcome::Dropped);
            call.completed_at = Some(at);
            call.reason = Some("removed".to_owned());
            call.last_error = Some("workspace removed".to_owned());
        }
    }

    fn change(
        &mut self,
        workspace: WorkspaceId,
        is_it: impl Fn(&Queued) -> bool,
        change: impl FnOnce(&mut Queued),
    ) {
        let calls = self.by_workspace.get_mut(&workspace).map(Vec::as_mut_slice).unwrap_or_default();
        if let Some(call) = calls.iter_mut().rev().find(|known| is_it(known)) {
            change(Arc::make_mut(call));
        }
    }
}

//! How calls through the platform went: totals, the last ones, and those that waited for a busy agent.

use std::collections::HashMap;
use std::sync::Arc;

use covalence_events::workspace::{CallFinished, CallOutcome, Event};
use covalence_events::{CallId, Fact, Position, Recorded, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use self::queue::Queues;
use crate::newest::{Limits, Newest};
use crate::projection::{ApplyError, Projection};

pub mod queue;

/// Finished calls kept of one workspace: one screen.
pub const RECENT_PER_WORKSPACE: usize = 50;
/// Finished calls kept of all together: at about half a kilobyte each, 20 MB.
pub const RECENT_MAX: usize = 40_000;
/// Upper bounds of the duration histogram, in milliseconds. A last, open bucket follows.
pub const BUCKETS_MS: [u64; 12] = [5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000, 120_000, 600_000];

/// What a number of calls add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// The agent answered.
    pub answered: u64,
    /// Nothing reached the agent.
    pub not_delivered: u64,
    /// It may have.
    pub unknown: u64,
    /// Bytes sent to agents.
    pub request_bytes: u64,
    /// Bytes that came back.
    pub response_bytes: u64,
    /// Sum of the durations, in milliseconds.
    pub duration_ms_sum: u64,
    /// The longest, in milliseconds.
    pub duration_ms_max: u64,
    /// Calls in each duration bucket (not cumulative); the last one is beyond [`BUCKETS_MS`].
    pub duration_buckets: [u64; BUCKETS_MS.len() + 1],
}

impl Totals {
    /// All calls.
    pub const fn count(&self) -> u64 {
        self.answered + self.not_delivered + self.unknown
    }

    /// The upper bound, in milliseconds, below which `share` (0 to 1) of the calls stayed; the longest call where the
    /// open bucket decides. `None` without calls.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count below 2^53, rounded up to a count"
    )]
    pub fn quantile_ms(&self, share: f64) -> Option<u64> {
        let wanted = (self.count() as f64 * share.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bound, count) in BUCKETS_MS.iter().zip(self.duration_buckets) {
            seen += count;
            if seen >= wanted {
                return Some((*bound).min(self.duration_ms_max));
            }
        }
        (self.count() > 0).then_some(self.duration_ms_max)
    }

    fn add(&mut self, call: &CallFinished) {
        match call.outcome {
            CallOutcome::Answered => self.answered += 1,
            CallOutcome::NotDelivered => self.not_delivered += 1,
            CallOutcome::Unknown => self.unknown += 1,
        }
        self.request_bytes = self.request_bytes.saturating_add(call.request_bytes);
        self.response_bytes = self.response_bytes.saturating_add(call.response_bytes);
        self.duration_ms_sum = self.duration_ms_sum.saturating_add(call.duration_ms);
        self.duration_ms_max = self.duration_ms_max.max(call.duration_ms);
        self.duration_buckets[BUCKETS_MS.partition_point(|bound| *bound < call.duration_ms)] += 1;
    }
}

/// A call that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Where in the log it says so.
    pub position: Position,
    /// When it ended.
    pub at: Timestamp,
    /// Who was called.
    pub workspace: WorkspaceId,
    /// What is known of it.
    pub finished: CallFinished,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calls {
    overall: Totals,
    #[serde(serialize_with = "crate::state::sorted")]
    by_workspace: HashMap<WorkspaceId, Box<Totals>>,
    recent: Newest<Call>,
    queues: Queues,
}

impl Default for Calls {
    fn default() -> Self {
        let limits = Limits { per_workspace: RECENT_PER_WORKSPACE, weight_max: RECENT_MAX };
        Self {
            overall: Totals::default(),
            by_workspace: HashMap::new(),
            recent: Newest::new(limits),
            queues: Queues::default(),
        }
    }
}

impl Calls {
    /// All calls since the log began.
    pub const fn overall(&self) -> &Totals {
        &self.overall
    }

    /// All calls of a workspace since the log began; `None` before the first.
    pub fn of(&self, workspace: WorkspaceId) -> Option<&Totals> {
        self.by_workspace.get(&workspace).map(Box::as_ref)
    }

    /// The last calls of a workspace, newest first; at most [`RECENT_PER_WORKSPACE`] are kept.
    pub fn recent(&self, workspace: WorkspaceId, limit: usize) -> Vec<Arc<Call>> {
        self.recent.of(workspace, limit)
    }

    /// Those that wait, or waited, until an agent had time.
    pub const fn queues(&self) -> &Queues {
        &self.queues
    }

    /// One of the last calls of a workspace, by its name.
    pub fn find(&self, workspace: WorkspaceId, call: CallId) -> Option<Arc<Call>> {
        self.recent(workspace, RECENT_PER_WORKSPACE).into_iter().find(|known| known.finished.call == call)
    }
}

impl Projection for Calls {
    const NAME: &'static str = "calls";
    const VERSION: u32 = 2;

    fn apply(&mut self, recorded: &Recorded) -> Result<(), ApplyError> {
        let (Fact::Workspace(event), Some(workspace)) = (&recorded.fact, recorded.subject()) else {
            return Ok(());
        };
        self.queues.apply(workspace, event, recorded);
        let Event::CallFinished(call) = event else { return Ok(()) };
        self.overall.add(call);
        self.by_workspace.entry(workspace).or_default().add(call);
        let row =
            Call { position: recorded.position, at: recorded.meta.at, workspace, finished: call.clone() };
        self.recent.push(recorded.position, workspace, 1, row);
        Ok(())
    }
}

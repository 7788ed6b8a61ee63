//! What holds the fleet's restarts back: brakes, an unwell observer, a person's holds.

use serde::{Deserialize, Serialize};

use crate::envelope::Timestamp;
use crate::id::{HoldId, RestartId, WorkspaceId};
use crate::workspace::BackendKind;

/// What a brake lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrakeMode {
    /// No verdict from silence, and proven deaths one a minute.
    Freeze,
    /// One proven death is tried; the others wait until it has proved itself.
    Canary,
    /// The canary has proved itself: proven deaths at the pace of the tokens.
    SlowStart,
}

impl BrakeMode {
    /// The word used everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Freeze => "freeze",
            Self::Canary => "canary",
            Self::SlowStart => "slow_start",
        }
    }
}

/// What engaged a brake (`docs/supervision.md` has the table).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrakeTrigger {
    /// T1: so many became suspect at about the same time that the common cause is rather ours.
    Suspicion,
    /// T2: so many died at about the same time that starting all of them at once would hurt.
    Deaths,
    /// T3: the observer is unwell, or the engine's circuit is open.
    Observer,
    /// T4: nobody gives a sign of life.
    Everybody,
    /// The canary died.
    CanaryFailed,
    /// A good part of the fleet was found dead within the grace after our own start.
    Grace,
}

impl BrakeTrigger {
    /// The word used everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Suspicion => "suspicion",
            Self::Deaths => "deaths",
            Self::Observer => "observer",
            Self::Everybody => "everybody",
            Self::CanaryFailed => "canary_failed",
            Self::Grace => "grace",
        }
    }
}

/// Everything that the judgement of a brake looked at, so that it can be made again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BrakeReading {
    /// Workspaces of the cell that should be running.
    pub size: u32,
    /// Suspects without proof of death, all of them.
    pub suspects: u32,
    /// Those among them that became suspect within the trigger's window.
    pub suspects_recent: u32,
    /// Distinct proven deaths within the trigger's window.
    pub deaths_recent: u32,
    /// The observer's score, 0 to 8.
    pub observer_score: u32,
    /// Whether the engine's circuit is open.
    pub circuit_open: bool,
    /// Whether the grace after our own start is on.
    pub in_grace: bool,
    /// For how long nothing has spoken for a brake, in milliseconds.
    pub calm_ms: u64,
}

/// See [`super::Event::BrakeEngaged`]; a change of mode is the same fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BrakeEngaged {
    /// The cell: one engine and what it runs.
    pub cell: BackendKind,
    /// What it lets through.
    pub mode: BrakeMode,
    /// What engaged it.
    pub trigger: BrakeTrigger,
    /// How many it was.
    pub count: u32,
    /// Out of how many.
    pub of: u32,
    /// From how many on it engages.
    pub threshold: u32,
    /// Who.
    pub members: Vec<WorkspaceId>,
    /// Everything that the judgement looked at.
    pub reading: BrakeReading,
}

/// See [`super::Event::BrakeReleased`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BrakeReleased {
    /// The cell.
    pub cell: BackendKind,
    /// A stable word: `trigger_gone`, `operator`.
    pub reason: String,
    /// How long it was engaged, in milliseconds.
    pub after_ms: u64,
    /// Everything that the judgement looked at.
    pub reading: BrakeReading,
}

/// See [`super::Event::ObserverChanged`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ObserverChanged {
    /// The cell that it observes; none for the platform as a whole.
    pub cell: Option<BackendKind>,
    /// Its score, 0 (well) to 8.
    pub score: u32,
    /// The score before.
    pub from: u32,
    /// Part of it: engine calls that failed, less those that went well.
    pub engine: u32,
    /// Part of it: seconds that our own loop ran late.
    pub loop_lag: u32,
    /// Part of it: appends to the log that were slow or failed.
    pub log: u32,
    /// Part of it: heartbeats that we refused or were too slow to take.
    pub beats: u32,
    /// How long we stood still, if we did, in milliseconds; nothing is concluded from what was not heard meanwhile.
    pub pause_ms: Option<u64>,
}

/// What an engine's circuit lets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    /// Everything.
    #[default]
    Closed,
    /// One probe.
    HalfOpen,
    /// Nothing until the next probe.
    Open,
}

/// See [`super::Event::CircuitChanged`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CircuitChanged {
    /// The cell.
    pub cell: BackendKind,
    /// What it lets through from here on.
    pub state: CircuitState,
    /// What opened it: `error_rate`, `ping`, `slow`, or `probe` for what a probe found.
    pub rule: String,
    /// Calls in the window.
    pub calls: u32,
    /// Those that failed.
    pub failed: u32,
    /// The 95th percentile of their times, in milliseconds.
    pub p95_ms: u64,
    /// When the next probe is due.
    pub probe_at: Option<Timestamp>,
}

/// Whom a person's hold is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everybody.
    Fleet,
    /// A workspace and everything below it.
    Subtree(WorkspaceId),
    /// One workspace.
    Workspace(WorkspaceId),
}

impl Scope {
    /// Whether it covers a workspace; `above` are the ancestors of that one.
    pub fn covers(self, workspace: WorkspaceId, above: impl IntoIterator<Item = WorkspaceId>) -> bool {
        match self {
            Self::Fleet => true,
            Self::Workspace(id) => id == workspace,
            Self::Subtree(root) => root == workspace || above.into_iter().any(|ancestor| ancestor == root),
        }
    }
}

/// See [`super::Event::HoldSet`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldSet {
    /// Its name.
    pub hold: HoldId,
    /// Whom it is about.
    pub scope: Scope,
    /// Why, in the words of whoever set it.
    pub reason: String,
    /// When it ends by itself; none for an emergency stop, which never does.
    pub until: Option<Timestamp>,
    /// Whether nothing at all is started, whoever asks.
    pub emergency: bool,
}

/// See [`super::Event::HoldReleased`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldReleased {
    /// Which.
    pub hold: HoldId,
    /// A stable word: `released`, `expired`.
    pub reason: String,
    /// What a person said when releasing it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// See [`super::Event::GraceStarted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraceStarted {
    /// Workspaces that should be running.
    pub workspaces: u32,
    /// When it ends at the earliest.
    pub until: Timestamp,
}

/// See [`super::Event::GraceEnded`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraceEnded {
    /// The cell whose first complete list, after the time, ended it.
    pub cell: BackendKind,
    /// How long it took, in milliseconds.
    pub after_ms: u64,
}

/// See [`super::Event::RestartProved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartProved {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Which.
    pub restart: RestartId,
    /// The cell.
    pub cell: BackendKind,
}

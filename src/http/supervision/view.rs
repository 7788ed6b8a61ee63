//! What supervision looks like on the wire. The words are those of the log, of the command line and of the screen.

use chrono::{DateTime, Utc};
use covalence_events::fleet::CircuitState;
use covalence_events::{PolicyHash, RestartId, WorkspaceId};
use covalence_projections::roster::Row;
use covalence_projections::supervision::cell::{Brake, Circuit, Observer, Trial};
use covalence_projections::supervision::{Grace, PolicyInForce};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::view::SupervisionView;

pub mod person;
pub mod reasons;

use person::{AdvisedView, AlarmView, HoldView, QuarantineView, Who};
use reasons::DecisionView;

/// What the supervisor does, would do and has done.
#[derive(Debug, Serialize, ToSchema)]
pub struct FleetView {
    /// When it was so.
    pub at: DateTime<Utc>,
    /// The policy in force.
    pub policy: PolicyName,
    /// `act` or `advise`: whether decisions about the whole fleet are acted on.
    pub mode: &'static str,
    /// Where decisions are only recorded.
    pub advised: Vec<AdvisedView>,
    /// Each engine and what it runs.
    pub cells: Vec<CellView>,
    /// Restarts that were admitted and have no outcome.
    pub in_flight: Vec<InFlightView>,
    /// How many there may be in all cells together.
    pub in_flight_max: u32,
    /// Restarts that wait, oldest first; at most a hundred are named.
    pub waiting: Vec<WaitingView>,
    /// How many wait.
    pub waiting_total: usize,
    /// Holds that are on.
    pub holds: Vec<HoldView>,
    /// Alarms that are on.
    pub alarms: Vec<AlarmView>,
    /// Workspaces that died too often.
    pub quarantined: Vec<QuarantineView>,
    /// Workspaces that are neither well nor on their way; at most a hundred are named.
    pub failing: Vec<FailingView>,
    /// How many of them there are.
    pub failing_total: usize,
    /// How many workspaces there are.
    pub workspaces: usize,
    /// The platform's own score, 0 (well) to 8.
    pub platform_score: u32,
    /// The last ten decisions, newest first.
    pub decisions: Vec<DecisionView>,
}

/// Which policy.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyName {
    /// Its name: what every decision made under it carries.
    pub hash: String,
    /// `configuration`, `set` or `rollback`; absent while none was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
}

impl PolicyName {
    pub(super) fn of(hash: PolicyHash, recorded: Option<&PolicyInForce>) -> Self {
        let recorded = recorded.filter(|recorded| recorded.hash == hash);
        Self {
            hash: hash.to_string(),
            origin: recorded.map(|recorded| recorded.origin.clone()),
            since: recorded.map(|recorded| recorded.since),
        }
    }
}

/// One engine and what it runs.
#[derive(Debug, Serialize, ToSchema)]
pub struct CellView {
    /// `process` or `docker`.
    pub cell: &'static str,
    /// Workspaces of it that should be running.
    pub size: u32,
    /// How many automatic restarts could begin right now.
    pub allowed: AllowedView,
    /// Restarts of it in flight.
    pub in_flight: u32,
    /// How many may be.
    pub in_flight_max: u32,
    /// Its tokens.
    pub tokens: TokensView,
    /// The brake, if one is engaged.
    pub brake: Option<BrakeView>,
    /// How well we see it.
    pub observer: ObserverView,
    /// What its engine is asked.
    pub circuit: CircuitView,
    /// The grace after our own start, while it lasts.
    pub grace: Option<GraceView>,
    /// Starts that are let through at once.
    pub provisions_max: u32,
    /// Workspaces of it that something speaks against.
    pub suspects: u32,
}

/// How many automatic restarts could begin, by what they would rest on.
#[derive(Debug, Serialize, ToSchema)]
pub struct AllowedView {
    /// On proof of death.
    pub death: RoomView,
    /// On silence.
    pub hung: RoomView,
}

/// How many could begin, and what stops the next one.
#[derive(Debug, Serialize, ToSchema)]
pub struct RoomView {
    /// How many.
    pub restarts: u32,
    /// The rule that stops the next one.
    pub limited_by: &'static str,
    /// When that may change, if time alone changes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

/// Tokens of a cell.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BucketView)]
pub struct TokensView {
    /// How many there are.
    pub level: f64,
    /// How many there can be.
    pub capacity: f64,
    /// How many come back in a second.
    pub refill_per_second: f64,
}

/// A brake that is engaged.
#[derive(Debug, Serialize, ToSchema)]
pub struct BrakeView {
    /// `freeze`, `canary` or `slow_start`.
    pub mode: &'static str,
    /// `suspicion`, `deaths`, `observer`, `everybody`, `canary_failed` or `grace`.
    pub trigger: &'static str,
    /// How many it was.
    pub count: u32,
    /// Out of how many.
    pub of: u32,
    /// From how many on it engages.
    pub threshold: u32,
    /// Who; at most a hundred.
    #[schema(value_type = Vec<String>)]
    pub members: Vec<WorkspaceId>,
    /// Since when some brake has been engaged.
    pub since: DateTime<Utc>,
    /// Since when in this mode.
    pub mode_since: DateTime<Utc>,
    /// What became of the restart that it tries first: `starting`, `heard`, `proved` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<&'static str>,
}

/// How well we see.
#[derive(Debug, Serialize, ToSchema)]
pub struct ObserverView {
    /// 0 (well) to 8.
    pub score: u32,
    /// Part of it: engine calls that failed, less those that went well.
    pub engine: u32,
    /// Part of it: seconds that our own loop ran late.
    pub loop_lag: u32,
    /// Part of it: appends to the log that were slow or failed.
    pub log: u32,
    /// Part of it: heartbeats that we refused or were too slow to take.
    pub beats: u32,
    /// Since when; absent where it never changed in this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
}

/// What an engine is asked.
#[derive(Debug, Serialize, ToSchema)]
pub struct CircuitView {
    /// `closed`, `half_open` or `open`.
    pub state: &'static str,
    /// What put it there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// When the next probe is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_at: Option<DateTime<Utc>>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
}

/// The grace after our own start.
#[derive(Debug, Serialize, ToSchema)]
pub struct GraceView {
    /// Since when.
    pub since: DateTime<Utc>,
    /// When it ends at the earliest.
    pub until: DateTime<Utc>,
}

impl From<Grace> for GraceView {
    fn from(grace: Grace) -> Self {
        Self { since: grace.since, until: grace.until }
    }
}

/// A workspace that is neither well nor on its way.
#[derive(Debug, Serialize, ToSchema)]
pub struct FailingView {
    /// Which.
    pub workspace: Who,
    /// Its status.
    pub status: &'static str,
    /// Where it stands in the eyes of the supervisor.
    pub supervision: SupervisionView,
}

impl FailingView {
    pub(super) fn of(row: &Row) -> Self {
        Self {
            workspace: Who { id: row.id, name: row.name.clone() },
            status: row.status.as_str(),
            supervision: SupervisionView::advised(row),
        }
    }
}

/// A restart in flight.
#[derive(Debug, Serialize, ToSchema)]
pub struct InFlightView {
    /// Its name in the log.
    #[schema(value_type = String)]
    pub restart: RestartId,
    /// Whose.
    pub workspace: Who,
    /// Why it was asked for.
    pub cause: &'static str,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// A restart that waits.
#[derive(Debug, Serialize, ToSchema)]
pub struct WaitingView {
    /// Its name in the log.
    #[schema(value_type = String)]
    pub restart: RestartId,
    /// Whose.
    pub workspace: Who,
    /// Why it was asked for.
    pub cause: &'static str,
    /// The rule.
    pub rule: String,
    /// When it is looked at again; absent where it waits for something to happen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// Two digits are all that anybody reads of a level.
pub(super) fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

pub(super) fn brake(brake: &Brake, trial: Option<&Trial>) -> BrakeView {
    BrakeView {
        mode: brake.mode.as_str(),
        trigger: brake.trigger.as_str(),
        count: brake.count,
        of: brake.of,
        threshold: brake.threshold,
        members: brake.members.clone(),
        since: brake.since,
        mode_since: brake.mode_since,
        canary: trial.map(|trial| trial.outcome.as_str()),
    }
}

pub(super) fn observer(observer: Option<&Observer>) -> ObserverView {
    let change = observer.map(|observer| observer.change.clone()).unwrap_or_default();
    ObserverView {
        score: change.score,
        engine: change.engine,
        loop_lag: change.loop_lag,
        log: change.log,
        beats: change.beats,
        since: observer.map(|observer| observer.since),
    }
}

pub(super) fn circuit(circuit: Option<&Circuit>) -> CircuitView {
    let state = match circuit.map_or(CircuitState::Closed, |circuit| circuit.state) {
        CircuitState::Closed => "closed",
        CircuitState::HalfOpen => "half_open",
        CircuitState::Open => "open",
    };
    CircuitView {
        state,
        rule: circuit.map(|circuit| circuit.rule.clone()),
        probe_at: circuit.and_then(|circuit| circuit.probe_at),
        since: circuit.map(|circuit| circuit.since),
    }
}

//! What can happen to the fleet as a whole: admissions of restarts, and the platform's own comings and goings.

use serde::{Deserialize, Serialize};

use crate::codec::vocabulary;
use crate::envelope::Timestamp;
use crate::id::{Position, RestartId, WorkspaceId};
use crate::workspace::RestartCause;

mod brake;
mod flight;
mod incident;
mod policy;
mod secret;
mod token;

pub use brake::{
    BrakeEngaged, BrakeMode, BrakeReading, BrakeReleased, BrakeTrigger, CircuitChanged, CircuitState,
    GraceEnded, GraceStarted, HoldReleased, HoldSet, ObserverChanged, RestartProved, Scope,
};
pub use flight::{Answers, FlightCounts, FlightLost, FlightRecorded};
pub use incident::{IncidentClosed, IncidentNoted, IncidentOpened};
pub use policy::{
    AdmissionInputs, InvariantViolated, Mode, ModeSet, ParameterChange, PolicyChanged, ProvisionLimitChanged,
    QuarantineLifted, QuarantineProbed, Strategy, StrategySet,
};
pub use secret::{MasterKeyRotated, SecretRemoved, SecretSet};
pub use token::{OrgTokenIssued, OrgTokenRevoked};

vocabulary! {
    /// A fact about the fleet. Every decision carries the numbers that it was made with.
    pub enum Event {
        /// The platform's process is up and has read its log.
        PlatformStarted = "fleet.platform_started.v1",
        /// The platform's process goes down in order.
        PlatformStopped = "fleet.platform_stopped.v1",
        /// A damaged end of the log was cut off at open.
        TailRepaired = "fleet.tail_repaired.v1",
        /// Something of the log was damaged or missing at open, and was mended without losing a fact.
        LogMended = "fleet.log_mended.v1",
        /// A requested restart may begin.
        RestartAdmitted = "fleet.restart_admitted.v1",
        /// A requested restart has to wait.
        RestartDeferred = "fleet.restart_deferred.v1",
        /// A requested restart is refused.
        RestartSuppressed = "fleet.restart_suppressed.v1",
        /// An admitted restart has its outcome; its slot is free.
        RestartSettled = "fleet.restart_settled.v1",
        /// A backend stopped answering us. Says nothing about what it runs.
        EngineLost = "fleet.engine_lost.v1",
        /// A backend answers again.
        EngineFound = "fleet.engine_found.v1",
        /// A lasting condition that a person should know of.
        AlarmRaised = "fleet.alarm_raised.v1",
        /// That condition is over.
        AlarmResolved = "fleet.alarm_resolved.v1",
        /// The backend runs something with our labels that the log does not know. Never removed without a command.
        StrangerFound = "fleet.stranger_found.v1",
        /// A restarted workspace has been well for the whole probation; a token comes back.
        RestartProved = "fleet.restart_proved.v1",
        /// Restarts of a cell are held back: too many look dead at once, or we are unwell ourselves.
        BrakeEngaged = "fleet.brake_engaged.v1",
        /// Restarts are no longer held back.
        BrakeReleased = "fleet.brake_released.v1",
        /// We see worse, or better, than before.
        ObserverChanged = "fleet.observer_changed.v1",
        /// An engine is asked less, or as usual again.
        CircuitChanged = "fleet.circuit_changed.v1",
        /// We have just started: silence proves nothing yet.
        GraceStarted = "fleet.grace_started.v1",
        /// A cell has been seen completely, and enough time has passed.
        GraceEnded = "fleet.grace_ended.v1",
        /// A person holds restarts back.
        HoldSet = "fleet.hold_set.v1",
        /// A hold is over.
        HoldReleased = "fleet.hold_released.v1",
        /// Decisions about a part of the fleet are only recorded from here on, or acted on again.
        ModeSet = "fleet.mode_set.v1",
        /// A team has another restart strategy.
        StrategySet = "fleet.strategy_set.v1",
        /// The policy is another one.
        PolicyChanged = "fleet.policy_changed.v1",
        /// A quarantined workspace is tried once more.
        QuarantineProbed = "fleet.quarantine_probed.v1",
        /// A workspace is no longer quarantined.
        QuarantineLifted = "fleet.quarantine_lifted.v1",
        /// Another number of starts is let through at once.
        ProvisionLimitChanged = "fleet.provision_limit_changed.v1",
        /// Something happened that must never happen: a bug of ours, recorded with its numbers.
        InvariantViolated = "fleet.invariant_violated.v1",
        /// Every workspace gets a secret of this name from here on, or another value of it.
        SecretSet = "fleet.secret_set.v1",
        /// No workspace gets a secret of this name any more.
        SecretRemoved = "fleet.secret_removed.v1",
        /// The key that wraps the keys of the workspaces is another one, or will be.
        MasterKeyRotated = "fleet.master_key_rotated.v1",
        /// Somebody has a token that opens what the admin's does. Its text is nowhere.
        OrgTokenIssued = "fleet.org_token_issued.v1",
        /// Such a token opens nothing any more.
        OrgTokenRevoked = "fleet.org_token_revoked.v1",
        /// Something that is worth being looked at by a person: a brake engaged, or a person said so.
        IncidentOpened = "fleet.incident_opened.v1",
        /// A person said something about an incident.
        IncidentNoted = "fleet.incident_noted.v1",
        /// A person is done with an incident.
        IncidentClosed = "fleet.incident_closed.v1",
        /// A brake engaged: what had been observed until then, as it was.
        FlightRecorded = "fleet.flight_recorded.v1",
        /// A brake engaged, and what had been observed until then is lost.
        FlightLost = "fleet.flight_lost.v1",
    }
}

impl Event {
    /// The workspace that this fact names, if it names one.
    pub const fn subject(&self) -> Option<WorkspaceId> {
        match self {
            Self::RestartAdmitted(e) => Some(e.workspace),
            Self::RestartDeferred(e) => Some(e.workspace),
            Self::RestartSuppressed(e) => Some(e.workspace),
            Self::RestartSettled(e) => Some(e.workspace),
            Self::AlarmRaised(e) => e.workspace,
            Self::AlarmResolved(e) => e.workspace,
            Self::RestartProved(e) => Some(e.workspace),
            Self::QuarantineProbed(e) => Some(e.workspace),
            Self::QuarantineLifted(e) => Some(e.workspace),
            Self::InvariantViolated(e) => e.workspace,
            Self::SecretSet(_)
            | Self::SecretRemoved(_)
            | Self::MasterKeyRotated(_)
            | Self::OrgTokenIssued(_)
            | Self::OrgTokenRevoked(_)
            | Self::PlatformStarted(_)
            | Self::PlatformStopped(_)
            | Self::TailRepaired(_)
            | Self::LogMended(_)
            | Self::EngineLost(_)
            | Self::EngineFound(_)
            | Self::StrangerFound(_)
            | Self::BrakeEngaged(_)
            | Self::BrakeReleased(_)
            | Self::ObserverChanged(_)
            | Self::CircuitChanged(_)
            | Self::GraceStarted(_)
            | Self::GraceEnded(_)
            | Self::HoldSet(_)
            | Self::HoldReleased(_)
            | Self::ModeSet(_)
            | Self::StrategySet(_)
            | Self::PolicyChanged(_)
            | Self::ProvisionLimitChanged(_)
            | Self::IncidentOpened(_)
            | Self::IncidentNoted(_)
            | Self::IncidentClosed(_)
            | Self::FlightRecorded(_)
            | Self::FlightLost(_) => None,
        }
    }
}

/// See [`Event::PlatformStarted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlatformStarted {
    /// The program's version.
    pub version: String,
    /// The backend for new workspaces: `process` or `docker`.
    pub backend: String,
    /// Workspaces that the log knows and that are not removed.
    pub workspaces: u64,
    /// The head of the log when it was read.
    pub head: Position,
}

/// See [`Event::PlatformStopped`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlatformStopped {
    /// A stable word: `signal`, `command`.
    pub reason: String,
    /// Whether the workspaces were stopped too.
    pub workspaces_stopped: bool,
}

/// See [`Event::TailRepaired`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TailRepaired {
    /// The last position that is whole.
    pub kept: Position,
    /// Bytes that were cut off and kept aside.
    pub cut_bytes: u64,
    /// What was wrong with them.
    pub reason: String,
}

/// See [`Event::LogMended`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogMended {
    /// A stable word for what was damaged: `store` (what sled keeps beside its files), `high_water`.
    pub part: String,
    /// What was wrong with it.
    pub reason: String,
    /// A stable word for what was done: `set_aside`, `written_anew`.
    pub action: String,
}

/// See [`Event::RestartAdmitted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartAdmitted {
    /// Whose restart.
    pub workspace: WorkspaceId,
    /// Which.
    pub restart: RestartId,
    /// Why it was asked for.
    pub cause: RestartCause,
    /// Restarts in flight before this one.
    pub in_flight: u32,
    /// How many may be in flight.
    pub in_flight_max: u32,
    /// Restarts of this workspace in the intensity window before this one.
    pub recent: u32,
    /// How many the window allows.
    pub recent_max: u32,
    /// Everything that the judgement looked at; none in facts of before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Box<AdmissionInputs>>,
    /// Tokens that it costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// What a person's wish passed over: `hold`, `ancestor_paused`, `brake`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overridden: Vec<String>,
    /// Members of its team that are restarted with it, by the team's strategy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken_along: Vec<WorkspaceId>,
}

/// See [`Event::RestartDeferred`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartDeferred {
    /// Whose restart.
    pub workspace: WorkspaceId,
    /// Which.
    pub restart: RestartId,
    /// Why it was asked for.
    pub cause: RestartCause,
    /// A stable word: `backoff`, `in_flight`, `tokens`, `brake`, `hold`, `emergency_stop`, `ancestor_paused`, `order`,
    /// `grace`.
    pub rule: String,
    /// When it is looked at again; none waits for a slot.
    pub until: Option<Timestamp>,
    /// Restarts in flight.
    pub in_flight: u32,
    /// How many may be in flight.
    pub in_flight_max: u32,
    /// Restarts of this workspace in the intensity window.
    pub recent: u32,
    /// How many the window allows.
    pub recent_max: u32,
    /// Everything that the judgement looked at; none in facts of before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Box<AdmissionInputs>>,
}

/// See [`Event::RestartSuppressed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartSuppressed {
    /// Whose restart.
    pub workspace: WorkspaceId,
    /// Which.
    pub restart: RestartId,
    /// Why it was asked for.
    pub cause: RestartCause,
    /// A stable word: `intensity`, `hold`, `emergency_stop`, `ancestor_paused`, `advise_only`.
    pub rule: String,
    /// Restarts of this workspace in the intensity window.
    pub recent: u32,
    /// How many the window allows.
    pub recent_max: u32,
    /// The window, in seconds.
    pub window_s: u64,
    /// Everything that the judgement looked at; none in facts of before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Box<AdmissionInputs>>,
    /// When it may be asked for again, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// How an admitted restart ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartOutcome {
    /// The workspace was heard from.
    Online,
    /// It could not be started, or died before it was heard from.
    Failed,
    /// It was not wanted any more.
    Abandoned,
    /// The engine could not start it, which says nothing about the workspace.
    Unstarted,
}

/// See [`Event::RestartSettled`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartSettled {
    /// Whose restart.
    pub workspace: WorkspaceId,
    /// Which.
    pub restart: RestartId,
    /// How it ended.
    pub outcome: RestartOutcome,
}

/// See [`Event::EngineLost`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EngineLost {
    /// The backend.
    pub engine: String,
    /// A stable word: `timeout`, `refused`, `eof`, `http_500`, `garbage` and the like.
    pub code: String,
    /// What it said, redacted.
    pub detail: String,
}

/// See [`Event::EngineFound`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EngineFound {
    /// The backend.
    pub engine: String,
    /// How long it was not answering, in milliseconds.
    pub after_ms: u64,
}

/// See [`Event::AlarmRaised`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlarmRaised {
    /// A stable word: `engine_unknown`, `crash_loop`.
    pub kind: String,
    /// Whom it is about, if one.
    pub workspace: Option<WorkspaceId>,
    /// For people.
    pub message: String,
}

/// See [`Event::AlarmResolved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlarmResolved {
    /// The alarm's word.
    pub kind: String,
    /// Whom it was about, if one.
    pub workspace: Option<WorkspaceId>,
}

/// See [`Event::StrangerFound`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StrangerFound {
    /// The backend.
    pub engine: String,
    /// What it calls the thing.
    pub name: String,
    /// Its id.
    pub instance: String,
    /// The workspace that its labels name, as text.
    pub workspace: Option<String>,
}

//! What can happen to the fleet as a whole: admissions of restarts, and the platform's own comings and goings.

use serde::{Deserialize, Serialize};

use crate::codec::vocabulary;
use crate::envelope::Timestamp;
use crate::id::{Position, RestartId, WorkspaceId};
use crate::workspace::RestartCause;

vocabulary! {
    /// A fact about the fleet. Every decision carries the numbers that it was made with.
    pub enum Event {
        /// The platform's process is up and has read its log.
        PlatformStarted = "fleet.platform_started.v1",
        /// The platform's process goes down in order.
        PlatformStopped = "fleet.platform_stopped.v1",
        /// A damaged end of the log was cut off at open.
        TailRepaired = "fleet.tail_repaired.v1",
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
            Self::PlatformStarted(_)
            | Self::PlatformStopped(_)
            | Self::TailRepaired(_)
            | Self::EngineLost(_)
            | Self::EngineFound(_)
            | Self::StrangerFound(_) => None,
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
    /// A stable word: `backoff`, `in_flight`.
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
    /// A stable word: `intensity`.
    pub rule: String,
    /// Restarts of this workspace in the intensity window.
    pub recent: u32,
    /// How many the window allows.
    pub recent_max: u32,
    /// The window, in seconds.
    pub window_s: u64,
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

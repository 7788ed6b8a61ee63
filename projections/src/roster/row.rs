//! What is known of one workspace.

use std::fmt;
use std::sync::Arc;

use covalence_events::workspace::{
    Assigned, BackendKind, DeliveryMode, EvidenceClass, InstanceRef, RestartCause, StopReason,
    WorkspaceAccess,
};
use covalence_events::{Generation, Position, RestartId, Timestamp, WorkspaceId};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::fold::SESSION_POISONED;
use super::standing::Standing;
use crate::state::Word;

/// The wire status of a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(usize)]
pub enum Status {
    /// A generation is being started and has not been heard from.
    Provisioning,
    /// It answers.
    Online,
    /// Nobody answers for it.
    Offline,
    /// It answers, but badly.
    Degraded,
    /// It could not be started, or the supervisor gave up on it.
    Failed,
    /// A person stopped it.
    Paused,
    /// It is being stopped until somebody needs it.
    Hibernating,
    /// It is stopped until somebody needs it.
    Hibernated,
    /// It is gone for good.
    Removed,
    /// External, created without a URL, never heard from.
    AwaitingAgent,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 10] = [
        Self::Provisioning,
        Self::Online,
        Self::Offline,
        Self::Degraded,
        Self::Failed,
        Self::Paused,
        Self::Hibernating,
        Self::Hibernated,
        Self::Removed,
        Self::AwaitingAgent,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Paused => "paused",
            Self::Hibernating => "hibernating",
            Self::Hibernated => "hibernated",
            Self::Removed => "removed",
            Self::AwaitingAgent => "awaiting_agent",
        }
    }

    /// Whether the agent is believed to answer.
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Online | Self::Degraded)
    }

    /// Whether it is stopped, or about to be, until somebody needs it.
    pub const fn is_asleep(self) -> bool {
        matches!(self, Self::Hibernating | Self::Hibernated)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An agent card, kept as its JSON text: a tree of values would take several times the memory.
#[derive(Clone)]
pub struct Card(Arc<RawValue>);

impl Card {
    /// Keeps a card; `None` for JSON `null`, which is no card.
    pub fn new(card: &serde_json::Value) -> Option<Self> {
        if card.is_null() {
            return None;
        }
        // A `Value` holds nothing that JSON can't say.
        serde_json::value::to_raw_value(card).ok().map(|raw| Self(Arc::from(raw)))
    }

    /// Takes a card's text back; `None` for what is no JSON.
    pub(crate) fn from_json(text: String) -> Option<Self> {
        RawValue::from_string(text).ok().map(|raw| Self(Arc::from(raw)))
    }

    /// Its JSON text.
    pub fn as_json(&self) -> &str {
        self.0.get()
    }

    /// Its tree, parsed anew.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(self.0.get()).unwrap_or(serde_json::Value::Null)
    }
}

impl PartialEq for Card {
    fn eq(&self, other: &Self) -> bool {
        self.as_json() == other.as_json()
    }
}

impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_json())
    }
}

impl Serialize for Card {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// What the backend was asked for and has said about the current generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Instance {
    /// Nothing of ours should run.
    None,
    /// A start was asked for and has no outcome.
    Starting,
    /// The backend said that it runs.
    Running {
        /// The exact instance; none for external workspaces.
        instance: Option<InstanceRef>,
    },
    /// A stop was asked for and has no outcome, or failed.
    Stopping {
        /// Why it is stopped.
        reason: StopReason,
        /// What the backend said when it could not; the instance may still run.
        error: Option<String>,
    },
    /// A start or a stop may or may not have happened; lists will tell.
    Unknown {
        /// Why it was being stopped, if it was.
        stopping: Option<StopReason>,
    },
}

/// How far a restart has got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartStage {
    /// The fleet's supervisor has not decided.
    Requested,
    /// It has to wait.
    Deferred {
        /// The rule: `backoff`, `in_flight`, `tokens`, `brake`, `hold` and the like.
        rule: String,
        /// When it is looked at again; none waits for a slot.
        until: Option<Timestamp>,
    },
    /// It may begin.
    Admitted,
    /// The calls of what it replaces may finish.
    Draining {
        /// When their time is up.
        until: Timestamp,
    },
    /// It has begun.
    Started,
}

impl RestartStage {
    /// The word shown.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Deferred { .. } => "deferred",
            Self::Admitted => "admitted",
            Self::Draining { .. } => "draining",
            Self::Started => "started",
        }
    }
}

/// A restart from its request to its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// Its name.
    pub id: RestartId,
    /// Why it was asked for.
    pub cause: RestartCause,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// How far it has got.
    pub stage: RestartStage,
}

/// Why the last provisioning failed. Kept until a later one succeeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// Which provisioning.
    pub generation: Generation,
    /// A stable word.
    pub code: String,
    /// For people who may act on it.
    pub message: String,
    /// Whether trying again without a change can help.
    pub retryable: bool,
    /// The equivalent command to try by hand.
    pub command: Option<String>,
}

/// What would help, where a person has to do something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// A stable word: `session_poisoned`.
    #[serde(deserialize_with = "known_advice")]
    pub code: Word,
    /// For people who may act on it.
    pub text: String,
    /// Since when.
    pub since: Timestamp,
}

fn known_advice<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
    let text = String::deserialize(deserializer)?;
    Some(SESSION_POISONED).filter(|known| *known == text).ok_or_else(|| D::Error::custom("an unknown advice"))
}

/// The last thing that was said about whether it lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// When.
    pub at: Timestamp,
    /// What it is worth.
    pub class: EvidenceClass,
    /// A stable word.
    pub code: String,
    /// For people.
    pub detail: String,
    /// Exit status, where there is one.
    pub exit_status: Option<i32>,
}

/// An instance that was pronounced dead, and where it answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lost {
    pub(crate) instance: InstanceRef,
    pub(crate) url: Option<String>,
}

/// Everything that people and clients may be shown of a workspace. Not an HTTP body: the edge has its own views.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Which.
    pub id: WorkspaceId,
    /// What people call it.
    pub name: String,
    /// Its job description.
    pub role: Option<String>,
    /// 1 to 4.
    pub tier: u8,
    /// Its wire status.
    pub status: Status,
    /// Since when it has that status.
    pub status_since: Timestamp,
    /// The adapter that runs it.
    pub backend: BackendKind,
    /// A name of the runtime registry.
    pub runtime: Arc<str>,
    /// The model that its agent should use.
    pub model: Option<String>,
    /// The template directory that its configuration comes from.
    pub template: Option<String>,
    /// The entry of its parent's template that it was made from, if it was.
    pub entry: Option<String>,
    /// Its parent in the hierarchy.
    pub parent: Option<WorkspaceId>,
    /// Where the agent answers.
    pub url: Option<String>,
    /// Whether our own backend said so for this generation.
    pub url_trusted: bool,
    /// How messages reach the agent; none until it is known.
    pub delivery_mode: Option<DeliveryMode>,
    /// Its host directory.
    pub workspace_dir: Option<String>,
    /// What it may do there.
    pub workspace_access: WorkspaceAccess,
    /// Cents a month; none is no limit.
    pub budget_limit: Option<i64>,
    /// Cents this month, as the agent says.
    pub monthly_spend: i64,
    /// How many calls it takes at once.
    pub max_concurrent_tasks: u32,
    /// Tasks under way, as the agent says.
    pub active_tasks: i64,
    /// Seconds since the agent started, as it says.
    pub uptime_seconds: i64,
    /// What it is doing, or empty.
    pub current_task: String,
    /// Share of failed work, 0 to 1.
    pub last_error_rate: f64,
    /// What a person should read as the last error, or empty.
    pub last_sample_error: String,
    /// Whether that error is ours and not the agent's: it is over once the agent is heard from.
    pub(crate) error_is_ours: bool,
    /// What the runtime calls its state: `wedged`, or empty.
    pub runtime_state: String,
    /// Its agent card.
    #[serde(with = "crate::state::card")]
    pub agent_card: Option<Card>,
    /// Place on the canvas.
    pub x: f64,
    /// Place on the canvas.
    pub y: f64,
    /// Whether its subtree is folded on the canvas.
    pub collapsed: bool,
    /// The last registration or heartbeat.
    pub last_heartbeat_at: Option<Timestamp>,
    /// The last call that it made.
    pub last_outbound_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// Where in the log that is; the order of rows.
    pub created_position: Position,
    /// The last change of anything shown here but `last_outbound_at`.
    pub updated_at: Timestamp,
    /// When it was removed.
    pub removed_at: Option<Timestamp>,
    /// The current provisioning; 0 before the first.
    pub generation: Generation,
    /// What the backend was asked for and has said.
    pub instance: Instance,
    /// The image or program that the current instance was made from.
    pub image: Option<Arc<str>>,
    /// Privileges of its tier that the operator does not allow.
    pub withheld: Vec<String>,
    /// The restart under way.
    pub restart: Option<Box<Restart>>,
    /// Restarts begun so far.
    pub restarts: u64,
    /// Why the last provisioning failed.
    pub failure: Option<Box<Failure>>,
    /// Where it stands in the eyes of the supervisor.
    pub standing: Standing,
    /// What would help, where something has to be done.
    pub advice: Option<Box<Advice>>,
    /// The last thing that was said about whether it lives, other than signs of life.
    pub evidence: Option<Box<Evidence>>,
    /// The model that is assigned to it.
    pub assigned: Option<Box<Assigned>>,
    /// How far its agent has done with its feed, by the rows' `seq`; 0 before it said so.
    pub last_acked_seq: u64,
    /// Who stands in for it, since it was removed.
    pub forwarded_to: Option<WorkspaceId>,
    /// What was pronounced dead last, in case that is taken back.
    pub(crate) lost: Option<Box<Lost>>,
}

impl Row {
    /// Whether somebody else runs it.
    pub fn is_external(&self) -> bool {
        self.backend == BackendKind::External
    }

    /// What a stop that failed has left to clean up by hand, if one did.
    pub fn stop_failure(&self) -> Option<&str> {
        match &self.instance {
            Instance::Stopping { error, .. } => error.as_deref(),
            Instance::None | Instance::Starting | Instance::Running { .. } | Instance::Unknown { .. } => None,
        }
    }
}

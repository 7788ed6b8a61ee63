//! What can happen to one workspace.
//!
//! Each variant has one reason to exist; the payload types say what was known at that moment. Nothing here decides.

use serde::{Deserialize, Serialize};

use crate::codec::vocabulary;
use crate::envelope::Principal;
use crate::id::{CallId, EventId, Generation, Position, RestartId, TokenId, WorkspaceId};

mod suspicion;

pub use suspicion::{
    ConfirmRequested, DeathRefuted, OutcomeUnknown, RestartProved, SuspicionCleared, SuspicionRaised,
    VerdictWithheld,
};
mod drain;
mod session;

pub use drain::{DrainEnded, DrainOutcome, DrainRequested};
pub use session::{FailureKind, FailureSign, SessionCleared, SessionPoisoned, SessionSuspected};

vocabulary! {
    /// A fact about one workspace. Invariant: `Created` is the first of its stream, nothing but clean-up follows `Removed`.
    pub enum Event {
        /// The role exists from here on.
        Created = "workspace.created.v1",
        /// It goes by another name.
        Renamed = "workspace.renamed.v1",
        /// Its job description changed.
        RoleChanged = "workspace.role_changed.v1",
        /// Its limits and privileges changed; they take effect at the next provisioning.
        TierChanged = "workspace.tier_changed.v1",
        /// It has another parent, or none.
        Moved = "workspace.moved.v1",
        /// It runs another runtime from the next provisioning on.
        RuntimeChanged = "workspace.runtime_changed.v1",
        /// Its host directory changed; takes effect at the next provisioning.
        DirectoryChanged = "workspace.directory_changed.v1",
        /// Somebody moved it on the canvas.
        Placed = "workspace.placed.v1",
        /// Its subtree is folded or unfolded on the canvas.
        Folded = "workspace.folded.v1",
        /// A generation is to be started. Its outcome is `InstanceStarted` or `ProvisionFailed`.
        ProvisionRequested = "workspace.provision_requested.v1",
        /// The backend says that the instance of a generation runs.
        InstanceStarted = "workspace.instance_started.v1",
        /// A generation could not be started.
        ProvisionFailed = "workspace.provision_failed.v1",
        /// An instance is to be stopped. Its outcome is `InstanceStopped` or `StopFailed`.
        StopRequested = "workspace.stop_requested.v1",
        /// The backend says that the instance is gone.
        InstanceStopped = "workspace.instance_stopped.v1",
        /// The backend could not stop it; it may still run.
        StopFailed = "workspace.stop_failed.v1",
        /// After a start of the platform its instance was found running and taken over as it is (never restarted).
        InstanceAdopted = "workspace.instance_adopted.v1",
        /// Somebody outside said something about whether the instance lives.
        EvidenceObserved = "workspace.evidence_observed.v1",
        /// What the evidence amounts to.
        VerdictReached = "workspace.verdict_reached.v1",
        /// Nobody answers for this workspace.
        WentOffline = "workspace.went_offline.v1",
        /// The agent itself was heard from, or answers are expected again.
        CameOnline = "workspace.came_online.v1",
        /// It answers, but badly.
        Degraded = "workspace.degraded.v1",
        /// A restart is asked for; the fleet's supervisor decides.
        RestartRequested = "workspace.restart_requested.v1",
        /// An admitted restart begins.
        RestartStarted = "workspace.restart_started.v1",
        /// Before an admitted restart replaces what works, its open calls may finish and no new ones come in. Its outcome is
        /// `DrainEnded`.
        DrainRequested = "workspace.drain_requested.v1",
        /// The open calls are finished, or their time is up.
        DrainEnded = "workspace.drain_ended.v1",
        /// A requested restart will not happen.
        RestartAbandoned = "workspace.restart_abandoned.v1",
        /// The supervisor gave up on it until a person steps in, or it is heard from.
        Quarantined = "workspace.quarantined.v1",
        /// The agent of a restarted workspace was told that it was restarted, or could not be.
        RestartAnnounced = "workspace.restart_announced.v1",
        /// The agent introduced itself.
        Registered = "workspace.registered.v1",
        /// The agent's card changed.
        CardUpdated = "workspace.card_updated.v1",
        /// The agent is alive and says how it fares.
        HeartbeatReceived = "workspace.heartbeat_received.v1",
        /// A person wants it stopped, and kept.
        Paused = "workspace.paused.v1",
        /// A person wants it to run again.
        Resumed = "workspace.resumed.v1",
        /// It is gone for good; its history stays.
        Removed = "workspace.removed.v1",
        /// A bearer token exists from here on (only its digest is known).
        TokenIssued = "workspace.token_issued.v1",
        /// Tokens are worthless from here on.
        TokensRevoked = "workspace.tokens_revoked.v1",
        /// An A2A call through the platform ended.
        CallFinished = "workspace.call_finished.v1",
        /// A call failed in a way that may come from the runtime's session.
        SessionSuspected = "workspace.session_suspected.v1",
        /// Calls fail alike, whatever they ask: the session is to be thrown away.
        SessionPoisoned = "workspace.session_poisoned.v1",
        /// A call was answered again: the session is not to blame any more.
        SessionCleared = "workspace.session_cleared.v1",
        /// A command's handler panicked; the actor was rebuilt from its stream.
        HandlerPanicked = "workspace.handler_panicked.v1",
        /// Something speaks against it; nothing is proved.
        SuspicionRaised = "workspace.suspicion_raised.v1",
        /// Nothing speaks against it any more.
        SuspicionCleared = "workspace.suspicion_cleared.v1",
        /// It has been silent for so long that it would count as hung, but for a rule that says to wait.
        VerdictWithheld = "workspace.verdict_withheld.v1",
        /// An admitted restart waits for one fresh look at the instance.
        ConfirmRequested = "workspace.confirm_requested.v1",
        /// The fresh look found it running: it is taken back as it was, and not restarted.
        DeathRefuted = "workspace.death_refuted.v1",
        /// A start or stop may or may not have happened; lists will tell, and nothing is asked for again until then.
        OutcomeUnknown = "workspace.outcome_unknown.v1",
        /// After a restart it has been well for the whole probation.
        RestartProved = "workspace.restart_proved.v1",
    }
}

/// Which adapter runs a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendKind {
    /// A child process on this host.
    Process,
    /// A container of a Docker engine.
    Docker,
    /// Somebody else's machine; heartbeats are the only sign of life (R50).
    External,
}

impl BackendKind {
    /// The word used in configuration, in JSON and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Docker => "docker",
            Self::External => "external",
        }
    }
}

/// How messages reach the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryMode {
    /// The platform calls the agent's URL.
    #[default]
    Push,
    /// The agent asks.
    Poll,
}

impl DeliveryMode {
    /// The word used on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Poll => "poll",
        }
    }
}

/// What a workspace may do with its host directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceAccess {
    /// The directory is not mounted.
    #[default]
    None,
    /// Mounted for reading.
    ReadOnly,
    /// Mounted for reading and writing.
    ReadWrite,
}

impl WorkspaceAccess {
    /// The word used on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ReadOnly => "read_only",
            Self::ReadWrite => "read_write",
        }
    }
}

/// See [`Event::Created`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    /// What people call it; at most 255 bytes.
    pub name: String,
    /// Its job description.
    pub role: Option<String>,
    /// 1 to 4: limits and privileges (R23).
    pub tier: u8,
    /// A name of the runtime registry, or `external` (R27).
    pub runtime: String,
    /// The adapter that runs it.
    pub backend: BackendKind,
    /// The model that its agent should use.
    pub model: Option<String>,
    /// The template directory that its configuration comes from.
    pub template: Option<String>,
    /// Its place in the hierarchy.
    pub parent: Option<WorkspaceId>,
    /// A host directory to work in.
    pub workspace_dir: Option<String>,
    /// What it may do there.
    pub workspace_access: WorkspaceAccess,
    /// External only: where the agent answers, if it said so.
    pub url: Option<String>,
    /// How messages reach it; none until it is known.
    pub delivery_mode: Option<DeliveryMode>,
    /// Cents a month; none is no limit.
    pub budget_limit: Option<i64>,
    /// How many calls it takes at once (decision: 5 by default).
    pub max_concurrent_tasks: u32,
    /// Place on the canvas.
    pub x: f64,
    /// Place on the canvas.
    pub y: f64,
}

/// See [`Event::Renamed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Renamed {
    /// The new name.
    pub name: String,
}

/// See [`Event::RoleChanged`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoleChanged {
    /// The new job description, or none.
    pub role: Option<String>,
}

/// See [`Event::TierChanged`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TierChanged {
    /// 1 to 4.
    pub tier: u8,
}

/// See [`Event::Moved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// The new parent; none makes it a root.
    pub parent: Option<WorkspaceId>,
}

/// See [`Event::RuntimeChanged`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuntimeChanged {
    /// A name of the runtime registry.
    pub runtime: String,
}

/// See [`Event::DirectoryChanged`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DirectoryChanged {
    /// The new host directory, or none.
    pub workspace_dir: Option<String>,
}

/// See [`Event::Placed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    /// Horizontal, in canvas units.
    pub x: f64,
    /// Vertical, in canvas units.
    pub y: f64,
}

/// See [`Event::Folded`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Folded {
    /// Whether its subtree is hidden.
    pub collapsed: bool,
}

/// Why a generation is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProvisionOrigin {
    /// The workspace was created.
    Create,
    /// An admitted restart.
    Restart,
    /// A person resumed it.
    Resume,
}

/// See [`Event::ProvisionRequested`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProvisionRequested {
    /// The number of this provisioning; one more than the last.
    pub generation: Generation,
    /// Why.
    pub origin: ProvisionOrigin,
    /// The restart that it is a part of.
    pub restart: Option<RestartId>,
    /// Whether the runtime's session is thrown away first (R15).
    pub reset_session: bool,
}

/// What the backend calls the thing that runs: enough to find exactly it again, and nothing else under its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstanceRef {
    /// A container's full id, or a process's `pid:start-ticks:boot-id` (a re-used pid never matches).
    pub id: String,
}

/// See [`Event::InstanceStarted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceStarted {
    /// Which provisioning.
    pub generation: Generation,
    /// What runs; none for external workspaces.
    pub instance: Option<InstanceRef>,
    /// Where our own backend says that it answers. Trusted for this generation (decision 2).
    pub url: Option<String>,
    /// Privileges of its tier that the operator does not allow.
    #[serde(default)]
    pub withheld: Vec<String>,
    /// The image or program that it was made from.
    #[serde(default)]
    pub image: Option<String>,
}

/// See [`Event::ProvisionFailed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProvisionFailed {
    /// Which provisioning.
    pub generation: Generation,
    /// A stable word: `image_missing`, `config_missing`, `engine_unavailable`, `port_taken`, `timeout` and the like.
    pub code: String,
    /// For people who may act on it, redacted (R20).
    pub message: String,
    /// Whether trying again without a change can help.
    pub retryable: bool,
    /// The equivalent command to try by hand, where there is one (R20).
    #[serde(default)]
    pub command: Option<String>,
}

/// Why an instance is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// A restart replaces it.
    Restart,
    /// The workspace is paused.
    Pause,
    /// The workspace is removed.
    Remove,
    /// The platform shuts down and was told to take its workspaces with it.
    Shutdown,
    /// Its start ran out of time.
    Timeout,
}

/// See [`Event::StopRequested`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StopRequested {
    /// Which provisioning.
    pub generation: Generation,
    /// Why.
    pub reason: StopReason,
}

/// See [`Event::InstanceStopped`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceStopped {
    /// Which provisioning.
    pub generation: Generation,
}

/// See [`Event::StopFailed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StopFailed {
    /// Which provisioning.
    pub generation: Generation,
    /// What the backend said, redacted.
    pub message: String,
}

/// See [`Event::InstanceAdopted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceAdopted {
    /// Which provisioning.
    pub generation: Generation,
    /// What runs.
    pub instance: InstanceRef,
}

/// Where evidence comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceSource {
    /// The exit of a process, or the engine's event stream.
    Exit,
    /// One inspect of one instance.
    Inspect,
    /// The list of all instances.
    List,
    /// Heartbeats, or their absence.
    Heartbeat,
    /// An A2A call's transport.
    Call,
    /// A request for the agent's card, made while its heartbeat is late.
    Probe,
}

/// What evidence is worth (`docs/supervision` names the classes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceClass {
    /// The engine or the kernel *said* that this very instance is not there.
    Death,
    /// Any sign of life.
    Life,
    /// Ambiguous: it speaks against the workspace, and proves nothing.
    Suspicion,
    /// No sign of life for the whole liveness window.
    Silence,
    /// Says something about the observer, nothing about the target.
    ObserverFailure,
    /// We caused it, or it is about an older generation.
    Expected,
}

/// See [`Event::EvidenceObserved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvidenceObserved {
    /// Where it comes from.
    pub source: EvidenceSource,
    /// What it is worth.
    pub class: EvidenceClass,
    /// The generation that it speaks of.
    pub generation: Generation,
    /// The instance that it speaks of.
    pub instance: Option<InstanceRef>,
    /// A stable word: `exited`, `not_found`, `timeout`, `refused`, `eof`, `http_500`, `garbage` and the like.
    pub code: String,
    /// For people: exit status, error text, age of the last beat.
    pub detail: String,
    /// Exit status, where there is one; a signal as 128 + its number.
    #[serde(default)]
    pub exit_status: Option<i32>,
}

/// See [`Event::VerdictReached`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It lives.
    Alive,
    /// Nothing is proved; it stays on its alive path.
    Unknown,
    /// It is not there.
    Dead,
}

/// See [`Event::VerdictReached`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictReached {
    /// The verdict.
    pub verdict: Verdict,
    /// The rule that led to it, a stable word such as `proof_of_death` or `liveness_ttl`.
    pub rule: String,
    /// The generation judged.
    pub generation: Generation,
    /// The facts that it rests on.
    pub evidence: Vec<EventId>,
    /// The observer's own score when it was reached, 0 (well) to 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer_score: Option<u32>,
}

/// See [`Event::WentOffline`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WentOffline {
    /// The rule behind it.
    pub rule: String,
    /// What a person should read as the last error, if there is something to say.
    pub message: Option<String>,
}

/// What lifted a workspace back to online.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnlineVia {
    /// The agent registered.
    Register,
    /// The agent's heartbeat.
    Heartbeat,
    /// Created with a URL, external.
    Create,
    /// A fresh look found it running after all.
    Inspect,
}

/// See [`Event::CameOnline`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CameOnline {
    /// What lifted it.
    pub via: OnlineVia,
    /// The wire status before.
    pub from: String,
    /// The generation that was heard from.
    pub generation: Generation,
    /// The restart that this ends well, if one was under way.
    pub restart: Option<RestartId>,
}

/// See [`Event::Degraded`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Degraded {
    /// Share of failed work, 0 to 1.
    pub error_rate: f64,
    /// One of the errors.
    pub sample_error: String,
    /// What the runtime calls its state.
    pub runtime_state: String,
}

/// Why a restart is asked for (decision 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartCause {
    /// Proof of death.
    Death,
    /// No sign of life for the whole liveness window.
    Hung,
    /// A person asked.
    Operator,
    /// Its configuration changed.
    Configuration,
    /// Its session is poisoned.
    Session,
    /// It was stopped together with the platform, whose next start brings it back.
    Shutdown,
    /// Another member of its team died, and the team's strategy takes it along.
    Team,
}

impl RestartCause {
    /// The word used everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Death => "death",
            Self::Hung => "hung",
            Self::Operator => "operator",
            Self::Configuration => "configuration",
            Self::Session => "session",
            Self::Shutdown => "shutdown",
            Self::Team => "team",
        }
    }
}

/// See [`Event::RestartRequested`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartRequested {
    /// This restart's name, from here to its outcome.
    pub restart: RestartId,
    /// Why.
    pub cause: RestartCause,
    /// The generation to replace.
    pub generation: Generation,
    /// Whether the runtime's session is thrown away first (R15).
    pub reset_session: bool,
    /// The facts that it rests on.
    pub evidence: Vec<EventId>,
    /// Whether a person asked to pass over holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
}

/// See [`Event::RestartStarted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartStarted {
    /// Which restart.
    pub restart: RestartId,
    /// Where the fleet's stream admits it.
    pub admission: Position,
}

/// See [`Event::RestartAbandoned`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartAbandoned {
    /// Which restart.
    pub restart: RestartId,
    /// A stable word: `paused`, `removed`, `evidence_refuted`, `superseded`, `died`, `provision_failed`,
    /// `not_started`, `shutdown`.
    pub reason: String,
}

/// See [`Event::Quarantined`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Which restart was refused.
    pub restart: RestartId,
    /// The rule that refused it.
    pub rule: String,
    /// For people.
    pub message: String,
}

/// See [`Event::RestartAnnounced`]. Not evidence: how this ends says nothing about whether the agent lives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartAnnounced {
    /// Which restart; also the id of the message.
    pub restart: RestartId,
    /// The generation that was told.
    pub generation: Generation,
    /// How it ended, seen from the transport.
    pub outcome: CallOutcome,
    /// What went wrong, redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// See [`Event::Registered`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registered {
    /// Where the agent says that it answers; none for poll mode.
    pub url: Option<String>,
    /// Its agent card.
    pub agent_card: serde_json::Value,
    /// How messages reach it.
    pub delivery_mode: DeliveryMode,
    /// The generation that its token names, if it showed one.
    pub generation: Option<Generation>,
}

/// See [`Event::CardUpdated`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CardUpdated {
    /// The new agent card.
    pub agent_card: serde_json::Value,
}

/// See [`Event::HeartbeatReceived`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatReceived {
    /// Share of failed work, 0 to 1.
    #[serde(default)]
    pub error_rate: f64,
    /// One of the errors, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sample_error: String,
    /// Tasks under way, as the agent says.
    #[serde(default)]
    pub active_tasks: i64,
    /// Seconds since the agent started.
    #[serde(default)]
    pub uptime_seconds: i64,
    /// What it is doing, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub current_task: String,
    /// Cents this month; none leaves the known value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly_spend: Option<i64>,
    /// `wedged`, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub runtime_state: String,
    /// A card for a workspace that has none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_card: Option<serde_json::Value>,
    /// The generation that its token names, if it showed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
}

/// See [`Event::Paused`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paused {}

/// See [`Event::Resumed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resumed {}

/// See [`Event::Removed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    /// On the root of a removal: how many descendants went with it.
    pub cascade_deleted: Option<u32>,
    /// Whether its volumes and files go too (they do once its instance is gone).
    pub purge: bool,
}

/// What a token was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenPurpose {
    /// Handed to the instance of one generation by our own backend.
    Provision,
    /// Handed out by the first registration.
    Registration,
    /// Shown to the person who created an external workspace.
    Creation,
}

/// See [`Event::TokenIssued`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenIssued {
    /// Its public name.
    pub token: TokenId,
    /// SHA-256 of its text.
    #[serde(with = "serde_bytes")]
    pub sha256: [u8; 32],
    /// The first eight characters, to be recognised by.
    pub prefix: String,
    /// What for.
    pub purpose: TokenPurpose,
    /// The generation that it speaks for, if it was made for one.
    pub generation: Option<Generation>,
}

/// See [`Event::TokensRevoked`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokensRevoked {
    /// Which; all live ones where empty.
    #[serde(default)]
    pub tokens: Vec<TokenId>,
    /// A stable word: `removed`, `provision`, `rotated`.
    pub reason: String,
}

/// How a call ended, seen from the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    /// The agent answered, whatever it said.
    Answered,
    /// Nothing reached it: refused, unroutable.
    NotDelivered,
    /// It may have reached it: timeout, cut off.
    Unknown,
}

/// See [`Event::CallFinished`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallFinished {
    /// Its name, also in the response's headers.
    pub call: CallId,
    /// Who called.
    pub caller: Principal,
    /// The JSON-RPC method.
    pub method: String,
    /// How it ended.
    pub outcome: CallOutcome,
    /// The agent's HTTP status, if it answered.
    pub status: Option<u16>,
    /// From the permit to the last byte.
    pub duration_ms: u64,
    /// Bytes sent to the agent.
    pub request_bytes: u64,
    /// Bytes that came back.
    pub response_bytes: u64,
    /// What went wrong, redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How often it was tried before it ended so: for a slot, and at the agent.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub tries: u32,
    /// What the failure is recognised by, if the agent answered with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureSign>,
}

const fn once() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_once(tries: &u32) -> bool {
    *tries == 1
}

/// See [`Event::HandlerPanicked`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HandlerPanicked {
    /// The command's name.
    pub command: String,
    /// The panic's message.
    pub message: String,
}

//! What can happen to one workspace.
//!
//! Each variant has one reason to exist; the payload types say what was known at that moment. Nothing here decides.

use serde::{Deserialize, Serialize};

use crate::codec::vocabulary;
use crate::envelope::Principal;
use crate::id::{CallId, Generation, RestartId, WorkspaceId};

mod activity;
mod assignment;
mod delegation;
mod drain;
mod evidence;
mod instance;
mod profile;
mod queue;
mod restart;
mod secret;
mod session;
mod suspicion;
mod team;
mod token;

pub use activity::{
    ActivityAcked, ActivityKind, ActivityReported, CallRecorded, MessageQueued, Notified, Text,
};
pub use assignment::{AgentAssigned, AgentMoveEnded, AgentRemoved, Assigned};
pub use delegation::{
    DelegationDispatched, DelegationEnded, DelegationOutcome, DelegationQueued, DelegationRequested,
    DelegationRunner,
};
pub use drain::{DrainEnded, DrainOutcome, DrainRequested};
pub use evidence::{EvidenceClass, EvidenceObserved, EvidenceSource, Verdict, VerdictReached};
pub use instance::{
    InstanceAdopted, InstanceRef, InstanceStarted, InstanceStopped, ProvisionFailed, ProvisionOrigin,
    ProvisionRequested, StopFailed, StopReason, StopRequested,
};
pub use profile::{
    BackendKind, Created, DeliveryMode, DirectoryChanged, Folded, Moved, Placed, Renamed, RoleChanged,
    RuntimeChanged, TierChanged, WorkspaceAccess,
};
pub use queue::{CallDequeued, CallDispatched, CallQueued, CallReturned, QueueOutcome};
pub use restart::{
    Quarantined, RestartAbandoned, RestartAnnounced, RestartCause, RestartRequested, RestartStarted,
};
pub use secret::{SecretRemoved, SecretSet};
pub use session::{FailureKind, FailureSign, SessionCleared, SessionPoisoned, SessionSuspected};
pub use suspicion::{
    ConfirmRequested, DeathRefuted, OutcomeUnknown, RestartProved, SuspicionCleared, SuspicionRaised,
    VerdictWithheld,
};
pub use team::{TeamCollapsed, TeamExpanded, TeamMember};
pub use token::{
    EnrolmentOpened, RefusedBecause, RegistrationRefused, TokenIssued, TokenPurpose, TokensRevoked,
};

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
        /// Nobody needs it for now: it is to be stopped until somebody does. Its outcome is `Hibernated`.
        HibernationRequested = "workspace.hibernation_requested.v1",
        /// It is stopped until somebody needs it.
        Hibernated = "workspace.hibernated.v1",
        /// It is gone for good; its history stays.
        Removed = "workspace.removed.v1",
        /// A bearer token exists from here on (only its digest is known).
        TokenIssued = "workspace.token_issued.v1",
        /// Tokens are worthless from here on.
        TokensRevoked = "workspace.tokens_revoked.v1",
        /// Its agent may fetch its first token by registering, until then.
        EnrolmentOpened = "workspace.enrolment_opened.v1",
        /// Somebody introduced himself as its agent and could not show that he is.
        RegistrationRefused = "workspace.registration_refused.v1",
        /// An A2A call through the platform ended.
        CallFinished = "workspace.call_finished.v1",
        /// A call waits until its agent has time. Its outcome is `CallDequeued`.
        CallQueued = "workspace.call_queued.v1",
        /// A call that waited leaves for its agent: from here on it may have arrived.
        CallDispatched = "workspace.call_dispatched.v1",
        /// Its agent did not take it in: it waits again.
        CallReturned = "workspace.call_returned.v1",
        /// A call waits no longer.
        CallDequeued = "workspace.call_dequeued.v1",
        /// It has a secret of this name from here on, or another value of it.
        SecretSet = "workspace.secret_set.v1",
        /// It has no secret of this name any more.
        SecretRemoved = "workspace.secret_removed.v1",
        /// What was said in a call, and how it went, for the feed of who was called.
        CallRecorded = "workspace.call_recorded.v1",
        /// A message waits for an agent that fetches its messages.
        MessageQueued = "workspace.message_queued.v1",
        /// The agent says what it does.
        ActivityReported = "workspace.activity_reported.v1",
        /// The agent says something to people.
        Notified = "workspace.notified.v1",
        /// The agent has done with its feed up to there.
        ActivityAcked = "workspace.activity_acked.v1",
        /// A model is assigned to it, in place of another one or not.
        AgentAssigned = "workspace.agent_assigned.v1",
        /// No model is assigned to it any more; if it moves, `AgentMoveEnded` is the outcome.
        AgentRemoved = "workspace.agent_removed.v1",
        /// The workspace to which its assignment was to move has it, or could not take it.
        AgentMoveEnded = "workspace.agent_move_ended.v1",
        /// Below it there is the team that its template asks for.
        TeamExpanded = "workspace.team_expanded.v1",
        /// What was below it was removed.
        TeamCollapsed = "workspace.team_collapsed.v1",
        /// It hands a task to another workspace. Its outcome is `DelegationEnded`.
        DelegationRequested = "workspace.delegation_requested.v1",
        /// The task is on its way to the other agent: from here on it may have arrived.
        DelegationDispatched = "workspace.delegation_dispatched.v1",
        /// The task waits for the other agent to fetch it, or to have time.
        DelegationQueued = "workspace.delegation_queued.v1",
        /// What came of the task.
        DelegationEnded = "workspace.delegation_ended.v1",
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
        /// What persons and agents said in its facts is unreadable from here on: its key was destroyed.
        Erased = "workspace.erased.v1",
    }
}

/// The tag of [`Event::Erased`], by which the log knows that a key is to be destroyed.
pub const ERASED_TAG: &str = "workspace.erased.v1";

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

/// See [`Event::HibernationRequested`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HibernationRequested {
    /// Whether work under way was to be cut off.
    pub forced: bool,
    /// Tasks under way, by what its agent and the platform know.
    pub active_tasks: u32,
}

/// See [`Event::Hibernated`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hibernated {}

/// See [`Event::Removed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    /// On the root of a removal: how many descendants went with it.
    pub cascade_deleted: Option<u32>,
    /// Whether its volumes and files go too (they do once its instance is gone).
    pub purge: bool,
    /// Who stands in for it from now on, for those who still ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarded_to: Option<WorkspaceId>,
}

/// See [`Event::Erased`]. Who asked for it is in the envelope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Erased {}

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

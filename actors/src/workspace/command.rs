//! What a workspace can be asked or told; why it may say no is in [`rejection`](super::rejection).
//!
//! Names that start with `Record` carry what the outside did: reading them shows everything that we don't control.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::TimeDelta;
use covalence_events::workspace::{
    ActivityReported, Assigned, CallDispatched, CallFinished, CallQueued, CallRecorded, Created,
    DelegationOutcome, DelegationRunner, DeliveryMode, EvidenceObserved, HeartbeatReceived, InstanceRef,
    MessageQueued, Notified, RefusedBecause, RestartAnnounced, RestartCause, SecretSet, TeamMember, Text,
    TokenPurpose,
};
use covalence_events::{
    AgentId, DelegationId, Generation, Position, RestartId, Timestamp, TokenId, WorkspaceId,
};

use super::queue::{Delivered, Returned};
use crate::effect::Provisioned;

/// A wish or a report, addressed to one workspace.
#[derive(Clone, Debug)]
pub enum Command {
    /// Bring the role into being; starts its first generation unless it is external.
    Create(Box<Create>),
    /// Change what describes it. All changes or none.
    Amend(Vec<Change>),
    /// Replace the running generation. From a person; the supervisor's own wishes come out of evidence.
    Restart(Restart),
    /// Stop it, and keep it.
    Pause,
    /// Start it again.
    Resume,
    /// Stop it until somebody needs it.
    Hibernate(Hibernate),
    /// Somebody needs it: start it, if it hibernates.
    Wake,
    /// End it for good.
    Remove(Remove),
    /// Make what persons and agents said about it unreadable for good. It has to be removed first.
    Erase,
    /// The platform shuts down and takes its workspaces with it: stop it, and bring it back at the next start.
    ShutDown,
    /// The agent introduces itself.
    Register(Box<Register>),
    /// Make a token for a person or a tool.
    IssueToken(NewToken),
    /// End one token.
    RevokeToken(TokenId),
    /// End all tokens of an external workspace, and make one in their place.
    RotateToken(NewToken),
    /// Let its agent fetch its first token by registering, for so long.
    OpenEnrolment {
        /// How long.
        window: TimeDelta,
    },
    /// The agent is alive.
    Heartbeat(Box<HeartbeatReceived>),
    /// The agent's card changed.
    UpdateCard {
        /// The new card.
        agent_card: serde_json::Value,
    },

    /// Give it a secret, or another value of one. Sealed already.
    SetSecret(SecretSet),
    /// Take a secret from it.
    RemoveSecret(String),
    /// Keep a message for the agent until it fetches it.
    Queue(Box<MessageQueued>),
    /// Have a call wait until the agent has time.
    QueueCall(Box<CallQueued>),
    /// Let no call wait any more that has waited since before this.
    DropStale {
        /// When.
        before: Timestamp,
    },
    /// The agent says what it does.
    Report(Box<ActivityReported>),
    /// The agent says something to people.
    Notify(Box<Notified>),
    /// The agent has done with its feed up to this row.
    Ack {
        /// The row's `seq`.
        seq: u64,
    },
    /// Assign a model to it.
    AssignAgent(Assigned),
    /// Assign another model in place of the one that is assigned.
    ReplaceAgent(Assigned),
    /// Assign none any more.
    RemoveAgent,
    /// Have another workspace get what is assigned to this one.
    MoveAgent {
        /// Which.
        to: WorkspaceId,
    },
    /// Take over what was assigned to another workspace.
    TakeAgent {
        /// What it is.
        assigned: Assigned,
        /// Which it was assigned to.
        from: WorkspaceId,
    },
    /// The team that its template asks for is there, made just now or before.
    RecordTeamExpanded(Vec<TeamMember>),
    /// These, and what was below them, were removed.
    RecordTeamCollapsed(Vec<TeamMember>),
    /// Hand a task to another workspace.
    Delegate(Box<Delegate>),
    /// The agent says what came of a task that it carried itself, or the platform what came of one that it carries.
    EndDelegation {
        /// Which.
        delegation: DelegationId,
        /// How it ended.
        end: Box<DelegationEnd>,
    },

    /// Somebody introduced himself as the agent and could not show that he is.
    RecordRegistrationRefused(RefusedBecause),
    /// The platform is up again: what was stopped together with it is wanted back.
    RecordPlatformStart,
    /// The fleet's supervisor admitted a restart.
    RecordAdmission {
        /// Which.
        restart: RestartId,
        /// Where the fleet's stream says so.
        admission: Position,
    },
    /// A fresh look at the instance of an admitted restart found this.
    RecordConfirmed {
        /// Which restart.
        restart: RestartId,
        /// What was seen: death, life or nothing certain.
        evidence: Box<EvidenceObserved>,
        /// Where it answers, if it was seen running.
        url: Option<String>,
    },
    /// The fleet's supervisor tries a quarantined workspace once more.
    RecordQuarantineProbed,
    /// Another member of its team is restarted, and the team's strategy takes it along.
    RecordTakenAlong,
    /// The backend can't say what became of a start or a stop.
    RecordOutcomeUnknown {
        /// Which.
        generation: Generation,
        /// `provision` or `stop`.
        operation: &'static str,
        /// What it said, redacted.
        detail: String,
    },
    /// The open calls of what is being replaced are finished, or their time is up.
    RecordDrained(Drained),
    /// The fleet's supervisor refused a restart for good.
    RecordSuppression {
        /// Which.
        restart: RestartId,
        /// The rule.
        rule: String,
        /// For people.
        message: String,
    },
    /// Dispatch made a token for a generation that it is about to start. Revokes all earlier ones.
    RecordProvisionToken(NewToken),
    /// The backend started a generation.
    RecordProvisioned {
        /// Which.
        generation: Generation,
        /// What runs.
        provisioned: Provisioned,
    },
    /// The backend could not start a generation.
    RecordProvisionFailed(ProvisionFailure),
    /// The backend stopped a generation.
    RecordStopped {
        /// Which.
        generation: Generation,
    },
    /// The backend could not stop a generation.
    RecordStopFailed {
        /// Which.
        generation: Generation,
        /// What it said, redacted.
        message: String,
    },
    /// After our start: the instance was found running.
    RecordAdopted {
        /// Which provisioning.
        generation: Generation,
        /// What runs.
        instance: InstanceRef,
    },
    /// Somebody outside said something about whether the instance lives.
    RecordEvidence(Box<EvidenceObserved>),
    /// A deadline that this workspace armed may have passed.
    RecordDeadline,
    /// A call through the platform ended. What was said in it is recorded beside it, where it is to be.
    RecordCallFinished(Box<CallFinished>, Option<Box<CallRecorded>>),
    /// Secrets of the whole fleet, each with the time of its last change.
    RecordGlobalSecrets(Arc<BTreeMap<String, Timestamp>>),
    /// The other workspace has what was assigned to this one, or could not take it.
    RecordAgentMoved {
        /// Which.
        agent: AgentId,
        /// Whether it has it.
        taken: bool,
    },
    /// A call that waited is about to be sent.
    RecordCallDispatched(CallDispatched),
    /// A call that waited was not taken in.
    RecordCallReturned(Returned),
    /// A call that waited was sent, and this is what is known of it.
    RecordCallDelivered(Box<Delivered>),
    /// A delegated task is about to be sent.
    RecordDelegationDispatched(DelegationId),
    /// A delegated task waits at the other agent.
    RecordDelegationQueued(DelegationId),
    /// An agent that fetches its messages sent one, which may be the answer to a delegated task.
    RecordReply(Box<Reply>),
    /// The agent was told that it was restarted, or could not be.
    RecordRestartAnnounced(RestartAnnounced),
    /// A handler panicked and the actor was rebuilt.
    RecordPanic {
        /// The command's name.
        command: &'static str,
        /// The panic's message.
        message: String,
    },
    /// Panics, on purpose.
    #[cfg(feature = "fault-hooks")]
    Panic,
}

impl Command {
    /// The name used in spans, metrics and panics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Amend(_) => "amend",
            Self::Restart(_) => "restart",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Hibernate(_) => "hibernate",
            Self::Wake => "wake",
            Self::Remove(_) => "remove",
            Self::Erase => "erase",
            Self::ShutDown => "shut_down",
            Self::Register(_) => "register",
            Self::IssueToken(_) => "issue_token",
            Self::RevokeToken(_) => "revoke_token",
            Self::RotateToken(_) => "rotate_token",
            Self::OpenEnrolment { .. } => "open_enrolment",
            Self::RecordRegistrationRefused(_) => "record_registration_refused",
            Self::Heartbeat(_) => "heartbeat",
            Self::UpdateCard { .. } => "update_card",
            Self::RecordPlatformStart => "record_platform_start",
            Self::RecordAdmission { .. } => "record_admission",
            Self::RecordDrained(_) => "record_drained",
            Self::RecordSuppression { .. } => "record_suppression",
            Self::RecordConfirmed { .. } => "record_confirmed",
            Self::RecordQuarantineProbed => "record_quarantine_probed",
            Self::RecordTakenAlong => "record_taken_along",
            Self::RecordOutcomeUnknown { .. } => "record_outcome_unknown",
            Self::RecordProvisionToken(_) => "record_provision_token",
            Self::RecordProvisioned { .. } => "record_provisioned",
            Self::RecordProvisionFailed(_) => "record_provision_failed",
            Self::RecordStopped { .. } => "record_stopped",
            Self::RecordStopFailed { .. } => "record_stop_failed",
            Self::RecordAdopted { .. } => "record_adopted",
            Self::RecordEvidence(_) => "record_evidence",
            Self::RecordDeadline => "record_deadline",
            Self::SetSecret(_) => "set_secret",
            Self::RemoveSecret(_) => "remove_secret",
            Self::RecordGlobalSecrets(_) => "record_global_secrets",
            Self::Queue(_) => "queue",
            Self::QueueCall(_) => "queue_call",
            Self::DropStale { .. } => "drop_stale",
            Self::RecordCallDispatched(_) => "record_call_dispatched",
            Self::RecordCallReturned(_) => "record_call_returned",
            Self::RecordCallDelivered(_) => "record_call_delivered",
            Self::Report(_) => "report",
            Self::Notify(_) => "notify",
            Self::Ack { .. } => "ack",
            Self::AssignAgent(_) => "assign_agent",
            Self::ReplaceAgent(_) => "replace_agent",
            Self::RemoveAgent => "remove_agent",
            Self::MoveAgent { .. } => "move_agent",
            Self::TakeAgent { .. } => "take_agent",
            Self::RecordAgentMoved { .. } => "record_agent_moved",
            Self::RecordTeamExpanded(_) => "record_team_expanded",
            Self::RecordTeamCollapsed(_) => "record_team_collapsed",
            Self::Delegate(_) => "delegate",
            Self::EndDelegation { .. } => "end_delegation",
            Self::RecordDelegationDispatched(_) => "record_delegation_dispatched",
            Self::RecordDelegationQueued(_) => "record_delegation_queued",
            Self::RecordReply(_) => "record_reply",
            Self::RecordCallFinished(..) => "record_call_finished",
            Self::RecordRestartAnnounced(_) => "record_restart_announced",
            Self::RecordPanic { .. } => "record_panic",
            #[cfg(feature = "fault-hooks")]
            Self::Panic => "panic",
        }
    }
}

/// See [`Command::Create`].
#[derive(Clone, Debug)]
pub struct Create {
    /// What the role is.
    pub profile: Created,
    /// External without a URL: the token that its creator is shown.
    pub token: Option<NewToken>,
    /// The secrets that it begins with.
    pub secrets: Vec<SecretSet>,
}

/// One change of what describes a workspace.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Another name.
    Name(String),
    /// Another job description, or none.
    Role(Option<String>),
    /// Other limits, from the next provisioning on.
    Tier(u8),
    /// Another parent, or none. The edge has checked for cycles.
    Parent(Option<WorkspaceId>),
    /// Another runtime, from the next provisioning on.
    Runtime(String),
    /// Another host directory, from the next provisioning on.
    Directory(Option<String>),
    /// Another place on the canvas.
    Position {
        /// Horizontal.
        x: f64,
        /// Vertical.
        y: f64,
    },
    /// Fold or unfold its subtree.
    Collapsed(bool),
}

/// See [`Command::Restart`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// `Operator`, `Configuration` or `Session`.
    pub cause: RestartCause,
    /// Whether the runtime's session is thrown away first (R15). Belongs to this request alone.
    pub reset_session: bool,
    /// Whether it passes over holds; from a person only.
    pub forced: bool,
    /// What the person said about it.
    pub reason: Option<String>,
}

impl Restart {
    /// One that is asked for without further ado.
    pub const fn because_of(cause: RestartCause) -> Self {
        Self { cause, reset_session: false, forced: false, reason: None }
    }
}

/// See [`Command::Hibernate`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hibernate {
    /// Whether work under way is cut off.
    pub forced: bool,
    /// Calls under way through the platform.
    pub open: u32,
}

/// See [`Command::RecordDrained`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// The restart that waits for it.
    pub restart: RestartId,
    /// Calls that are still open; they are cut off now.
    pub open: u32,
}

/// See [`Command::Remove`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remove {
    /// On the root of a removal: how many descendants go with it.
    pub cascade_deleted: Option<u32>,
    /// Whether volumes and files go too.
    pub purge: bool,
    /// Who stands in for it from now on.
    pub forwarded_to: Option<WorkspaceId>,
}

/// See [`Command::Register`].
#[derive(Clone, Debug)]
pub struct Register {
    /// Where the agent says that it answers; checked by the edge. None for poll mode.
    pub url: Option<String>,
    /// Its card.
    pub agent_card: serde_json::Value,
    /// What it asked for; none keeps what is known.
    pub delivery_mode: Option<DeliveryMode>,
    /// The generation of the token that it showed.
    pub generation: Option<Generation>,
    /// A token to hand out if the agent has none.
    pub mint: Option<NewToken>,
    /// For how long after the workspace's creation that is done.
    pub enrolment: TimeDelta,
}

/// A token as the log may know it: everything but its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Its public name.
    pub token: TokenId,
    /// SHA-256 of its text.
    pub sha256: [u8; 32],
    /// Its first eight characters.
    pub prefix: String,
    /// What for.
    pub purpose: TokenPurpose,
    /// The generation that it speaks for.
    pub generation: Option<Generation>,
}

/// See [`Command::Delegate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegate {
    /// Its name.
    pub delegation: DelegationId,
    /// Who is to do it.
    pub target: WorkspaceId,
    /// What is to be done.
    pub task: String,
    /// A digest of the caller's own key for it.
    pub key: Option<String>,
    /// Who carries it there.
    pub runner: DelegationRunner,
    /// Whether the two may not talk: then it fails at once, and the caller hears so where it hears of all failures.
    pub denied: bool,
}

/// See [`Command::EndDelegation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegationEnd {
    /// What came of it.
    pub outcome: DelegationOutcome,
    /// A stable word for why it failed.
    pub reason: Option<String>,
    /// What the other agent said.
    pub response: Option<Text>,
    /// What went wrong, for people.
    pub error: Option<String>,
}

impl DelegationEnd {
    /// It was not done, for this reason.
    pub fn failed(reason: &str, error: &str) -> Self {
        Self {
            outcome: DelegationOutcome::Failed,
            reason: Some(reason.to_owned()),
            response: None,
            error: Some(error.to_owned()),
        }
    }
}

/// See [`Command::RecordReply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Who says it.
    pub from: WorkspaceId,
    /// The task that it names, if it names one.
    pub named: Option<DelegationId>,
    /// What it says.
    pub text: Text,
}

/// See [`Command::RecordProvisionFailed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisionFailure {
    /// Which.
    pub generation: Generation,
    /// A stable word.
    pub code: String,
    /// For people, redacted.
    pub message: String,
    /// Whether trying again can help.
    pub retryable: bool,
    /// The equivalent command by hand.
    pub command: Option<String>,
}

//! Why the domain says no.

use covalence_events::Generation;

use super::delegations::OPEN_MAX;
use super::queue::WAITING_MAX;
use crate::policy::admission;

/// Working tokens that one workspace may have (contract data 1.9).
pub const TOKENS_MAX: usize = 50;
/// Working organisation tokens: as many as the contract's list shows (data 1.10).
pub const ORG_TOKENS_MAX: usize = 500;

/// The domain says no: nothing happened, so nothing is recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// There is no such workspace.
    #[error("workspace not found")]
    NotFound,
    /// The id is taken.
    #[error("workspace already exists")]
    AlreadyExists,
    /// It was removed.
    #[error("workspace removed")]
    Removed,
    /// Only what was removed can be erased.
    #[error("only a removed workspace can be erased: remove it first")]
    NotRemoved,
    /// It can't be paused twice.
    #[error("workspace not found or already paused")]
    AlreadyPaused,
    /// Only what is paused can be resumed.
    #[error("workspace not found or not paused")]
    NotPaused,
    /// Only what answers can hibernate.
    #[error("workspace not found or not in a hibernatable state (must be online or degraded)")]
    NotHibernatable,
    /// It works.
    #[error("workspace has active tasks; use ?force=true to terminate them")]
    ActiveTasks {
        /// Tasks under way.
        active_tasks: u32,
    },
    /// Nothing starts below what a person paused.
    #[error("a workspace above it is paused — resume that one first")]
    PausedAbove,
    /// A model is assigned to it already.
    #[error("workspace already has an active agent, use PATCH to replace")]
    HasAgent,
    /// No model is assigned to it.
    #[error("no active agent")]
    NoAgent,
    /// What was assigned to it is on its way to another workspace.
    #[error("an agent of this workspace is being moved")]
    AgentMoves,
    /// Its agent has no token, and the time for the first one is over.
    #[error(
        "enrolment is closed: the agent's first token is handed out for a while after the workspace's creation only"
    )]
    EnrolmentClosed,
    /// It has as many tokens as it may have.
    #[error("maximum {TOKENS_MAX} active tokens per workspace")]
    TooManyTokens,
    /// The organisation has as many tokens as it may have.
    #[error("maximum {ORG_TOKENS_MAX} active organisation tokens")]
    TooManyOrgTokens,
    /// The token never was, or is worthless already.
    #[error("token not found or already revoked")]
    NoSuchToken,
    /// It has no such secret.
    #[error("secret not found")]
    NoSuchSecret,
    /// It is called; nothing is queued for it.
    #[error("workspace takes its messages by being called, not by polling")]
    NotPolling,
    /// As many calls wait for it as may.
    #[error("too many calls wait: at most {WAITING_MAX} at once")]
    QueueFull,
    /// The call does not wait any more, or never did.
    #[error("queued call not found")]
    NotQueued,
    /// It has handed on as many tasks as may be open at once.
    #[error("too many open delegations: at most {OPEN_MAX} at once")]
    TooManyDelegations,
    /// It never handed on such a task, or that is long over.
    #[error("delegation not found")]
    NoSuchDelegation,
    /// The task is over.
    #[error("delegation is over")]
    DelegationOver,
    /// Only an external workspace's credentials are in somebody's hands.
    #[error("rotate is only valid for external/BYO-compute workspaces")]
    NotExternal,
    /// We don't run it, so we can't restart, pause or resume it.
    #[error("workspace is external: the platform does not run it")]
    External,
    /// The restart that was admitted or suppressed is over, or never was.
    #[error("restart is not pending")]
    RestartNotPending,
    /// Nothing is started while a person's emergency stop is on.
    #[error("an emergency stop is on: nothing is started until it is released")]
    EmergencyStop,
    /// A hold may not last for so long.
    #[error("a hold lasts at most {max_s} s: set it again when it ends, or use an emergency stop")]
    HoldTooLong {
        /// The policy's limit, in seconds.
        max_s: u64,
    },
    /// The hold is over, or never was.
    #[error("no such hold")]
    NoSuchHold,
    /// No brake is engaged there.
    #[error("no brake is engaged")]
    NoBrake,
    /// It is not quarantined.
    #[error("workspace is not quarantined")]
    NotQuarantined,
    /// There is no such incident, or it is so old that only the log knows it.
    #[error("no such incident")]
    NoSuchIncident,
    /// A person is done with it already.
    #[error("incident is closed already")]
    IncidentClosed,
    /// No earlier policy has this name.
    #[error("no such policy to go back to")]
    NoSuchPolicy,
    /// The policy contradicts itself.
    #[error("invalid policy: {reason}")]
    InvalidPolicy {
        /// Which parameter, and what would be right.
        reason: String,
    },
    /// A report about a generation that is not the current one.
    #[error("report about generation {reported}, current is {current}")]
    StaleGeneration {
        /// The report's.
        reported: Generation,
        /// Ours.
        current: Generation,
    },
}

impl Rejection {
    /// A stable word for machines.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "workspace_not_found",
            Self::AlreadyExists => "workspace_exists",
            Self::Removed => "workspace_removed",
            Self::NotRemoved => "not_removed",
            Self::AlreadyPaused => "already_paused",
            Self::NotPaused => "not_paused",
            Self::NotHibernatable => "not_hibernatable",
            Self::ActiveTasks { .. } => "active_tasks",
            Self::PausedAbove => "ancestor_paused",
            Self::HasAgent => "agent_assigned",
            Self::NoAgent => "no_agent",
            Self::AgentMoves => "agent_moves",
            Self::EnrolmentClosed => "enrolment_closed",
            Self::TooManyTokens | Self::TooManyOrgTokens => "too_many_tokens",
            Self::NoSuchToken => "token_not_found",
            Self::NoSuchSecret => "secret_not_found",
            Self::NotPolling => "not_polling",
            Self::QueueFull => "queue_full",
            Self::NotQueued => "queued_call_not_found",
            Self::TooManyDelegations => "too_many_delegations",
            Self::NoSuchDelegation => "delegation_not_found",
            Self::DelegationOver => "delegation_over",
            Self::NotExternal => "not_external",
            Self::External => "external_workspace",
            Self::RestartNotPending => "restart_not_pending",
            Self::EmergencyStop => admission::EMERGENCY_STOP,
            Self::HoldTooLong { .. } => "hold_too_long",
            Self::NoSuchHold => "hold_not_found",
            Self::NoBrake => "no_brake",
            Self::NotQuarantined => "not_quarantined",
            Self::NoSuchIncident => "incident_not_found",
            Self::IncidentClosed => "incident_closed",
            Self::NoSuchPolicy => "policy_not_found",
            Self::InvalidPolicy { .. } => "invalid_policy",
            Self::StaleGeneration { .. } => "stale_generation",
        }
    }
}

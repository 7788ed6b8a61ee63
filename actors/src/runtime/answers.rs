//! What callers of the runtime hear: receipts, refusals, and what they report back.

use std::sync::Arc;
use std::time::Duration;

use covalence_events::log::ReadOnly;
use covalence_events::workspace::{CallOutcome, FailureSign};
use covalence_events::{Fact, Position, Principal, Recorded, RestartId, Timestamp, fleet};

use crate::workspace::{Rejection, Status};

/// What a caller gets once its facts are stored.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The last position that this command wrote; none if everything was already so, or for telemetry, which is answered
    /// before it has one. Wait for it to read your own writes.
    pub position: Option<Position>,
    /// The facts that it led to, unless they are telemetry.
    pub events: Vec<Arc<Recorded>>,
    /// The wire status afterwards.
    pub status: Status,
}

/// Why a command led to nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommandError {
    /// The domain said no.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The mailbox or the log's queue is full; nothing was done. Worth another try after the given time.
    #[error("busy, retry in {} ms", retry_after.as_millis())]
    Busy {
        /// When.
        retry_after: Duration,
    },
    /// The log takes no facts: nothing was done.
    #[error("the log takes no facts: {}", .0.reason)]
    LogUnavailable(ReadOnly),
    /// The log will never take these facts, which is a bug of ours.
    #[error("the log does not take these facts: {reason}")]
    Unrecordable {
        /// Why.
        reason: String,
    },
    /// The handler panicked; the actor was rebuilt from its stream and nothing was recorded for this command.
    #[error("internal error while handling `{command}`")]
    Panicked {
        /// The command's name.
        command: &'static str,
    },
    /// The workspace's stream can't be folded; its actor has stopped. Others are unaffected.
    #[error("the workspace's history is damaged: {reason}")]
    Corrupt {
        /// What is wrong.
        reason: String,
    },
    /// The platform is shutting down.
    #[error("shutting down")]
    ShuttingDown,
}

impl CommandError {
    /// When the same command may be taken after all, if only time stands between.
    pub(super) const fn passes_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after } => Some(*retry_after),
            Self::LogUnavailable(ReadOnly { passes: true, .. }) => Some(super::LOG_RETRY_AFTER),
            Self::LogUnavailable(_)
            | Self::Rejected(_)
            | Self::Unrecordable { .. }
            | Self::Panicked { .. }
            | Self::Corrupt { .. }
            | Self::ShuttingDown => None,
        }
    }
}

/// A caller that wants to reach the agent.
#[derive(Clone, Debug)]
pub struct PermitRequest {
    /// Who calls. A workspace that calls itself takes no slot (decision 22).
    pub caller: Principal,
    /// The JSON-RPC method.
    pub method: String,
}

/// Why there is no permit.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PermitRefused {
    /// No such workspace, or removed.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// All slots are taken.
    #[error("workspace agent busy — retry after a short backoff")]
    Full {
        /// Calls under way.
        open: u32,
        /// How many it takes.
        max: u32,
        /// When to try again.
        retry_after: Duration,
    },
    /// It is being restarted, and takes no calls until it is back.
    #[error("workspace is being restarted")]
    Restarting {
        /// Which restart.
        restart: RestartId,
    },
    /// It hibernates, or is being woken.
    #[error("workspace is waking from hibernation")]
    Asleep {
        /// Whether it is being woken already.
        waking: bool,
    },
    /// Nobody is known to answer for it right now.
    #[error("workspace has no URL")]
    NoUrl {
        /// Its wire status.
        status: Status,
    },
    /// Our own machinery.
    #[error(transparent)]
    Command(CommandError),
}

/// What a caller reports when its call is over.
#[derive(Clone, Debug)]
pub struct CallReport {
    /// How it ended.
    pub outcome: CallOutcome,
    /// The agent's HTTP status.
    pub status: Option<u16>,
    /// Bytes sent.
    pub request_bytes: u64,
    /// Bytes received.
    pub response_bytes: u64,
    /// What went wrong, redacted.
    pub error: Option<String>,
    /// What the failure is recognised by, if the agent answered with one.
    pub failure: Option<FailureSign>,
}

/// What the fleet's supervisor said to a restart that a person asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restarted {
    /// It begins.
    Admitted {
        /// Its name.
        restart: RestartId,
        /// The decision, in the fleet's stream.
        admission: Position,
    },
    /// It waits.
    Waiting {
        /// Its name.
        restart: RestartId,
        /// The rule that makes it wait; none where the supervisor has not answered yet.
        rule: Option<String>,
        /// When it is looked at again, if that is known.
        until: Option<Timestamp>,
    },
    /// It will not happen.
    Refused {
        /// Its name.
        restart: RestartId,
        /// The rule that refuses it.
        rule: String,
        /// When it may be asked for again, if that is known.
        until: Option<Timestamp>,
        /// The decision, in the fleet's stream.
        decision: Position,
    },
}

impl Restarted {
    /// The restart's name.
    pub const fn restart(&self) -> RestartId {
        match self {
            Self::Admitted { restart, .. }
            | Self::Waiting { restart, .. }
            | Self::Refused { restart, .. } => *restart,
        }
    }

    /// What a fact of the fleet says about a restart, if it is a decision.
    pub(super) fn of(recorded: &Recorded) -> Option<Self> {
        let Fact::Fleet(event) = &recorded.fact else { return None };
        Some(match event {
            fleet::Event::RestartAdmitted(e) => {
                Self::Admitted { restart: e.restart, admission: recorded.position }
            }
            fleet::Event::RestartDeferred(e) => {
                Self::Waiting { restart: e.restart, rule: Some(e.rule.clone()), until: e.until }
            }
            fleet::Event::RestartSuppressed(e) => Self::Refused {
                restart: e.restart,
                rule: e.rule.clone(),
                until: e.until,
                decision: recorded.position,
            },
            _ => return None,
        })
    }
}

/// What a fresh look at an instance amounted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Examined {
    /// It runs.
    Alive,
    /// It is not there.
    Dead {
        /// The restart that was asked for.
        restart: Option<RestartId>,
    },
    /// Nothing is known; it stays on its alive path.
    Unknown,
}

//! Calls that wait until an agent has time. All of it is in the stream of the workspace that is called.

use serde::{Deserialize, Serialize};

use crate::envelope::{Principal, Timestamp};
use crate::id::{CallId, QueueId};

/// See [`Event::CallQueued`](super::Event::CallQueued).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallQueued {
    /// Its name.
    pub queue: QueueId,
    /// Who called.
    pub caller: Principal,
    /// The JSON-RPC method.
    pub method: String,
    /// A digest of the caller and the message's own id, by which a repeated call is recognised; none where it has no id.
    pub digest: Option<String>,
    /// Before this the agent does not want to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// From then on it is not wanted any more.
    pub expires: Timestamp,
    /// The request as the agent gets it, JSON.
    pub request: String,
}

/// See [`Event::CallDispatched`](super::Event::CallDispatched).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallDispatched {
    /// Which.
    pub queue: QueueId,
    /// What it is called as a call; `call_finished` and `call_recorded` say how that went.
    pub call: CallId,
}

/// See [`Event::CallReturned`](super::Event::CallReturned).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallReturned {
    /// Which.
    pub queue: QueueId,
    /// Whether the agent had no time; else nobody took it in at all.
    pub busy: bool,
    /// When it is tried again.
    pub not_before: Timestamp,
    /// What went wrong, for people.
    pub error: String,
}

/// How the wait of a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueOutcome {
    /// The agent answered, and its answer is recorded.
    Completed,
    /// It answered with an error, can't be reached, or nobody knows.
    Failed,
    /// It was not wanted any more.
    Dropped,
}

impl QueueOutcome {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// See [`Event::CallDequeued`](super::Event::CallDequeued).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallDequeued {
    /// Which.
    pub queue: QueueId,
    /// How it ended.
    pub outcome: QueueOutcome,
    /// A stable word for why it was not answered: `agent_error`, `empty_response`, `unreachable`, `unreadable`,
    /// `outcome_unknown`, `expired`, `dropped`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What went wrong, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

//! What is said to an agent, by it and about it: what its feed of activity is made of.
//!
//! Nothing is decided by these, so they may go when they are old ([`retention`](crate::retention)).

use serde::{Deserialize, Serialize};

use super::CallOutcome;
use crate::envelope::Principal;
use crate::id::{CallId, DelegationId, WorkspaceId};

/// A text that may have been cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// The text, or its beginning.
    pub text: String,
    /// Whether there was more of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

impl Text {
    /// As much of a text as `max` bytes hold, up to the end of a character.
    pub fn within(text: &str, max: usize) -> Self {
        let end = text.floor_char_boundary(max);
        Self { text: text[..end].to_owned(), cut: end < text.len() }
    }
}

/// See [`Event::CallRecorded`](super::Event::CallRecorded).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRecorded {
    /// Which call.
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
    /// What was sent, JSON.
    pub request: Text,
    /// What came back, JSON or an event stream.
    pub response: Option<Text>,
    /// What went wrong, redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// See [`Event::MessageQueued`](super::Event::MessageQueued).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageQueued {
    /// Which call brought it.
    pub call: CallId,
    /// Who called.
    pub caller: Principal,
    /// The JSON-RPC method.
    pub method: String,
    /// A digest of the message's own id, by which a repeated delivery is recognised; none where it has no id.
    pub digest: Option<String>,
    /// The delegated task that it is, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation: Option<DelegationId>,
    /// The request as the agent gets it, JSON.
    pub request: String,
}

/// What kind of thing an agent says that it did (contract data 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivityKind {
    /// It called another agent.
    A2aSend,
    /// It was called.
    A2aReceive,
    /// Its task moved on.
    TaskUpdate,
    /// A line of its log.
    AgentLog,
    /// It made a skill its own.
    SkillPromotion,
    /// It remembered something.
    MemoryWrite,
    /// Something went wrong.
    Error,
}

impl ActivityKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::A2aSend,
        Self::A2aReceive,
        Self::TaskUpdate,
        Self::AgentLog,
        Self::SkillPromotion,
        Self::MemoryWrite,
        Self::Error,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A2aSend => "a2a_send",
            Self::A2aReceive => "a2a_receive",
            Self::TaskUpdate => "task_update",
            Self::AgentLog => "agent_log",
            Self::SkillPromotion => "skill_promotion",
            Self::MemoryWrite => "memory_write",
            Self::Error => "error",
        }
    }
}

/// See [`Event::ActivityReported`](super::Event::ActivityReported).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActivityReported {
    /// What kind of thing.
    pub kind: ActivityKind,
    /// What was called, in its words.
    pub method: Option<String>,
    /// One line about it.
    pub summary: Option<String>,
    /// Whom it did it with.
    pub target: Option<WorkspaceId>,
    /// How it went, in its words; `ok` where it says nothing.
    pub status: String,
    /// How long it took.
    pub duration_ms: Option<i64>,
    /// What went wrong.
    pub error_detail: Option<String>,
    /// What was sent, JSON.
    pub request: Option<String>,
    /// What came back, JSON.
    pub response: Option<String>,
}

/// See [`Event::ActivityAcked`](super::Event::ActivityAcked).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActivityAcked {
    /// The `seq` of the last row that it has done with; never less than before.
    pub seq: u64,
}

/// See [`Event::Notified`](super::Event::Notified).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notified {
    /// What it says.
    pub message: String,
    /// Files that go with it, a JSON list; none where there are none.
    pub attachments: Option<String>,
}

//! Failures that repeat: what a failed answer is recognised by, and what the repetition says about the runtime's session.

use serde::{Deserialize, Serialize};

use crate::id::CallId;

/// What kind of failure an agent answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The agent's own program failed: a `ProcessError`.
    Process,
    /// The runtime does not find the conversation that it was to go on with.
    NoConversation,
    /// Some error with a text.
    Error,
    /// An error that says nothing.
    Empty,
    /// The request was at fault, or what it asked for is not there: says nothing about the agent's state.
    Request,
    /// The agent was being stopped: says nothing about its state either.
    Stopped,
}

/// What a failed answer is recognised by. Bounded and redacted; nothing of what was asked or answered beyond it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureSign {
    /// What kind.
    pub kind: FailureKind,
    /// The same for failures that are the same but for names, numbers and times: 16 hexadecimal digits.
    pub fingerprint: String,
    /// The beginning of the error's text, redacted; at most 200 characters.
    pub excerpt: String,
    /// Names the message that failed: a caller that repeats a message proves nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// See [`Event::SessionSuspected`](super::Event::SessionSuspected).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionSuspected {
    /// The call that failed.
    pub call: CallId,
    /// How.
    pub failure: FailureSign,
}

/// See [`Event::SessionPoisoned`](super::Event::SessionPoisoned).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionPoisoned {
    /// The last of the calls that failed alike.
    pub call: CallId,
    /// How.
    pub failure: FailureSign,
    /// How many did, in a row.
    pub in_a_row: u32,
    /// Whether the session was thrown away for the same failure before, so that doing it again can't be the remedy.
    pub after_reset: bool,
    /// For people: what happened, and what to do about it.
    pub message: String,
}

/// See [`Event::SessionCleared`](super::Event::SessionCleared).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionCleared {
    /// The call that was answered.
    pub call: CallId,
    /// How many had failed alike before it.
    pub in_a_row: u32,
}

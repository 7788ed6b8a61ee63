//! What a subscription wants, and how long it is waited for an answer.

use std::fmt;
use std::time::Duration;

use covalence_events::{Position, Recorded, StreamId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

/// Letters of a name.
const NAME_MAX: usize = 64;
/// Kinds of facts that one names at most.
pub const KINDS_MAX: usize = 50;
/// Refusals after which a fact is parked, where nobody says.
pub const NACKS_DEFAULT: u32 = 5;
/// The most that may be said.
pub const NACKS_MAX: u32 = 1000;
/// How long a consumer has for what it was given, where nobody says.
pub const ACK_WITHIN_DEFAULT: Duration = Duration::from_secs(30);
/// The longest that may be said.
pub const ACK_WITHIN_MAX: Duration = Duration::from_secs(3600);

/// Which facts are wanted. Empty: all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Of this kind of stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// About this workspace, wherever it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceId>,
    /// Wire tags, or beginnings of them; any one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
}

impl Wanted {
    /// Whether a fact is wanted.
    pub fn matches(&self, recorded: &Recorded) -> bool {
        self.category.is_none_or(|category| category.holds(recorded.stream))
            && self.workspace.is_none_or(|workspace| recorded.subject() == Some(workspace))
            && (self.kinds.is_empty()
                || self.kinds.iter().any(|kind| recorded.fact.tag().starts_with(kind.as_str())))
    }
}

/// A kind of stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// What happens to workspaces.
    Workspace,
    /// The fleet's supervision, and the platform itself.
    Fleet,
}

impl Category {
    fn holds(self, stream: StreamId) -> bool {
        match stream {
            StreamId::Workspace(_) => self == Self::Workspace,
            StreamId::Fleet => self == Self::Fleet,
        }
    }

    /// The word used everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workspace => "workspace",
            Self::Fleet => "fleet",
        }
    }
}

/// Where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the log's first fact.
    Beginning,
    /// With what comes after its creation.
    End,
    /// With what comes after a position.
    After(Position),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name.
    pub name: Name,
    /// Which facts.
    #[serde(default)]
    pub wanted: Wanted,
    /// Where it begins.
    pub start: Start,
    /// Refusals after which a fact is parked.
    pub nacks_max: u32,
    /// How long a consumer has for what it was given, in milliseconds; also how long it is waited for.
    pub ack_within_ms: u64,
    /// When it was created.
    pub created: Timestamp,
    /// By whom: `admin`, or `system` for what the platform follows itself.
    pub by: String,
}

impl Definition {
    /// How long a consumer has for what it was given.
    pub const fn ack_within(&self) -> Duration {
        Duration::from_millis(self.ack_within_ms)
    }

    /// Whether the platform itself is its consumer.
    pub fn is_ours(&self) -> bool {
        self.by == OURS
    }
}

/// By whom the platform's own subscriptions are.
pub(super) const OURS: &str = "system";

/// A subscription's name: small letters, digits, `-` and `_`, beginning with a letter or a digit. It names a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// What is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to {NAME_MAX} of a-z, 0-9, `-` and `_`, beginning with a letter or a digit")]
pub struct NoName;

impl TryFrom<String> for Name {
    type Error = NoName;

    fn try_from(text: String) -> Result<Self, NoName> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        let begins = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let good =
            text.len() <= NAME_MAX && text.bytes().all(plain) && text.as_bytes().first().is_some_and(begins);
        if good { Ok(Self(text)) } else { Err(NoName) }
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

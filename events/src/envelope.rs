//! The envelope: a fact plus where, when, why and by whom.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::id::{BootId, CorrelationId, EventId, PolicyHash, Position, TokenId, Version, WorkspaceId};
use crate::{fleet, workspace};

/// Wall-clock time, UTC, kept to the microsecond.
pub type Timestamp = DateTime<Utc>;

/// Whose ordered facts these are. A stream is the unit of consistency: it has one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamId {
    /// The life of one workspace.
    Workspace(WorkspaceId),
    /// The supervision of all of them together: admissions, brakes, the platform's own starts and stops.
    Fleet,
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workspace(id) => write!(f, "workspace/{id}"),
            Self::Fleet => f.write_str("fleet"),
        }
    }
}

/// A stream's name that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a stream: expected `fleet` or `workspace/<uuid>`")]
pub struct StreamIdError(String);

impl FromStr for StreamId {
    type Err = StreamIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "fleet" {
            return Ok(Self::Fleet);
        }
        text.strip_prefix("workspace/")
            .and_then(|id| id.parse().ok())
            .map(Self::Workspace)
            .ok_or_else(|| StreamIdError(text.to_owned()))
    }
}

/// Who asked for what happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Principal {
    /// The platform itself: its supervisor, its reconcilers, its dispatch.
    System,
    /// Whoever holds the admin token.
    Admin,
    /// A workspace, by its own token.
    Workspace(WorkspaceId),
    /// A caller without a credential, where the configuration lets one in.
    Anonymous,
    /// Whoever holds an organisation token, by its public name.
    OrgToken(TokenId),
    /// A member of the organisation, by his session at the control plane, which alone knows who he is.
    Session,
}

impl Principal {
    /// Whether it is a person or a tool with the operator's authority, and not an agent or ourselves.
    pub const fn is_operator(&self) -> bool {
        match self {
            Self::Admin | Self::OrgToken(_) | Self::Session => true,
            Self::System | Self::Workspace(_) | Self::Anonymous => false,
        }
    }

    /// The workspace that it speaks for, if it is one.
    pub const fn workspace(&self) -> Option<WorkspaceId> {
        match self {
            Self::Workspace(id) => Some(*id),
            Self::System | Self::Admin | Self::Anonymous | Self::OrgToken(_) | Self::Session => None,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Admin => f.write_str("admin"),
            Self::Workspace(id) => write!(f, "workspace:{id}"),
            Self::Anonymous => f.write_str("anonymous"),
            Self::OrgToken(id) => write!(f, "org-token:{id}"),
            Self::Session => f.write_str("session"),
        }
    }
}

/// What is known about a fact besides the fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Its own name; a repeated append with the same id is recognised.
    pub id: EventId,
    /// Wall-clock time, stamped at the edge.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub at: Timestamp,
    /// The run of the platform that recorded it.
    pub boot: BootId,
    /// Nanoseconds since that boot, on a clock that never jumps.
    pub mono_ns: u64,
    /// One request or one incident.
    pub correlation: CorrelationId,
    /// The fact that led to this one, if one did.
    pub causation: Option<EventId>,
    /// Who asked.
    pub principal: Principal,
    /// The policy that a decision was made under; none for facts that are not decisions.
    pub policy: Option<PolicyHash>,
}

/// Any fact of any stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// About one workspace.
    Workspace(workspace::Event),
    /// About the fleet.
    Fleet(fleet::Event),
}

impl Fact {
    /// The frozen wire tag, `workspace.created.v1` and the like.
    pub const fn tag(&self) -> &'static str {
        match self {
            Self::Workspace(event) => event.tag(),
            Self::Fleet(event) => event.tag(),
        }
    }

    /// The payload as `MessagePack` with named fields.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        match self {
            Self::Workspace(event) => event.encode(),
            Self::Fleet(event) => event.encode(),
        }
    }

    /// Reads a payload of any version ever released; older ones are lifted to the newest shape first.
    pub fn decode(tag: &str, payload: &[u8]) -> Result<Self, CodecError> {
        codec::decode(tag, payload)
    }

    /// Reads what [`Fact::to_json`] of this build wrote.
    pub fn from_json(tag: &str, value: serde_json::Value) -> Result<Self, CodecError> {
        let broken = |source| CodecError::Json { tag: tag.to_owned(), source };
        if let Some(event) = workspace::Event::from_json(tag, value.clone()).map_err(broken)? {
            return Ok(Self::Workspace(event));
        }
        if let Some(event) = fleet::Event::from_json(tag, value).map_err(broken)? {
            return Ok(Self::Fleet(event));
        }
        Err(CodecError::UnknownTag { tag: tag.to_owned() })
    }

    /// The payload as JSON, for people and for the raw log's readers.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Workspace(event) => event.to_json(),
            Self::Fleet(event) => event.to_json(),
        }
    }
}

/// A fact that asks to be recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// Its envelope, but for what the log assigns.
    pub meta: Meta,
    /// What happened.
    pub fact: Fact,
}

/// A fact that is in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Its place in the global order.
    pub position: Position,
    /// Whose fact it is.
    pub stream: StreamId,
    /// Its place in that stream.
    pub version: Version,
    /// Its envelope.
    pub meta: Meta,
    /// What happened.
    pub fact: Fact,
}

impl Recorded {
    /// The workspace that this is about: the stream's, or the one that a fact of the fleet names.
    pub fn subject(&self) -> Option<WorkspaceId> {
        match (&self.stream, &self.fact) {
            (StreamId::Workspace(id), _) => Some(*id),
            (StreamId::Fleet, Fact::Fleet(event)) => event.subject(),
            (StreamId::Fleet, Fact::Workspace(_)) => None,
        }
    }
}

//! What a workspace is: its name, its job, its place, where and how it runs.

use serde::{Deserialize, Serialize};

use crate::id::WorkspaceId;

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

/// See [`Event::Created`](super::Event::Created).
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
    /// The entry of its parent's template that it was made from, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
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

/// See [`Event::Renamed`](super::Event::Renamed).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Renamed {
    /// The new name.
    pub name: String,
}

/// See [`Event::RoleChanged`](super::Event::RoleChanged).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoleChanged {
    /// The new job description, or none.
    pub role: Option<String>,
}

/// See [`Event::TierChanged`](super::Event::TierChanged).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TierChanged {
    /// 1 to 4.
    pub tier: u8,
}

/// See [`Event::Moved`](super::Event::Moved).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// The new parent; none makes it a root.
    pub parent: Option<WorkspaceId>,
}

/// See [`Event::RuntimeChanged`](super::Event::RuntimeChanged).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuntimeChanged {
    /// A name of the runtime registry.
    pub runtime: String,
}

/// See [`Event::DirectoryChanged`](super::Event::DirectoryChanged).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DirectoryChanged {
    /// The new host directory, or none.
    pub workspace_dir: Option<String>,
}

/// See [`Event::Placed`](super::Event::Placed).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    /// Horizontal, in canvas units.
    pub x: f64,
    /// Vertical, in canvas units.
    pub y: f64,
}

/// See [`Event::Folded`](super::Event::Folded).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Folded {
    /// Whether its subtree is hidden.
    pub collapsed: bool,
}

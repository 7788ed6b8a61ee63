//! Instances: what is started, adopted and stopped for a workspace.

use serde::{Deserialize, Serialize};

use crate::id::{Generation, RestartId};

/// Why a generation is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProvisionOrigin {
    /// The workspace was created.
    Create,
    /// An admitted restart.
    Restart,
    /// A person resumed it.
    Resume,
    /// It hibernated, and somebody needs it.
    Wake,
}

/// See [`Event::ProvisionRequested`](super::Event::ProvisionRequested).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProvisionRequested {
    /// The number of this provisioning; one more than the last.
    pub generation: Generation,
    /// Why.
    pub origin: ProvisionOrigin,
    /// The restart that it is a part of.
    pub restart: Option<RestartId>,
    /// Whether the runtime's session is thrown away first (R15).
    pub reset_session: bool,
}

/// What the backend calls the thing that runs: enough to find exactly it again, and nothing else under its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstanceRef {
    /// A container's full id, or a process's `pid:start-ticks:boot-id` (a re-used pid never matches).
    pub id: String,
}

/// See [`Event::InstanceStarted`](super::Event::InstanceStarted).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceStarted {
    /// Which provisioning.
    pub generation: Generation,
    /// What runs; none for external workspaces.
    pub instance: Option<InstanceRef>,
    /// Where our own backend says that it answers. Trusted for this generation (decision 2).
    pub url: Option<String>,
    /// Privileges of its tier that the operator does not allow.
    #[serde(default)]
    pub withheld: Vec<String>,
    /// The image or program that it was made from.
    #[serde(default)]
    pub image: Option<String>,
}

/// See [`Event::ProvisionFailed`](super::Event::ProvisionFailed).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProvisionFailed {
    /// Which provisioning.
    pub generation: Generation,
    /// A stable word: `image_missing`, `config_missing`, `engine_unavailable`, `port_taken`, `timeout` and the like.
    pub code: String,
    /// For people who may act on it, redacted (R20).
    pub message: String,
    /// Whether trying again without a change can help.
    pub retryable: bool,
    /// The equivalent command to try by hand, where there is one (R20).
    #[serde(default)]
    pub command: Option<String>,
}

/// Why an instance is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// A restart replaces it.
    Restart,
    /// The workspace is paused.
    Pause,
    /// Nobody needs it for now.
    Hibernate,
    /// The workspace is removed.
    Remove,
    /// The platform shuts down and was told to take its workspaces with it.
    Shutdown,
    /// Its start ran out of time.
    Timeout,
}

/// See [`Event::StopRequested`](super::Event::StopRequested).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StopRequested {
    /// Which provisioning.
    pub generation: Generation,
    /// Why.
    pub reason: StopReason,
}

/// See [`Event::InstanceStopped`](super::Event::InstanceStopped).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceStopped {
    /// Which provisioning.
    pub generation: Generation,
}

/// See [`Event::StopFailed`](super::Event::StopFailed).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StopFailed {
    /// Which provisioning.
    pub generation: Generation,
    /// What the backend said, redacted.
    pub message: String,
}

/// See [`Event::InstanceAdopted`](super::Event::InstanceAdopted).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceAdopted {
    /// Which provisioning.
    pub generation: Generation,
    /// What runs.
    pub instance: InstanceRef,
}

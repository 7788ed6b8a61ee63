//! Bodies of the registry's routes.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::activity::Snapshot;

/// Body of `POST /registry/register`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Register {
    /// Id of the workspace.
    pub id: String,
    /// Where the platform reaches the agent.
    pub url: String,
    /// The agent's card.
    pub agent_card: Value,
}

/// What the agent reads of the answer to a registration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Registered {
    /// A new token; only present if the workspace had none.
    #[serde(default)]
    pub auth_token: Option<String>,
}

/// Body of `POST /registry/heartbeat`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Id of the workspace.
    pub workspace_id: String,
    /// Failed calls over all calls of the last minutes.
    pub error_rate: f64,
    /// Text of the latest failure.
    pub sample_error: String,
    /// Calls that run.
    pub active_tasks: usize,
    /// Age of the agent's process.
    pub uptime_seconds: u64,
    /// Beginning of what it works on.
    pub current_task: String,
    /// Cents; 0 leaves the platform's figure unchanged.
    pub monthly_spend: u64,
    /// Empty means healthy.
    pub runtime_state: String,
    /// What the runtime does by itself.
    pub runtime_metadata: Value,
    /// The card, while the platform may not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_card: Option<Value>,
}

impl Heartbeat {
    /// A beat of `workspace_id` with these counters.
    pub fn new(workspace_id: &str, seen: Snapshot, agent_card: Option<Value>) -> Self {
        Self {
            workspace_id: workspace_id.to_owned(),
            error_rate: seen.error_rate,
            sample_error: seen.sample_error,
            active_tasks: seen.active_tasks,
            uptime_seconds: seen.uptime_seconds,
            current_task: seen.current_task,
            monthly_spend: 0,
            runtime_state: String::new(),
            runtime_metadata: json!({"capabilities": capabilities()}),
            agent_card,
        }
    }
}

/// This agent leaves all of it to the platform; `true` would tell the platform to keep out.
fn capabilities() -> Value {
    json!({
        "heartbeat": false,
        "scheduler": false,
        "session": false,
        "status_mgmt": false,
        "retry": false,
        "activity_decoration": false,
        "channel_dispatch": false,
    })
}

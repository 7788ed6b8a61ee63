//! What workspaces look like on the wire: the contract's keys, and ours beside them.

use chrono::{DateTime, Utc};
use covalence_events::workspace::Assigned;
use covalence_events::{AgentId, WorkspaceId};
use covalence_projections::roster::{Card, Condition, Restart, RestartStage, Row};
use serde::Serialize;
use utoipa::ToSchema;

/// A workspace as anybody may see it (contract 1.3): no spending, no paths, no task or error texts.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkspaceView {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: WorkspaceId,
    /// What people call it.
    pub name: String,
    /// Its job description.
    pub role: Option<String>,
    /// 1 to 4.
    pub tier: u8,
    /// `provisioning`, `online`, `offline`, `degraded`, `failed`, `paused`, `removed`, `awaiting_agent`.
    pub status: &'static str,
    /// Where the agent answers, or empty.
    pub url: String,
    /// Its parent.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub parent_id: Option<WorkspaceId>,
    /// Tasks under way, as the agent says.
    pub active_tasks: i64,
    /// How many calls it takes at once.
    pub max_concurrent_tasks: u32,
    /// Share of failed work, 0 to 1.
    pub last_error_rate: f64,
    /// Seconds since the agent started, as it says.
    pub uptime_seconds: i64,
    /// A name of the runtime registry.
    pub runtime: String,
    /// Its agent card.
    #[schema(value_type = Option<Object>)]
    pub agent_card: Option<Card>,
    /// Place on the canvas.
    pub x: f64,
    /// Place on the canvas.
    pub y: f64,
    /// Whether its subtree is folded.
    pub collapsed: bool,
    /// The last call that it made.
    pub last_outbound_at: Option<DateTime<Utc>>,
    /// The last registration or heartbeat.
    pub last_heartbeat_at: Option<DateTime<Utc>>,
    /// Whether its runtime says that it is stuck.
    pub wedged: bool,
    /// `push` or `poll`; `push` until something else is known.
    pub delivery_mode: &'static str,
    /// Always `workspace`.
    pub kind: &'static str,
    /// `process`, `docker` or `external`.
    pub backend: &'static str,
    /// Which provisioning runs; 0 before the first.
    pub generation: u64,
    /// Restarts begun so far.
    pub restarts: u64,
    /// Privileges of its tier that the operator does not allow.
    pub withheld: Vec<String>,
    /// What the supervisor thinks of it.
    pub supervision: SupervisionView,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// The last change.
    pub updated_at: DateTime<Utc>,
    /// Since when it has this status.
    pub status_since: DateTime<Utc>,
}

/// What the supervisor thinks of a workspace.
#[derive(Debug, Serialize, ToSchema)]
pub struct SupervisionView {
    /// `unknown`, `healthy`, `suspect`, `candidate`, `confirming`, `held`, `restarting`, `probation`, `outcome_unknown`,
    /// `quarantined` or `stopped`.
    pub state: &'static str,
    /// The rule, cause or sign behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// The restart under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartView>,
    /// What would help, where something has to be done; for the operator and the workspace itself only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<AdviceView>,
}

/// What would help.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdviceView {
    /// A stable word: `session_poisoned`.
    pub code: &'static str,
    /// What happened, and what to do about it.
    pub text: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// A restart under way.
#[derive(Debug, Serialize, ToSchema)]
pub struct RestartView {
    /// Its name in the log.
    pub id: String,
    /// `death`, `hung`, `operator`, `configuration`, `session`, `team` or `shutdown`.
    pub cause: &'static str,
    /// `requested`, `deferred`, `admitted`, `draining` or `started`.
    pub stage: &'static str,
    /// Why it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Until when it waits, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

/// A workspace as its operator sees it (contract 1.2).
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkspaceRow {
    /// What anybody may see.
    #[serde(flatten)]
    pub public: WorkspaceView,
    /// What a person should read as the last error, or empty.
    pub last_sample_error: String,
    /// What it is doing, or empty.
    pub current_task: String,
    /// Its host directory.
    pub workspace_dir: Option<String>,
    /// `none`, `read_only` or `read_write`.
    pub workspace_access: &'static str,
    /// Cents this month.
    pub monthly_spend: i64,
    /// Cents a month; null is no limit.
    pub budget_limit: Option<i64>,
    /// The model that its agent should use.
    pub model: Option<String>,
    /// The model that is assigned to it, and the assignment's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AssignedView>,
    /// How far its agent has done with its feed, by the rows' `seq`; 0 before it said so.
    pub last_acked_seq: u64,
    /// Who stands in for it, since it was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    pub forwarded_to: Option<WorkspaceId>,
    /// The template that its configuration comes from.
    pub template: Option<String>,
    /// The image or program that runs.
    pub image: Option<String>,
    /// Why the last provisioning failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureView>,
    /// When it was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<DateTime<Utc>>,
}

/// The model that is assigned to a workspace.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssignedView {
    /// The assignment's name.
    #[schema(value_type = String, format = Uuid)]
    pub agent_id: AgentId,
    /// What is assigned.
    pub model: String,
}

impl From<&Assigned> for AssignedView {
    fn from(assigned: &Assigned) -> Self {
        Self { agent_id: assigned.agent, model: assigned.model.clone() }
    }
}

/// Why a provisioning failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct FailureView {
    /// A stable word.
    pub code: String,
    /// For people who may act on it.
    pub message: String,
    /// Whether trying again without a change can help.
    pub retryable: bool,
    /// The equivalent command to try by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl From<&Row> for WorkspaceView {
    fn from(row: &Row) -> Self {
        Self {
            id: row.id,
            name: row.name.clone(),
            role: row.role.clone(),
            tier: row.tier,
            status: row.status.as_str(),
            url: row.url.clone().unwrap_or_default(),
            parent_id: row.parent,
            active_tasks: row.active_tasks,
            max_concurrent_tasks: row.max_concurrent_tasks,
            last_error_rate: row.last_error_rate,
            uptime_seconds: row.uptime_seconds,
            runtime: row.runtime.as_ref().to_owned(),
            agent_card: row.agent_card.clone(),
            x: row.x,
            y: row.y,
            collapsed: row.collapsed,
            last_outbound_at: row.last_outbound_at,
            last_heartbeat_at: row.last_heartbeat_at,
            wedged: row.runtime_state == "wedged",
            delivery_mode: row.delivery_mode.unwrap_or_default().as_str(),
            kind: "workspace",
            backend: row.backend.as_str(),
            generation: row.generation.0,
            restarts: row.restarts,
            withheld: row.withheld.clone(),
            supervision: SupervisionView::of(row),
            created_at: row.created_at,
            updated_at: row.updated_at,
            status_since: row.status_since,
        }
    }
}

impl WorkspaceView {
    /// The same for whoever may act on it. Advice quotes the agent's errors, so the open view has none.
    pub fn advised(row: &Row) -> Self {
        let mut view = Self::from(row);
        view.supervision = SupervisionView::advised(row);
        view
    }
}

impl SupervisionView {
    /// The same with advice, for whoever may act on it.
    pub fn advised(row: &Row) -> Self {
        let advice = row.advice.as_deref().map(|advice| AdviceView {
            code: advice.code,
            text: advice.text.clone(),
            since: advice.since,
        });
        Self { advice, ..Self::of(row) }
    }

    /// What anybody may see of a row's standing.
    pub fn of(row: &Row) -> Self {
        let standing = &row.standing;
        // Since when nothing speaks against it is nobody's question.
        let since = (standing.condition != Condition::Healthy).then_some(standing.since);
        Self {
            state: standing.condition.as_str(),
            rule: standing.rule.as_deref().map(str::to_owned),
            since,
            restart: row.restart.as_deref().map(RestartView::of),
            advice: None,
        }
    }
}

impl RestartView {
    fn of(restart: &Restart) -> Self {
        let (rule, until) = match &restart.stage {
            RestartStage::Deferred { rule, until } => (Some(rule.clone()), *until),
            RestartStage::Draining { until } => (None, Some(*until)),
            RestartStage::Requested | RestartStage::Admitted | RestartStage::Started => (None, None),
        };
        Self {
            id: restart.id.to_string(),
            cause: restart.cause.as_str(),
            stage: restart.stage.as_str(),
            rule,
            until,
        }
    }
}

impl From<&Row> for WorkspaceRow {
    fn from(row: &Row) -> Self {
        let failure = row.failure.as_deref().map(|failure| FailureView {
            code: failure.code.clone(),
            message: failure.message.clone(),
            retryable: failure.retryable,
            command: failure.command.clone(),
        });
        Self {
            public: WorkspaceView::advised(row),
            last_sample_error: row.last_sample_error.clone(),
            current_task: row.current_task.clone(),
            workspace_dir: row.workspace_dir.clone(),
            workspace_access: row.workspace_access.as_str(),
            monthly_spend: row.monthly_spend,
            budget_limit: row.budget_limit,
            model: row.model.clone(),
            agent: row.assigned.as_deref().map(AssignedView::from),
            last_acked_seq: row.last_acked_seq,
            forwarded_to: row.forwarded_to,
            template: row.template.clone(),
            image: row.image.as_deref().map(str::to_owned),
            failure,
            removed_at: row.removed_at,
        }
    }
}

/// Another workspace as a peer sees it (contract 2.7).
#[derive(Debug, Serialize, ToSchema)]
pub struct PeerView {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: WorkspaceId,
    /// What people call it.
    pub name: String,
    /// Its job description.
    pub role: Option<String>,
    /// 1 to 4.
    pub tier: u8,
    /// Its status.
    pub status: &'static str,
    /// Where it answers: through the platform, or where an external agent says that it is.
    pub url: String,
    /// Its parent.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub parent_id: Option<WorkspaceId>,
    /// Tasks under way.
    pub active_tasks: i64,
    /// Its agent card.
    #[schema(value_type = Option<Object>)]
    pub agent_card: Option<Card>,
}

impl PeerView {
    /// A row as its peers see it, who reach it at this address.
    pub fn of(row: &Row, url: String) -> Self {
        Self {
            id: row.id,
            name: row.name.clone(),
            role: row.role.clone(),
            tier: row.tier,
            status: row.status.as_str(),
            url,
            parent_id: row.parent,
            active_tasks: row.active_tasks,
            agent_card: row.agent_card.clone(),
        }
    }
}

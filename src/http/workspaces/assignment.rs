//! `/workspaces/{id}/agent`: which model is assigned to a workspace. A record that people keep, not the process (contract 1.10).

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{delete, patch, post, web};
use covalence_actors::runtime::CommandError;
use covalence_actors::workspace::{Command, Rejection};
use covalence_events::workspace::{Assigned, Event};
use covalence_events::{AgentId, Fact, Position, WorkspaceId};
use covalence_projections::roster::RootTalk;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::outcome::await_fact;
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::{present, settled};
use crate::http::{auth, body, fields};

/// The contract's one text for a body that it can't use.
const INVALID: &str = "invalid request body";
/// How long a move takes at most: two appends, unless the log is full.
const MOVE_WAIT: Duration = Duration::from_secs(10);

/// A model.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AgentBody {
    /// Its name; at most 100 bytes, one line.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(required = true, min_length = 1, max_length = 100, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    model: String,
}

impl AgentBody {
    fn assigned(self) -> Result<Assigned, ApiError> {
        if self.model.is_empty() {
            return Err(ApiError::bad("invalid_body", INVALID).field("model").detail("model is required"));
        }
        fields::text_on_create("model", &self.model)?;
        Ok(Assigned { agent: AgentId::generate(), model: self.model })
    }
}

/// An assignment.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentView {
    /// Its name.
    #[schema(value_type = String, format = Uuid)]
    agent_id: AgentId,
    /// What is assigned.
    model: String,
    /// What it took the place of; absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    old_model: Option<String>,
}

/// Assigns a model to a workspace that has none.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path)), request_body = AgentBody,
    responses(
        (status = 201, body = AgentView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/agent")]
pub(crate) async fn assign_agent(ctx: Ctx, path: web::Path<String>, bytes: web::Bytes) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::workspace(&ctx, id)?;
    let assigned = body::json::<AgentBody>(&bytes, INVALID)?.assigned()?;
    present(&ctx, id)?;
    let command = Command::AssignAgent(assigned.clone());
    let receipt = ctx.state.runtime.command(id, command, ctx.origin(principal)).await?;
    let view = AgentView { agent_id: assigned.agent, model: assigned.model, old_model: None };
    Ok(settled(&ctx, receipt.position, StatusCode::CREATED, view).await)
}

/// Assigns another model in place of the one that is.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path)), request_body = AgentBody,
    responses(
        (status = 200, body = AgentView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[patch("/workspaces/{id}/agent")]
pub(crate) async fn replace_agent(ctx: Ctx, path: web::Path<String>, bytes: web::Bytes) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::workspace(&ctx, id)?;
    let assigned = body::json::<AgentBody>(&bytes, INVALID)?.assigned()?;
    present(&ctx, id)?;
    let command = Command::ReplaceAgent(assigned.clone());
    let receipt = ctx.state.runtime.command(id, command, ctx.origin(principal)).await;
    let receipt = receipt.map_err(|error| none_active(error, "no active agent to replace"))?;
    let old_model = receipt.events.iter().find_map(|recorded| match &recorded.fact {
        Fact::Workspace(Event::AgentAssigned(e)) => Some(e.replaces.as_ref()?.model.clone()),
        _ => None,
    });
    let view = AgentView { agent_id: assigned.agent, model: assigned.model, old_model };
    Ok(settled(&ctx, receipt.position, StatusCode::OK, view).await)
}

/// The contract says for what it would have been needed.
fn none_active(error: CommandError, text: &'static str) -> ApiError {
    match error {
        CommandError::Rejected(Rejection::NoAgent) => ApiError::not_found("no_agent", text),
        other => other.into(),
    }
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentRemovedView {
    /// Always `removed`.
    status: &'static str,
    /// Its name.
    #[schema(value_type = Option<String>, format = Uuid)]
    agent_id: Option<AgentId>,
}

/// Ends the assignment of a model.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path)),
    responses(
        (status = 200, body = AgentRemovedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[delete("/workspaces/{id}/agent")]
pub(crate) async fn remove_agent(ctx: Ctx, path: web::Path<String>) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::workspace(&ctx, id)?;
    present(&ctx, id)?;
    let receipt = ctx.state.runtime.command(id, Command::RemoveAgent, ctx.origin(principal)).await;
    let receipt = receipt.map_err(|error| none_active(error, "no active agent to remove"))?;
    let agent_id = receipt.events.iter().find_map(|recorded| match &recorded.fact {
        Fact::Workspace(Event::AgentRemoved(e)) => Some(e.agent),
        _ => None,
    });
    let view = AgentRemovedView { status: "removed", agent_id };
    Ok(settled(&ctx, receipt.position, StatusCode::OK, view).await)
}

/// Where an assignment is to go.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MoveBody {
    /// The workspace that gets it.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(required = true, format = Uuid)]
    target_workspace_id: String,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentMovedView {
    /// Its name, the same as before.
    #[schema(value_type = String, format = Uuid)]
    agent_id: AgentId,
    /// What is assigned.
    model: String,
    /// Who had it.
    #[schema(value_type = String, format = Uuid)]
    from_workspace: WorkspaceId,
    /// Who has it.
    #[schema(value_type = String, format = Uuid)]
    to_workspace: WorkspaceId,
}

/// Moves the assignment of a model to another workspace. With a workspace's own token only to one that it may talk to.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path)), request_body = MoveBody,
    responses(
        (status = 200, body = AgentMovedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/agent/move")]
pub(crate) async fn move_agent(ctx: Ctx, path: web::Path<String>, bytes: web::Bytes) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::workspace(&ctx, id)?;
    let wish: MoveBody = body::json(&bytes, INVALID)?;
    let to: WorkspaceId = wish.target_workspace_id.parse().map_err(|_| {
        ApiError::bad("invalid_body", INVALID).field("target_workspace_id").detail("not a UUID")
    })?;
    present(&ctx, id)?;
    // So that nobody assigns, removes or moves in between what is looked at here.
    let _structure = ctx.state.inner.structure.lock().await;
    let target = present(&ctx, to)
        .map_err(|_| ApiError::not_found("target_not_found", "target workspace not found"))?;
    if auth::admin(&ctx).is_err()
        && !ctx.state.views.roster.read().can_communicate(id, to, RootTalk::Open).allowed
    {
        return Err(ApiError::forbidden(
            "access_denied",
            "access denied: workspaces cannot communicate per hierarchy rules",
        ));
    }
    if target.assigned.is_some() && to != id {
        return Err(taken());
    }
    let command = Command::MoveAgent { to };
    let receipt = ctx.state.runtime.command(id, command, ctx.origin(principal)).await;
    let receipt = receipt.map_err(|error| none_active(error, "no active agent in source workspace"))?;
    let left = receipt.events.iter().find_map(|recorded| match &recorded.fact {
        Fact::Workspace(Event::AgentRemoved(e)) => Some(e.clone()),
        _ => None,
    });
    let left = left.ok_or_else(|| ApiError::internal("failed to move agent", "no fact says that it left"))?;
    let begun = receipt.position.unwrap_or(Position(0));
    let ended = await_fact(&ctx.state, begun, MOVE_WAIT, |recorded| match &recorded.fact {
        Fact::Workspace(Event::AgentMoveEnded(e)) if e.agent == left.agent => {
            Some((e.taken, recorded.position))
        }
        _ => None,
    });
    match ended.await {
        Some((true, position)) => {
            let view = AgentMovedView {
                agent_id: left.agent,
                model: left.model,
                from_workspace: id,
                to_workspace: to,
            };
            Ok(settled(&ctx, Some(position), StatusCode::OK, view).await)
        }
        Some((false, _)) => Err(taken()),
        None => Err(ApiError::unavailable("agent_moves", "the agent is still being moved", 1)),
    }
}

fn taken() -> ApiError {
    ApiError::conflict("agent_assigned", "target workspace already has an active agent")
}

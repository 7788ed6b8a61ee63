//! `/workspaces/{id}/delegate` and `/delegations`: tasks that a workspace hands to others.
//!
//! The platform carries a task in the background and records what came of it; the answer to the request only says that it
//! was taken on. A caller's own key makes a repeated request harmless, also when both come at once.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, Utc};
use covalence_actors::effect::AgentReply;
use covalence_actors::workspace::Command;
use covalence_actors::workspace::command::{Delegate, DelegationEnd};
use covalence_events::workspace::{DelegationOutcome, DelegationRunner, Event, Text};
use covalence_events::{DelegationId, EventId, Fact, Principal, Recorded, WorkspaceId};
use covalence_projections::delegations::{Delegation, Mark, Stage};
use covalence_projections::roster::RootTalk;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::http::activity::{boundary, row};
use crate::http::auth::{self, Identity};
use crate::http::body;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::idempotency::recognisable;
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::{present, settled};

/// Rows in a list (contract 5.3).
const ROWS_MAX: usize = 50;
/// Characters of an answer in a list.
const PREVIEW_CHARS: usize = 300;

/// A task for another workspace.
#[derive(Debug, Deserialize, ToSchema)]
pub struct DelegateBody {
    /// Who is to do it. Absent where the path names it and the bearer says who asks.
    #[schema(value_type = Option<String>, format = Uuid)]
    target_id: Option<String>,
    /// What is to be done; needed.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(required = true, min_length = 1)]
    task: String,
    /// The caller's own name for it: the same one again does not do it twice.
    #[serde(default, deserialize_with = "body::or_default")]
    idempotency_key: String,
}

/// That a task was taken on.
#[derive(Debug, Serialize, ToSchema)]
pub struct DelegatedView {
    /// Its name.
    #[schema(value_type = String, format = Uuid)]
    delegation_id: DelegationId,
    /// `delegated`, or of one that is known already how far it is.
    status: &'static str,
    /// Who is to do it.
    #[schema(value_type = String, format = Uuid)]
    target_id: WorkspaceId,
    /// Whether it had been asked for before, under the same key.
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotent_hit: Option<bool>,
}

/// Hands a task to another workspace: 202, and what came of it shows in `GET …/delegations`. With a key that is known, 200
/// and the task that has it.
#[utoipa::path(
    tag = "delegations", params(("id" = String, Path)), request_body = DelegateBody,
    responses(
        (status = 200, description = "asked for before", body = DelegatedView), (status = 202, body = DelegatedView),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/delegate")]
pub(crate) async fn hand_on(ctx: Ctx, path: web::Path<String>, bytes: web::Bytes) -> Answer {
    let id = workspace_id(&path)?;
    let whose = source(&ctx, id);
    if let Whose::Own = whose {
        auth::workspace(&ctx, id)?;
    }
    let body: DelegateBody = body::json(&bytes, "invalid delegation request")?;
    let (source, target) = parties(&ctx, id, &whose, body.target_id.as_deref())?;
    present(&ctx, source)?;
    if body.task.is_empty() {
        return Err(ApiError::bad("invalid_body", "invalid delegation request").field("task"));
    }
    if target == source {
        return Err(ApiError::bad("self_delegation", "self-delegation not permitted")
            .field("target_id")
            .with("reason", "a workspace that waits for itself never answers")
            .with("hint", "do the task, or name another workspace"));
    }
    let delegate = Delegate {
        delegation: DelegationId::generate(),
        target,
        task: body.task,
        key: (!body.idempotency_key.is_empty()).then(|| recognisable(&body.idempotency_key)),
        runner: DelegationRunner::Platform,
        denied: is_denied(&ctx, source, target),
    };
    let (delegation, key) = (delegate.delegation, delegate.key.clone());
    let origin = ctx.origin(principal(&ctx, source));
    let receipt = ctx.state.runtime.command(source, Command::Delegate(Box::new(delegate)), origin).await?;
    // Whoever came first under this key has it; nothing was recorded for the others.
    ctx.caught_up(receipt.position.or_else(|| Some(ctx.state.log.head()))).await;
    let hit = key.and_then(|key| {
        let tasks = ctx.state.views.delegations.read();
        if tasks.find(source, delegation).is_some() { None } else { tasks.by_key(source, &key) }
    });
    let (status, view) = match hit {
        None => {
            let view = DelegatedView {
                delegation_id: delegation,
                status: "delegated",
                target_id: target,
                idempotent_hit: None,
            };
            (StatusCode::ACCEPTED, view)
        }
        Some(known) => {
            let view = DelegatedView {
                delegation_id: known.delegation,
                status: known.stage.as_str(),
                target_id: known.target,
                idempotent_hit: Some(true),
            };
            (StatusCode::OK, view)
        }
    };
    Ok(settled(&ctx, receipt.position, status, view).await)
}

/// Who hands the task on.
enum Whose {
    /// The workspace in the path.
    Own,
    /// The one that the bearer speaks for; the path names the other (contract 5.5, the Python client).
    Bearers(WorkspaceId),
}

fn source(ctx: &Ctx, id: WorkspaceId) -> Whose {
    match ctx.known.identity {
        Identity::Workspace(credential) if credential.workspace != id => Whose::Bearers(credential.workspace),
        _ => Whose::Own,
    }
}

fn parties(
    ctx: &Ctx,
    id: WorkspaceId,
    whose: &Whose,
    target: Option<&str>,
) -> Result<(WorkspaceId, WorkspaceId), ApiError> {
    match (whose, target.filter(|target| !target.is_empty())) {
        (Whose::Own, Some(target)) => Ok((id, target_id(target)?)),
        (Whose::Own, None) => {
            Err(ApiError::bad("invalid_body", "invalid delegation request").field("target_id"))
        }
        (Whose::Bearers(source), None) => Ok((*source, id)),
        // Somebody else's token does not hand on tasks of this workspace.
        (Whose::Bearers(_), Some(_)) => {
            Err(auth::workspace(ctx, id).err().unwrap_or_else(ApiError::no_workspace))
        }
    }
}

fn target_id(text: &str) -> Result<WorkspaceId, ApiError> {
    let bad = |_| ApiError::bad("invalid_body", "target_id must be a valid UUID").field("target_id");
    text.parse().map_err(bad)
}

fn principal(ctx: &Ctx, source: WorkspaceId) -> Principal {
    match ctx.known.identity {
        Identity::Workspace(_) => Principal::Workspace(source),
        _ if ctx.is_canvas() => Principal::Session,
        identity => identity.operator().unwrap_or(Principal::Anonymous),
    }
}

/// One that nobody knows is found missing when the task is brought to it.
fn is_denied(ctx: &Ctx, source: WorkspaceId, target: WorkspaceId) -> bool {
    let roster = ctx.state.views.roster.read();
    roster.get(target).is_some() && !roster.can_communicate(source, target, RootTalk::Open).allowed
}

/// One entry of a list: a task, or what came of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct DelegationRow {
    /// The fact behind it.
    #[schema(value_type = String, format = Uuid)]
    id: EventId,
    /// `delegate` or `delegate_result`.
    r#type: &'static str,
    /// Who handed it on.
    #[schema(value_type = String, format = Uuid)]
    source_id: WorkspaceId,
    /// Who is to do it.
    #[schema(value_type = String, format = Uuid)]
    target_id: WorkspaceId,
    /// One line about it.
    summary: String,
    /// `pending`, `dispatched`, `queued`, `completed` or `failed`.
    status: &'static str,
    /// When.
    created_at: DateTime<Utc>,
    /// The task's name.
    #[schema(value_type = String, format = Uuid)]
    delegation_id: DelegationId,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Why it failed, as a stable word.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The beginning of what the other agent said.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_preview: Option<String>,
}

/// The newest tasks that a workspace handed on, and what came of them, newest first.
#[utoipa::path(
    tag = "delegations", params(("id" = String, Path)),
    responses((status = 200, body = [DelegationRow]), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/workspaces/{id}/delegations")]
pub(crate) async fn list(ctx: Ctx, path: web::Path<String>) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    let external = present(&ctx, id)?.backend == covalence_events::workspace::BackendKind::External;
    let tasks = ctx.state.views.delegations.read().of(id, ROWS_MAX);
    let mut rows: Vec<(Mark, DelegationRow)> = Vec::new();
    for task in &tasks {
        rows.push((task.requested, requested_row(&ctx, task)));
        if let Some(ended) = task.ended
            && let Some(fact) = row::fact(&ctx, ended.position, ended.id).await?
        {
            rows.extend(ended_row(&ctx, task, &fact, external).map(|row| (ended, row)));
        }
    }
    rows.sort_by_key(|(mark, _)| std::cmp::Reverse(mark.position));
    let rows: Vec<_> = rows.into_iter().take(ROWS_MAX).map(|(_, row)| row).collect();
    Ok(HttpResponse::Ok().json(rows))
}

fn bare(task: &Delegation, mark: Mark) -> DelegationRow {
    DelegationRow {
        id: mark.id,
        r#type: "delegate",
        source_id: task.source,
        target_id: task.target,
        summary: String::new(),
        status: task.stage.as_str(),
        created_at: mark.at,
        delegation_id: task.delegation,
        error: None,
        reason: None,
        response_preview: None,
    }
}

fn name(ctx: &Ctx, id: WorkspaceId) -> String {
    ctx.state.views.roster.read().get(id).map_or_else(|| id.to_string(), |row| row.name.clone())
}

fn requested_row(ctx: &Ctx, task: &Delegation) -> DelegationRow {
    DelegationRow {
        summary: format!("Delegating to {}", name(ctx, task.target)),
        ..bare(task, task.requested)
    }
}

fn ended_row(ctx: &Ctx, task: &Delegation, fact: &Recorded, external: bool) -> Option<DelegationRow> {
    let Fact::Workspace(Event::DelegationEnded(e)) = &fact.fact else { return None };
    let preview = e.response.as_ref().map(|said| said.text.chars().take(PREVIEW_CHARS).collect::<String>());
    let preview = preview.map(|said| if external { boundary::wrap(&said) } else { said });
    let mark = task.ended?;
    let target = name(ctx, task.target);
    Some(DelegationRow {
        r#type: "delegate_result",
        summary: match task.stage {
            Stage::Completed => format!("Delegation completed by {target}"),
            _ => format!("Delegation to {target} failed"),
        },
        error: e.error.clone(),
        reason: e.reason.clone(),
        response_preview: preview,
        ..bare(task, mark)
    })
}

/// A task that an agent carries itself.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RecordBody {
    /// Who is to do it; needed.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(format = Uuid, required = true)]
    target_id: String,
    /// What is to be done; needed.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(required = true, min_length = 1)]
    task: String,
    /// The agent's own name for it, a UUID; needed.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(format = Uuid, required = true)]
    delegation_id: String,
}

/// Has a task on record that an agent brings to another by itself.
#[utoipa::path(
    tag = "delegations", params(("id" = String, Path)), request_body = RecordBody,
    responses(
        (status = 202, description = "`{\"delegation_id\",\"status\":\"recorded\"}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 429, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/delegations/record")]
pub(crate) async fn record(ctx: Ctx, path: web::Path<String>, bytes: web::Bytes) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::workspace(&ctx, id)?;
    present(&ctx, id)?;
    let body: RecordBody = body::json(&bytes, "invalid request body")?;
    let missing = |field| ApiError::bad("invalid_body", "invalid request body").field(field);
    for (field, text) in
        [("target_id", &body.target_id), ("task", &body.task), ("delegation_id", &body.delegation_id)]
    {
        if text.is_empty() {
            return Err(missing(field));
        }
    }
    let delegate = Delegate {
        delegation: delegation_id(&body.delegation_id)?,
        target: target_id(&body.target_id)?,
        task: body.task,
        key: None,
        runner: DelegationRunner::Agent,
        denied: false,
    };
    let delegation = delegate.delegation;
    let command = Command::Delegate(Box::new(delegate));
    let receipt = ctx.state.runtime.command(id, command, ctx.origin(principal.clone())).await?;
    let sent = Command::RecordDelegationDispatched(delegation);
    let receipt = match ctx.state.runtime.command(id, sent, ctx.origin(principal)).await {
        Ok(sent) => sent,
        // Recorded before, and over.
        Err(_) => receipt,
    };
    let view = json!({"delegation_id": delegation, "status": "recorded"});
    Ok(settled(&ctx, receipt.position, StatusCode::ACCEPTED, view).await)
}

fn delegation_id(text: &str) -> Result<DelegationId, ApiError> {
    let bad = |_| ApiError::bad("invalid_body", "delegation_id must be a valid UUID").field("delegation_id");
    text.parse().map_err(bad)
}

/// What came of a task that an agent carries itself.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UpdateBody {
    /// `completed` or `failed`; `queued` as a note on the way; needed.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(required = true, pattern = "^(queued|completed|failed)$")]
    status: String,
    /// What went wrong.
    #[serde(default, deserialize_with = "body::or_default")]
    error: String,
    /// What the other agent said.
    #[serde(default, deserialize_with = "body::or_default")]
    response_preview: String,
}

/// An agent says what came of a task that it carried itself. What is over stays as it ended.
#[utoipa::path(
    tag = "delegations", params(("id" = String, Path), ("delegation" = String, Path)), request_body = UpdateBody,
    responses(
        (status = 200, description = "`{\"status\",\"delegation_id\"}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/delegations/{delegation}/update")]
pub(crate) async fn update(ctx: Ctx, path: web::Path<(String, String)>, bytes: web::Bytes) -> Answer {
    let (id, delegation) = path.into_inner();
    let id = workspace_id(&id)?;
    let principal = auth::workspace(&ctx, id)?;
    present(&ctx, id)?;
    let delegation = delegation_id(&delegation)?;
    let body: UpdateBody = body::json(&bytes, "invalid request body")?;
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let command = match body.status.as_str() {
        "queued" => Command::RecordDelegationQueued(delegation),
        "completed" => Command::EndDelegation {
            delegation,
            end: Box::new(DelegationEnd {
                outcome: DelegationOutcome::Completed,
                reason: None,
                response: Some(Text::within(&body.response_preview, AgentReply::BODY_MAX)),
                error: None,
            }),
        },
        "failed" => Command::EndDelegation {
            delegation,
            end: Box::new(DelegationEnd {
                outcome: DelegationOutcome::Failed,
                reason: Some("reported".to_owned()),
                response: text(&body.response_preview).map(|said| Text::within(&said, AgentReply::BODY_MAX)),
                error: text(&body.error),
            }),
        },
        _ => {
            return Err(
                ApiError::bad("invalid_status", "status must be 'completed' or 'failed'").field("status")
            );
        }
    };
    let receipt = ctx.state.runtime.command(id, command, ctx.origin(principal)).await?;
    let view = json!({"status": body.status, "delegation_id": delegation});
    Ok(settled(&ctx, receipt.position, StatusCode::OK, view).await)
}

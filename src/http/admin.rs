//! `/admin`: what operators need and agents don't: the raw log, agents' output, and instances that nobody knows.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, delete, get, web};
use covalence_actors::effect::{Backend, BackendError, Listed, ListedState, LogQuery};
use covalence_events::workspace::{BackendKind, InstanceRef};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::http::auth;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::row;

pub mod log;
pub mod projections;
pub mod retention;
pub mod segments;

/// Which lines are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LogsQuery {
    /// `true`: of the run before the current one.
    previous: Option<bool>,
    /// `true`: go on as more is written.
    follow: Option<bool>,
    /// Only the last so many lines.
    tail: Option<u32>,
}

/// What a workspace's agent wrote. For its operator, and for itself.
#[utoipa::path(
    tag = "operations", params(("id" = String, Path), LogsQuery),
    responses(
        (status = 200, body = String, content_type = "text/plain"), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 502, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/admin/workspaces/{id}/logs")]
pub(crate) async fn logs(ctx: Ctx, path: web::Path<String>, query: web::Query<LogsQuery>) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    let row = row(&ctx, id).ok_or_else(ApiError::no_workspace)?;
    let backend = ctx.state.backends.get(&row.backend).filter(|_| !row.is_external()).ok_or_else(|| {
        ApiError::conflict("no_logs", "the platform does not run this workspace: its output is elsewhere")
    })?;
    let query = LogQuery {
        previous: query.previous.unwrap_or(false),
        follow: query.follow.unwrap_or(false),
        tail: query.tail,
    };
    let lines = backend.logs(id, query).await.map_err(|error| match error.code {
        "no_logs" => ApiError::not_found("no_logs", error.detail),
        _ => engine(&error),
    })?;
    let lines = lines.map(|piece| piece.map_err(|error| std::io::Error::other(error.detail)));
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Box::pin(auth::lasting::while_valid(&ctx, lines))))
}

/// An engine that does not do what it is asked.
fn engine(error: &BackendError) -> ApiError {
    ApiError::new(StatusCode::BAD_GATEWAY, "engine_unavailable", "the backend did not answer")
        .detail(format!("{}: {}", error.code, error.detail))
}

/// An instance with our labels that the log does not know.
#[derive(Debug, Serialize, ToSchema)]
pub struct StrangerView {
    /// The backend.
    engine: &'static str,
    /// Its id.
    instance: String,
    /// What the backend calls it.
    name: String,
    /// The workspace that its labels name.
    #[schema(value_type = Option<String>)]
    workspace: Option<covalence_events::WorkspaceId>,
    /// Whether it runs.
    running: bool,
}

/// Instances that carry our labels and that the log does not know. They are reported, and never removed unasked.
#[utoipa::path(
    tag = "operations",
    responses((status = 200, body = [StrangerView]), (status = 401, body = ErrorBody), (status = 502, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/admin/strangers")]
pub(crate) async fn strangers(ctx: Ctx) -> Answer {
    auth::admin(&ctx)?;
    let mut found = Vec::new();
    for (kind, backend) in &ctx.state.backends {
        found.extend(unknown(&ctx, backend).await?.into_iter().map(|listed| view(*kind, listed)));
    }
    Ok(HttpResponse::Ok().json(found))
}

fn view(kind: BackendKind, listed: Listed) -> StrangerView {
    StrangerView {
        engine: kind.as_str(),
        instance: listed.instance.id,
        name: listed.name,
        workspace: listed.workspace,
        running: listed.state == ListedState::Running,
    }
}

async fn unknown(ctx: &Ctx, backend: &Arc<dyn Backend>) -> Result<Vec<Listed>, ApiError> {
    let listed = backend.list().await.map_err(|error| engine(&error))?;
    // Looked up after the list: what was created meanwhile is known by then.
    let roster = ctx.state.views.roster.read();
    Ok(listed.into_iter().filter(|one| one.workspace.is_none_or(|id| roster.get(id).is_none())).collect())
}

/// Whether it is only tried.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DryRun {
    /// `true`: only say what would be removed.
    dry_run: Option<bool>,
}

/// Removes one instance that the log does not know, by its exact id.
#[utoipa::path(
    tag = "operations", params(("engine" = String, Path), ("instance" = String, Path), DryRun),
    responses(
        (status = 200, description = "`{\"status\":\"removed\"|\"would_remove\",\"instance\":id}`"),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 502, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[delete("/admin/strangers/{engine}/{instance}")]
pub(crate) async fn remove_stranger(
    ctx: Ctx,
    path: web::Path<(String, String)>,
    query: web::Query<DryRun>,
) -> Answer {
    auth::admin(&ctx)?;
    let (engine_name, instance) = path.into_inner();
    let backend = by_name(&ctx.state.backends, &engine_name);
    let backend =
        backend.ok_or_else(|| ApiError::not_found("unknown_engine", "no such backend").field("engine"))?;
    let known = unknown(&ctx, backend).await?.into_iter().any(|one| one.instance.id == instance);
    if !known {
        return Err(ApiError::not_found("not_a_stranger", "no instance with that id is unknown to the log"));
    }
    if query.dry_run == Some(true) {
        return Ok(HttpResponse::Ok().json(json!({"status": "would_remove", "instance": instance})));
    }
    tracing::info!(engine = engine_name, instance, "removing an instance that the log does not know");
    backend.remove_stranger(&InstanceRef { id: instance.clone() }).await.map_err(|error| engine(&error))?;
    Ok(HttpResponse::Ok().json(json!({"status": "removed", "instance": instance})))
}

fn by_name<'a>(
    backends: &'a HashMap<BackendKind, Arc<dyn Backend>>,
    name: &str,
) -> Option<&'a Arc<dyn Backend>> {
    backends.iter().find(|(kind, _)| kind.as_str() == name).map(|(_, backend)| backend)
}

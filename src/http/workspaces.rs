//! `/workspaces`: the roles that people create, look at, change, restart, pause and remove.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpResponse, get, web};
use covalence_events::{Position, WorkspaceId};
use covalence_projections::Status;
use covalence_projections::roster::hierarchy::BrokenHierarchy;
use covalence_projections::roster::{Removed, Row};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::http::as_of::AsOf;
use crate::http::auth::{self, Identity};
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::{Ctx, workspace_id};
use crate::http::view::{WorkspaceRow, WorkspaceView};

pub mod amend;
pub mod assignment;
pub mod create;
pub mod erase;
pub mod hibernation;
pub mod lifecycle;
pub mod remove;
pub mod team;
pub mod tokens;
pub mod traces;
pub mod transcript;

/// How many facts the projections are behind, on answers that could not wait any longer for them.
const LAG: HeaderName = HeaderName::from_static("x-covalence-lag");

/// An answer to a mutation: waits for the projections first, so that the caller reads its own write next.
pub(super) async fn settled(
    ctx: &Ctx,
    position: Option<Position>,
    status: StatusCode,
    body: impl Serialize,
) -> HttpResponse {
    let lag = ctx.caught_up(position).await;
    let mut response = HttpResponse::build(status).json(body);
    if lag > 0 {
        response.headers_mut().insert(LAG, HeaderValue::from(lag));
    }
    response
}

/// A row, removed or not.
pub(super) fn row(ctx: &Ctx, id: WorkspaceId) -> Option<Arc<Row>> {
    ctx.state.views.roster.read().get(id)
}

/// A row that is not removed.
pub(super) fn present(ctx: &Ctx, id: WorkspaceId) -> Result<Arc<Row>, ApiError> {
    row(ctx, id).filter(|row| row.status != Status::Removed).ok_or_else(ApiError::no_workspace)
}

/// The first paused workspace above this one, if there is one.
fn paused_above(ctx: &Ctx, id: WorkspaceId) -> Result<(), ApiError> {
    let above = ctx.state.views.roster.read().ancestors(id);
    let above = above.map_err(|reason: BrokenHierarchy| ApiError::internal("lookup failed", reason))?;
    match above.iter().find(|row| row.status == Status::Paused) {
        None => Ok(()),
        Some(paused) => Err(ApiError::conflict(
            "ancestor_paused",
            format!("parent workspace \"{}\" is paused — resume it first", paused.name),
        )),
    }
}

/// A part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// At most so many; all where absent.
    limit: Option<usize>,
    /// Only what comes after this id.
    after: Option<String>,
}

/// All workspaces that are not removed, in order of creation.
#[utoipa::path(
    tag = "workspaces", params(Page, AsOf),
    responses((status = 200, body = [WorkspaceRow]), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/workspaces")]
pub(crate) async fn list(ctx: Ctx, as_of: AsOf, page: web::Query<Page>) -> Answer {
    auth::admin(&ctx)?;
    let after = page.after.as_deref().map(workspace_id).transpose().map_err(|error| error.field("after"))?;
    let seen = as_of.seen(&ctx).await?;
    // Beginning again would send a client that pages through a list round in circles.
    if after.is_some_and(|id| seen.roster.read().get(id).is_none()) {
        return Err(ApiError::bad("unknown_cursor", "unknown workspace").field("after"));
    }
    let limit = page.limit.unwrap_or(usize::MAX);
    let rows = seen.roster.read().page(after, limit, Removed::Hide).rows;
    let rows: Vec<WorkspaceRow> = rows.iter().map(|row| row.as_ref().into()).collect();
    Ok(HttpResponse::Ok().json(rows))
}

/// See [`show`].
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Show {
    /// `true`: a removed workspace's row instead of a 410.
    include_removed: Option<String>,
}

/// One workspace, as anybody may see it; with its own or the admin's token, what the supervisor advises too. Of the past with
/// such a token only.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path), Show, AsOf),
    responses(
        (status = 200, body = WorkspaceView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 410, body = ErrorBody),
    )
)]
#[get("/workspaces/{id}")]
pub(crate) async fn show(ctx: Ctx, as_of: AsOf, path: web::Path<String>, query: web::Query<Show>) -> Answer {
    let id = workspace_id(&path)?;
    let may_act = auth::workspace(&ctx, id);
    if as_of.is_past() {
        may_act.as_ref().map_err(Clone::clone)?;
    }
    let row = as_of.seen(&ctx).await?.row(&ctx, id)?;
    if row.status == Status::Removed && query.include_removed.as_deref() != Some("true") {
        return Err(gone(&row));
    }
    let view = if may_act.is_ok() { WorkspaceView::advised(&row) } else { WorkspaceView::from(row.as_ref()) };
    Ok(HttpResponse::Ok().json(view))
}

/// Everything about one workspace, for its operator and for itself.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path), AsOf),
    responses((status = 200, body = WorkspaceRow), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/workspaces/{id}/details")]
pub(crate) async fn details(ctx: Ctx, as_of: AsOf, path: web::Path<String>) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    let row = as_of.seen(&ctx).await?.row(&ctx, id)?;
    Ok(HttpResponse::Ok().json(WorkspaceRow::from(row.as_ref())))
}

/// 410 for a removed workspace.
pub(super) fn gone(row: &Row) -> ApiError {
    let gone = ApiError::new(StatusCode::GONE, "workspace_removed", "workspace removed")
        .with("id", row.id.to_string())
        .with("removed_at", row.removed_at.map_or(serde_json::Value::Null, |at| json!(at)))
        .with("hint", "this workspace is gone for good: stop, and forget its token");
    match row.forwarded_to {
        Some(successor) => gone.with("forwarded_to", successor.to_string()),
        None => gone,
    }
}

/// See [`state`].
#[derive(Debug, Serialize, ToSchema)]
pub struct StateView {
    /// Which.
    #[schema(value_type = String, format = Uuid)]
    workspace_id: WorkspaceId,
    /// Its status; absent if there never was such a workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    /// Whether it is paused; absent if it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<bool>,
    /// Whether it is gone.
    deleted: bool,
}

/// What a workspace's own agent asks: whether it still is wanted. A token of a removed workspace gets the 404 that tells
/// its agent to stop.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path), AsOf),
    responses((status = 200, body = StateView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = StateView)),
    security(("bearer" = []))
)]
#[get("/workspaces/{id}/state")]
pub(crate) async fn state(ctx: Ctx, as_of: AsOf, path: web::Path<String>) -> Answer {
    let id = workspace_id(&path)?;
    if as_of.is_past() {
        // No agent asks this; the operator may, whatever tokens the workspace has.
        auth::workspace(&ctx, id)?;
    } else {
        may_ask_state(&ctx, id, row(&ctx, id).as_deref())?;
    }
    let row = as_of.seen(&ctx).await?.roster.read().get(id);
    Ok(match row {
        None => HttpResponse::NotFound().json(StateView {
            workspace_id: id,
            status: None,
            paused: None,
            deleted: true,
        }),
        Some(row) if row.status == Status::Removed => HttpResponse::NotFound().json(StateView {
            workspace_id: id,
            status: Some(row.status.as_str()),
            paused: None,
            deleted: true,
        }),
        Some(row) => HttpResponse::Ok().json(StateView {
            workspace_id: id,
            status: Some(row.status.as_str()),
            paused: Some(row.status == Status::Paused),
            deleted: false,
        }),
    })
}

fn may_ask_state(ctx: &Ctx, id: WorkspaceId, row: Option<&Row>) -> Result<(), ApiError> {
    let removed = row.is_some_and(|row| row.status == Status::Removed);
    match ctx.known.identity {
        Identity::Spent(credential) if removed && credential.workspace == id => Ok(()),
        // The contract wants the workspace's own token here once it has one; the operator's is no exception.
        Identity::Admin | Identity::Org(_) if ctx.state.views.credentials.read().has_live(id) => {
            Err(ApiError::unauthorized("invalid_workspace_token", "invalid workspace auth token"))
        }
        _ => auth::workspace(ctx, id).map(|_| ()),
    }
}

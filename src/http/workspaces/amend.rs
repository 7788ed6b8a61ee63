//! `PATCH /workspaces/{id}`.

use actix_web::http::StatusCode;
use actix_web::{patch, web};
use covalence_actors::workspace::Command;
use covalence_actors::workspace::command::Change;
use covalence_events::{Principal, WorkspaceId};
use covalence_projections::Status;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::body::{self, Wish};
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::create::unknown_parent;
use crate::http::workspaces::{row, settled};
use crate::http::{auth, fields};

/// What shall change. Everything else in the body is ignored.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct AmendBody {
    /// Another name.
    name: Option<String>,
    /// Another job description; empty or null clears it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    role: Wish<String>,
    /// Other limits, from the next start on. Never by the workspace itself.
    tier: Option<i64>,
    /// Another parent; null makes it a root.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    parent_id: Wish<String>,
    /// Whether its subtree is folded on the canvas.
    collapsed: Option<bool>,
    /// Another runtime, from the next start on.
    runtime: Option<String>,
    /// Another host directory, from the next start on; null clears it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    workspace_dir: Wish<String>,
    /// Place on the canvas, together with `y`.
    x: Option<f64>,
    /// Place on the canvas, together with `x`.
    y: Option<f64>,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AmendedView {
    /// Always `updated`.
    status: &'static str,
    /// Whether something takes effect at the next start only; absent if not.
    #[serde(skip_serializing_if = "Option::is_none")]
    needs_restart: Option<bool>,
}

/// Changes what describes a workspace: all that was asked for, or nothing.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path)), request_body = AmendBody,
    responses(
        (status = 200, body = AmendedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[patch("/workspaces/{id}")]
pub(crate) async fn amend(ctx: Ctx, path: web::Path<String>, body: web::Bytes) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::workspace(&ctx, id)?;
    let wish: AmendBody = body::json(&body, "invalid request body")?;
    let needs_restart = (wish.workspace_dir.is_mentioned()).then_some(true);
    may(&principal, &wish)?;
    let _structure = ctx.state.inner.structure.lock().await;
    row(&ctx, id).filter(|row| row.status != Status::Removed).ok_or_else(ApiError::no_workspace)?;
    let changes = changes(&ctx, id, wish)?;
    let position = if changes.is_empty() {
        None
    } else {
        ctx.state.runtime.command(id, Command::Amend(changes), ctx.origin(principal)).await?.position
    };
    Ok(settled(&ctx, position, StatusCode::OK, AmendedView { status: "updated", needs_restart }).await)
}

/// A workspace may describe itself, but not give itself rights: limits, place, program and directory are its operator's.
fn may(principal: &Principal, wish: &AmendBody) -> Result<(), ApiError> {
    if !matches!(principal, Principal::Workspace(_)) {
        return Ok(());
    }
    let asked = [
        ("tier", wish.tier.is_some()),
        ("parent_id", wish.parent_id.is_mentioned()),
        ("runtime", wish.runtime.is_some()),
        ("workspace_dir", wish.workspace_dir.is_mentioned()),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        None => Ok(()),
        Some((field, _)) => {
            Err(ApiError::forbidden("field_not_allowed", format!("a workspace token can't change {field}"))
                .field(field))
        }
    }
}

fn changes(ctx: &Ctx, id: WorkspaceId, wish: AmendBody) -> Result<Vec<Change>, ApiError> {
    let mut changes = Vec::new();
    if let Some(name) = wish.name {
        if name.is_empty() {
            return Err(ApiError::bad("invalid_body", "invalid request body")
                .field("name")
                .detail("name is empty"));
        }
        fields::text("name", &name)?;
        changes.push(Change::Name(name));
    }
    match wish.role.empty_as_clear() {
        Wish::Absent => {}
        Wish::Clear => changes.push(Change::Role(None)),
        Wish::Set(role) => {
            fields::text("role", &role)?;
            changes.push(Change::Role(Some(role)));
        }
    }
    if let Some(tier) = wish.tier {
        changes.push(Change::Tier(fields::tier(Some(tier))?));
    }
    match wish.parent_id.empty_as_clear() {
        Wish::Absent => {}
        Wish::Clear => changes.push(Change::Parent(None)),
        Wish::Set(parent) => {
            let parent = parent.parse().map_err(|_| unknown_parent())?;
            fits_below(ctx, id, parent)?;
            changes.push(Change::Parent(Some(parent)));
        }
    }
    if let Some(runtime) = wish.runtime {
        fields::text("runtime", &runtime)?;
        changes.push(Change::Runtime(super::create::runtime(ctx, Some(runtime))?));
    }
    match wish.workspace_dir.empty_as_clear() {
        Wish::Absent => {}
        Wish::Clear => changes.push(Change::Directory(None)),
        Wish::Set(directory) => {
            let directory = fields::directory(&directory, &ctx.state.config.workspace_roots)?;
            changes.push(Change::Directory(Some(directory)));
        }
    }
    if let (Some(x), Some(y)) = (wish.x, wish.y) {
        changes.push(Change::Position { x, y });
    }
    if let Some(collapsed) = wish.collapsed {
        changes.push(Change::Collapsed(collapsed));
    }
    Ok(changes)
}

/// The new parent is there, and not below the workspace itself.
fn fits_below(ctx: &Ctx, id: WorkspaceId, parent: WorkspaceId) -> Result<(), ApiError> {
    let roster = ctx.state.views.roster.read();
    roster.get(parent).filter(|row| row.status != Status::Removed).ok_or_else(unknown_parent)?;
    let above = roster.ancestors(parent).map_err(|reason| ApiError::internal("lookup failed", reason))?;
    if parent == id || above.iter().any(|row| row.id == id) {
        return Err(
            ApiError::conflict("hierarchy_cycle", "a workspace can't be below itself").field("parent_id")
        );
    }
    Ok(())
}

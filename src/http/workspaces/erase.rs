//! `POST /workspaces/{id}/erase`.

use actix_web::http::StatusCode;
use actix_web::{post, web};
use covalence_actors::workspace::Command;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::auth;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::settled;

/// Seconds: a file system that refuses may take them again soon.
const RETRY: u64 = 5;

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErasedView {
    /// `erased`.
    status: &'static str,
}

/// Makes what persons and agents said in the facts of a removed workspace unreadable for good, by destroying its key: names, roles,
/// tasks, errors, cards, addresses. That it was there, and what happened to it, stays in the log. Can be repeated.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path)),
    responses(
        (status = 200, body = ErasedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, description = "it is not removed", body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/erase")]
pub(crate) async fn erase(ctx: Ctx, path: web::Path<String>) -> Answer {
    let principal = auth::admin(&ctx)?;
    let id = workspace_id(&path)?;
    let receipt = ctx.state.runtime.command(id, Command::Erase, ctx.origin(principal)).await?;
    // What was folded before may hold what is erased now.
    ctx.state.history.forget().map_err(|error| {
        let detail = format!("snapshots could not be removed: {error}");
        ApiError::unavailable(
            "erase_incomplete",
            "erased from the log, not yet from snapshots — retry",
            RETRY,
        )
        .detail(detail)
    })?;
    ctx.state.subscriptions.forget(id).await.map_err(|error| {
        let detail = format!("what consumers of subscriptions said of it could not be removed: {error}");
        ApiError::unavailable(
            "erase_incomplete",
            "erased from the log, not yet from subscriptions — retry",
            RETRY,
        )
        .detail(detail)
    })?;
    Ok(settled(&ctx, receipt.position, StatusCode::OK, ErasedView { status: "erased" }).await)
}

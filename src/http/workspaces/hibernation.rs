//! `POST /workspaces/{id}/hibernate`: stopped until somebody needs it.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, post, web};
use covalence_actors::workspace::Rejection;
use covalence_projections::{Row, Status};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::auth;
use crate::http::error::{Answer, ErrorBody};
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::row;

/// How long the answer waits for the instance to be gone: longer than an agent gets between SIGTERM and SIGKILL, shorter
/// than clients wait.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// How it is sent to sleep.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HibernateQuery {
    /// `true`: work under way is cut off; else it is a reason to refuse.
    force: Option<String>,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct HibernatedView {
    /// `hibernated`; `hibernating` while its instance is still being stopped; another status if somebody needed it meanwhile.
    status: &'static str,
}

/// Stops a workspace until somebody needs it: a call, a delegated task or a queued message wakes it. Refused with 409 while it
/// works, unless forced.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path), HibernateQuery),
    responses(
        (status = 200, body = HibernatedView), (status = 202, description = "its instance is still being stopped", body = HibernatedView),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/hibernate")]
pub(crate) async fn hibernate_workspace(
    ctx: Ctx,
    path: web::Path<String>,
    query: web::Query<HibernateQuery>,
) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::workspace(&ctx, id)?;
    // The contract has one answer for what is not there and what is not up.
    row(&ctx, id).filter(|row| row.status != Status::Removed).ok_or(Rejection::NotHibernatable)?;
    let forced = query.force.as_deref() == Some("true");
    let receipt = ctx.state.runtime.hibernate(id, forced, ctx.origin(principal)).await?;
    ctx.caught_up(receipt.position).await;
    let settled = |row: &Row| row.status != Status::Hibernating;
    let row = ctx.state.views.wait_for(id, STOP_WAIT, settled).await;
    let status = row.map_or(Status::Hibernating, |row| row.status);
    let code = if status == Status::Hibernating { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok(HttpResponse::build(code).json(HibernatedView { status: status.as_str() }))
}

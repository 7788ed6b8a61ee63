//! `POST /workspaces/{id}/restart`, `/pause`, `/resume`.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, post, web};
use chrono::{DateTime, Utc};
use covalence_actors::runtime::{CommandError, Restarted};
use covalence_actors::workspace::Command;
use covalence_actors::workspace::command::Restart;
use covalence_events::workspace::RestartCause;
use covalence_events::{EventId, Position, RestartId, WorkspaceId};
use covalence_projections::{Row, Status};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::{Ctx, workspace_id};
use crate::http::supervision::holds::reason;
use crate::http::workspaces::{paused_above, present, row, settled};
use crate::http::{auth, body};

/// How it is restarted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RestartQuery {
    /// `true`: the runtime's session is thrown away first.
    reset: Option<String>,
}

/// The same in the body.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct RestartBody {
    /// Whether the runtime's session is thrown away first.
    #[serde(default)]
    reset: bool,
    /// Whether it passes over holds; for the admin only. An emergency stop is not passed over.
    #[serde(default)]
    force: bool,
    /// Why; needed with `force`. One line, quoted to whoever looks at it later.
    reason: Option<String>,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct RestartedView {
    /// `provisioning`.
    status: &'static str,
    /// Where its configuration comes from.
    config_dir: &'static str,
    /// Whether the session is thrown away first.
    reset_session: bool,
    /// The fact that let it begin, by its id; absent while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    decision: Option<EventId>,
    /// The restart's name in the log.
    #[schema(value_type = String)]
    restart: RestartId,
    /// The rule that makes it wait, or `decision` while there is none; absent if it does not wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<String>,
    /// When it is looked at again, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<DateTime<Utc>>,
}

/// Nothing to restart.
#[derive(Debug, Serialize, ToSchema)]
pub struct NoopView {
    /// `noop`.
    status: &'static str,
    /// `external`.
    runtime: String,
    /// For people.
    message: &'static str,
}

/// What became of a wish to restart.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum RestartAnswer {
    /// It begins.
    Begun(RestartedView),
    /// Somebody else runs it.
    Noop(NoopView),
}

/// Replaces the running generation. A person's restart passes over backoff, intensity and brakes: 200 when admitted, 202
/// while it waits for a slot, 409 when a hold refuses it. With `force`, which takes a
/// `reason`, it passes over holds too.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path), RestartQuery), request_body = Option<RestartBody>,
    responses(
        (status = 200, body = RestartAnswer), (status = 202, body = RestartedView), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/restart")]
pub(crate) async fn restart_workspace(
    ctx: Ctx,
    path: web::Path<String>,
    query: web::Query<RestartQuery>,
    body: web::Bytes,
) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::workspace(&ctx, id)?;
    let wish: RestartBody =
        if body.is_empty() { RestartBody::default() } else { body::json(&body, "invalid JSON body")? };
    if wish.force {
        // Whoever set the hold outranks the workspace that it holds.
        auth::admin(&ctx)?;
    }
    let row = present(&ctx, id)?;
    if row.is_external() {
        return Ok(HttpResponse::Ok().json(RestartAnswer::Noop(NoopView {
            status: "noop",
            runtime: row.runtime.to_string(),
            message: "external workspace: the platform does not run it, so there is nothing to restart",
        })));
    }
    if !wish.force {
        paused_above(&ctx, id)?;
    }
    let reason = match wish.reason {
        None if !wish.force => None,
        given => Some(reason(given)?),
    };
    let reset_session = wish.reset || query.reset.as_deref() == Some("true");
    let asked =
        Restart { reset_session, forced: wish.force, reason, ..Restart::because_of(RestartCause::Operator) };
    let (receipt, decided) = ctx.state.runtime.restart(id, asked, ctx.origin(principal)).await?;
    answer(&ctx, decided, reset_session, receipt.position).await
}

impl RestartedView {
    fn new(reset_session: bool, restart: RestartId) -> Self {
        Self {
            status: Status::Provisioning.as_str(),
            config_dir: "existing-volume",
            reset_session,
            decision: None,
            restart,
            waits_for: None,
            until: None,
        }
    }
}

async fn answer(ctx: &Ctx, decided: Restarted, reset_session: bool, position: Option<Position>) -> Answer {
    match decided {
        Restarted::Admitted { restart, admission } => {
            let decision = fact_at(ctx, admission).await?;
            let view = RestartedView { decision, ..RestartedView::new(reset_session, restart) };
            Ok(settled(ctx, Some(admission), StatusCode::OK, view).await)
        }
        Restarted::Waiting { restart, rule, until } => {
            let waits_for = Some(rule.unwrap_or_else(|| "decision".to_owned()));
            let view = RestartedView { waits_for, until, ..RestartedView::new(reset_session, restart) };
            Ok(settled(ctx, position, StatusCode::ACCEPTED, view).await)
        }
        Restarted::Refused { restart, rule, until, decision } => {
            let fact = fact_at(ctx, decision).await?;
            let error = ApiError::conflict("restart_refused", format!("restart refused by rule `{rule}`"))
                .with("decision", json!(fact))
                .with("restart", json!(restart))
                .with("rule", rule);
            Err(match until {
                Some(until) => error.with("until", json!(until)),
                None => error,
            })
        }
    }
}

/// The id of the fact at a position.
async fn fact_at(ctx: &Ctx, position: Position) -> Result<Option<EventId>, ApiError> {
    Ok(ctx.state.log.read_all(position, 1).await?.first().map(|fact| fact.meta.id))
}

/// Whether everything below goes along.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Cascade {
    /// `true`: also everything below it.
    cascade: Option<String>,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct PausedView {
    /// Always `paused`.
    status: &'static str,
    /// How many were paused.
    paused_count: usize,
}

/// Stops a workspace, and keeps it.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path), Cascade),
    responses(
        (status = 200, body = PausedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/pause")]
pub(crate) async fn pause_workspace(ctx: Ctx, path: web::Path<String>, query: web::Query<Cascade>) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    let may = |row: &Row| !matches!(row.status, Status::Removed | Status::Paused);
    row(&ctx, id)
        .filter(|row| may(row))
        .ok_or_else(|| ApiError::not_found("already_paused", "workspace not found or already paused"))?;
    let cascade = query.cascade.as_deref() == Some("true");
    let (count, position) = each(&ctx, id, Act { verb: "pause", cascade, may }, || Command::Pause).await?;
    let view = PausedView { status: "paused", paused_count: count };
    Ok(settled(&ctx, position, StatusCode::OK, view).await)
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResumedView {
    /// Always `provisioning`.
    status: &'static str,
    /// How many were resumed.
    resumed_count: usize,
}

/// Starts a paused or hibernated workspace again.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path), Cascade),
    responses(
        (status = 200, body = ResumedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/resume")]
pub(crate) async fn resume_workspace(
    ctx: Ctx,
    path: web::Path<String>,
    query: web::Query<Cascade>,
) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    let may = |row: &Row| row.status == Status::Paused || row.status.is_asleep();
    row(&ctx, id)
        .filter(|row| may(row))
        .ok_or_else(|| ApiError::not_found("not_paused", "workspace not found or not paused"))?;
    paused_above(&ctx, id)?;
    let cascade = query.cascade.as_deref() == Some("true");
    let (count, position) = each(&ctx, id, Act { verb: "resume", cascade, may }, || Command::Resume).await?;
    let view = ResumedView { status: "provisioning", resumed_count: count };
    Ok(settled(&ctx, position, StatusCode::OK, view).await)
}

struct Act<F> {
    verb: &'static str,
    cascade: bool,
    may: F,
}

/// Does it to a workspace and, if asked for, to everything below it that it can be done to.
async fn each(
    ctx: &Ctx,
    id: WorkspaceId,
    act: Act<impl Fn(&Row) -> bool>,
    command: impl Fn() -> Command,
) -> Result<(usize, Option<Position>), ApiError> {
    let principal = auth::workspace(ctx, id)?;
    let _structure = ctx.state.inner.structure.lock().await;
    let below: Vec<Arc<Row>> =
        ctx.state.views.roster.read().descendants(id).into_iter().filter(|row| (act.may)(row)).collect();
    if !below.is_empty() && !act.cascade {
        let verb = act.verb;
        let named: Vec<_> = below.iter().map(|row| json!({"id": row.id, "name": row.name})).collect();
        return Err(ApiError::conflict(
            "has_descendants",
            format!("workspace has descendants — use ?cascade=true to {verb} all"),
        )
        .with("descendants", named));
    }
    let first = ctx.state.runtime.command(id, command(), ctx.origin(principal.clone())).await?;
    let (mut count, mut position) = (1, first.position);
    for row in below {
        match ctx.state.runtime.command(row.id, command(), ctx.origin(principal.clone())).await {
            Ok(receipt) => {
                count += 1;
                position = position.max(receipt.position);
            }
            // It changed on its own since we looked: not ours to complain about.
            Err(CommandError::Rejected(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((count, position))
}

//! `POST /workspaces/{id}/restart`, `/pause`, `/resume`.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, post, web};
use covalence_actors::workspace::Command;
use covalence_actors::workspace::command::Restart;
use covalence_events::workspace::{Event, RestartCause};
use covalence_events::{EventId, Fact, Position, Recorded, RestartId, WorkspaceId, fleet};
use covalence_projections::{Row, Status};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::outcome::await_fact;
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::{paused_above, present, row, settled};
use crate::http::{auth, body};

/// The supervisor decides in milliseconds; a caller waits no longer than for its own write.
const DECISION_WITHIN: Duration = Duration::from_secs(2);

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
    /// The fact that decided, by its id; absent while none has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    decision: Option<EventId>,
    /// The restart's name in the log.
    #[schema(value_type = Option<String>)]
    restart: Option<RestartId>,
    /// Why it waits; absent if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<String>,
}

enum Decision {
    Admitted(EventId),
    Deferred(EventId, String),
    Suppressed(EventId, String),
}

/// Replaces the running generation. A person's restart passes the fleet's limits: 200 when admitted, 202 while it waits for
/// a slot, 409 when a hold refuses it.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path), RestartQuery), request_body = Option<RestartBody>,
    responses(
        (status = 200, body = RestartedView), (status = 202, body = RestartedView), (status = 400, body = ErrorBody),
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
    let row = present(&ctx, id)?;
    if row.is_external() {
        return Ok(HttpResponse::Ok().json(json!({
            "status": "noop",
            "runtime": row.runtime.as_ref(),
            "message": "external workspace: the platform does not run it, so there is nothing to restart",
        })));
    }
    paused_above(&ctx, id)?;
    let reset_session = wish.reset || query.reset.as_deref() == Some("true");
    let command = Command::Restart(Restart { cause: RestartCause::Operator, reset_session, forced: false });
    let receipt = ctx.state.runtime.command(id, command, ctx.origin(principal)).await?;
    let asked = receipt.events.iter().find_map(|fact| requested(fact));
    let decision = match (asked, receipt.position) {
        (Some(restart), Some(position)) => decided(&ctx, restart, position).await,
        _ => None,
    };
    answer(&ctx, asked, decision, reset_session, receipt.position).await
}

fn requested(fact: &Recorded) -> Option<RestartId> {
    match &fact.fact {
        Fact::Workspace(Event::RestartRequested(request)) => Some(request.restart),
        Fact::Workspace(_) | Fact::Fleet(_) => None,
    }
}

async fn decided(ctx: &Ctx, restart: RestartId, from: Position) -> Option<Decision> {
    await_fact(&ctx.state, from, DECISION_WITHIN, |fact| {
        let id = fact.meta.id;
        match &fact.fact {
            Fact::Fleet(fleet::Event::RestartAdmitted(e)) if e.restart == restart => {
                Some(Decision::Admitted(id))
            }
            Fact::Fleet(fleet::Event::RestartDeferred(e)) if e.restart == restart => {
                Some(Decision::Deferred(id, e.rule.clone()))
            }
            Fact::Fleet(fleet::Event::RestartSuppressed(e)) if e.restart == restart => {
                Some(Decision::Suppressed(id, e.rule.clone()))
            }
            Fact::Workspace(_) | Fact::Fleet(_) => None,
        }
    })
    .await
}

async fn answer(
    ctx: &Ctx,
    restart: Option<RestartId>,
    decision: Option<Decision>,
    reset_session: bool,
    position: Option<Position>,
) -> Answer {
    let view = |decision, waits_for| RestartedView {
        status: Status::Provisioning.as_str(),
        config_dir: "existing-volume",
        reset_session,
        decision,
        restart,
        waits_for,
    };
    Ok(match decision {
        Some(Decision::Admitted(id)) => settled(ctx, position, StatusCode::OK, view(Some(id), None)).await,
        Some(Decision::Deferred(id, rule)) => {
            settled(ctx, position, StatusCode::ACCEPTED, view(Some(id), Some(rule))).await
        }
        Some(Decision::Suppressed(id, rule)) => {
            return Err(ApiError::conflict("restart_refused", format!("restart refused by rule `{rule}`"))
                .with("decision", id.to_string())
                .with("rule", rule));
        }
        // Already under way, so that nothing was asked for; or not decided in time.
        None if restart.is_none() => settled(ctx, position, StatusCode::OK, view(None, None)).await,
        None => settled(ctx, position, StatusCode::ACCEPTED, view(None, Some("decision".to_owned()))).await,
    })
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
        (status = 200, body = PausedView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
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

/// Starts a paused workspace again.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path), Cascade),
    responses(
        (status = 200, body = ResumedView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
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
    let may = |row: &Row| row.status == Status::Paused;
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
            Err(covalence_actors::runtime::CommandError::Rejected(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((count, position))
}

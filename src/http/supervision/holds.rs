//! The hand on the brake: holds, the emergency stop, brakes and quarantines.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, delete, get, post, web};
use covalence_actors::fleet::Command;
use covalence_events::fleet::{Event, Scope};
use covalence_events::workspace::BackendKind;
use covalence_events::{Fact, HoldId, Position, Principal};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::view::person::{HoldView, Names};
use crate::config::duration;
use crate::http::as_of::AsOf;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::{present, settled};
use crate::http::{auth, body};

/// Bytes of a reason: a sentence or two, and every incident report quotes it.
pub const REASON_MAX: usize = 500;

/// The generic text for a body that can't be used.
const INVALID: &str = "invalid request body";

/// A hold to set.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct NewHold {
    /// `fleet`, `subtree` or `workspace`; `fleet` where it is absent.
    #[schema(pattern = "^(fleet|subtree|workspace)$")]
    scope: Option<String>,
    /// Whose, unless it is about everybody.
    #[schema(value_type = Option<String>, format = Uuid)]
    workspace: Option<String>,
    /// Why; needed.
    #[schema(value_type = String, required = true, max_length = 500, pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$")]
    reason: Option<String>,
    /// For how long, such as `30m`; needed. At most the policy's `hold_max`.
    #[schema(value_type = String, required = true, pattern = "^0*[1-9][0-9]{0,8} *(ms|s|m|h|d)?$")]
    lasts: Option<String>,
}

/// Holds restarts back. A person's restart of what is held is refused, an automatic one waits; what runs goes on running.
#[utoipa::path(
    tag = "supervision", request_body = NewHold,
    responses(
        (status = 201, body = HoldView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/admin/holds")]
pub(crate) async fn set(ctx: Ctx, body: web::Bytes) -> Answer {
    let principal = auth::admin(&ctx)?;
    let wish: NewHold = body::json(&body, INVALID)?;
    let scope = scope(&ctx, wish.scope.as_deref(), wish.workspace.as_deref())?;
    let reason = reason(wish.reason)?;
    let lasts = wish.lasts.as_deref().and_then(duration).ok_or_else(|| {
        ApiError::bad("invalid_field", "`lasts` must be a duration such as `30m` or `2h`").field("lasts")
    })?;
    hold(&ctx, principal, Command::SetHold { scope, reason, lasts, emergency: false }).await
}

/// Why everything is stopped.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Stop {
    /// Why; needed.
    #[schema(value_type = String, required = true, max_length = 500, pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$")]
    reason: Option<String>,
}

/// Starts nothing any more, whoever asks, until the hold that this makes is released. It never ends by itself. What runs
/// goes on running.
#[utoipa::path(
    tag = "supervision", request_body = Stop,
    responses((status = 201, body = HoldView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[post("/admin/emergency-stop")]
pub(crate) async fn emergency_stop(ctx: Ctx, body: web::Bytes) -> Answer {
    let principal = auth::admin(&ctx)?;
    let wish: Stop = body::json(&body, INVALID)?;
    let reason = reason(wish.reason)?;
    let command = Command::SetHold { scope: Scope::Fleet, reason, lasts: Duration::ZERO, emergency: true };
    hold(&ctx, principal, command).await
}

/// Sets it, and answers with it.
async fn hold(ctx: &Ctx, principal: Principal, command: Command) -> Answer {
    let position = ctx.state.runtime.fleet(command, ctx.origin(principal)).await?;
    let lag = ctx.caught_up(position).await;
    let id = set_at(ctx, position).await?;
    let (roster, supervision) = (ctx.state.views.roster.read(), ctx.state.views.supervision.read());
    let view = supervision.hold(id).map(|hold| Names(&roster).hold(hold));
    drop((roster, supervision));
    match view {
        Some(view) => Ok(HttpResponse::Created().json(view)),
        // It stands in the log; the projections will show it.
        None => Ok(HttpResponse::Created().json(json!({"id": id, "projections_behind": lag}))),
    }
}

/// The hold that the fact at this position sets.
async fn set_at(ctx: &Ctx, position: Option<Position>) -> Result<HoldId, ApiError> {
    let position = position.ok_or_else(|| ApiError::internal("internal error", "a hold left no fact"))?;
    let facts = ctx.state.log.read_all(position, 1).await?;
    let id = facts.iter().find_map(|recorded| match &recorded.fact {
        Fact::Fleet(Event::HoldSet(fact)) => Some(fact.hold),
        Fact::Fleet(_) | Fact::Workspace(_) => None,
    });
    id.ok_or_else(|| ApiError::internal("internal error", "a hold's fact is another one"))
}

/// The holds that are on, oldest first.
#[utoipa::path(
    tag = "supervision", params(AsOf),
    responses((status = 200, body = [HoldView]), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/admin/holds")]
pub(crate) async fn list(ctx: Ctx, as_of: AsOf) -> Answer {
    auth::admin(&ctx)?;
    let seen = as_of.seen(&ctx).await?;
    let (roster, supervision) = (seen.roster.read(), seen.supervision.read());
    let holds: Vec<HoldView> = supervision.holds().map(|hold| Names(&roster).hold(hold)).collect();
    drop((roster, supervision));
    Ok(HttpResponse::Ok().json(holds))
}

/// Why a hold is released.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Release {
    /// Why, in a person's words.
    #[schema(
        max_length = 500,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    reason: Option<String>,
}

/// Ends a hold, or an emergency stop. What waited for it is judged again at once.
#[utoipa::path(
    tag = "supervision", params(("id" = String, Path)), request_body = Option<Release>,
    responses(
        (status = 200, description = "`{\"status\":\"released\",\"hold\":id}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[delete("/admin/holds/{id}")]
pub(crate) async fn release(ctx: Ctx, path: web::Path<String>, body: web::Bytes) -> Answer {
    let principal = auth::admin(&ctx)?;
    let hold: HoldId =
        path.parse().map_err(|_| ApiError::bad("invalid_hold_id", "invalid hold ID").field("id"))?;
    let wish: Release = if body.is_empty() { Release::default() } else { body::json(&body, INVALID)? };
    let comment = wish.reason.map(|text| reason(Some(text))).transpose()?;
    let command = Command::ReleaseHold { hold, comment };
    let position = ctx.state.runtime.fleet(command, ctx.origin(principal)).await?;
    Ok(settled(&ctx, position, StatusCode::OK, json!({"status": "released", "hold": hold})).await)
}

/// Releases the brake of a cell. It engages again if what engaged it goes on.
#[utoipa::path(
    tag = "supervision", params(("cell" = String, Path, description = "`process` or `docker`")),
    responses(
        (status = 200, description = "`{\"status\":\"released\",\"cell\":cell}`"), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/admin/brakes/{cell}/release")]
pub(crate) async fn release_brake(ctx: Ctx, path: web::Path<String>) -> Answer {
    let principal = auth::admin(&ctx)?;
    let cell = match path.as_str() {
        "process" => BackendKind::Process,
        "docker" => BackendKind::Docker,
        _ => return Err(ApiError::not_found("unknown_cell", "no such cell").field("cell")),
    };
    let position = ctx.state.runtime.fleet(Command::ReleaseBrake { cell }, ctx.origin(principal)).await?;
    let body = json!({"status": "released", "cell": cell.as_str()});
    Ok(settled(&ctx, position, StatusCode::OK, body).await)
}

/// Lifts a quarantine: the workspace is tried at once, past the crash loop's limits, and stays out of quarantine if it holds.
#[utoipa::path(
    tag = "supervision", params(("id" = String, Path)),
    responses(
        (status = 200, description = "`{\"status\":\"lifted\",\"workspace\":id}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/quarantine/lift")]
pub(crate) async fn lift_quarantine(ctx: Ctx, path: web::Path<String>) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::admin(&ctx)?;
    present(&ctx, id)?;
    let command = Command::LiftQuarantine { workspace: id };
    let position = ctx.state.runtime.fleet(command, ctx.origin(principal)).await?;
    Ok(settled(&ctx, position, StatusCode::OK, json!({"status": "lifted", "workspace": id})).await)
}

/// A person's reason: needed, and short enough to be quoted.
pub(crate) fn reason(text: Option<String>) -> Result<String, ApiError> {
    let invalid = |detail: String| ApiError::bad("invalid_field", detail).field("reason");
    let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let text =
        text.ok_or_else(|| invalid("`reason` is required: whoever reads it later will ask".to_owned()))?;
    if text.len() > REASON_MAX || text.contains(char::is_control) {
        return Err(invalid(format!("`reason` must be one line of at most {REASON_MAX} bytes")));
    }
    Ok(text)
}

/// Whom it is about. The workspace has to be there.
pub(super) fn scope(ctx: &Ctx, word: Option<&str>, workspace: Option<&str>) -> Result<Scope, ApiError> {
    let named = || {
        let text = workspace.ok_or_else(|| {
            ApiError::bad("invalid_field", "`workspace` is required for this scope").field("workspace")
        })?;
        let id = workspace_id(text).map_err(|error| error.field("workspace"))?;
        present(ctx, id).map(|row| row.id)
    };
    match word.unwrap_or("fleet") {
        "fleet" if workspace.is_some() => {
            Err(ApiError::bad("invalid_field", "`workspace` needs the scope `workspace` or `subtree`")
                .field("scope"))
        }
        "fleet" => Ok(Scope::Fleet),
        "subtree" => named().map(Scope::Subtree),
        "workspace" => named().map(Scope::Workspace),
        _ => Err(ApiError::bad("invalid_field", "`scope` must be `fleet`, `subtree` or `workspace`")
            .field("scope")),
    }
}

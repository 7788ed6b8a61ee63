//! `/workspaces/{id}/a2a`: the relay to an agent, and the card that says how to reach it through us.
//!
//! A call takes a permit at the target's mailbox; the body's bytes go straight from the caller to the agent and back. The
//! call goes on when its caller hangs up, and its outcome is reported to the mailbox either way.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use actix_web::{HttpResponse, get, post, web};
use covalence_actors::runtime::{CommandError, PermitRefused, PermitRequest};
use covalence_actors::workspace::{Command, Rejection};
use covalence_events::{Principal, WorkspaceId};
use covalence_projections::Status;
use serde_json::Value;

use self::restarting::{Delivery, Restarting};
use crate::http::auth;
use crate::http::error::{
    Answer, ApiError, BUSY, ErrorBody, RETRY_HELD, RETRY_NO_URL, RETRY_WAKING, WAKING, seconds,
};
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::{gone, present, row};

pub mod card;
pub(crate) mod failure;
mod inbox;
pub mod normalise;
pub mod patience;
pub mod queue;
pub mod relay;
mod restarting;
pub mod retry;
pub mod sse;

/// A call's body. The contract's later servers take this much; a message with a file in it fits, a video does not.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Seconds for a client to keep a card: long enough to help, short enough to follow a change.
const CARD_MAX_AGE: u32 = 60;

/// Sends an A2A message to a workspace's agent and answers with what it says: JSON, or the agent's own event stream.
#[utoipa::path(
    tag = "a2a", params(
        ("id" = String, Path),
        ("X-Workspace-ID" = Option<String>, Header, description = "the calling workspace; its bearer says the same"),
        ("X-Timeout" = Option<u64>, Header, description = "seconds after which the call is given up"),
        ("A2A-Version" = Option<String>, Header, description = "passed on to the agent"),
    ),
    request_body(content = Object, description = "JSON-RPC request; without `jsonrpc` it is wrapped"),
    responses(
        (status = 200, description = "the agent's answer, as it came", body = Object),
        (status = 202, description = "the agent is busy, and the call waits", body = queue::QueuedView),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 410, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 502, body = ErrorBody), (status = 503, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/a2a")]
pub(crate) async fn call(ctx: Ctx, path: web::Path<String>, payload: web::Payload) -> Answer {
    let id = workspace_id(&path)?;
    let caller = auth::caller(&ctx, id)?;
    let body = relay::read(payload).await?;
    there(&ctx, id)?;
    let call = normalise::normalise(body)?;
    if let Some(answer) = inbox::answered(&ctx, id, &caller, &call).await {
        return answer;
    }
    if ctx.state.views.activity.read().polls(id)
        && let Some(queued) = inbox::queue(&ctx, id, &caller, &call).await?
    {
        return Ok(queued);
    }
    let request = PermitRequest { caller: caller.clone(), method: call.method.clone() };
    let permit = match ctx.state.runtime.permit(id, request, ctx.origin(caller.clone())) {
        Err(refused) if retry::is_busy(&refused) => {
            retry::slot(
                &ctx,
                id,
                PermitRequest { caller: caller.clone(), method: call.method.clone() },
                refused,
            )
            .await
        }
        Err(
            PermitRefused::NoUrl { .. } | PermitRefused::Restarting { .. } | PermitRefused::Asleep { .. },
        ) => {
            ctx.state.runtime.settled(id).await;
            let origin = ctx.origin(caller.clone());
            let request = PermitRequest { caller: caller.clone(), method: call.method.clone() };
            ctx.state.runtime.permit(id, request, origin)
        }
        permit => permit,
    };
    let permit = match permit {
        Err(PermitRefused::Asleep { waking }) => return Err(wake(&ctx, id, &caller, waking).await),
        Err(refused @ PermitRefused::Full { .. }) => {
            let waits = queue::enqueue(&ctx, id, &caller, &call, None).await?;
            return waits.ok_or_else(|| not_permitted(&ctx, id, refused));
        }
        permit => permit.map_err(|refused| not_permitted(&ctx, id, refused))?,
    };
    let answer = relay::relay(ctx.clone(), id, permit, call.body.clone()).await;
    match answer {
        // The agent said that it has no time, so the call was not taken in.
        Err(error) if error.code == retry::AGENT_BUSY => {
            // Where it did not say for how long, only its caller is told to wait for so long.
            let after = error.wait().filter(|seconds| *seconds != retry::RETRY_BUSY);
            let after = after.map(std::time::Duration::from_secs);
            let waits = queue::enqueue(&ctx, id, &caller, &call, after).await?;
            waits.ok_or(error)
        }
        answer => answer,
    }
}

/// Whether a workspace is there. Looks at its row and lets it go: one that is held has to be copied when the next fact changes
/// it.
fn there(ctx: &Ctx, id: WorkspaceId) -> Result<(), ApiError> {
    let row = row(ctx, id).ok_or_else(ApiError::no_workspace)?;
    if row.status == Status::Removed { Err(gone(&row)) } else { Ok(()) }
}

/// What a caller is told that got no permit. Its request went nowhere.
fn not_permitted(ctx: &Ctx, id: WorkspaceId, refused: PermitRefused) -> ApiError {
    match refused {
        PermitRefused::Rejected(Rejection::Removed) => removed(ctx, id),
        PermitRefused::Rejected(rejection) => rejection.into(),
        PermitRefused::Full { open, max, retry_after } => {
            ApiError::unavailable("workspace_busy", BUSY, seconds(retry_after))
                .with("busy", true)
                .detail(format!("{open} of {max} calls are under way"))
        }
        PermitRefused::Restarting { restart } => {
            Restarting::of(&ctx.state, id, Some(restart)).error(Delivery::NotDelivered)
        }
        PermitRefused::Asleep { .. } => waking(),
        PermitRefused::NoUrl { status } => {
            ApiError::unavailable("workspace_no_url", "workspace has no URL", RETRY_NO_URL)
                .with("status", status.as_str())
        }
        PermitRefused::Command(error) => error.into(),
    }
}

/// Wakes who hibernates, and tells its caller when to come back.
async fn wake(ctx: &Ctx, id: WorkspaceId, caller: &Principal, is_waking: bool) -> ApiError {
    if is_waking {
        return waking();
    }
    match ctx.state.runtime.command(id, Command::Wake, ctx.origin(caller.clone())).await {
        Ok(_) => waking(),
        Err(CommandError::Rejected(Rejection::Removed)) => removed(ctx, id),
        // It sleeps on until a person lets it be started.
        Err(CommandError::Rejected(why)) => {
            ApiError::unavailable("workspace_hibernated", "workspace has no URL", RETRY_HELD)
                .with("status", Status::Hibernated.as_str())
                .with("waking", false)
                .detail(why.to_string())
        }
        Err(error) => error.into(),
    }
}

/// The contract's answer (4.5).
fn waking() -> ApiError {
    ApiError::unavailable("workspace_waking", WAKING, RETRY_WAKING)
        .with("waking", true)
        .with("delivery", Delivery::NotDelivered.as_str())
}

fn removed(ctx: &Ctx, id: WorkspaceId) -> ApiError {
    row(ctx, id).map_or_else(ApiError::no_workspace, |row| gone(&row))
}

/// The agent's card, rewritten so that every address in it is ours, with an entry for each security scheme that we want.
#[utoipa::path(
    tag = "a2a", params(("id" = String, Path)),
    responses(
        (status = 200, body = Object), (status = 304), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 410, body = ErrorBody),
    )
)]
#[get("/workspaces/{id}/.well-known/agent-card.json")]
pub(crate) async fn agent_card(ctx: Ctx, path: web::Path<String>) -> Answer {
    serve_card(&ctx, &path)
}

/// The same under the path of clients before A2A 0.3.
#[utoipa::path(
    tag = "a2a", params(("id" = String, Path)),
    responses(
        (status = 200, body = Object), (status = 304), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 410, body = ErrorBody),
    )
)]
#[get("/workspaces/{id}/.well-known/agent.json")]
pub(crate) async fn card_before_0_3(ctx: Ctx, path: web::Path<String>) -> Answer {
    serve_card(&ctx, &path)
}

/// The same under the path of the wire contract's runtimes.
#[utoipa::path(
    tag = "a2a", params(("id" = String, Path)),
    responses(
        (status = 200, body = Object), (status = 304), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 410, body = ErrorBody),
    )
)]
#[get("/workspaces/{id}/agent/card")]
pub(crate) async fn card_of_runtimes(ctx: Ctx, path: web::Path<String>) -> Answer {
    serve_card(&ctx, &path)
}

fn serve_card(ctx: &Ctx, path: &str) -> Answer {
    let id = workspace_id(path)?;
    if let Some(removed) = row(ctx, id).filter(|row| row.status == Status::Removed) {
        return Err(gone(&removed));
    }
    let row = present(ctx, id)?;
    let original = row.agent_card.as_ref().map(covalence_projections::roster::Card::to_value);
    let Some(Value::Object(original)) = original else {
        return Err(ApiError::not_found("agent_card_unknown", "the agent has not sent a card yet"));
    };
    let url = format!("{}/workspaces/{id}/a2a", ctx.public_base());
    let served = card::rewrite(original, &row.name, &url, !ctx.is_open());
    let text = Value::Object(served).to_string();
    let tag = format!("\"{}\"", card::tag(&text));
    let fresh =
        ctx.header(IF_NONE_MATCH.as_str()).is_some_and(|known| known.split(',').any(|one| one.trim() == tag));
    let status = if fresh { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let mut response = HttpResponse::build(status);
    response.insert_header((ETAG, tag)).insert_header((CACHE_CONTROL, format!("max-age={CARD_MAX_AGE}")));
    Ok(if fresh { response.finish() } else { response.content_type("application/json").body(text) })
}

/// Bytes of an agent's error text that are passed on.
const ERROR_TEXT_MAX: usize = 4096;

/// The agent's own error text, or its status in words.
fn error_text(status: StatusCode, body: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let said = parsed.as_ref().and_then(|body| body.get("error")).and_then(|error| error.as_str());
    let said = said.map(|text| text.chars().take(ERROR_TEXT_MAX).collect::<String>());
    said.unwrap_or_else(|| status.canonical_reason().unwrap_or("agent error").to_owned())
}

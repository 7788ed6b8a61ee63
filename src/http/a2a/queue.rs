//! Calls that wait until a busy agent has time (contract 4.7, 4.9): taken on with a 202, and asked after by their name.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, TimeDelta, Utc};
use covalence_actors::runtime::CommandError;
use covalence_actors::workspace::queue::EXPIRES_MAX;
use covalence_actors::workspace::{Command, Rejection};
use covalence_events::workspace::{CallQueued, Event};
use covalence_events::{Fact, Principal, QueueId, WorkspaceId};
use covalence_projections::calls::queue::Queued;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::inbox::digest;
use super::normalise::Call;
use crate::http::activity::row;
use crate::http::auth::{self, Identity};
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::{present, settled};

/// The one method whose answer is worth having later. Streams have no listener then, and what asks about a task asks again.
const METHOD: &str = "message/send";
/// The order among calls that wait; there is one (contract 4.9).
const PRIORITY: u32 = 50;
/// Minutes after which a call is stale where nobody says (contract 4.9).
const STALE_MINUTES: i64 = 60;

/// That a call waits.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueuedView {
    /// Always true: this is no error.
    queued: bool,
    /// Its name; `GET /workspaces/{id}/a2a/queue/{queue}` says what becomes of it.
    #[schema(value_type = String, format = Uuid)]
    queue_id: QueueId,
    /// How many wait for the same agent, this one included.
    queue_depth: usize,
    /// For people.
    message: &'static str,
}

/// Has a call wait for its agent; `after` is for how long the agent does not want to be asked. `None`: it can't wait, and its
/// caller is told that the agent is busy.
pub(super) async fn enqueue(
    ctx: &Ctx,
    id: WorkspaceId,
    caller: &Principal,
    call: &Call,
    after: Option<Duration>,
) -> Result<Option<HttpResponse>, ApiError> {
    // What the agent gets later has no header but its content type: only the protocol that needs none can wait.
    let version = ctx.header("a2a-version");
    if call.method != METHOD
        || *caller == Principal::Workspace(id)
        || version.is_some_and(|version| !version.trim_start().starts_with("0."))
    {
        return Ok(None);
    }
    let request = String::from_utf8_lossy(&call.body).into_owned();
    let now = ctx.state.clock.now().at;
    let not_before = after.and_then(|after| now.checked_add_signed(TimeDelta::from_std(after).ok()?));
    let queued = CallQueued {
        queue: QueueId::generate(),
        caller: caller.clone(),
        method: call.method.clone(),
        digest: digest(caller, &request),
        not_before,
        expires: now + lasts(&request),
        request,
    };
    let (queue, known_by) = (queued.queue, queued.digest.clone());
    let command = Command::QueueCall(Box::new(queued));
    let receipt = match ctx.state.runtime.command(id, command, ctx.origin(caller.clone())).await {
        Ok(receipt) => receipt,
        Err(CommandError::Rejected(Rejection::QueueFull)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    ctx.caught_up(receipt.position.or_else(|| Some(ctx.state.log.head()))).await;
    let (queue_id, queue_depth) = {
        let calls = ctx.state.views.calls.read();
        let known = known_by.filter(|_| receipt.position.is_none());
        let known = known.and_then(|digest| calls.queues().open_with(id, &digest));
        (known.map_or(queue, |known| known.queue), calls.queues().depth(id))
    };
    let message = "the agent is busy: the call waits until it has time";
    let view = QueuedView { queued: true, queue_id, queue_depth, message };
    Ok(Some(settled(ctx, receipt.position, StatusCode::ACCEPTED, view).await))
}

/// For how long the caller wants it: `params.expires_in_seconds`.
fn lasts(request: &str) -> TimeDelta {
    let request: Option<Value> = serde_json::from_str(request).ok();
    let asked = request.as_ref().and_then(|request| request.pointer("/params/expires_in_seconds")?.as_i64());
    let asked = asked.filter(|seconds| *seconds > 0).and_then(TimeDelta::try_seconds);
    asked.unwrap_or(EXPIRES_MAX).min(EXPIRES_MAX)
}

/// A call that waits, or waited.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueuedCallView {
    /// Its name.
    #[schema(value_type = String, format = Uuid)]
    queue_id: QueueId,
    /// Who is called.
    #[schema(value_type = String, format = Uuid)]
    workspace_id: WorkspaceId,
    /// Which workspace called; none: a person.
    #[schema(value_type = Option<String>, format = Uuid)]
    caller_id: Option<WorkspaceId>,
    /// The JSON-RPC method.
    method: String,
    /// `queued`, `dispatched`, `completed`, `failed` or `dropped`.
    status: &'static str,
    /// Always 50.
    priority: u32,
    /// How often it left.
    attempts: u32,
    /// A stable word for why it was not answered: `agent_error`, `empty_response`, `unreachable`, `unreadable`, `outcome_unknown`,
    /// `expired`, `dropped`, `removed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// Since when it waits.
    enqueued_at: DateTime<Utc>,
    /// When it left last.
    #[serde(skip_serializing_if = "Option::is_none")]
    dispatched_at: Option<DateTime<Utc>>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<DateTime<Utc>>,
    /// From then on it is not wanted any more.
    expires_at: DateTime<Utc>,
    /// What the agent answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    response_body: Option<Value>,
}

impl From<&Queued> for QueuedCallView {
    fn from(call: &Queued) -> Self {
        Self {
            queue_id: call.queue,
            workspace_id: call.workspace,
            caller_id: match call.caller {
                Principal::Workspace(caller) => Some(caller),
                Principal::System
                | Principal::Admin
                | Principal::Anonymous
                | Principal::OrgToken(_)
                | Principal::Session => None,
            },
            method: call.method.clone(),
            status: call.stage.as_str(),
            priority: PRIORITY,
            attempts: call.attempts,
            reason: call.reason.clone(),
            last_error: call.last_error.clone(),
            enqueued_at: call.enqueued_at,
            dispatched_at: call.dispatched_at,
            completed_at: call.completed_at,
            expires_at: call.expires_at,
            response_body: None,
        }
    }
}

/// What became of a call that had to wait. For who called and for who is called.
#[utoipa::path(
    tag = "a2a", params(("id" = String, Path), ("queue" = String, Path)),
    responses(
        (status = 200, body = QueuedCallView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/workspaces/{id}/a2a/queue/{queue}")]
pub(crate) async fn show(ctx: Ctx, path: web::Path<(String, String)>) -> Answer {
    let (id, queue) = path.into_inner();
    let id = workspace_id(&id)?;
    let reader = match ctx.known.identity {
        Identity::Admin | Identity::Org(_) => None,
        Identity::Workspace(credential) => Some(credential.workspace),
        Identity::Missing if ctx.is_open() => None,
        Identity::Missing | Identity::Unknown | Identity::Spent(_) => {
            return Err(ApiError::unauthorized("caller_unknown", "caller identity required"));
        }
    };
    let missing =
        || ApiError::not_found("queued_call_not_found", "queued call not found").with("retryable", true);
    let queue = queue.parse::<QueueId>().map_err(|_| missing())?;
    let call = ctx.state.views.calls.read().queues().find(id, queue).ok_or_else(missing)?;
    let mut view = QueuedCallView::from(call.as_ref());
    if reader.is_some_and(|reader| reader != id && view.caller_id != Some(reader)) {
        return Err(ApiError::forbidden("access_denied", "access denied"));
    }
    if let Some(answer) = call.answer
        && let Some(fact) = row::fact(&ctx, answer.position, answer.id).await?
        && let Fact::Workspace(Event::CallRecorded(said)) = &fact.fact
    {
        view.response_body = said.response.as_ref().map(row::json_of);
    }
    Ok(HttpResponse::Ok().json(view))
}

/// The calls that wait for a workspace's agent, or are with it from the queue, in the order in which they came.
#[utoipa::path(
    tag = "a2a", params(("id" = String, Path)),
    responses(
        (status = 200, body = [QueuedCallView]), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/workspaces/{id}/a2a/queue")]
pub(crate) async fn list(ctx: Ctx, path: web::Path<String>) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    present(&ctx, id)?;
    let calls = ctx.state.views.calls.read();
    let open = calls.queues().of(id).iter().filter(|call| call.stage.is_open());
    let views: Vec<QueuedCallView> = open.map(|call| call.as_ref().into()).collect();
    Ok(HttpResponse::Ok().json(views))
}

/// Which calls are given up.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StaleQuery {
    /// Those that have waited for longer than so many minutes; 60 where absent.
    max_age_minutes: Option<String>,
    /// Only those for this workspace.
    workspace_id: Option<String>,
}

/// Gives up calls that have waited for too long, so that a backlog does not flood agents after an incident.
#[utoipa::path(
    tag = "a2a", params(StaleQuery),
    responses(
        (status = 200, description = "`{\"dropped\":n}`"), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/admin/a2a-queue/drop-stale")]
pub(crate) async fn drop_stale(ctx: Ctx, query: web::Query<StaleQuery>) -> Answer {
    let principal = auth::admin(&ctx)?;
    let bad = || {
        ApiError::bad("invalid_query", "max_age_minutes must be a positive integer").field("max_age_minutes")
    };
    let minutes = match query.max_age_minutes.as_deref().filter(|text| !text.is_empty()) {
        None => STALE_MINUTES,
        Some(text) => text.parse().ok().filter(|minutes| *minutes > 0).ok_or_else(bad)?,
    };
    let age = TimeDelta::try_minutes(minutes).ok_or_else(bad)?;
    // An age beyond what the calendar can say is that of nothing.
    let before = ctx.state.clock.now().at.checked_sub_signed(age).ok_or_else(bad)?;
    let whose = match query.workspace_id.as_deref() {
        None => ctx.state.views.calls.read().queues().waiting().collect(),
        Some(id) => {
            let id = workspace_id(id).map_err(|error| error.field("workspace_id"))?;
            present(&ctx, id)?;
            vec![id]
        }
    };
    let (mut dropped, mut last) = (0, None);
    for id in whose {
        let command = Command::DropStale { before };
        match ctx.state.runtime.command(id, command, ctx.origin(principal.clone())).await {
            Ok(receipt) => {
                dropped += receipt.events.len();
                last = last.max(receipt.position);
            }
            // Removed since we looked.
            Err(CommandError::Rejected(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(settled(&ctx, last, StatusCode::OK, json!({"dropped": dropped})).await)
}

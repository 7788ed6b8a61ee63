//! `/workspaces/{id}/activity` and what goes with it: the feed of what was said to an agent, by it and about it.
//!
//! A feed's rows are facts; their order is the log's. So a cursor (`since_id`) never skips a row and never gives one twice,
//! whoever else writes at the same time, and an acknowledged message is a durable row.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, TimeDelta, Utc};
use covalence_actors::workspace::Command;
use covalence_events::workspace::{ActivityKind, ActivityReported, Notified};
use covalence_events::{EventId, WorkspaceId};
use covalence_projections::activity::Wanted;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::{present, settled};
use crate::http::{auth, body};

pub mod boundary;
pub mod row;
pub mod search;

use row::ActivityRow;

/// Rows in an answer where nothing is said (contract data 4.2).
const LIMIT_DEFAULT: usize = 100;
/// Rows in an answer at most.
const LIMIT_MAX: usize = 500;
/// The furthest that `since_secs` looks back: 30 days.
const SINCE_SECS_MAX: i64 = 30 * 24 * 60 * 60;
/// The contract's one text for a body that it can't use.
const INVALID: &str = "invalid request body";

/// Which rows are wanted. An empty value is as good as none.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Feed {
    /// Rows of this type only: `a2a_receive`, `delegation`, `task_update` and the like.
    r#type: Option<String>,
    /// `canvas`: what persons said; `agent`: what workspaces said.
    #[param(pattern = "^(canvas|agent)?$")]
    source: Option<String>,
    /// At most so many; 100 where absent, never more than 500.
    limit: Option<String>,
    /// Rows after this one, oldest first. 410 if there is no such row in this feed.
    since_id: Option<String>,
    /// Rows of the last so many seconds, up to 30 days.
    #[param(pattern = "^([1-9][0-9]{0,17})?$")]
    since_secs: Option<String>,
    /// Rows from or to this workspace.
    peer_id: Option<String>,
    /// Rows before this time (RFC 3339).
    before_ts: Option<String>,
    /// `peer_info`: who sent each row, and the files in it.
    include: Option<String>,
}

fn said(value: Option<&String>) -> Option<&str> {
    value.map(String::as_str).filter(|text| !text.is_empty())
}

impl Feed {
    fn wanted(&self, now: DateTime<Utc>) -> Result<Wanted, ApiError> {
        let bad = |field, text| ApiError::bad("invalid_query", text).field(field);
        let from_person = match said(self.source.as_ref()) {
            None => None,
            Some("canvas") => Some(true),
            Some("agent") => Some(false),
            Some(_) => return Err(bad("source", "source must be 'canvas' or 'agent'")),
        };
        let since = said(self.since_secs.as_ref()).map(|text| {
            let seconds = text.parse::<i64>().ok().filter(|seconds| *seconds > 0);
            let seconds =
                seconds.ok_or_else(|| bad("since_secs", "since_secs must be a positive integer"))?;
            Ok::<_, ApiError>(now - TimeDelta::seconds(seconds.min(SINCE_SECS_MAX)))
        });
        let peer = said(self.peer_id.as_ref())
            .map(|text| text.parse::<WorkspaceId>().map_err(|_| bad("peer_id", "peer_id must be a UUID")));
        let before = said(self.before_ts.as_ref()).map(|text| {
            // A `+` of an offset that was not escaped arrives as a blank.
            let time = DateTime::parse_from_rfc3339(&text.replace(' ', "+"));
            time.map(|time| time.with_timezone(&Utc)).map_err(|_| {
                bad("before_ts", "before_ts must be an RFC3339 timestamp (e.g. 2026-05-01T00:00:00Z)")
            })
        });
        Ok(Wanted {
            activity_type: said(self.r#type.as_ref()).map(str::to_owned),
            from_person,
            peer: peer.transpose()?,
            since: since.transpose()?,
            before: before.transpose()?,
        })
    }

    fn limit(&self) -> usize {
        rows(self.limit.as_deref(), LIMIT_DEFAULT, LIMIT_MAX)
    }
}

/// How many rows an answer has at most; what can't be read is as good as nothing said.
fn rows(asked: Option<&str>, default: usize, max: usize) -> usize {
    let asked = asked.and_then(|text| text.parse::<usize>().ok());
    asked.filter(|count| *count > 0).unwrap_or(default).min(max)
}

fn cursor_lost() -> ApiError {
    ApiError::new(
        StatusCode::GONE,
        "cursor_lost",
        "since_id cursor not found (row may have been pruned or belongs to a different workspace); omit since_id to reset",
    )
    .field("since_id")
}

/// The feed of a workspace: newest first, or what came after `since_id`, oldest first.
#[utoipa::path(
    tag = "activity", params(("id" = String, Path), Feed),
    responses(
        (status = 200, body = [ActivityRow]), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 410, description = "the cursor is lost", body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/workspaces/{id}/activity")]
pub(crate) async fn list(ctx: Ctx, path: web::Path<String>, query: web::Query<Feed>) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    let workspace = present(&ctx, id)?;
    let (wanted, limit) = (query.wanted(ctx.state.clock.now().at)?, query.limit());
    let rows = match said(query.since_id.as_ref()) {
        Some(cursor) => {
            let cursor = cursor.parse::<EventId>().map_err(|_| cursor_lost())?;
            let feed = ctx.state.views.activity.read();
            feed.after(id, cursor, &wanted, limit).map_err(|_| cursor_lost())?
        }
        None => ctx.state.views.activity.read().newest(id, &wanted, limit),
    };
    let with_peers = said(query.include.as_ref())
        .is_some_and(|include| include.split(',').any(|one| one.trim() == "peer_info"));
    let shown = row::shown(&ctx, &workspace, &rows, with_peers).await?;
    Ok(HttpResponse::Ok().json(shown))
}

/// Something that an agent did.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ReportBody {
    /// `a2a_send`, `a2a_receive`, `task_update`, `agent_log`, `skill_promotion`, `memory_write` or `error`.
    #[schema(pattern = "^(a2a_send|a2a_receive|task_update|agent_log|skill_promotion|memory_write|error)$")]
    activity_type: String,
    /// Only the workspace itself.
    #[serde(default, deserialize_with = "body::or_default")]
    source_id: String,
    /// Whom it did it with.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(value_type = Option<String>, format = Uuid)]
    target_id: String,
    /// What was called, in its words.
    #[serde(default, deserialize_with = "body::or_default")]
    method: String,
    /// One line about it.
    #[serde(default, deserialize_with = "body::or_default")]
    summary: String,
    /// How it went; `ok` where absent.
    #[serde(default, deserialize_with = "body::or_default")]
    status: String,
    /// What went wrong.
    #[serde(default, deserialize_with = "body::or_default")]
    error_detail: String,
    /// How long it took, in milliseconds.
    duration_ms: Option<i64>,
    /// What was sent.
    request_body: Option<Value>,
    /// What came back.
    response_body: Option<Value>,
    /// Stands in for a missing `request_body`.
    metadata: Option<Value>,
}

/// Records something that an agent says that it did.
#[utoipa::path(
    tag = "activity", params(("id" = String, Path)), request_body = ReportBody,
    responses(
        (status = 200, description = "`{\"status\":\"logged\"}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/activity")]
pub(crate) async fn report(ctx: Ctx, path: web::Path<String>, bytes: web::Bytes) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::workspace(&ctx, id)?;
    present(&ctx, id)?;
    let body: ReportBody = body::json(&bytes, INVALID)?;
    let activity = reported(id, body)?;
    let command = Command::Report(Box::new(activity));
    let receipt = ctx.state.runtime.command(id, command, ctx.origin(principal)).await?;
    Ok(settled(&ctx, receipt.position, StatusCode::OK, json!({"status": "logged"})).await)
}

fn reported(id: WorkspaceId, body: ReportBody) -> Result<ActivityReported, ApiError> {
    let kind = ActivityKind::ALL.into_iter().find(|kind| kind.as_str() == body.activity_type);
    let kind = kind.ok_or_else(|| {
        let allowed = ActivityKind::ALL.map(ActivityKind::as_str).join(", ");
        ApiError::bad("invalid_activity_type", format!("invalid activity_type, must be one of: {allowed}"))
            .field("activity_type")
    })?;
    if !body.source_id.is_empty() && body.source_id.parse() != Ok(id) {
        return Err(ApiError::forbidden("wrong_source", "source_id must match authenticated workspace")
            .field("source_id"));
    }
    let target = (!body.target_id.is_empty()).then(|| body.target_id.parse::<WorkspaceId>()).transpose();
    let target =
        target.map_err(|_| ApiError::bad("invalid_body", INVALID).field("target_id").detail("not a UUID"))?;
    let text = |text: String| (!text.is_empty()).then_some(text);
    let json_text =
        |value: Option<Value>| value.filter(|value| !value.is_null()).map(|value| value.to_string());
    Ok(ActivityReported {
        kind,
        method: text(body.method),
        summary: text(body.summary),
        target,
        status: text(body.status).unwrap_or_else(|| "ok".to_owned()),
        duration_ms: body.duration_ms,
        error_detail: text(body.error_detail),
        request: json_text(body.request_body).or_else(|| json_text(body.metadata)),
        response: json_text(body.response_body),
    })
}

/// A file that goes with a word to people.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "what clients send is passed on as it came; this says what it has to have")]
pub struct Attachment {
    /// Where it is.
    #[schema(min_length = 1)]
    uri: String,
    /// What it is called.
    #[schema(min_length = 1)]
    name: String,
}

/// How far an agent has done with its feed.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AckBody {
    /// The `seq` of the last row that it has done with.
    #[schema(value_type = u64)]
    acked_seq: Option<i64>,
}

/// How far that is.
#[derive(Debug, Serialize, ToSchema)]
pub struct AckedView {
    /// The furthest that was ever said: never less than before.
    last_acked_seq: u64,
}

/// An agent says how far it has done with its feed. Operators see it beside the workspace; nothing is taken away by it.
#[utoipa::path(
    tag = "activity", params(("id" = String, Path)), request_body = AckBody,
    responses(
        (status = 200, body = AckedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/activity/ack")]
pub(crate) async fn ack(ctx: Ctx, path: web::Path<String>, bytes: web::Bytes) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::workspace(&ctx, id)?;
    present(&ctx, id)?;
    let bad = |text| ApiError::bad("invalid_body", text).field("acked_seq");
    let body: AckBody = body::json(&bytes, "acked_seq is required")?;
    let seq = body.acked_seq.ok_or_else(|| bad("acked_seq is required"))?;
    let seq = u64::try_from(seq).map_err(|_| bad("acked_seq must be >= 0"))?;
    let receipt = ctx.state.runtime.command(id, Command::Ack { seq }, ctx.origin(principal)).await?;
    ctx.caught_up(receipt.position.or_else(|| Some(ctx.state.log.head()))).await;
    // The projections may be behind for once; what was just said counts either way.
    let known = present(&ctx, id)?.last_acked_seq;
    Ok(HttpResponse::Ok().json(AckedView { last_acked_seq: known.max(seq) }))
}

/// A word to people.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NotifyBody {
    /// What the agent says; needed.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(required = true, min_length = 1)]
    message: String,
    /// Files that go with it, each with `uri` and `name`, perhaps `mimeType` and `size`.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(value_type = Vec<Attachment>)]
    attachments: Vec<Value>,
}

/// An agent says something to people: on the canvas, and in its feed.
#[utoipa::path(
    tag = "activity", params(("id" = String, Path)), request_body = NotifyBody,
    responses(
        (status = 200, description = "`{\"status\":\"sent\"}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/notify")]
pub(crate) async fn notify(ctx: Ctx, path: web::Path<String>, bytes: web::Bytes) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::workspace(&ctx, id)?;
    present(&ctx, id)?;
    let required = |text: String| ApiError::bad("invalid_body", text);
    let body: NotifyBody = body::json(&bytes, "message is required")?;
    if body.message.is_empty() {
        return Err(required("message is required".to_owned()).field("message"));
    }
    for (index, attachment) in body.attachments.iter().enumerate() {
        let has =
            |key: &str| attachment.get(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        if !has("uri") || !has("name") {
            let text = format!("attachment[{index}]: uri and name are required");
            return Err(required(text).field("attachments"));
        }
    }
    let attachments = body.attachments;
    let attachments = (!attachments.is_empty()).then(|| Value::Array(attachments).to_string());
    let command = Command::Notify(Box::new(Notified { message: body.message, attachments }));
    let receipt = ctx.state.runtime.command(id, command, ctx.origin(principal)).await?;
    Ok(settled(&ctx, receipt.position, StatusCode::OK, json!({"status": "sent"})).await)
}

//! Incidents as objects: listed, looked into, opened, noted on and closed.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, get, post, web};
use covalence_actors::fleet::{Command, NewIncident};
use covalence_events::{Fact, IncidentId, Position, Timestamp, WorkspaceId, fleet};
use covalence_incidents::flight;
use covalence_incidents::incident::{self, INCIDENTS_DEFAULT, INCIDENTS_MAX, Incident, Incidents};
use covalence_incidents::report::{self, About, Report};
use covalence_incidents::timeline::{SINCE_DEFAULT, WORKSPACES_MAX};
use serde::Deserialize;
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{invalid, moment, refused, who, workspaces};
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::{present, settled};
use crate::http::{auth, body};

/// Bytes of a title: a line of a list.
pub const TITLE_MAX: usize = 200;
/// Bytes of a note: a few paragraphs.
pub const NOTE_MAX: usize = 4000;
/// The generic text for a body that can't be used.
const INVALID: &str = "invalid request body";

/// How many.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HowMany {
    /// At most so many incidents, up to 200; 20 without it.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// Which span.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Within {
    /// From this time (RFC 3339) or position on; fifteen minutes before now without it.
    since: Option<String>,
    /// Up to this time or position; now without it.
    until: Option<String>,
    /// Only about these workspaces, and what holds everybody: ids with commas between them, at most 100.
    workspace: Option<String>,
}

/// An incident to open.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct NewIncidentBody {
    /// What it is about, in a line of at most 200 bytes; needed.
    #[schema(value_type = String, required = true, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$")]
    title: Option<String>,
    /// When it began (RFC 3339); fifteen minutes before now without it.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<String>,
    /// When it ended; it goes on without it.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<String>,
    /// Ids of those whom it is about; everybody without it.
    #[serde(default)]
    #[schema(value_type = Vec<uuid::Uuid>, max_items = 100)]
    workspaces: Vec<String>,
}

/// Something to say about an incident.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct NewNote {
    /// What, at most 4000 bytes; needed.
    #[schema(value_type = String, required = true, max_length = 4000, pattern = r"\S")]
    text: Option<String>,
}

/// The end of an incident.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Closing {
    /// What it was in the end, at most 4000 bytes.
    #[schema(max_length = 4000, pattern = r"\S")]
    comment: Option<String>,
}

/// The last incidents, newest first. A brake that engages opens one by itself; within ten minutes of its release it joins the one
/// that it opened before.
#[utoipa::path(
    tag = "incidents", params(HowMany),
    responses((status = 200, body = Incidents), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/incidents")]
pub(crate) async fn list(ctx: Ctx, query: web::Query<HowMany>) -> Answer {
    auth::admin(&ctx)?;
    let limit = query.limit.unwrap_or(INCIDENTS_DEFAULT);
    if !(1..=INCIDENTS_MAX).contains(&limit) {
        return Err(invalid("limit").detail(format!("expected 1 to {INCIDENTS_MAX}")));
    }
    let found = incident::list(ctx.state.log.as_ref(), limit, &who(&ctx)).await.map_err(refused)?;
    Ok(HttpResponse::Ok().json(found))
}

/// An incident, looked into: the first causes that the facts speak for, with how sure; whom it hit; what those have in common;
/// the main facts.
#[utoipa::path(
    tag = "incidents", params(("id" = String, Path)),
    responses(
        (status = 200, body = Report), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/incidents/{id}")]
pub(crate) async fn show(ctx: Ctx, path: web::Path<String>) -> Answer {
    auth::admin(&ctx)?;
    let about = About::Incident(incident_id(&path)?);
    look_into(&ctx, &about).await
}

/// Which flight of an incident.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WhichFlight {
    /// The one at this position of the log, as `flights` of the incident names them; the first without it.
    position: Option<u64>,
}

/// What observers saw in the quarter of an hour before a brake engaged, as it came: JSON lines, oldest first. Lists with what
/// changed in them, looks, probes, calls and heartbeats with their times and errors, and which questions went out.
#[utoipa::path(
    tag = "incidents", params(("id" = String, Path), WhichFlight),
    responses(
        (status = 200, body = String, content_type = "application/x-ndjson"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/incidents/{id}/flight")]
pub(crate) async fn show_flight(ctx: Ctx, path: web::Path<String>, query: web::Query<WhichFlight>) -> Answer {
    auth::admin(&ctx)?;
    let log = ctx.state.log.as_ref();
    let incident = incident::find(log, incident_id(&path)?, &who(&ctx)).await.map_err(refused)?;
    let lines = flight::lines(log, &incident, query.position).await.map_err(refused)?;
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").body(lines))
}

/// Any span of time, looked into like an incident: also one in which no brake engaged.
#[utoipa::path(
    tag = "incidents", params(Within),
    responses((status = 200, body = Report), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/incidents/span")]
pub(crate) async fn show_span(ctx: Ctx, query: web::Query<Within>) -> Answer {
    auth::admin(&ctx)?;
    let now = ctx.state.clock.now().at;
    let usual = covalence_incidents::Moment::Time(now - SINCE_DEFAULT);
    let since = query.since.as_deref().map(|since| moment(&ctx, "since", Some(since))).transpose()?;
    let until = moment(&ctx, "until", query.until.as_deref())?;
    let workspaces = workspaces(query.workspace.as_deref())?;
    look_into(&ctx, &About::Span { since: since.unwrap_or(usual), until, workspaces }).await
}

async fn look_into(ctx: &Ctx, about: &About) -> Answer {
    let now = ctx.state.clock.now().at;
    let report = report::show(ctx.state.log.as_ref(), about, now, &who(ctx)).await.map_err(refused)?;
    Ok(HttpResponse::Ok().json(report))
}

/// Opens an incident by hand.
#[utoipa::path(
    tag = "incidents", request_body = NewIncidentBody,
    responses(
        (status = 201, body = Incident), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/incidents")]
pub(crate) async fn open(ctx: Ctx, body: web::Bytes) -> Answer {
    let principal = auth::admin(&ctx)?;
    let wish: NewIncidentBody = body::json(&body, INVALID)?;
    let title = words("title", wish.title, TITLE_MAX)?;
    if title.contains(char::is_control) {
        return Err(field("title", "`title` must be one line"));
    }
    let now = ctx.state.clock.now().at;
    let since = time("since", wish.since.as_deref())?.unwrap_or(now - SINCE_DEFAULT);
    let until = time("until", wish.until.as_deref())?;
    if since > now || until.is_some_and(|until| until < since) {
        return Err(field("since", "`since` must be before now, and before `until`"));
    }
    let workspaces = whom(&ctx, &wish.workspaces)?;
    let command = NewIncident { title, since: Some(since), until, workspaces };
    let command = Command::OpenIncident(Box::new(command));
    let position = ctx.state.runtime.fleet(command, ctx.origin(principal)).await?;
    let id = opened_at(&ctx, position).await?;
    let opened = incident::find(ctx.state.log.as_ref(), id, &who(&ctx)).await.map_err(refused)?;
    Ok(settled(&ctx, position, StatusCode::CREATED, opened).await)
}

/// The incident that the fact at this position opens.
async fn opened_at(ctx: &Ctx, position: Option<Position>) -> Result<IncidentId, ApiError> {
    let position =
        position.ok_or_else(|| ApiError::internal("internal error", "an incident left no fact"))?;
    let facts = ctx.state.log.read_all(position, 1).await?;
    let id = facts.iter().find_map(|recorded| match &recorded.fact {
        Fact::Fleet(fleet::Event::IncidentOpened(fact)) => Some(fact.incident),
        Fact::Fleet(_) | Fact::Workspace(_) => None,
    });
    id.ok_or_else(|| ApiError::internal("internal error", "an incident's fact is another one"))
}

/// Says something about an incident; also about one that is closed, since much is learned later.
#[utoipa::path(
    tag = "incidents", params(("id" = String, Path)), request_body = NewNote,
    responses(
        (status = 201, description = "`{\"status\":\"noted\",\"incident\":id}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/incidents/{id}/notes")]
pub(crate) async fn note(ctx: Ctx, path: web::Path<String>, body: web::Bytes) -> Answer {
    let principal = auth::admin(&ctx)?;
    let incident = incident_id(&path)?;
    let wish: NewNote = body::json(&body, INVALID)?;
    let text = words("text", wish.text, NOTE_MAX)?;
    let command = Command::NoteIncident { incident, text };
    let position = ctx.state.runtime.fleet(command, ctx.origin(principal)).await?;
    let body = json!({"status": "noted", "incident": incident});
    Ok(settled(&ctx, position, StatusCode::CREATED, body).await)
}

/// Closes an incident: a person is done with it. A brake of its cell opens another one from then on.
#[utoipa::path(
    tag = "incidents", params(("id" = String, Path)), request_body = Option<Closing>,
    responses(
        (status = 200, description = "`{\"status\":\"closed\",\"incident\":id}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/incidents/{id}/close")]
pub(crate) async fn close(ctx: Ctx, path: web::Path<String>, body: web::Bytes) -> Answer {
    let principal = auth::admin(&ctx)?;
    let incident = incident_id(&path)?;
    let wish: Closing = if body.is_empty() { Closing::default() } else { body::json(&body, INVALID)? };
    let comment = wish.comment.map(|text| words("comment", Some(text), NOTE_MAX)).transpose()?;
    let command = Command::CloseIncident { incident, comment };
    let position = ctx.state.runtime.fleet(command, ctx.origin(principal)).await?;
    let body = json!({"status": "closed", "incident": incident});
    Ok(settled(&ctx, position, StatusCode::OK, body).await)
}

pub(super) fn incident_id(text: &str) -> Result<IncidentId, ApiError> {
    text.parse().map_err(|_| ApiError::bad("invalid_incident_id", "invalid incident ID").field("id"))
}

fn field(name: &'static str, detail: impl Into<String>) -> ApiError {
    ApiError::bad("invalid_field", detail.into()).field(name)
}

/// A person's words: needed, and no longer than a report can quote.
fn words(name: &'static str, text: Option<String>, max: usize) -> Result<String, ApiError> {
    let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| field(name, format!("`{name}` is required")))?;
    let is_odd = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    if text.len() > max || text.contains(is_odd) {
        return Err(field(name, format!("`{name}` must be text of at most {max} bytes")));
    }
    Ok(text)
}

fn time(name: &'static str, text: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    let read = |text: &str| {
        chrono::DateTime::parse_from_rfc3339(text.trim())
            .map(|at| at.to_utc())
            .map_err(|_| field(name, format!("`{name}` must be RFC 3339, such as `2026-03-01T03:07:00Z`")))
    };
    text.map(read).transpose()
}

fn whom(ctx: &Ctx, named: &[String]) -> Result<Vec<WorkspaceId>, ApiError> {
    if named.len() > WORKSPACES_MAX {
        return Err(field("workspaces", format!("`workspaces` must be at most {WORKSPACES_MAX} ids")));
    }
    let one = |text: &String| {
        let id = workspace_id(text).map_err(|error| error.field("workspaces"))?;
        present(ctx, id).map(|row| row.id)
    };
    named.iter().map(one).collect()
}

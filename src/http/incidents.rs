//! Questions about what happened and why: explanations and timelines, answered from the log by `covalence-incidents`.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use std::collections::BTreeSet;

use actix_web::{HttpResponse, get, web};
use covalence_events::{Position, WorkspaceId};
use covalence_incidents::explain::{self, Explanation};
use covalence_incidents::timeline::{self, Span, Timeline};
use covalence_incidents::{Failure, Moment, Which, Who};
use covalence_projections::roster::Removed;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::http::auth;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::{Ctx, workspace_id};

pub(crate) mod case;
pub mod objects;

/// What a moment may be.
const MOMENTS: &str = "expected RFC 3339 (`2026-03-01T03:07:00Z`) or a position (`1234`)";

/// As of when.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AsOf {
    /// As things stood at this time (RFC 3339) or position; now without it.
    at: Option<String>,
}

/// Which fact.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WhichFact {
    /// A fact's id, or its position; needed.
    #[param(required)]
    event: Option<String>,
}

/// Between which moments, and about whom.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Between {
    /// From this time (RFC 3339) or position on; fifteen minutes before the end without it.
    since: Option<String>,
    /// Up to this time or position; now without it.
    until: Option<String>,
    /// Only about these workspaces: ids with commas between them, at most 100.
    workspace: Option<String>,
    /// Go on after this position: `next_after` of the page before.
    after: Option<u64>,
    /// At most so many lines, up to 5000.
    #[param(minimum = 1, maximum = 5000)]
    limit: Option<usize>,
}

/// Why a workspace was restarted, or was not: the chain from the evidence to the outcome, with every number that was decided
/// with, and what held back what was not done, as of a moment.
#[utoipa::path(
    tag = "incidents", params(("id" = String, Path), AsOf),
    responses(
        (status = 200, body = Explanation), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/workspaces/{id}/explain")]
pub(crate) async fn explain_workspace(ctx: Ctx, path: web::Path<String>, query: web::Query<AsOf>) -> Answer {
    auth::admin(&ctx)?;
    let id = workspace_id(&path)?;
    let moment = moment(&ctx, "at", query.at.as_deref())?;
    let explained = explain::workspace(ctx.state.log.as_ref(), id, moment, &who(&ctx)).await;
    Ok(HttpResponse::Ok().json(explained.map_err(refused)?))
}

/// How a fact came about, and what it led to: the chain that it is a part of, up to the log's head.
#[utoipa::path(
    tag = "incidents", params(WhichFact),
    responses(
        (status = 200, body = Explanation), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/admin/explain")]
pub(crate) async fn explain_fact(ctx: Ctx, query: web::Query<WhichFact>) -> Answer {
    auth::admin(&ctx)?;
    let wanted = query.event.as_deref().unwrap_or_default();
    let which = match (wanted.parse(), wanted.parse()) {
        (Ok(position), _) => Which::Position(Position(position)),
        (Err(_), Ok(id)) => Which::Id(id),
        (Err(_), Err(_)) => {
            return Err(invalid("event").detail("expected a fact's id (a UUID) or its position (`1234`)"));
        }
    };
    let explained = explain::fact(ctx.state.log.as_ref(), which, &who(&ctx)).await;
    Ok(HttpResponse::Ok().json(explained.map_err(refused)?))
}

/// What happened between two moments: a line for each fact, those that repeat folded into one, and gaps where nobody watched.
/// A page ends after so many lines, or after 20 000 facts; `next_after` says where the next one begins.
#[utoipa::path(
    tag = "incidents", params(Between),
    responses((status = 200, body = Timeline), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/admin/timeline")]
pub(crate) async fn show_timeline(ctx: Ctx, query: web::Query<Between>) -> Answer {
    auth::admin(&ctx)?;
    let until = moment(&ctx, "until", query.until.as_deref())?;
    let since = query.since.as_deref().map(|since| moment(&ctx, "since", Some(since))).transpose()?;
    let lines = query.limit.unwrap_or(timeline::LINES_DEFAULT);
    if !(1..=timeline::LINES_MAX).contains(&lines) {
        return Err(invalid("limit").detail(format!("expected 1 to {}", timeline::LINES_MAX)));
    }
    let span = Span {
        since,
        until,
        after: query.after.map(Position),
        workspaces: workspaces(query.workspace.as_deref())?,
        lines,
    };
    let found = timeline::between(ctx.state.log.as_ref(), &span, &who(&ctx)).await;
    Ok(HttpResponse::Ok().json(found.map_err(refused)?))
}

/// Ids with commas between them.
pub(super) fn workspaces(named: Option<&str>) -> Result<BTreeSet<WorkspaceId>, ApiError> {
    let named = named.unwrap_or_default();
    let ids = named.split(',').map(str::trim).filter(|id| !id.is_empty());
    let ids: Result<BTreeSet<WorkspaceId>, ApiError> = ids
        .map(|id| {
            id.parse().map_err(|_| invalid("workspace").detail("expected ids with commas between them"))
        })
        .collect();
    let ids = ids?;
    if ids.len() > timeline::WORKSPACES_MAX {
        return Err(invalid("workspace").detail(format!("at most {} ids", timeline::WORKSPACES_MAX)));
    }
    Ok(ids)
}

/// A moment as a query names it; now where it names none.
pub(super) fn moment(ctx: &Ctx, field: &'static str, text: Option<&str>) -> Result<Moment, ApiError> {
    let Some(text) = text.map(str::trim) else { return Ok(Moment::Now(ctx.state.clock.now().at)) };
    if let Ok(position) = text.parse() {
        return Ok(Moment::Position(Position(position)));
    }
    let at = chrono::DateTime::parse_from_rfc3339(text);
    at.map(|at| Moment::Time(at.to_utc())).map_err(|_| invalid(field).detail(MOMENTS))
}

/// What workspaces are called.
pub(super) fn who(ctx: &Ctx) -> Who {
    let mut who = Who::default();
    let roster = ctx.state.views.roster.read();
    for row in roster.list(Removed::Show) {
        who.know(row.id, &row.name, row.parent);
    }
    who
}

pub(super) fn invalid(field: &'static str) -> ApiError {
    ApiError::bad("invalid_question", "invalid question").field(field)
}

pub(super) fn refused(failure: Failure) -> ApiError {
    match failure {
        Failure::NoWorkspace(_) => ApiError::no_workspace(),
        Failure::NotYet(_) => ApiError::no_workspace().field("at").detail("it was created later than that"),
        Failure::NoFact(named) => {
            ApiError::not_found("fact_not_found", "no such fact").field("event").detail(named)
        }
        Failure::NoIncident(_) => ApiError::not_found("incident_not_found", "no such incident"),
        Failure::NoFlight(why) => ApiError::not_found("flight_not_found", "no such flight").detail(why),
        Failure::Backwards => invalid("since").detail("expected a moment before `until`"),
        Failure::Read(error) => error.into(),
    }
}

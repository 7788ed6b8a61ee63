//! A span of the log, or an incident, as a golden case.

use actix_web::http::header;
use actix_web::{HttpResponse, get, web};
use covalence_incidents::golden::CaseError;
use serde::Deserialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use utoipa::IntoParams;

use super::objects::incident_id;
use super::{invalid, moment, refused, who, workspaces};
use crate::golden::{self, GoldenError, Wish};
use crate::http::auth;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::Ctx;

/// The whole log up to the end of the span is read for each: one at a time.
static TURN: Semaphore = Semaphore::const_new(1);
/// Seconds until the next may have its turn.
const RETRY_AFTER: u64 = 5;

/// Which span, and what it is called.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhichCase {
    /// Decisions from this time (RFC 3339) or position on are expected; needed.
    #[param(required)]
    since: Option<String>,
    /// And up to this one; now without it.
    until: Option<String>,
    /// Only about these workspaces, and the brakes: ids with commas between them, at most 100.
    workspace: Option<String>,
    /// What it is called.
    name: Option<String>,
    /// What happened, in a sentence.
    about: Option<String>,
}

/// Makes a golden case: a JSON document that says what is expected, a line feed, and all facts up to the end of the span as one
/// zstd frame, without what is secret in them. `covalence incidents replay` reads it.
#[utoipa::path(
    tag = "incidents", params(WhichCase),
    responses(
        (status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 503, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/admin/case")]
pub(crate) async fn make(ctx: Ctx, query: web::Query<WhichCase>) -> Answer {
    auth::admin(&ctx)?;
    let Some(since) = query.since.as_deref() else {
        return Err(invalid("since").detail("expected a time (RFC 3339) or a position"));
    };
    let wish = Wish {
        name: query.name.clone().unwrap_or_default(),
        about: query.about.clone().unwrap_or_default(),
        since: moment(&ctx, "since", Some(since))?,
        until: moment(&ctx, "until", query.until.as_deref())?,
        workspaces: workspaces(query.workspace.as_deref())?,
    };
    let _turn = turn()?;
    made(&ctx, wish).await
}

/// What the case of an incident is called.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CaseWords {
    /// What it is called.
    name: Option<String>,
    /// What happened, in a sentence; the incident's title without it.
    about: Option<String>,
}

/// An incident as a golden case: the decisions from its first sign to its end, or to now while it goes on. Otherwise as
/// `GET /admin/case`.
#[utoipa::path(
    tag = "incidents", params(("id" = String, Path), CaseWords),
    responses(
        (status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/incidents/{id}/case")]
pub(crate) async fn of_incident(ctx: Ctx, path: web::Path<String>, query: web::Query<CaseWords>) -> Answer {
    auth::admin(&ctx)?;
    let id = incident_id(&path)?;
    let CaseWords { name, about } = query.into_inner();
    let words = (name.unwrap_or_default(), about.unwrap_or_default());
    let _turn = turn()?;
    let (log, now, who) = (ctx.state.log.as_ref(), ctx.state.clock.now().at, who(&ctx));
    let wish = Wish::of_incident(log, id, words, (now, &who)).await.map_err(refused)?;
    made(&ctx, wish).await
}

fn turn() -> Result<SemaphorePermit<'static>, ApiError> {
    let busy = "another case is being made: try again when it is done";
    TURN.try_acquire().map_err(|_| ApiError::unavailable("case_running", busy, RETRY_AFTER))
}

async fn made(ctx: &Ctx, wish: Wish) -> Answer {
    let case = golden::make(ctx.state.log.as_ref(), wish).await.map_err(no_case)?;
    let file = case.write().map_err(|error| no_case(error.into()))?;
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, "application/octet-stream")).body(file))
}

fn no_case(error: GoldenError) -> ApiError {
    match error {
        GoldenError::Case(CaseError::Question(failure)) => refused(failure),
        GoldenError::Case(CaseError::Read(error)) => error.into(),
        GoldenError::Case(error @ CaseError::TooLong) => invalid("until").detail(error.to_string()),
        other => ApiError::internal("the case can't be made", other),
    }
}

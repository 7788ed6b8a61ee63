//! `/admin/log/…`: the log in segments, for a backup from afar, and its signed checkpoints.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use std::sync::Arc;

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpResponse, get, post, web};
use covalence_events::Position;
use covalence_events::log::checkpoint::{self, Book, PublicKey};
use covalence_events::log::segments::{Cutter, SEGMENT_BYTES};
use covalence_events::log::{Frames, ReadError};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::auth;
use crate::http::body;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::Ctx;

/// The log's last position when a segment was cut, so that a reader knows where to end.
const HEAD: HeaderName = HeaderName::from_static("x-covalence-head");

/// Which facts are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SegmentQuery {
    /// The position after which the segment begins.
    #[serde(default)]
    after: u64,
}

/// One segment of the log: whole appends after a position, about 4 MiB of them, in the format of `docs/event-log.md`. 204 at
/// the log's end.
#[utoipa::path(
    tag = "operations", params(SegmentQuery),
    responses(
        (status = 200, body = String, content_type = "application/octet-stream"), (status = 204),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, description = "the fact there was removed by retention: nothing can begin behind it", body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 500, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/admin/log/segments")]
pub(crate) async fn get_segment(ctx: Ctx, query: web::Query<SegmentQuery>) -> Answer {
    auth::admin(&ctx)?;
    let log = frames(&ctx)?;
    let after = Position(query.after);
    let head = log.head();
    if after > head {
        return Err(ApiError::conflict("beyond_the_log", format!("the log ends at position {head}")));
    }
    let cut = web::block(move || {
        let mut cutter = Cutter::at(log.as_ref(), after)?;
        cutter.fill(log.as_ref(), SEGMENT_BYTES)?;
        cutter.segment(log.as_ref())
    });
    let segment = cut.await.map_err(|error| ApiError::internal("query failed", error))??;
    let Some(segment) = segment else { return Ok(HttpResponse::NoContent().finish()) };
    let encoded = web::block(move || segment.encode()).await;
    let file = encoded
        .map_err(|error| ApiError::internal("query failed", error))?
        .map_err(|error| ApiError::internal("query failed", error))?;
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        .insert_header((HEAD, HeaderValue::from(head.0)))
        .body(file))
}

/// The log's own signed checkpoints, oldest first, one a line.
#[utoipa::path(
    tag = "operations",
    responses((status = 200, body = String, content_type = "application/x-ndjson"), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/admin/log/checkpoints")]
pub(crate) async fn list_checkpoints(ctx: Ctx) -> Answer {
    auth::admin(&ctx)?;
    let book = ctx.state.checkpoints.clone().ok_or_else(no_frames)?;
    let read = web::block(move || Book::read(&book)).await;
    let (checkpoints, _) = read
        .map_err(|error| ApiError::internal("query failed", error))?
        .map_err(|error| ApiError::internal("query failed", error))?;
    let lines: String =
        checkpoints.iter().flat_map(|checkpoint| [checkpoint.to_string(), "\n".to_owned()]).collect();
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").body(lines))
}

/// A public key, in hexadecimal.
#[derive(Debug, ToSchema)]
#[schema(pattern = "^[0-9a-f]{64}$")]
#[expect(dead_code, reason = "it says how the text has to look")]
pub struct PublicKeyText(String);

/// Checkpoints that were kept elsewhere.
#[derive(Debug, Deserialize, ToSchema)]
pub struct KeptCheckpoints {
    /// One a line, as `GET /admin/log/checkpoints` gives them. At most a megabyte; more go into several requests.
    checkpoints: String,
    /// Public keys in hexadecimal, of which only these are believed; empty: each checkpoint's own.
    #[serde(default)]
    #[schema(value_type = Vec<PublicKeyText>)]
    public_keys: Vec<String>,
}

/// See [`check_checkpoints`].
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckedView {
    /// Checkpoints looked at.
    checkpoints: u64,
    /// Everything that does not fit; empty means that the log is the one that was signed.
    problems: Vec<String>,
}

/// Holds checkpoints that were kept elsewhere against the log's chain.
#[utoipa::path(
    tag = "operations", request_body = KeptCheckpoints,
    responses(
        (status = 200, body = CheckedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 500, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/admin/log/checkpoints/check")]
pub(crate) async fn check_checkpoints(ctx: Ctx, body: web::Bytes) -> Answer {
    auth::admin(&ctx)?;
    let kept: KeptCheckpoints = body::json(&body, "expected checkpoints")?;
    let keys: Result<Vec<PublicKey>, _> = kept.public_keys.iter().map(|key| key.parse()).collect();
    let keys = keys.map_err(|wrong: checkpoint::NoCheckpoint| {
        ApiError::bad("invalid_key", wrong.to_string()).field("public_keys")
    })?;
    let log = frames(&ctx)?;
    let checked = web::block(move || {
        let (checkpoints, mut problems) = checkpoint::parse(&kept.checkpoints);
        problems.extend(checkpoint::check(log.as_ref(), &checkpoints, &keys));
        CheckedView { checkpoints: checkpoints.len() as u64, problems }
    });
    let checked = checked.await.map_err(|error| ApiError::internal("query failed", error))?;
    Ok(HttpResponse::Ok().json(checked))
}

fn frames(ctx: &Ctx) -> Result<Arc<dyn Frames>, ApiError> {
    ctx.state.log.frames().ok_or_else(no_frames)
}

fn no_frames() -> ApiError {
    ReadError::Store { what: "frames".to_owned(), reason: "this log has none".to_owned() }.into()
}

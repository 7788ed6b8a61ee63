//! `/admin/projections`: how the read side fares, and folding it anew.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, Utc};
use covalence_projections::rebuild::{Refused, Report};
use covalence_projections::view::{Fingerprint, Health};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::Ctx;
use crate::http::{auth, body};

/// The generic text for a body that can't be used.
const INVALID: &str = "invalid request body";

/// Whether states are hashed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Hashing {
    /// `false`: leave the hashes out, which takes a second or more on a large fleet.
    hash: Option<bool>,
}

/// One projection.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProjectionView {
    /// Its name.
    name: &'static str,
    /// Changes when the same facts lead to another state.
    version: u32,
    /// The last fact that it has taken in.
    checkpoint: u64,
    /// Facts in the log after that.
    lag: u64,
    /// Why it stopped; null while it goes on.
    stalled: Option<StalledView>,
    /// What its state comes to; null where hashes are left out.
    state: Option<StateHash>,
    /// Its last rebuild in this run of the server; null without one.
    rebuild: Option<RebuildView>,
}

/// Why a projection stopped.
#[derive(Debug, Serialize, ToSchema)]
pub struct StalledView {
    /// The fact that it could not apply, or could not be read.
    position: u64,
    /// Why.
    reason: String,
}

/// What a state comes to: two folds of the same facts have the same hash at the same position.
#[derive(Debug, Serialize, ToSchema)]
pub struct StateHash {
    /// Where it was taken.
    position: u64,
    /// Hex of the BLAKE3 of the state.
    hash: String,
}

/// A rebuild of one projection.
#[derive(Debug, Serialize, ToSchema)]
pub struct RebuildView {
    /// `running`, `agreed`, `differed`, `healed`, `stalled` or `failed`. The fresh one serves after the middle three.
    outcome: &'static str,
    /// Why the fresh one does not serve.
    reason: Option<String>,
    /// When it began.
    began: DateTime<Utc>,
    /// How far the fresh one is.
    position: u64,
    /// Where the log ended when it began.
    through: u64,
    /// The serving state where both were compared.
    serving: Option<StateHash>,
    /// The fresh state there.
    fresh: Option<StateHash>,
}

impl StateHash {
    fn of(print: Fingerprint) -> Self {
        Self { position: print.position.0, hash: print.hash }
    }
}

impl RebuildView {
    fn of(report: Report) -> Self {
        Self {
            outcome: report.outcome.as_str(),
            reason: report.outcome.reason().map(str::to_owned),
            began: report.began,
            position: report.position.0,
            through: report.through.0,
            serving: report.serving.map(StateHash::of),
            fresh: report.fresh.map(StateHash::of),
        }
    }
}

/// Every projection: its version, how far it has read, whether it stopped, what its state comes to, and its last rebuild.
#[utoipa::path(
    tag = "operations", params(Hashing),
    responses((status = 200, body = [ProjectionView]), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/admin/projections")]
pub(crate) async fn list(ctx: Ctx, query: web::Query<Hashing>) -> Answer {
    auth::admin(&ctx)?;
    let each: Vec<(Health, Option<Fingerprint>)> = if query.hash == Some(false) {
        let health = ctx.state.views.health(ctx.state.log.head());
        health.into_iter().map(|health| (health, None)).collect()
    } else {
        let rebuilder = ctx.state.rebuilder.clone();
        let hashed = web::block(move || rebuilder.fingerprints()).await;
        hashed.map_err(|error| ApiError::internal("query failed", error))?
    };
    let mut reports = ctx.state.rebuilder.reports();
    let views: Vec<ProjectionView> = each
        .into_iter()
        .map(|(health, print)| {
            let report = reports.iter().position(|report| report.name == health.name);
            ProjectionView {
                name: health.name,
                version: health.version,
                checkpoint: health.checkpoint.0,
                lag: health.lag,
                stalled: health
                    .stalled
                    .map(|stalled| StalledView { position: stalled.position.0, reason: stalled.reason }),
                state: print.map(StateHash::of),
                rebuild: report.map(|index| RebuildView::of(reports.swap_remove(index))),
            }
        })
        .collect();
    Ok(HttpResponse::Ok().json(views))
}

/// Which projection.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Rebuild {
    /// Its name; not with `all`.
    projection: Option<String>,
    /// Every one of them.
    #[serde(default)]
    all: bool,
}

/// Folds a projection, or all of them, from the log's beginning beside what serves. What serves goes on meanwhile; the fresh one
/// takes over once it has caught up, and both are compared. `GET /admin/projections` shows how it goes on.
#[utoipa::path(
    tag = "operations", request_body = Rebuild,
    responses(
        (status = 202, description = "`{\"status\":\"started\"}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, description = "a rebuild is going on", body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/admin/projections/rebuild")]
pub(crate) async fn rebuild(ctx: Ctx, body: web::Bytes) -> Answer {
    auth::admin(&ctx)?;
    let wish: Rebuild = body::json(&body, INVALID)?;
    let only = match (wish.projection.as_deref(), wish.all) {
        (Some(_), true) | (None, false) => {
            let detail = "expected either the name of a projection, or `all` as true";
            return Err(ApiError::bad("invalid_field", INVALID).field("projection").detail(detail));
        }
        (only, _) => only,
    };
    ctx.state.rebuilder.begin(only, ctx.state.clock.now().at).map_err(|refused| match refused {
        Refused::Running => ApiError::conflict("rebuild_running", "a rebuild is going on")
            .with("hint", "`covalence projections ls` shows how far it is"),
        Refused::Unknown => {
            let names = ctx.state.views.health(ctx.state.log.head()).map(|health| health.name);
            ApiError::not_found("unknown_projection", "no such projection")
                .field("projection")
                .detail(format!("expected one of {}", names.join(", ")))
        }
    })?;
    Ok(HttpResponse::Accepted().json(json!({"status": "started"})))
}

//! Whether the platform is there, is ready, and how it fares.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{HttpResponse, get, head};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::http::error::Answer;
use crate::http::request::Ctx;

/// Facts that a projection may be behind while it counts as keeping up: two seconds' worth at the rate that it folds at.
const LAG_MAX: u64 = 50_000;

/// See [`get_health`].
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    status: &'static str,
    /// The program's version.
    version: &'static str,
}

const HEALTH: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION") };

/// The process lives. Looks at nothing.
#[utoipa::path(tag = "operations", responses((status = 200, body = Health)))]
#[get("/health")]
pub(crate) async fn get_health() -> HttpResponse {
    HttpResponse::Ok().json(HEALTH)
}

/// The same for probes that ask with `HEAD`.
#[utoipa::path(tag = "operations", responses((status = 200)))]
#[head("/health")]
pub(crate) async fn head_health() -> HttpResponse {
    HttpResponse::Ok().finish()
}

/// One projection's state.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProjectionHealth {
    /// Its name.
    name: &'static str,
    /// The last position that it has taken in.
    checkpoint: u64,
    /// Facts in the log after that.
    lag: u64,
    /// Why it stopped, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    stalled: Option<String>,
}

/// See [`ready`].
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// `ready` or `not_ready`.
    status: &'static str,
    /// What is wrong, for people; empty when ready.
    reasons: Vec<String>,
    /// The log's last position.
    head: u64,
    /// Each projection.
    projections: Vec<ProjectionHealth>,
}

/// The log is writable and the projections keep up.
#[utoipa::path(tag = "operations", responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
#[get("/ready")]
pub(crate) async fn ready(ctx: Ctx) -> HttpResponse {
    let head = ctx.state.log.head();
    let mut reasons = Vec::new();
    if let Some(reason) = ctx.state.log.read_only() {
        tracing::debug!(%reason, "not ready: the log is read-only");
        reasons.push("the log does not take writes".to_owned());
    }
    let mut projections = Vec::new();
    for health in ctx.state.views.health(head) {
        let stalled = health.stalled.map(|stalled| format!("at position {}", stalled.position));
        if let Some(place) = &stalled {
            reasons.push(format!("projection `{}` stopped {place}", health.name));
        } else if health.lag > LAG_MAX {
            reasons.push(format!("projection `{}` is {} facts behind", health.name, health.lag));
        }
        projections.push(ProjectionHealth {
            name: health.name,
            checkpoint: health.checkpoint.0,
            lag: health.lag,
            stalled,
        });
    }
    let (code, status) = if reasons.is_empty() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    };
    HttpResponse::build(code).json(Readiness { status, reasons, head: head.0, projections })
}

/// Prometheus text.
#[utoipa::path(tag = "operations", responses((status = 200, body = String, content_type = "text/plain")))]
#[get("/metrics")]
pub(crate) async fn metrics(ctx: Ctx) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8")))
        .body(ctx.state.metrics.render())
}

/// When each of the platform's loops last came round.
#[utoipa::path(tag = "operations", responses((status = 200, body = serde_json::Value)))]
#[get("/admin/liveness")]
pub(crate) async fn liveness(ctx: Ctx) -> Answer {
    crate::http::auth::admin(&ctx)?;
    let now = ctx.state.clock.now().at;
    let subsystems: serde_json::Map<_, _> = (ctx.state.ticks)()
        .into_iter()
        .map(|(name, at)| (name, json!({"last_tick_at": at, "seconds_ago": (now - at).num_seconds().max(0)})))
        .collect();
    Ok(HttpResponse::Ok().json(json!({"subsystems": subsystems})))
}

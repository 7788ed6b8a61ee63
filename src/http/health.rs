//! Whether the platform is there, is ready, and how it fares.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{HttpResponse, get, head};
use chrono::{DateTime, Utc};
use covalence_actors::runtime::STUCK_AFTER;
use covalence_events::Position;
use serde::Serialize;
use utoipa::ToSchema;

use crate::conditions::Condition;
use crate::http::edge::telemetry;
use crate::http::error::{Answer, ErrorBody};
use crate::http::request::Ctx;
use crate::http::supervision::gauges;

/// Facts that a projection may be behind while it counts as keeping up: two seconds' worth at the rate that it folds at.
const LAG_MAX: u64 = 50_000;

/// See [`get_health`].
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    status: &'static str,
    /// The program's version.
    version: &'static str,
    /// Whether what happens is recorded. While the log takes no facts, reads and calls go on, and every answer says
    /// `X-Covalence-Recorded: false`.
    recording: bool,
}

/// The process lives, and whether its log takes facts.
#[utoipa::path(tag = "operations", responses((status = 200, body = Health)))]
#[get("/health")]
pub(crate) async fn get_health(ctx: Ctx) -> HttpResponse {
    HttpResponse::Ok().json(Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
        recording: ctx.state.log.read_only().is_none(),
    })
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
    /// How the log's export to segments fares, unless that is off. A platform whose export fails is ready all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    export: Option<ExportHealth>,
    /// What is wrong with the platform's own disk and log. Not all of it keeps it from being ready.
    conditions: Vec<ConditionHealth>,
}

/// Something that is wrong with the platform's own disk or log.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConditionHealth {
    /// As in the alarm of that kind.
    kind: String,
    /// Since when.
    since: DateTime<Utc>,
}

/// The log's export to segments.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExportHealth {
    /// The last position that is in a segment.
    position: u64,
    /// Facts after that.
    lag: u64,
    /// When everything that was due had been written, last.
    #[serde(skip_serializing_if = "Option::is_none")]
    succeeded_at: Option<DateTime<Utc>>,
    /// Whether the last try failed. Why is in the server's own log.
    failing: bool,
}

fn export(ctx: &Ctx, head: Position) -> Option<ExportHealth> {
    let status = ctx.state.export.as_ref().filter(|status| status.place.is_some())?;
    let progress = status.progress();
    Some(ExportHealth {
        position: progress.exported.0,
        lag: head.0.saturating_sub(progress.exported.0),
        succeeded_at: progress.succeeded_at,
        failing: progress.failed.is_some(),
    })
}

fn conditions(ctx: &Ctx) -> Vec<ConditionHealth> {
    let on = ctx.state.conditions.list().into_iter();
    on.map(|Condition { kind, since, .. }| ConditionHealth { kind, since }).collect()
}

/// The log is writable and the projections keep up.
#[utoipa::path(tag = "operations", responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
#[get("/ready")]
pub(crate) async fn ready(ctx: Ctx) -> HttpResponse {
    let head = ctx.state.log.head();
    let mut reasons = Vec::new();
    if let Some(shut) = ctx.state.log.read_only() {
        reasons.push(format!("the log takes no facts: {}; {}", shut.reason, shut.remedy()));
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
    HttpResponse::build(code).json(Readiness {
        status,
        reasons,
        head: head.0,
        projections,
        export: export(&ctx, head),
        conditions: conditions(&ctx),
    })
}

/// Prometheus text.
#[utoipa::path(tag = "operations", responses((status = 200, body = String, content_type = "text/plain")))]
#[get("/metrics")]
pub(crate) async fn metrics(ctx: Ctx) -> HttpResponse {
    gauges::set(&ctx.state);
    ::metrics::gauge!(telemetry::SOCKETS).set(u32::try_from(ctx.state.hub.sockets()).unwrap_or(u32::MAX));
    ctx.state.subscriptions.measure().await;
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8")))
        .body(ctx.state.metrics.render())
}

/// One of the platform's loops.
#[derive(Debug, Serialize, ToSchema)]
pub struct LoopHealth {
    /// When it last came round.
    last_tick_at: DateTime<Utc>,
    /// How long ago that is.
    seconds_ago: i64,
    /// Whether that is too long ago for a loop that is well.
    stuck: bool,
}

/// See [`liveness`].
#[derive(Debug, Serialize, ToSchema)]
pub struct Liveness {
    /// Whether any of them is stuck.
    stuck: bool,
    /// Each loop by its name.
    subsystems: BTreeMap<&'static str, LoopHealth>,
}

/// When each of the platform's loops last came round, and whether it is stuck.
#[utoipa::path(
    tag = "operations", responses((status = 200, body = Liveness), (status = 401, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/admin/liveness")]
pub(crate) async fn liveness(ctx: Ctx) -> Answer {
    crate::http::auth::admin(&ctx)?;
    let now = ctx.state.clock.now().at;
    let loops = ctx.state.runtime.pulses().iter().map(|pulse| {
        let ago = pulse.age();
        let seconds_ago = i64::try_from(ago.as_secs()).unwrap_or(i64::MAX);
        (pulse.name(), LoopHealth { last_tick_at: now - ago, seconds_ago, stuck: ago > STUCK_AFTER })
    });
    let subsystems: BTreeMap<_, _> = loops.collect();
    let stuck = subsystems.values().any(|subsystem| subsystem.stuck);
    Ok(HttpResponse::Ok().json(Liveness { stuck, subsystems }))
}

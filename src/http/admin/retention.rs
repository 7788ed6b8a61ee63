//! `/admin/log/retention`: what leaves the log when it is too old, what did, and doing it now.

use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, Utc};
use covalence_events::log::ReadError;
use covalence_events::log::sled::{PartReport, Progress, Scavenged};
use covalence_events::retention::Rules;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::auth;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::Ctx;
use crate::retention::{EVERY, Ended, Lag, Refused, Retention, Running, lag};

/// How retention stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct RetentionView {
    /// The rule, in words.
    rule: String,
    /// Heartbeats older than this are rolled up into hourly summaries; null: never.
    heartbeats_seconds: Option<i64>,
    /// What was said in calls and what agents reported goes when it is older than this; null: never.
    activity_seconds: Option<i64>,
    /// A run begins by itself this often.
    every_seconds: u64,
    /// Nothing behind this position goes: it was not exported yet, or not taken in by every projection.
    through: u64,
    /// The run that goes on; null: none.
    running: Option<RunningView>,
    /// The run that ended last since the server started; null: none.
    last: Option<EndedView>,
    /// When the next one begins by itself; null while one goes on, and where nothing ever goes.
    next_at: Option<DateTime<Utc>>,
    /// What is due and still there.
    lag: LagView,
    /// The archive of the log, oldest first. Only what is in here ever goes.
    archive: Vec<PartView>,
}

/// A run that goes on.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunningView {
    /// Which, counted from the server's start.
    run: u64,
    /// Since when.
    began: DateTime<Utc>,
    /// The number of the part of the archive that it is at.
    part: u64,
    /// How many there are for it.
    parts: u64,
    /// Facts that it removed so far.
    events: u64,
    /// Bytes that it gave back so far.
    bytes: u64,
}

/// A run that has ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndedView {
    /// Which, counted from the server's start.
    run: u64,
    /// Since when.
    began: DateTime<Utc>,
    /// Until when.
    ended: DateTime<Utc>,
    /// `done`, `stopped` by the server's end, or `failed`.
    outcome: &'static str,
    /// Why it failed; null if it did not.
    reason: Option<String>,
    /// Parts of the archive that were written again.
    parts: u64,
    /// Facts that were removed.
    events: u64,
    /// Bytes that were given back.
    bytes: u64,
}

/// What is due and still there.
#[derive(Debug, Serialize, ToSchema)]
pub struct LagView {
    /// Parts of the archive.
    parts: u64,
    /// Positions in them.
    positions: u64,
    /// Since when the first of them has been due; null: nothing is.
    since: Option<DateTime<Utc>>,
}

/// A part of the archive.
#[derive(Debug, Serialize, ToSchema)]
pub struct PartView {
    /// Its first position.
    first: u64,
    /// Its last position.
    last: u64,
    /// Bytes on disk.
    bytes: u64,
    /// Facts that were removed from it.
    removed: u64,
    /// When its last fact happened.
    ended: Option<DateTime<Utc>>,
    /// Whether its facts are all old enough, and it was not gone through yet.
    due: bool,
}

impl RetentionView {
    fn of(retention: &Retention, now: DateTime<Utc>) -> Result<Self, ReadError> {
        // In this order: of a run that has ended, everything that it did is seen in the archive.
        let state = retention.state();
        let (rules, parts) = (retention.rules(), retention.parts()?);
        Ok(Self {
            rule: rules.to_string(),
            heartbeats_seconds: rules.heartbeats.map(|limit| limit.num_seconds()),
            activity_seconds: rules.activity.map(|limit| limit.num_seconds()),
            every_seconds: EVERY.as_secs(),
            through: retention.through().0,
            running: state.running.map(RunningView::of),
            last: state.last.as_ref().map(EndedView::of),
            next_at: state.next_at,
            lag: LagView::of(lag(&parts, &rules, now)),
            archive: parts.iter().map(|part| PartView::of(part, &rules, now)).collect(),
        })
    }
}

impl RunningView {
    fn of(running: Running) -> Self {
        let Progress { part, parts, done, .. } = running.progress;
        let Scavenged { events, bytes, .. } = done;
        Self { run: running.run, began: running.began, part: part as u64, parts: parts as u64, events, bytes }
    }
}

impl EndedView {
    fn of(ended: &Ended) -> Self {
        let Scavenged { parts, events, bytes, .. } = ended.done;
        Self {
            run: ended.run,
            began: ended.began,
            ended: ended.ended,
            outcome: ended.outcome(),
            reason: ended.failed.clone(),
            parts,
            events,
            bytes,
        }
    }
}

impl LagView {
    const fn of(lag: Lag) -> Self {
        Self { parts: lag.parts, positions: lag.positions, since: lag.since }
    }
}

impl PartView {
    fn of(part: &PartReport, rules: &Rules, now: DateTime<Utc>) -> Self {
        Self {
            first: part.first.0,
            last: part.last.0,
            bytes: part.bytes,
            removed: part.removed,
            ended: part.ended,
            due: part.is_due(rules, now),
        }
    }
}

/// Which rule holds, what is due, what the last run removed and gave back, and when the next one begins.
#[utoipa::path(
    tag = "operations",
    responses(
        (status = 200, body = RetentionView), (status = 401, body = ErrorBody),
        (status = 404, description = "this log keeps everything", body = ErrorBody), (status = 500, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/admin/log/retention")]
pub(crate) async fn show(ctx: Ctx) -> Answer {
    auth::admin(&ctx)?;
    let (retention, now) = (kept(&ctx)?.clone(), ctx.state.clock.now().at);
    let view = web::block(move || RetentionView::of(&retention, now));
    let view = view.await.map_err(|error| ApiError::internal("query failed", error))??;
    Ok(HttpResponse::Ok().json(view))
}

/// A run that was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub struct BegunView {
    /// Always `started`.
    status: &'static str,
    /// Its number, by which `running` and `last` of the answer above name it.
    run: u64,
}

/// Removes now what is due. It goes on in the background, slowly; `GET /admin/log/retention` shows how far it is.
#[utoipa::path(
    tag = "operations",
    responses(
        (status = 202, body = BegunView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, description = "a run goes on, or both rules of `retention` are `off`", body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/admin/log/retention/run")]
pub(crate) async fn run(ctx: Ctx) -> Answer {
    auth::admin(&ctx)?;
    match kept(&ctx)?.begin() {
        Ok(run) => Ok(HttpResponse::Accepted().json(BegunView { status: "started", run })),
        Err(Refused::Running) => Err(ApiError::conflict("retention_running", "a run goes on already")
            .with("hint", "`covalence log retention` shows how far it is")),
        Err(Refused::Off) => Err(ApiError::conflict("retention_off", "everything is kept for ever").detail(
            "`retention.heartbeats` and `retention.activity` are `off` in the server's configuration",
        )),
    }
}

fn kept(ctx: &Ctx) -> Result<&Retention, ApiError> {
    let missing = || ApiError::not_found("no_retention", "this log keeps everything");
    ctx.state.retention.as_ref().ok_or_else(missing)
}

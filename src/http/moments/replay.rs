//! `GET /replay`: the fleet step by step, as NDJSON or as an event stream, as fast as it is read or in the pace in which it
//! happened.
//!
//! The body is made as it is read: a slow reader makes a slow replay, and a connection that is closed ends it.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use std::time::Duration;

use actix_web::http::header::ACCEPT;
use actix_web::{HttpResponse, get, web};
use bytes::{Bytes, BytesMut};
use covalence_events::Timestamp;
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;

use crate::http::auth;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::incidents::invalid;
use crate::http::moments::{TwoMoments, no_answer, past, span};
use crate::http::request::Ctx;
use crate::moments::Failure;
use crate::moments::replay::{Line, Reel, Step};

/// Replays at once. Each keeps a picture of the whole fleet.
pub(crate) const REPLAYS_MAX: usize = 8;
/// When to ask again, in seconds, where there are that many.
const RETRY: u64 = 5;
/// How fast it may go, in multiples of the time that it took.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.01..=1000.0;
/// Nobody watches nothing happen for longer; well below the timeouts of proxies.
const GAP_MAX: Duration = Duration::from_secs(5);
/// Written at once where nothing waits for its time.
const CHUNK: usize = 32 << 10;

/// How fast, and which facts.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Pace {
    /// Times as fast as it happened, 0.01 to 1000, with pauses of 5 s at most; as fast as it is read without it.
    #[param(minimum = 0.01, maximum = 1000)]
    speed: Option<f64>,
    /// `fact`: each fact is a step; `notable`: only what says more than that things go on as ever.
    #[param(pattern = "^(fact|notable)?$")]
    step: Option<String>,
}

/// The fleet step by step: a line `state`, then a line `fact` for each fact with every field that it changed (before and
/// after), then a line `end`. At most 100 000 facts.
#[utoipa::path(
    tag = "incidents", params(TwoMoments, Pace),
    responses(
        (status = 200, body = Line, content_type = "application/x-ndjson"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 503, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/replay")]
pub(crate) async fn play(ctx: Ctx, query: web::Query<TwoMoments>, pace: web::Query<Pace>) -> Answer {
    auth::admin(&ctx)?;
    let span = span(&ctx, &query)?;
    if pace.speed.is_some_and(|speed| !SPEEDS.contains(&speed)) {
        return Err(invalid("speed").detail("expected 0.01 to 1000"));
    }
    let step = match pace.step.as_deref() {
        None | Some("" | "fact") => Step::Fact,
        Some("notable") => Step::Notable,
        Some(_) => return Err(invalid("step").detail("expected `fact` or `notable`")),
    };
    let Ok(permit) = ctx.state.replays().try_acquire_owned() else {
        return Err(ApiError::unavailable("too_many_replays", "too many replays at once", RETRY));
    };
    let reel = Reel::open(past(&ctx), span, step).await.map_err(no_answer)?;
    let sse = ctx.header(ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/event-stream"));
    let playing =
        Playing { reel, speed: pace.speed, sse, before: None, waiting: None, over: false, _permit: permit };
    Ok(HttpResponse::Ok()
        .content_type(if sse { "text/event-stream" } else { "application/x-ndjson" })
        .insert_header(("cache-control", "no-cache"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Box::pin(auth::lasting::while_valid(&ctx, stream::unfold(playing, Playing::next)))))
}

struct Playing {
    reel: Reel,
    speed: Option<f64>,
    sse: bool,
    /// When the fact before happened.
    before: Option<Timestamp>,
    /// A line whose time has not come.
    waiting: Option<(Duration, Line)>,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

impl Playing {
    /// What can be written now; waits until there is something.
    async fn next(mut self) -> Option<(std::io::Result<Bytes>, Self)> {
        if self.over {
            return None;
        }
        let mut text = BytesMut::new();
        while text.len() < CHUNK {
            let line = match self.waiting.take() {
                Some((pause, line)) if text.is_empty() => {
                    tokio::time::sleep(pause).await;
                    line
                }
                // What is there goes out first.
                Some(later) => {
                    self.waiting = Some(later);
                    break;
                }
                None => match self.reel.next().await {
                    Ok(Some(line)) => {
                        let pause = self.pause(&line);
                        if pause > Duration::ZERO {
                            self.waiting = Some((pause, line));
                            continue;
                        }
                        line
                    }
                    Ok(None) => {
                        self.over = true;
                        break;
                    }
                    Err(error) => return Some((Err(self.cut_off(error)), self)),
                },
            };
            self.write(&line, &mut text);
        }
        (!text.is_empty()).then(|| (Ok(text.freeze()), self))
    }

    fn cut_off(&mut self, error: Failure) -> std::io::Error {
        tracing::error!(error = format!("{:#}", anyhow::Error::from(error)), "a replay was cut off");
        self.over = true;
        std::io::Error::other("the log can't be read")
    }

    /// How long to wait before a line.
    fn pause(&mut self, line: &Line) -> Duration {
        let at = match line {
            Line::State(state) => state.from.at,
            Line::Fact(frame) => frame.fact.at,
            Line::End(_) => return Duration::ZERO,
        };
        let (Some(speed), Some(before)) = (self.speed, self.before.replace(at)) else {
            return Duration::ZERO;
        };
        (at - before).to_std().unwrap_or_default().div_f64(speed).min(GAP_MAX)
    }

    fn write(&self, line: &Line, text: &mut BytesMut) {
        // Plain data with text for keys: there is nothing that JSON can't say.
        let json = serde_json::to_string(line).unwrap_or_default();
        if self.sse {
            let id = match line {
                Line::State(state) => state.from.position,
                Line::Fact(frame) => frame.fact.position,
                Line::End(end) => end.position,
            };
            text.extend_from_slice(format!("id: {id}\ndata: {json}\n\n").as_bytes());
        } else {
            text.extend_from_slice(json.as_bytes());
            text.extend_from_slice(b"\n");
        }
    }
}

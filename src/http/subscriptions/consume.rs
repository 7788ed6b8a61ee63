//! What consumers of subscriptions do: they fetch facts, acknowledge or refuse them, and go.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use std::time::Duration;

use actix_web::{HttpResponse, get, post, web};
use bytes::{BufMut as _, Bytes, BytesMut};
use covalence_events::Position;
use covalence_projections::subscriptions::place::{Nack, REASON_MAX, WINDOW};
use covalence_projections::subscriptions::{
    ACK_WITHIN_MAX, Ask, BATCH_MAX, Batch, Delivered, Name, Refused, WAIT_MAX,
};
use covalence_projections::tail;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{DoneView, INVALID, SubscriptionView, few, invalid, name};
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::Ctx;
use crate::http::{auth, body};

/// Facts of one delivery, where nobody says.
const LIMIT_DEFAULT: usize = 100;
/// Bytes of a consumer's name.
const CONSUMER_MAX: usize = 100;
/// Between two signs of life on a quiet stream: below the timeouts of common proxies, and so often that a connection that was closed is
/// noticed soon. The first line after that goes nowhere, the second one fails.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// What a consumer asks for.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Fetch {
    /// Who it is, for others to see; at most 100 bytes; needed.
    #[schema(value_type = String, required = true, min_length = 1, max_length = 100)]
    consumer: Option<String>,
    /// The lease that it holds. Without one it gets one, if no other consumer has it; what it had before is due again then.
    #[schema(value_type = Option<String>, format = Uuid)]
    lease: Option<String>,
    /// At most so many facts, up to 1000; 100 without it. 0: only the lease.
    #[schema(maximum = 1000)]
    limit: Option<usize>,
    /// Seconds to wait where there is nothing, up to 60; none without it.
    #[schema(minimum = 0, maximum = 60)]
    wait: Option<f64>,
    /// Whether to wait for another consumer's lease as well, instead of a refusal.
    #[serde(default)]
    standby: bool,
}

/// What a consumer gets.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchView {
    /// Its lease, for its next request.
    #[schema(value_type = String, format = Uuid)]
    lease: Uuid,
    /// Seconds until the lease runs out if nothing more is heard, and until what is not settled comes again.
    expires_in: f64,
    /// The facts as `GET /admin/log` shows them, each with `attempt` (how often it was delivered) and `replayed` (whether it was
    /// parked before). Those that come again are first.
    #[schema(value_type = Vec<Object>)]
    facts: Vec<Value>,
    /// Whether everything that there is has been looked at.
    caught_up: bool,
    /// How the subscription stands now.
    subscription: SubscriptionView,
}

impl From<Batch> for BatchView {
    fn from(batch: Batch) -> Self {
        Self {
            lease: batch.lease,
            expires_in: batch.expires_in.as_secs_f64(),
            facts: batch.facts.iter().map(delivered).collect(),
            caught_up: batch.caught_up,
            subscription: batch.standing.into(),
        }
    }
}

fn delivered(delivered: &Delivered) -> Value {
    let mut fact = tail::json(&delivered.fact);
    if let Some(members) = fact.as_object_mut() {
        members.insert("attempt".to_owned(), delivered.attempt.into());
        members.insert("replayed".to_owned(), delivered.replayed.into());
    }
    fact
}

/// Facts that are settled.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Acked {
    /// The lease; needed.
    #[schema(value_type = String, format = Uuid, required = true)]
    lease: Option<String>,
    /// Their positions, at most 1000.
    #[serde(default)]
    #[schema(max_items = 1000)]
    positions: Vec<u64>,
    /// And everything that was delivered up to here.
    up_to: Option<u64>,
}

/// Facts that are refused.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Nacked {
    /// The lease; needed.
    #[schema(value_type = String, format = Uuid, required = true)]
    lease: Option<String>,
    /// Their positions, 1 to 1000; needed.
    #[serde(default)]
    #[schema(required = true, min_items = 1, max_items = 1000)]
    positions: Vec<u64>,
    /// Why, at most 500 bytes. It is kept as it is beside the log: nothing about persons belongs in it.
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: String,
    /// Seconds until they come again, up to 3600; a pause that doubles with each refusal, up to a minute, without it.
    #[schema(minimum = 0, maximum = 3600)]
    retry_after: Option<f64>,
    /// Whether they are put aside at once.
    #[serde(default)]
    park: bool,
}

/// The end of a lease.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Released {
    /// The lease; needed.
    #[schema(value_type = String, format = Uuid, required = true)]
    lease: Option<String>,
}

/// Who follows.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Following {
    /// Who it is, for others to see; at most 100 bytes; needed.
    #[param(required, min_length = 1, max_length = 100)]
    consumer: Option<String>,
}

/// Delivers facts: those that are due again, then new ones in the log's order. Waits for a while where there is nothing.
#[utoipa::path(
    tag = "subscriptions", params(("name" = String, Path)), request_body = Fetch,
    responses(
        (status = 200, body = BatchView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, description = "another consumer has it (`consumer`, `expires_in`), the lease is lost, or its place",
         body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/admin/subscriptions/{name}/fetch")]
pub(crate) async fn fetch(ctx: Ctx, path: web::Path<String>, body: web::Bytes) -> Answer {
    auth::admin(&ctx)?;
    let wish: Fetch = body::json(&body, INVALID)?;
    let limit = wish.limit.unwrap_or(LIMIT_DEFAULT);
    if limit > BATCH_MAX {
        return Err(invalid("limit", format!("expected 0 to {BATCH_MAX}")));
    }
    let ask = Ask {
        consumer: consumer(wish.consumer)?,
        lease: wish.lease.as_deref().map(lease).transpose()?,
        limit,
        wait: time("wait", wish.wait, WAIT_MAX)?.unwrap_or_default(),
        standby: wish.standby,
    };
    let batch = ctx.state.subscriptions.fetch(&name(path.into_inner())?, &ask).await?;
    if !auth::lasting::still(&ctx) {
        // Revoked while it waited: the facts come again, to somebody else.
        return Err(ApiError::unauthorized("invalid_admin_token", "invalid admin auth token"));
    }
    Ok(HttpResponse::Ok().json(BatchView::from(batch)))
}

/// These facts are settled: they are never delivered again, which is on disk before the answer. May be repeated.
#[utoipa::path(
    tag = "subscriptions", params(("name" = String, Path)), request_body = Acked,
    responses(
        (status = 200, body = DoneView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 503, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/admin/subscriptions/{name}/ack")]
pub(crate) async fn ack(ctx: Ctx, path: web::Path<String>, body: web::Bytes) -> Answer {
    auth::admin(&ctx)?;
    let wish: Acked = body::json(&body, INVALID)?;
    if wish.positions.is_empty() && wish.up_to.is_none() {
        return Err(invalid("positions", "expected positions, or `up_to`"));
    }
    let (name, lease) = (name(path.into_inner())?, lease(&wish.lease.unwrap_or_default())?);
    let positions = few(wish.positions, WINDOW)?;
    let up_to = wish.up_to.map(Position);
    Ok(DoneView::of(ctx.state.subscriptions.ack(&name, lease, &positions, up_to).await?))
}

/// These facts are refused: they come again after a pause, until they are put aside (`nacks_max`). Nothing behind them waits.
#[utoipa::path(
    tag = "subscriptions", params(("name" = String, Path)), request_body = Nacked,
    responses(
        (status = 200, body = DoneView, description = "`count`: how many are put aside now"),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 503, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/admin/subscriptions/{name}/nack")]
pub(crate) async fn nack(ctx: Ctx, path: web::Path<String>, body: web::Bytes) -> Answer {
    auth::admin(&ctx)?;
    let wish: Nacked = body::json(&body, INVALID)?;
    if wish.positions.is_empty() {
        return Err(invalid("positions", "expected at least one"));
    }
    if wish.reason.len() > REASON_MAX {
        return Err(invalid("reason", format!("at most {REASON_MAX} bytes")));
    }
    let (name, lease) = (name(path.into_inner())?, lease(&wish.lease.unwrap_or_default())?);
    let positions = few(wish.positions, WINDOW)?;
    let retry_after = time("retry_after", wish.retry_after, ACK_WITHIN_MAX)?;
    let nack = Nack { reason: wish.reason, retry_after, park: wish.park };
    Ok(DoneView::of(ctx.state.subscriptions.nack(&name, lease, &positions, &nack).await?))
}

/// The consumer goes: another one may take its place at once, and gets what was not settled.
#[utoipa::path(
    tag = "subscriptions", params(("name" = String, Path)), request_body = Released,
    responses(
        (status = 200, description = "`{\"status\":\"released\"}`"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/admin/subscriptions/{name}/release")]
pub(crate) async fn release(ctx: Ctx, path: web::Path<String>, body: web::Bytes) -> Answer {
    auth::admin(&ctx)?;
    let wish: Released = body::json(&body, INVALID)?;
    let (name, lease) = (name(path.into_inner())?, lease(&wish.lease.unwrap_or_default())?);
    ctx.state.subscriptions.release(&name, lease).await?;
    Ok(HttpResponse::Ok().json(json!({"status": "released"})))
}

/// Delivers facts as they come, as JSON lines: first a line `{"lease":…}`, then facts, empty lines where nothing comes. They are
/// acknowledged by requests of their own; with 1000 that are not, nothing new comes. The lease ends within
/// ten seconds of the connection, or when another consumer of this name comes.
#[utoipa::path(
    tag = "subscriptions", params(("name" = String, Path), Following),
    responses(
        (status = 200, body = String, content_type = "application/x-ndjson"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/admin/subscriptions/{name}/stream")]
pub(crate) async fn follow(ctx: Ctx, path: web::Path<String>, query: web::Query<Following>) -> Answer {
    auth::admin(&ctx)?;
    let name = name(path.into_inner())?;
    let consumer = consumer(query.consumer.clone())?;
    let ask = Ask { consumer, lease: None, limit: 0, wait: Duration::ZERO, standby: false };
    let lease = ctx.state.subscriptions.fetch(&name, &ask).await?.lease;
    let first = Bytes::from(format!("{}\n", json!({ "lease": lease })));
    let ask = Ask { lease: Some(lease), limit: LIMIT_DEFAULT, wait: KEEP_ALIVE, ..ask };
    let stream = Stream { ctx: ctx.clone(), name, ask, first: Some(first) };
    let facts = auth::lasting::while_valid(&ctx, stream::unfold(Some(stream), Stream::next));
    Ok(HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .insert_header(("cache-control", "no-cache"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Box::pin(facts)))
}

struct Stream {
    ctx: Ctx,
    name: Name,
    ask: Ask,
    first: Option<Bytes>,
}

impl Stream {
    async fn next(this: Option<Self>) -> Option<(std::io::Result<Bytes>, Option<Self>)> {
        let mut this = this?;
        if let Some(first) = this.first.take() {
            return Some((Ok(first), Some(this)));
        }
        match this.ctx.state.subscriptions.fetch(&this.name, &this.ask).await {
            Ok(batch) => {
                let mut text = BytesMut::new();
                for fact in &batch.facts {
                    text.put(delivered(fact).to_string().as_bytes());
                    text.put_u8(b'\n');
                }
                if text.is_empty() {
                    text.put_u8(b'\n');
                }
                Some((Ok(text.freeze()), Some(this)))
            }
            // Somebody else's turn, or it is gone: the end of the stream says so.
            Err(Refused::LeaseLost | Refused::NoSuch) => None,
            Err(error) => {
                tracing::error!(%error, subscription = %this.name, "a subscription's stream was cut off");
                Some((Err(std::io::Error::other("the log can't be read")), None))
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Some(lease) = self.ask.lease else { return };
        let (state, name) = (std::sync::Arc::clone(&self.ctx.state), self.name.clone());
        // A worker that goes down with the server has nobody left who would wait for the lease.
        if tokio::runtime::Handle::try_current().is_ok() {
            drop(actix_web::rt::spawn(async move { state.subscriptions.release(&name, lease).await }));
        }
    }
}

fn consumer(text: Option<String>) -> Result<String, ApiError> {
    let text = text.map(|text| text.trim().to_owned()).unwrap_or_default();
    if text.is_empty() || text.len() > CONSUMER_MAX || text.contains(char::is_control) {
        return Err(invalid("consumer", format!("expected a name of 1 to {CONSUMER_MAX} bytes")));
    }
    Ok(text)
}

fn lease(text: &str) -> Result<Uuid, ApiError> {
    Uuid::parse_str(text).map_err(|_| invalid("lease", "expected the lease of an earlier answer (a UUID)"))
}

fn time(field: &'static str, seconds: Option<f64>, max: Duration) -> Result<Option<Duration>, ApiError> {
    let Some(seconds) = seconds else { return Ok(None) };
    if !(0.0..=max.as_secs_f64()).contains(&seconds) {
        return Err(invalid(field, format!("expected 0 to {} seconds", max.as_secs())));
    }
    Ok(Some(Duration::from_secs_f64(seconds)))
}

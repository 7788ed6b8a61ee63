//! `GET /admin/log`: the raw log, as NDJSON or as an event stream. A reader that comes back with the last position that
//! it saw misses nothing.

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{ACCEPT, HeaderName, HeaderValue};
use actix_web::{HttpResponse, get, web};
use bytes::{Bytes, BytesMut};
use covalence_events::{Position, Recorded, Timestamp, fleet, workspace};
use covalence_projections::tail::{self, Filter, Follow};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};

use crate::http::auth;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::{Ctx, workspace_id};

/// Facts in one answer where nobody says.
const LIMIT_DEFAULT: usize = 100;
/// Between two signs of life on a quiet stream: below the timeouts of common proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What to ask for `after` next.
const NEXT_AFTER: HeaderName = HeaderName::from_static("x-covalence-next-after");

/// Which facts are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// Only what comes after this position.
    after: Option<u64>,
    /// At most so many, and never more than 1000 in one page. A stream ends after so many.
    limit: Option<usize>,
    /// A wire tag, or the beginning of one.
    r#type: Option<String>,
    /// About this workspace.
    workspace: Option<String>,
    /// Of this request or incident.
    correlation: Option<String>,
    /// Not before this (RFC 3339).
    since: Option<String>,
    /// Before this (RFC 3339).
    until: Option<String>,
    /// `true`: also those that come.
    follow: Option<bool>,
}

/// The raw log, oldest first: NDJSON, or with `Accept: text/event-stream` an event stream that goes on after
/// `Last-Event-ID`.
#[utoipa::path(
    tag = "operations", params(LogQuery, ("Last-Event-ID" = Option<u64>, Header, description = "same as `after`")),
    responses(
        (status = 200, body = String, content_type = "application/x-ndjson"), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/admin/log")]
pub(crate) async fn log(ctx: Ctx, query: web::Query<LogQuery>) -> Answer {
    auth::admin(&ctx)?;
    let filter = filter(&query)?;
    let form = match ctx.header(ACCEPT.as_str()) {
        Some(accept) if accept.contains("text/event-stream") => Form::Sse,
        _ => Form::Ndjson,
    };
    let resumed = ctx.header("last-event-id").and_then(|id| id.trim().parse().ok());
    // Nothing can come after the last position that a number can name.
    let after = Position(resumed.or(query.after).unwrap_or(0).min(u64::MAX - 1));
    if query.follow == Some(true) || form == Form::Sse {
        let log = Follow::new(Arc::clone(&ctx.state.log), filter, after);
        return Ok(follow(&ctx, log, query.limit, form));
    }
    page(&ctx, &filter, after, query.limit.unwrap_or(LIMIT_DEFAULT)).await
}

/// A page is empty only at the end of the log, so that a reader need not look at headers.
async fn page(ctx: &Ctx, filter: &Filter, mut after: Position, limit: usize) -> Answer {
    loop {
        let page = tail::page(ctx.state.log.as_ref(), filter, after, limit).await?;
        after = page.next_after;
        if !page.events.is_empty() || page.complete {
            return Ok(HttpResponse::Ok()
                .content_type(Form::Ndjson.content_type())
                .insert_header((NEXT_AFTER, HeaderValue::from(after.0)))
                .body(Form::Ndjson.lines(&page.events)));
        }
    }
}

fn follow(ctx: &Ctx, follow: Follow, limit: Option<usize>, form: Form) -> HttpResponse {
    let left = limit.unwrap_or(usize::MAX);
    let lines = stream::unfold((follow, left), move |(mut follow, left)| async move {
        if left == 0 {
            return None;
        }
        match timeout(KEEP_ALIVE, follow.next()).await {
            Err(_) => Some((Ok(form.keep_alive()), (follow, left))),
            Ok(Ok(Some(mut events))) => {
                events.truncate(left);
                Some((Ok(form.lines(&events)), (follow, left - events.len())))
            }
            Ok(Ok(None)) => None,
            Ok(Err(error)) => {
                tracing::error!(%error, "reading the log for a follower failed");
                Some((Err(std::io::Error::other("the log can't be read")), (follow, left)))
            }
        }
    });
    HttpResponse::Ok()
        .content_type(form.content_type())
        .insert_header(("cache-control", "no-cache"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Box::pin(auth::lasting::while_valid(ctx, lines)))
}

/// What a check of the whole log found.
#[derive(Debug, Serialize, ToSchema)]
pub struct VerifiedView {
    /// Facts looked at.
    events: u64,
    /// The last position.
    head: u64,
    /// Hex of the chain's last link.
    chain: String,
    /// The log's own signed checkpoints that were looked at.
    checkpoints: u64,
    /// Fields that can't be read because their key was destroyed. Nothing is wrong with them.
    erased: u64,
    /// Fields that can't be read because their key is not at hand.
    sealed: u64,
    /// Everything that is wrong, with positions; empty means sound.
    problems: Vec<String>,
}

/// Reads the whole log and checks checksums, order, the chain of hashes, and its signed checkpoints. Takes a second or two for a million facts.
#[utoipa::path(
    tag = "operations",
    responses((status = 200, body = VerifiedView), (status = 401, body = ErrorBody), (status = 500, body = ErrorBody)),
    security(("bearer" = []))
)]
#[get("/admin/log/verify")]
pub(crate) async fn verify(ctx: Ctx) -> Answer {
    auth::admin(&ctx)?;
    let verified = ctx.state.log.verify().await?;
    Ok(HttpResponse::Ok().json(VerifiedView {
        events: verified.events,
        head: verified.head.0,
        chain: verified.chain,
        checkpoints: verified.checkpoints,
        erased: verified.erased,
        sealed: verified.sealed,
        problems: verified.problems,
    }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Ndjson,
    Sse,
}

impl Form {
    const fn content_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Sse => "text/event-stream",
        }
    }

    const fn keep_alive(self) -> Bytes {
        match self {
            Self::Ndjson => Bytes::from_static(b"\n"),
            Self::Sse => Bytes::from_static(b": keep-alive\n\n"),
        }
    }

    fn lines(self, events: &[Arc<Recorded>]) -> Bytes {
        let mut text = BytesMut::new();
        for event in events {
            let json = tail::json(event).to_string();
            match self {
                Self::Ndjson => text.extend_from_slice(json.as_bytes()),
                Self::Sse => {
                    text.extend_from_slice(format!("id: {}\ndata: {json}\n", event.position).as_bytes());
                }
            }
            text.extend_from_slice(b"\n");
        }
        text.freeze()
    }
}

fn filter(query: &LogQuery) -> Result<Filter, ApiError> {
    let invalid = |field: &'static str, detail: &str| {
        ApiError::bad("invalid_filter", "invalid filter").field(field).detail(detail)
    };
    let time = |field: &'static str, text: &Option<String>| -> Result<Option<Timestamp>, ApiError> {
        let parse = |text: &String| {
            chrono::DateTime::parse_from_rfc3339(text)
                .map(|at| at.to_utc())
                .map_err(|_| invalid(field, "not RFC 3339"))
        };
        text.as_ref().map(parse).transpose()
    };
    let correlation = query.correlation.as_deref().map(str::parse).transpose();
    Ok(Filter {
        tag: query.r#type.as_deref().filter(|tag| !tag.is_empty()).map(known_tag).transpose()?,
        workspace: query.workspace.as_deref().map(workspace_id).transpose()?,
        correlation: correlation.map_err(|_| invalid("correlation", "not a UUID"))?,
        since: time("since", &query.since)?,
        until: time("until", &query.until)?,
    })
}

/// A wire tag, or the beginning of one. What names nothing would be answered with silence, for ever on a stream.
fn known_tag(wanted: &str) -> Result<String, ApiError> {
    let known = || workspace::Event::TAGS.iter().chain(fleet::Event::TAGS);
    if known().any(|tag| tag.starts_with(wanted)) {
        return Ok(wanted.to_owned());
    }
    let tags: Vec<&str> = known().copied().collect();
    Err(ApiError::bad("invalid_filter", "invalid filter")
        .field("type")
        .detail(format!("no event type begins with it; there are {}", tags.join(", "))))
}

//! `?as_of=`: reads answer what was known at a moment of the past.
//!
//! One way for every handler: pass the gate, then take the read side from [`AsOf::seen`]. Who may ask is judged by what
//! holds at present: a token that is revoked opens nothing, whatever moment is asked about.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, web};
use covalence_actors::policy::Policy;
use covalence_events::{Position, Timestamp, WorkspaceId};
use covalence_projections::{Row, Views};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::http::error::ApiError;
use crate::http::request::Ctx;

/// The position that an answer is of, where the request asked for one.
const AS_OF: HeaderName = HeaderName::from_static("x-covalence-as-of");

/// How long an answer may take. With snapshots it takes one or two seconds anywhere; while the first ones are still being
/// made, it may be the whole log.
const PATIENCE: Duration = Duration::from_secs(30);
/// Seconds: by then the snapshots of a large log have come further.
const RETRY: u64 = 30;

/// What a moment may be.
const ALLOWED: &str = "expected a position (`1234`) or RFC 3339 (`2026-03-01T03:07:00Z`)";

/// The reads that take it, as the router writes them. All others refuse it: an answer about now must not pass for one about
/// then. A test compares with the API's document.
pub(crate) const ROUTES: [&str; 12] = [
    "/admin/holds",
    "/admin/policy",
    "/admin/supervision",
    "/events",
    "/events/{workspaceId}",
    "/registry/discover/{id}",
    "/registry/{id}/peers",
    "/workspaces",
    "/workspaces/{id}",
    "/workspaces/{id}/details",
    "/workspaces/{id}/state",
    "/workspaces/{id}/supervision",
];

/// See the module.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AsOf {
    /// As things stood at this position, or at this time (RFC 3339); the answer's `X-Covalence-As-Of` says the position.
    as_of: Option<String>,
}

impl FromRequest for AsOf {
    type Error = ApiError;
    type Future = std::future::Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let query = web::Query::<Self>::from_query(request.query_string());
        std::future::ready(query.map(web::Query::into_inner).map_err(|error| invalid(error.to_string())))
    }
}

/// The moment that an answer is of.
#[derive(Clone, Copy, Debug)]
struct Moment {
    position: Position,
    at: Timestamp,
}

/// What a handler reads from: the read side as it is, or as it was.
#[derive(Debug)]
pub struct Seen {
    views: Arc<Views>,
    past: Option<Moment>,
}

impl std::ops::Deref for Seen {
    type Target = Views;

    fn deref(&self) -> &Views {
        &self.views
    }
}

impl Seen {
    /// When it was so.
    pub fn at(&self, ctx: &Ctx) -> Timestamp {
        self.past.map_or_else(|| ctx.state.clock.now().at, |past| past.at)
    }

    /// The policy in force: the supervisor's own, or the one that was recorded then.
    pub fn policy(&self, ctx: &Ctx) -> Policy {
        if self.past.is_none() {
            return ctx.state.runtime.policy();
        }
        let supervision = self.views.supervision.read();
        let recorded = supervision.policy().and_then(|policy| policy.parameters.as_object().cloned());
        drop(supervision);
        recorded.map_or_else(Policy::default, |document| Policy::restored(&document))
    }

    /// A workspace's row, removed or not.
    ///
    /// # Errors
    /// 404 where there was none, which says so where there is one at present.
    pub fn row(&self, ctx: &Ctx, id: WorkspaceId) -> Result<Arc<Row>, ApiError> {
        let row = self.views.roster.read().get(id);
        row.ok_or_else(|| match self.past {
            Some(_) if ctx.state.views.roster.read().get(id).is_some() => {
                ApiError::no_workspace().field("as_of").detail("it was created later than that")
            }
            Some(_) | None => ApiError::no_workspace(),
        })
    }
}

impl AsOf {
    /// Whether it asks about the past. Reads that anybody may do want a credential then: each costs a fold.
    pub const fn is_past(&self) -> bool {
        self.as_of.is_some()
    }

    /// What to read from. Call it once the gate is passed.
    ///
    /// # Errors
    /// 400 for a moment that is none, lies beyond the log's end, or before its first fact; 503 where the answer takes too long.
    pub async fn seen(&self, ctx: &Ctx) -> Result<Seen, ApiError> {
        let Some(text) = self.as_of.as_deref() else {
            return Ok(Seen { views: Arc::clone(&ctx.state.views), past: None });
        };
        let moment = moment(ctx, text.trim()).await?;
        let views = tokio::time::timeout(PATIENCE, ctx.state.history.at(moment.position)).await;
        let views = views.map_err(|_| {
            let text = "the past takes too long to work out — retry shortly";
            ApiError::unavailable("past_not_ready", text, RETRY)
        })??;
        ctx.request.extensions_mut().insert(Answered(moment.position));
        Ok(Seen { views, past: Some(moment) })
    }
}

/// The position and time that a text means.
async fn moment(ctx: &Ctx, text: &str) -> Result<Moment, ApiError> {
    let log = ctx.state.log.as_ref();
    let head = log.head();
    if let Ok(position) = text.parse::<u64>() {
        if position == 0 || position > head.0 {
            return Err(invalid(match head.0 {
                0 => "nothing is recorded yet".to_owned(),
                head => format!("position {position}: expected 1 to {head}, the log's last"),
            }));
        }
        let fact = log.read_all(Position(position), 1).await?;
        let at = fact.first().map_or_else(|| ctx.state.clock.now().at, |fact| fact.meta.at);
        return Ok(Moment { position: Position(position), at });
    }
    let at = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| invalid(ALLOWED.to_owned()))?.to_utc();
    let now = ctx.state.clock.now().at;
    if at > now {
        return Err(invalid(format!("expected a time that is past; it is {}", now.to_rfc3339())));
    }
    match log.position_at(at).await? {
        Position(0) => {
            let first = log.read_all(Position(1), 1).await?;
            Err(invalid(first.first().map_or_else(
                || "nothing is recorded yet".to_owned(),
                |first| format!("expected a time from the first fact on, {}", first.meta.at.to_rfc3339()),
            )))
        }
        position => Ok(Moment { position, at }),
    }
}

fn invalid(detail: String) -> ApiError {
    ApiError::bad("invalid_as_of", "invalid point in time").field("as_of").detail(detail)
}

/// Which position a handler has answered of; the edge writes it into the header of whatever the answer is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered(Position);

impl Answered {
    /// The header that says so.
    pub(super) fn header(self) -> (HeaderName, HeaderValue) {
        (AS_OF, HeaderValue::from(self.0.0))
    }
}

/// The refusal of a read that can't answer about the past, if it was asked to.
pub(super) fn refused(request: &ServiceRequest) -> Option<ApiError> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let asks = || {
        let query = request.query_string();
        url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "as_of")
    };
    if !reads || request.query_string().is_empty() || !asks() {
        return None;
    }
    // What is not there is a 404, whatever is asked of it.
    let pattern = request.match_pattern()?;
    (!ROUTES.contains(&pattern.as_str())).then(|| {
        let detail = "this read knows no other moment than now; `explain` takes `at`, `timeline` and the log \
                      take `since` and `until`";
        ApiError::bad("as_of_not_supported", "`as_of` is not supported here").field("as_of").detail(detail)
    })
}

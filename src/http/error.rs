//! The one table from "why not" to status, code and text.
//!
//! `error` is the wire contract's text where it has one; `code` is ours, stable, for machines; `field` and `detail` say
//! more where there is more to say. Internal detail goes to the log with the request's id, never into a body.

#![warn(clippy::wildcard_enum_match_arm)]

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use covalence_actors::runtime::CommandError;
use covalence_actors::workspace::Rejection;
use covalence_events::log::ReadError;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// What an error's body looks like.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// For people; the wire contract's text where it has one.
    pub error: String,
    /// For machines; never changes its meaning.
    pub code: String,
    /// The field of the request that is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What exactly is wrong with it, or what would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The request's id, as in the `X-Request-Id` header and in the log's `correlation_id`.
    pub request_id: String,
}

/// An answer that is not what was asked for.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// For machines.
    pub code: &'static str,
    /// For people.
    pub text: Cow<'static, str>,
    more: Box<More>,
}

/// What only some errors say; apart, so that results that may be errors stay small.
#[derive(Clone, Debug, Default)]
struct More {
    field: Option<&'static str>,
    detail: Option<String>,
    extra: Map<String, Value>,
    retry_after: Option<u64>,
    challenge: bool,
    request_id: String,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What an answer of this edge is.
pub type Answer = Result<HttpResponse, ApiError>;

impl ApiError {
    /// An error with nothing but status, code and text.
    pub fn new(status: StatusCode, code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, text: text.into(), more: Box::default() }
    }

    /// The same with another text.
    #[must_use]
    pub fn text(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.text = text.into();
        self
    }

    /// 400.
    pub fn bad(code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, text)
    }

    /// 401, with the challenge that tells a client which credential would do.
    pub fn unauthorized(code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        let mut error = Self::new(StatusCode::UNAUTHORIZED, code, text);
        error.more.challenge = true;
        error
    }

    /// 403.
    pub fn forbidden(code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, text)
    }

    /// 404.
    pub fn not_found(code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, text)
    }

    /// 409.
    pub fn conflict(code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, code, text)
    }

    /// 503: worth another try after the given seconds.
    pub fn unavailable(code: &'static str, text: impl Into<Cow<'static, str>>, retry_after: u64) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, text);
        error.more.retry_after = Some(retry_after);
        error
    }

    /// 500: a bug of ours. The reason goes to the log.
    pub fn internal(text: &'static str, reason: impl fmt::Display) -> Self {
        tracing::error!(%reason, "{text}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text)
    }

    /// 404 for a workspace that does not exist.
    pub fn no_workspace() -> Self {
        Self::not_found("workspace_not_found", "workspace not found")
    }

    /// Names the field at fault.
    #[must_use]
    pub fn field(mut self, field: &'static str) -> Self {
        self.more.field = Some(field);
        self
    }

    /// Says what exactly is wrong.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.more.detail = Some(detail.into());
        self
    }

    /// Says which of several things it is about.
    #[must_use]
    pub fn about(self, which: &str) -> Self {
        let said = self.more.detail.as_deref().unwrap_or(&self.text);
        let detail = format!("{which}: {said}");
        self.detail(detail)
    }

    /// Says when to try again, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.more.retry_after = Some(seconds);
        self
    }

    /// When to try again, in seconds, if it says so.
    pub fn wait(&self) -> Option<u64> {
        self.more.retry_after
    }

    /// Adds a member to the body.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.more.extra.insert(key.to_owned(), value.into());
        self
    }

    /// Names the request; done by the outermost layer.
    pub(super) fn named(&self, request_id: &str) -> HttpResponse {
        let mut named = self.clone();
        request_id.clone_into(&mut named.more.request_id);
        named.error_response()
    }

    fn body(&self) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("error".to_owned(), self.text.as_ref().into());
        body.insert("code".to_owned(), self.code.into());
        if let Some(field) = self.more.field {
            body.insert("field".to_owned(), field.into());
        }
        if let Some(detail) = &self.more.detail {
            body.insert("detail".to_owned(), detail.as_str().into());
        }
        if let Some(seconds) = self.more.retry_after {
            body.insert("retry_after".to_owned(), seconds.into());
        }
        body.extend(self.more.extra.clone());
        body.insert("request_id".to_owned(), self.more.request_id.as_str().into());
        body
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponseBuilder::new(self.status);
        if let Some(seconds) = self.more.retry_after {
            response.insert_header((RETRY_AFTER, seconds));
        }
        if self.more.challenge {
            response
                .insert_header((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"covalence\"")));
        }
        response.json(self.body())
    }
}

/// Whole seconds to wait, at least one: `Retry-After: 0` makes clients spin.
pub(super) fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0 || wait.is_zero())
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        let status = match &rejection {
            Rejection::NotFound
            | Rejection::AlreadyPaused
            | Rejection::NotPaused
            | Rejection::NotHibernatable
            | Rejection::NoSuchHold
            | Rejection::NoSuchIncident
            | Rejection::NoAgent
            | Rejection::NotQueued
            | Rejection::NoSuchToken
            | Rejection::NoSuchDelegation
            | Rejection::NoSuchSecret
            | Rejection::NoSuchPolicy => StatusCode::NOT_FOUND,
            Rejection::Removed => StatusCode::GONE,
            Rejection::EnrolmentClosed => StatusCode::UNAUTHORIZED,
            Rejection::TooManyTokens
            | Rejection::TooManyOrgTokens
            | Rejection::TooManyDelegations
            | Rejection::QueueFull => StatusCode::TOO_MANY_REQUESTS,
            Rejection::HoldTooLong { .. } | Rejection::InvalidPolicy { .. } | Rejection::NotExternal => {
                StatusCode::BAD_REQUEST
            }
            Rejection::AlreadyExists
            | Rejection::NotRemoved
            | Rejection::HasAgent
            | Rejection::AgentMoves
            | Rejection::NotPolling
            | Rejection::ActiveTasks { .. }
            | Rejection::PausedAbove
            | Rejection::DelegationOver
            | Rejection::External
            | Rejection::EmergencyStop
            | Rejection::NoBrake
            | Rejection::NotQuarantined
            | Rejection::IncidentClosed
            | Rejection::RestartNotPending
            | Rejection::StaleGeneration { .. } => StatusCode::CONFLICT,
        };
        let error = Self::new(status, rejection.code(), rejection.to_string());
        if let Rejection::ActiveTasks { active_tasks } = rejection {
            return error.with("active_tasks", active_tasks);
        }
        if matches!(rejection, Rejection::HoldTooLong { .. }) { error.field("lasts") } else { error }
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Rejected(rejection) => rejection.into(),
            CommandError::Busy { retry_after } => {
                Self::unavailable("busy", "platform busy — retry shortly", seconds(retry_after))
            }
            // The log has said so itself, once: here it would be said for every heartbeat.
            CommandError::LogUnavailable(shut) => {
                Self::unavailable("platform_unavailable", DATASTORE_UNAVAILABLE, RETRY_DATASTORE)
                    .detail(format!("the log takes no facts: {}; {}", shut.reason, shut.remedy()))
            }
            CommandError::Panicked { command } => {
                Self::internal("internal error", format!("`{command}` panicked"))
            }
            CommandError::Corrupt { reason } | CommandError::Unrecordable { reason } => {
                Self::internal("internal error", reason)
            }
            CommandError::ShuttingDown => {
                Self::unavailable("shutting_down", "platform is shutting down", RETRY_DATASTORE)
            }
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Removed { .. } => Self::not_found("removed_by_retention", error.to_string()),
            // Where it is damaged is for whoever asks: only they know what they can do without.
            ReadError::Corrupt { .. } | ReadError::Store { .. } => {
                let error = anyhow::Error::from(error);
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "log_damaged", "query failed")
                    .detail(format!("{error:#}"))
            }
        }
    }
}

/// The contract's text for a datastore that does not answer.
pub const DATASTORE_UNAVAILABLE: &str = "platform datastore unavailable — retry shortly";
/// The contract's text for an agent without a free slot.
pub const BUSY: &str = "workspace agent busy — retry after a short backoff";
/// The contract's text for an agent whose instance is being replaced.
pub const RESTARTING: &str = "workspace agent unreachable — container restart triggered";
/// In its place where no restart is coming by itself.
pub const RESTART_HELD: &str =
    "workspace agent unreachable — its restart is held back until a person lets it";
/// The contract's text for a workspace that hibernated until somebody called it.
pub const WAKING: &str = "workspace is waking from hibernation — retry in ~15 seconds";
/// Seconds, of such a workspace (contract 4.5).
pub const RETRY_WAKING: u64 = 15;
/// Seconds, of an agent that waits for a person.
pub const RETRY_HELD: u64 = 60;
/// Seconds, of an agent that is being started again (contract 4.7).
pub const RETRY_RESTART: u64 = 15;
/// Seconds: a log that went read-only needs a person or a restart of ours; clients need not hammer.
const RETRY_DATASTORE: u64 = 5;
/// Seconds: about what a start takes.
pub const RETRY_NO_URL: u64 = 5;

/// The header of an answer that says `false` while the log takes no facts: what this answer tells is not recorded.
pub const RECORDED: HeaderName = HeaderName::from_static("x-covalence-recorded");

/// The header that names a request, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An error that some library below us made: its status, in our shape. What it says of the request is for the client.
pub(super) fn foreign(error: &actix_web::Error, request_id: &str) -> HttpResponse {
    let error = match error.as_response_error().status_code() {
        status @ StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(status, "body_too_large", "request body too large")
        }
        status if status.is_client_error() => {
            ApiError::new(status, "invalid_request", "invalid request").detail(error.to_string())
        }
        _ => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error"),
    };
    error.named(request_id)
}

/// A path or method that does not exist, in the contract's words; also what another tenant's installation looks like.
pub(super) fn no_route() -> ApiError {
    ApiError::not_found("no_route", "404 page not found")
}

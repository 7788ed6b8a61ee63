//! What every request passes, in this order: name and span, panic boundary, `Host`, `Origin`, rate limit, tenant guard,
//! handler; and on the way back metrics, security headers and the access log.
//!
//! It is one function per concern in one middleware: each actix middleware costs a boxed future, and a relayed call
//! passes here too.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{COOKIE, HeaderValue, RETRY_AFTER};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, HttpResponse, web};
use futures_util::FutureExt as _;
use tracing::Instrument as _;

use crate::http::as_of::Answered;
use crate::http::auth::session::{Membership, Session};
use crate::http::edge::limit::Granted;
use crate::http::error::{ApiError, RECORDED, REQUEST_ID, foreign, no_route};
use crate::http::request::{Known, text};
use crate::http::{HttpState, as_of};

pub mod headers;
pub mod limit;
pub mod origin;
pub mod telemetry;

/// The outermost layer.
pub async fn pass(request: ServiceRequest, next: Next<BoxBody>) -> Result<ServiceResponse, Error> {
    let Some(state) = request.app_data::<web::Data<HttpState>>().cloned().map(web::Data::into_inner) else {
        return Err(ApiError::internal("internal error", "the edge runs without its state").into());
    };
    let known = Known::of(&request, &state);
    request.extensions_mut().insert(Rc::clone(&known));
    let span = telemetry::span(&request, &known);
    let within = within(request, next, &state, &known).instrument(span.clone());
    let Ok(answered) = AssertUnwindSafe(within).catch_unwind().await else {
        let error = span.in_scope(|| ApiError::internal("internal error", "a handler panicked"));
        telemetry::finished_by_panic(&span, &known);
        return Err(Named { error, request_id: known.id.clone() }.into());
    };
    let mut response = name_error(answered?, &known);
    let answered = response.request().extensions().get::<Answered>().copied();
    if let Some((name, position)) = answered.map(Answered::header) {
        response.headers_mut().insert(name, position);
    }
    if state.log.read_only().is_some() {
        response.headers_mut().insert(RECORDED, HeaderValue::from_static("false"));
    }
    if let Ok(id) = HeaderValue::from_str(&known.id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    telemetry::finished(&span, &response, &known);
    Ok(response)
}

async fn within(
    request: ServiceRequest,
    next: Next<BoxBody>,
    state: &HttpState,
    known: &Known,
) -> Result<ServiceResponse, Error> {
    if !origin::host_is_ours(&request, state) {
        let refusal = ApiError::forbidden("foreign_host", "host not allowed")
            .detail("add the name to `PLATFORM_URL`, `EXTERNAL_PLATFORM_URL` or `CORS_ORIGINS`");
        return Ok(request.error_response(refusal));
    }
    let cors = match origin::judge(&request, state) {
        origin::Judgement::Untouched => None,
        origin::Judgement::Allowed(page) => Some(page),
        origin::Judgement::Foreign => return Ok(request.error_response(origin::foreign())),
    };
    if origin::is_preflight(&request)
        && let Some(page) = &cors
    {
        return Ok(request.into_response(origin::preflight(page)));
    }
    let granted = state.inner.limits.take(&request, state, known);
    let mut response = if granted.is_over() {
        request.into_response(too_many(&granted, &known.id))
    } else {
        served(request, next, state, known).await?
    };
    // A handler with a narrower budget of its own says so in the place of ours.
    let narrower = response.request().extensions().get::<Granted>().copied();
    narrower.unwrap_or(granted).show(response.headers_mut());
    if let Some(page) = cors {
        origin::admit(response.headers_mut(), &page);
    }
    Ok(response)
}

/// What counts in the metrics and carries security headers.
async fn served(
    request: ServiceRequest,
    next: Next<BoxBody>,
    state: &HttpState,
    known: &Known,
) -> Result<ServiceResponse, Error> {
    let api = headers::is_api(request.path());
    let mut response = if !origin::tenant_fits(&request, state) {
        request.error_response(no_route())
    } else if let Some(refusal) = as_of::refused(&request) {
        request.error_response(refusal)
    } else {
        known.session.set(session(&request, state, known).await);
        next.call(request).await?
    };
    headers::secure(response.headers_mut(), api);
    telemetry::count(&response, known);
    Ok(response)
}

/// Whose session a request comes with. Nobody is asked about one that is not needed.
async fn session(request: &ServiceRequest, state: &HttpState, known: &Known) -> Session {
    let config = &state.config;
    let (Some(control_plane), Some(slug)) = (&config.control_plane, &config.slug) else {
        return Session::None;
    };
    let (Some(cookie), Some(client)) = (text(request.headers(), COOKIE), request.app_data::<awc::Client>())
    else {
        return Session::None;
    };
    // What goes to the control plane itself, and whoever shows something better.
    if request.path().starts_with("/cp/") || known.identity.operator().is_some() {
        return Session::None;
    }
    let membership = Membership { control_plane: control_plane.clone(), slug: slug.clone() };
    state.inner.sessions.of(client, &membership, cookie).await
}

fn too_many(granted: &Granted, request_id: &str) -> HttpResponse {
    HttpResponse::TooManyRequests().insert_header((RETRY_AFTER, granted.reset_s())).json(serde_json::json!({
        "error": "rate limit exceeded", "code": "rate_limited", "retry_after": granted.reset_s(),
        "request_id": request_id,
    }))
}

/// Puts the request's id into an error's body, and gives errors of the libraries below us our shape.
fn name_error(response: ServiceResponse, known: &Known) -> ServiceResponse {
    let Some(error) = response.response().error() else { return response };
    let named = match error.as_error::<ApiError>() {
        Some(error) => error.named(&known.id),
        None => foreign(error, &known.id),
    };
    let (request, old) = response.into_parts();
    let mut fresh = ServiceResponse::new(request, named);
    for (name, value) in old.headers() {
        if !fresh.headers().contains_key(name) {
            fresh.headers_mut().insert(name.clone(), value.clone());
        }
    }
    fresh
}

/// An error that leaves the edge without a response to go with, because the request is gone.
#[derive(Debug)]
struct Named {
    error: ApiError,
    request_id: String,
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl actix_web::ResponseError for Named {
    fn status_code(&self) -> StatusCode {
        self.error.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = self.error.named(&self.request_id);
        headers::secure(response.headers_mut(), true);
        if let Ok(id) = HeaderValue::from_str(&self.request_id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }
}
